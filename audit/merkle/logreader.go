package merkle

import (
	"context"
	"errors"
)

// LogReader reads an open Log from an entry on, a batch at a time: what is
// durable, whether a checkpoint covers it yet or not. It is for one goroutine.
type LogReader struct {
	log *Log
	r   reader
	got []Entry
	// most entries and bytes of the batch that is being read.
	entries, bytes int
	started        bool
}

var errBatch = errors.New("the batch is full")

// From returns a reader of the entries from seq on. What is not there any more is
// left out.
func (l *Log) From(seq uint64) *LogReader {
	r := &LogReader{log: l}
	r.r = reader{ctx: context.Background(), dir: l.dir, filter: Filter{From: seq}, fn: r.take}
	return r
}

func (r *LogReader) take(e Entry) error {
	r.got = append(r.got, e)
	r.entries--
	if r.bytes -= len(e.Data); r.entries <= 0 || r.bytes <= 0 {
		return errBatch
	}
	return nil
}

// Next returns the next entries: at most so many, and no more once their data has
// so many bytes. None: there is no more now, and Changed of the log tells of more.
// After an error the reader is of no use.
func (r *LogReader) Next(entries, bytes int) ([]Entry, error) {
	r.got, r.entries, r.bytes = nil, entries, bytes
	if r.r.limit = r.log.Size(); r.r.limit <= r.r.filter.From || r.r.limit <= r.r.next {
		return nil, nil
	}
	if !r.started {
		if err := r.r.start(); err != nil {
			return nil, err
		}
		r.started = true
	}
	for {
		more, err := r.r.step()
		if errors.Is(err, errBatch) || err == nil && !more {
			return r.got, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// Close gives up the file that is open.
func (r *LogReader) Close() { r.r.close() }
