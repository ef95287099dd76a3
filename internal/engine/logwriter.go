package engine

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// LogWriter hands lines to another writer without ever waiting for it. The loop
// logs, and a terminal or a log shipper that has stopped reading must not keep it
// from closing a route. Lines that find no room are counted, and the count takes
// their place once there is room again.
type LogWriter struct {
	to      io.Writer
	lines   chan []byte
	stop    chan struct{}
	done    chan struct{}
	dropped atomic.Uint64
	once    sync.Once
}

// logLines is how many lines may wait.
const logLines = 4096

// NewLogWriter begins to write to w.
func NewLogWriter(w io.Writer) *LogWriter {
	l := &LogWriter{to: w, lines: make(chan []byte, logLines), stop: make(chan struct{}), done: make(chan struct{})}
	go l.run()
	return l
}

func (l *LogWriter) run() {
	defer close(l.done)
	for {
		select {
		case line := <-l.lines:
			l.put(line)
			continue
		default:
		}
		select {
		case line := <-l.lines:
			l.put(line)
		case <-l.stop:
			if len(l.lines) == 0 {
				l.told()
				return
			}
		}
	}
}

func (l *LogWriter) put(line []byte) {
	l.told()
	_, _ = l.to.Write(line) // there is nowhere left to report it
}

// told writes how many lines found no room since the last time.
func (l *LogWriter) told() {
	if n := l.dropped.Swap(0); n > 0 {
		fmt.Fprintf(l.to, "%d log lines were dropped: nobody read them\n", n)
	}
}

// Write takes a line. It keeps a copy and never fails.
func (l *LogWriter) Write(line []byte) (int, error) {
	select {
	case l.lines <- bytes.Clone(line):
	default:
		l.dropped.Add(1)
	}
	return len(line), nil
}

// Flush writes what waits, for a second at most, and ends. What is written after
// it is lost.
func (l *LogWriter) Flush() {
	l.once.Do(func() { close(l.stop) })
	select {
	case <-l.done:
	case <-time.After(time.Second):
	}
}
