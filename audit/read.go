package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Replay hands every control entry that counts to fn, in order. It ends at the
// first error of fn, and returns it.
func (j *Journal) Replay(fn func(Entry) error) error {
	j.mu.Lock()
	limit := j.at.off
	j.mu.Unlock()
	path := filepath.Join(j.dir, controlName)
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("replay the journal: %w", err)
	}
	defer f.Close()
	r := newControlReader(path, f)
	for {
		entries, err := r.next(limit)
		if err != nil {
			return fmt.Errorf("replay the journal: %w", err)
		}
		if entries == nil {
			return nil
		}
		for _, e := range entries {
			if err := fn(e); err != nil {
				return err
			}
		}
	}
}

// Tail hands fn the entries of all kinds that are there now and not older than
// from, ordered by time; of one stream (control, requests) in the order of
// their writing.
func (j *Journal) Tail(ctx context.Context, from time.Time, fn func(Entry) error) error {
	t, err := openTimeline(j.dir, from, j.limit)
	if err != nil {
		return err
	}
	defer t.close()
	return t.run(ctx, fn)
}

// Follow is Tail and then, until ctx ends or the journal is closed, every
// entry as it is written. It returns nil when it ended so.
func (j *Journal) Follow(ctx context.Context, from time.Time, fn func(Entry) error) error {
	t, err := openTimeline(j.dir, from, j.limit)
	if err != nil {
		return err
	}
	defer t.close()
	for {
		j.mu.Lock()
		changed, ended := j.changed, j.ended
		j.mu.Unlock()
		if err := t.run(ctx, fn); err != nil {
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return nil
			}
			return err
		}
		if ended {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// limit is the size of the part of control.jsonl that counts.
func (j *Journal) limit() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.at.off
}

// Read is Tail on a directory that is not open: a copy, or the directory of a
// running process. Of the latter it may see entries that are not yet durable.
func Read(ctx context.Context, dir string, from time.Time, fn func(Entry) error) error {
	t, err := openTimeline(dir, from, func() int64 { return math.MaxInt64 })
	if err != nil {
		return err
	}
	defer t.close()
	return t.run(ctx, fn)
}

// timeline merges the control and the request entries.
type timeline struct {
	from     time.Time
	limit    func() int64
	file     *os.File
	control  *controlReader
	batch    []Entry
	requests *requestReader
	request  *Entry // read and not yet handed out
}

func openTimeline(dir string, from time.Time, limit func() int64) (*timeline, error) {
	path := filepath.Join(dir, controlName)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	r, err := openRequestReader(dir, from)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	return &timeline{from: from, limit: limit, file: f, control: newControlReader(path, f), requests: r}, nil
}

func (t *timeline) close() {
	t.file.Close()
	t.requests.close()
}

// run hands out all there is.
func (t *timeline) run(ctx context.Context, fn func(Entry) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := t.next()
		if err != nil {
			return fmt.Errorf("read the journal: %w", err)
		}
		if e == nil {
			return nil
		}
		if e.Time.Before(t.from) {
			continue
		}
		if err := fn(*e); err != nil {
			return err
		}
	}
}

func (t *timeline) next() (*Entry, error) {
	var err error
	if len(t.batch) == 0 {
		if t.batch, err = t.control.next(t.limit()); err != nil {
			return nil, err
		}
	}
	if t.request == nil {
		if t.request, err = t.requests.next(); err != nil {
			return nil, err
		}
	}
	if len(t.batch) == 0 || t.request != nil && t.request.Time.Before(t.batch[0].Time) {
		e := t.request
		t.request = nil
		return e, nil
	}
	e := &t.batch[0]
	t.batch = t.batch[1:]
	return e, nil
}

// requestReader reads the requests files one after the other.
type requestReader struct {
	dir   string
	name  string // of the open file; empty: none yet
	f     *os.File
	lines lineReader
	line  int
	seq   uint64 // of the next line; 0: not known
	last  time.Time
}

// openRequestReader begins with the last file that may hold what is not older
// than from.
func openRequestReader(dir string, from time.Time) (*requestReader, error) {
	r := &requestReader{dir: dir, last: from}
	names, err := requestFiles(dir)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return r, nil
	}
	start := names[0]
	for _, name := range names[1:] {
		e, ok := r.firstEntry(name)
		if ok && !e.Time.Before(from) {
			break
		}
		if ok {
			start = name
		}
	}
	r.seq, _ = firstSeq(start)
	return r, r.open(start)
}

func (r *requestReader) firstEntry(name string) (Entry, bool) {
	f, err := os.Open(filepath.Join(r.dir, name))
	if err != nil {
		return Entry{}, false
	}
	defer f.Close()
	lines := lineReader{r: f}
	line, err := lines.next(math.MaxInt64)
	if line == nil || err != nil {
		return Entry{}, false
	}
	e, err := parseRequest(line)
	return e, err == nil
}

func (r *requestReader) open(name string) error {
	f, err := os.OpenFile(filepath.Join(r.dir, name), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	r.close()
	r.f, r.name, r.lines, r.line = f, name, lineReader{r: f}, 0
	return nil
}

func (r *requestReader) close() {
	if r.f != nil {
		r.f.Close()
	}
}

// next returns the next entry, a problem in the place of a line that is not
// good, or nil when there is no more at present.
func (r *requestReader) next() (*Entry, error) {
	for {
		if r.f != nil {
			if e, err := r.read(); e != nil || err != nil {
				return e, err
			}
		}
		following, err := r.following()
		if err != nil || following == "" {
			return nil, err
		}
		if r.f != nil {
			// The writer may have finished this file after we looked.
			if e, err := r.read(); e != nil || err != nil {
				return e, err
			}
			if n := len(r.lines.rest()); n > 0 {
				r.lines.pos = len(r.lines.buf)
				return r.problem(fmt.Sprintf("the file ends within a line of %d bytes", n)), nil
			}
		}
		if err := r.open(following); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// following is the name of the file after the open one, empty when there is none.
func (r *requestReader) following() (string, error) {
	names, err := requestFiles(r.dir)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if name > r.name {
			return name, nil
		}
	}
	return "", nil
}

func (r *requestReader) read() (*Entry, error) {
	line, err := r.lines.next(math.MaxInt64)
	if errors.Is(err, errTooLong) {
		st, err := r.f.Stat()
		if err != nil {
			return nil, err
		}
		r.lines = lineReader{r: r.f, off: st.Size()}
		return r.problem(errTooLong.Error() + "; the rest of the file was skipped"), nil
	}
	if line == nil || err != nil {
		return nil, err
	}
	r.line++
	e, err := parseRequest(line)
	if err != nil {
		if r.seq > 0 {
			r.seq++
		}
		return r.problem(err.Error()), nil
	}
	want := r.seq
	r.seq, r.last = e.Seq+1, e.Time
	if want > 0 && e.Seq != want {
		// Hand the line out next time; tell first what came before it.
		r.lines.pos -= len(line) + 1
		r.line--
		r.seq = e.Seq
		return r.problem(fmt.Sprintf("seq goes from %d to %d: entries were removed, moved or doubled", want-1, e.Seq)), nil
	}
	return &e, nil
}

func (r *requestReader) problem(reason string) *Entry {
	data, err := json.Marshal(Problem{V: 1, File: r.name, Line: r.line, Reason: reason})
	if err != nil {
		data = nil // a struct of strings and numbers
	}
	return &Entry{Time: r.last, Kind: KindProblem, Data: data}
}
