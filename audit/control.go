package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
)

const controlName = "control.jsonl"

// mark is a place in control.jsonl between two lines.
type mark struct {
	off  int64
	line int    // lines before
	seq  uint64 // of the next line
	sum  chain
}

// controlReader reads control.jsonl batch by batch and verifies it.
type controlReader struct {
	path  string
	lines lineReader
	at    mark // after the last whole batch
	cur   mark // after the last line
	id    string
	part  []Entry
	more  int
}

func newControlReader(path string, r io.ReaderAt) *controlReader {
	return &controlReader{path: path, lines: lineReader{r: r}}
}

// next returns the next whole batch, nil when there is none yet below limit.
func (c *controlReader) next(limit int64) ([]Entry, error) {
	for {
		line, err := c.lines.next(limit)
		if err != nil && !errors.Is(err, errTooLong) {
			return nil, fmt.Errorf("read %s: %w", c.path, err)
		}
		if line == nil && err == nil {
			return nil, nil
		}
		if err == nil {
			err = c.take(line)
		}
		if err != nil {
			return nil, c.corrupt(err, limit)
		}
		if c.more > 0 {
			continue
		}
		batch := c.part
		c.part, c.at = nil, c.cur
		if batch[0].Seq == 0 {
			continue // the header
		}
		return batch, nil
	}
}

// take verifies one line and adds it to part.
func (c *controlReader) take(line []byte) error {
	e, more, sum, err := parseControl(line, c.cur.sum)
	if err != nil {
		return err
	}
	switch {
	case e.Seq != c.cur.seq:
		return fmt.Errorf("seq is %d and must be %d", e.Seq, c.cur.seq)
	case (e.Seq == 0) != (e.Kind == kindJournal):
		return errors.New("the first line, and no other, is of kind journal")
	case c.more > 0 && more != c.more-1:
		return fmt.Errorf("more is %d and must be %d", more, c.more-1)
	}
	if e.Seq == 0 {
		var h header
		if err := json.Unmarshal(e.Data, &h); err != nil || h.V != 1 || more != 0 {
			return errVersion
		}
		c.id = h.ID
	}
	c.part, c.more = append(c.part, e), more
	c.cur = mark{off: c.cur.off + int64(len(line)) + 1, line: c.cur.line + 1, seq: e.Seq + 1, sum: sum}
	return nil
}

var errVersion = errors.New("the journal is of another version: this breakglass reads version 1; use the one that wrote it")

func (c *controlReader) corrupt(err error, limit int64) error {
	if errors.Is(err, errVersion) {
		return fmt.Errorf("%s: %w", c.path, err)
	}
	next, nextErr := c.lines.next(limit)
	last := next == nil && nextErr == nil && len(c.lines.rest()) == 0
	return &CorruptError{File: c.path, Line: c.cur.line + 1, Offset: c.cur.off, Reason: err.Error(), Last: last}
}

type header struct {
	V  int    `json:"v"`
	ID string `json:"id"`
}

// createControl makes control.jsonl with its header, whole or not at all.
func createControl(dir string, now time.Time) error {
	id := make([]byte, 16)
	rand.Read(id)
	data, err := json.Marshal(header{V: 1, ID: hex.EncodeToString(id)})
	if err != nil {
		return err
	}
	e, err := normal(Entry{Time: now, Kind: kindJournal, Data: data})
	if err != nil {
		return err
	}
	line, _ := appendControl(nil, e, 0, chain{})
	tmp := filepath.Join(dir, controlName+".tmp")
	f, err := durable.Open(tmp, os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(line, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, controlName)); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

// recovery is what openControl found at the end of the file.
type recovery struct {
	at   mark
	id   string
	note string // what was cut or completed, for people
}

// recoverControl verifies control.jsonl and decides about its end.
func recoverControl(path string) (recovery, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return recovery{}, err
	}
	defer f.Close()
	r := newControlReader(path, f)
	for {
		batch, err := r.next(math.MaxInt64)
		if err != nil {
			return recovery{}, err
		}
		if batch == nil {
			break
		}
	}
	return r.tail()
}

// tail judges what follows the last whole line. A crash leaves the beginning
// of what was being written, and some file systems zeros in place of bytes.
// Anything else was changed by someone.
func (c *controlReader) tail() (recovery, error) {
	rest := bytes.TrimRight(c.lines.rest(), "\x00")
	torn := len(c.lines.rest())
	switch _, _, _, err := parseControl(rest, c.cur.sum); {
	case err == nil:
		// Whole but for its newline. It verifies, and to drop an acknowledged
		// entry would be worse than to keep one that was not.
		if err := c.take(rest); err != nil {
			return recovery{}, c.corrupt(err, math.MaxInt64)
		}
		if c.more == 0 {
			c.part, c.at = nil, c.cur
			return c.recovered("the last line lacked its newline")
		}
	case len(rest) > 0:
		// One line, one byte of damage: its newline.
		if end := bytes.LastIndex(rest, []byte(lineEnd)); end >= 0 {
			if _, _, _, err := parseControl(rest[:end+len(lineEnd)], c.cur.sum); err == nil {
				return recovery{}, &CorruptError{File: c.path, Line: c.cur.line + 1, Offset: c.cur.off, Last: true,
					Reason: fmt.Sprintf("the line is whole but followed by %d other bytes", len(rest)-end-len(lineEnd))}
			}
		}
	}
	switch {
	case len(c.part) > 0:
		return c.recovered(fmt.Sprintf("a batch of entries was not written to its end: cut %d whole lines and %d bytes", len(c.part), torn))
	case torn > 0:
		return c.recovered(fmt.Sprintf("the last line was not written to its end: cut %d bytes", torn))
	}
	return c.recovered("")
}

func (c *controlReader) recovered(what string) (recovery, error) {
	if c.at.line == 0 {
		return recovery{}, &CorruptError{File: c.path, Line: 1, Reason: "the file has no first line", Last: true}
	}
	if what != "" {
		what = fmt.Sprintf("%s line %d (byte %d): %s; it had not been acknowledged", c.path, c.at.line+1, c.at.off, what)
	}
	return recovery{at: c.at, id: c.id, note: what}, nil
}

// batch is the entries of one Append.
type batch struct {
	entries []Entry
	done    chan error // of size 1
}

// Append records control entries, all or none, and returns when they are
// durable. Concurrent callers share one write and one sync. When ctx ends
// before the write begins nothing is recorded; after that Append waits for the
// disk, because only the disk knows the answer. So closing a door must not wait
// for Append.
func (j *Journal) Append(ctx context.Context, entries ...Entry) error {
	if len(entries) == 0 {
		return nil
	}
	b := &batch{entries: make([]Entry, len(entries)), done: make(chan error, 1)}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("append to the journal: %w", err)
	}
	for i, e := range entries {
		if e.Time.IsZero() {
			e.Time = j.opts.Now()
		}
		if e.Kind == kindJournal {
			return fmt.Errorf("append to the journal: kind %q is reserved", e.Kind)
		}
		var err error
		if b.entries[i], err = normal(e); err != nil {
			return fmt.Errorf("append to the journal: %w", err)
		}
	}
	if err := j.enqueue(b); err != nil {
		return err
	}
	select {
	case err := <-b.done:
		return err
	case <-ctx.Done():
		if j.withdraw(b) {
			return fmt.Errorf("append to the journal: %w", ctx.Err())
		}
		return <-b.done
	}
}

func (j *Journal) enqueue(b *batch) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return ErrClosed
	}
	if j.broken != nil {
		return j.broken
	}
	j.pending = append(j.pending, b)
	wake(j.wake)
	return nil
}

// withdraw takes b back. It is false when the writer has it already.
func (j *Journal) withdraw(b *batch) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, p := range j.pending {
		if p == b {
			j.pending = append(j.pending[:i], j.pending[i+1:]...)
			return true
		}
	}
	return false
}
