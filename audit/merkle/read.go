package merkle

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// sinceMargin is how far the clock may have been set back while the log was
// written, for Since and Until not to miss an entry because of it.
const sinceMargin = time.Hour

// Filter says which entries Read and Follow hand out. The zero value: all.
type Filter struct {
	// Since and Until bound Time: Since <= Time < Until; zero: no bound. Segments
	// that ended more than an hour before Since, or began more than an hour after
	// Until, are not read.
	Since, Until time.Time
	// From is the lowest Seq. Segments before it are not read, and what is before it
	// in its own is counted and not looked at.
	From uint64
	// Match, when not nil, is asked for each entry from From on that is within the
	// bounds.
	Match func(*Entry) bool
}

func (f *Filter) takes(p *parsed) bool {
	return p.seq >= f.From && (f.Since.IsZero() || !p.time.Before(f.Since)) && (f.Until.IsZero() || p.time.Before(f.Until))
}

// Read calls fn for the entries in dir, in order, up to what was there when it
// began, and stops at the first error of fn, which it returns. The directory may be a copy, or
// have an open Log; what is removed because of its age meanwhile is left out.
// That the entries are as they were written only Verify says; a line that is no
// entry is a *CorruptError.
func Read(ctx context.Context, dir string, f Filter, fn func(Entry) error) error {
	r := &reader{ctx: ctx, dir: dir, filter: f, fn: fn, limit: math.MaxUint64}
	defer r.close()
	var err error
	if r.end, err = endOf(dir); err != nil {
		return err
	}
	if err := r.start(); err != nil {
		return err
	}
	for {
		more, err := r.step()
		if err != nil || !more {
			return err
		}
	}
}

// reader reads the segments of a log that may be written to.
type reader struct {
	ctx    context.Context
	dir    string
	filter Filter
	fn     func(Entry) error

	seg  segment
	f    *os.File // of seg; nil: none is open
	lr   lineReader
	n    int    // lines of it that were read
	next uint64 // seq
	// limit is the seq from which on nothing is handed out yet.
	limit uint64
	// end is where to stop; nil: nowhere. A log that is written faster than it is
	// read would have none.
	end *end
}

// end is where a log ends: in the segment that begins with an entry, after size
// bytes.
type end struct {
	first uint64
	size  int64
}

func endOf(dir string) (*end, error) {
	segs, err := segments(dir)
	if err != nil || len(segs) == 0 {
		return &end{}, err
	}
	last := segs[len(segs)-1]
	st, err := os.Stat(filepath.Join(dir, last.name))
	if err != nil {
		return nil, err
	}
	return &end{last.first, st.Size()}, nil
}

// ended reports whether the end is reached.
func (r *reader) ended() bool {
	return r.end != nil && (r.seg.first > r.end.first || r.seg.first == r.end.first && r.f != nil && r.lr.offset() >= r.end.size)
}

func (r *reader) close() {
	if r.f != nil {
		r.f.Close()
		r.f = nil
	}
}

// start finds the segment to begin with.
func (r *reader) start() error {
	segs, err := segments(r.dir)
	if err != nil || len(segs) == 0 {
		return err
	}
	i := 0
	for i+1 < len(segs) {
		next := segs[i+1]
		if next.first > r.filter.From {
			if r.filter.Since.IsZero() {
				break
			}
			// All of segment i was appended before the next one began.
			p, err := firstEntry(r.dir, next)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			if err == nil && (p == nil || !p.time.Before(r.filter.Since.Add(-sinceMargin))) {
				break
			}
		}
		i++
	}
	r.next = segs[i].first
	return r.open(segs[i])
}

func (r *reader) open(s segment) error {
	r.close()
	f, err := openRead(filepath.Join(r.dir, s.name))
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil // removed because of its age: step looks for what is there
		}
		return err
	}
	r.seg, r.f, r.lr, r.n = s, f, lineReader{r: f}, 0
	return nil
}

// step reads what is there of the segment, and goes on to the next one. It is
// false when there is no more.
func (r *reader) step() (bool, error) {
	if err := r.drain(); err != nil || r.next >= r.limit || r.ended() {
		return false, err
	}
	segs, err := segments(r.dir)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(segs, func(s segment) bool {
		return r.f != nil && s.first > r.seg.first || r.f == nil && s.first >= r.next
	})
	if i < 0 {
		return false, nil
	}
	next := segs[i]
	if err := r.finish(); err != nil {
		return false, err
	}
	// Older segments, and only those, may be removed meanwhile.
	removed := r.f == nil || segs[0].first > r.seg.first
	if next.first < r.next || next.first > r.next && !removed {
		return false, &CorruptError{
			File:   filepath.Join(r.dir, next.name),
			Reason: fmt.Sprintf("it begins with entry %d, and entry %d should follow", next.first, r.next),
		}
	}
	r.next = next.first
	if r.beyond(next) {
		return false, nil
	}
	return true, r.open(next)
}

// finish reads what came between the last look and the change of the segment.
func (r *reader) finish() error {
	if err := r.drain(); err != nil || r.f == nil || r.next >= r.limit || len(r.lr.rest()) == 0 {
		return err
	}
	return r.corrupt(r.lr.offset(), "the last line does not end")
}

// beyond says whether a segment began long after Until.
func (r *reader) beyond(s segment) bool {
	if r.filter.Until.IsZero() {
		return false
	}
	p, err := firstEntry(r.dir, s)
	return err == nil && p != nil && p.time.After(r.filter.Until.Add(sinceMargin))
}

func (r *reader) corrupt(at int64, reason string) error {
	return &CorruptError{File: filepath.Join(r.dir, r.seg.name), Line: r.n + 1, Offset: at, Reason: reason}
}

// drain hands out the whole lines that are there.
func (r *reader) drain() error {
	if r.f == nil {
		return nil
	}
	r.lr.forget()
	for r.next < r.limit && !r.ended() {
		if r.n%256 == 0 && r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		p, err := r.line()
		if err != nil || p == nil {
			return err
		}
		r.n++
		r.next++
		if !r.filter.takes(p) {
			continue
		}
		e := p.entry()
		if r.filter.Match != nil && !r.filter.Match(&e) {
			continue
		}
		if err := r.fn(e); err != nil {
			return err
		}
	}
	return nil
}

// line takes the next line; nil when there is none yet.
func (r *reader) line() (*parsed, error) {
	at := r.lr.offset()
	line, err := r.lr.next()
	if err == nil && line == nil {
		return nil, nil
	}
	if err == nil && r.next < r.filter.From {
		return &parsed{seq: r.next}, nil
	}
	var p parsed
	if err == nil {
		p, err = parseLine(line)
	}
	if err == nil && p.seq != r.next {
		err = fmt.Errorf("%w %d: it is entry %d", errForm, r.next, p.seq)
	}
	if errors.Is(err, errForm) || errors.Is(err, errTooLong) {
		return nil, r.corrupt(at, err.Error())
	}
	return &p, err
}
