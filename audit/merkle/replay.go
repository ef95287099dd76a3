package merkle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"
)

// errTree: the entries and the tree before them do not belong together.
var errTree = errors.New("the hashes before a segment are not those it was begun with")

// replay reads whole segments, one after the other, onto a tree.
type replay struct {
	dir     string
	head    treeHead // must be the tree's at its size
	tree    frontier
	vkey    string
	cursors map[string]string
	hashes  hashReader
	// fix takes stored hashes that are not there or are others.
	fix   func(at int64, stored []byte) error
	fixed int // entries

	stored    []byte
	end, size int64 // of the last segment: its entries, and the file
}

// checkOld compares with a checkpoint of before the first segment that is read.
func (r *replay) checkOld(f io.ReaderAt) error {
	r.hashes.off = storedSize(r.tree.n)
	if r.head.size >= r.tree.n {
		return r.check()
	}
	old, err := storedHashes{f}.frontier(r.head.size)
	if err != nil {
		return err
	}
	return r.compare(old)
}

func (r *replay) check() error {
	if r.tree.n != r.head.size || r.head.origin == "" {
		return nil
	}
	return r.compare(r.tree)
}

func (r *replay) compare(t frontier) error {
	if root := t.root(); root != r.head.root {
		return rollback(r.dir, "the first %d entries are not those that the checkpoint vouches for", t.n)
	}
	return nil
}

func (r *replay) run(segs []segment) error {
	for i, s := range segs {
		if s.first != r.tree.n {
			return &CorruptError{
				File:   filepath.Join(r.dir, s.name),
				Reason: fmt.Sprintf("it begins with entry %d, and the file before it ends before entry %d", s.first, r.tree.n),
			}
		}
		if err := r.segment(s, i == len(segs)-1); err != nil {
			return err
		}
	}
	return nil
}

// removed derives the tree of the entries before the first segment, of which
// only the hashes are there.
func (r *replay) removed(first segment) error {
	var h tlog.Hash
	for r.tree.n < first.first {
		leaf, err := r.hashes.next(len(h))
		if err == nil && len(leaf) < len(h) {
			err = &CorruptError{
				File:   filepath.Join(r.dir, hashesName),
				Reason: fmt.Sprintf("the hash of entry %d is missing, and the entry was removed because of its age", r.tree.n),
			}
		}
		if err != nil {
			return err
		}
		copy(h[:], leaf)
		r.stored = r.tree.add(h, r.stored[:0])
		if err := r.compareStored(r.stored[len(h):]); err != nil {
			return err
		}
		if err := r.check(); err != nil {
			return err
		}
	}
	return nil
}

func (r *replay) compareStored(want []byte) error {
	at := r.hashes.offset()
	got, err := r.hashes.next(len(want))
	if err != nil || bytes.Equal(got, want) {
		return err
	}
	r.fixed++
	return r.fix(at, want)
}

// segment reads one segment. What a crash leaves at the end of the last one is
// no entry.
func (r *replay) segment(s segment, last bool) error {
	path := filepath.Join(r.dir, s.name)
	f, err := openRead(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	lr := lineReader{r: f}
	for n := 1; ; n++ {
		at := lr.offset()
		line, err := lr.next()
		if err == nil && line == nil {
			if r.end, r.size = at, st.Size(); at < r.size && !last {
				return &CorruptError{File: path, Line: n, Offset: at, Reason: "the last line does not end"}
			}
			return nil
		}
		if err == nil {
			if err = r.line(line, n == 1); err == nil {
				err = r.check()
			}
		}
		if last && errors.Is(err, errForm) && r.tree.n >= r.head.size && torn(line) {
			r.end, r.size = at, st.Size()
			return nil
		}
		if err != nil {
			return placed(err, CorruptError{File: path, Line: n, Offset: at, Reason: err.Error()})
		}
	}
}

// placed says where an error is that is about a line.
func placed(err error, at CorruptError) error {
	if errors.Is(err, errForm) || errors.Is(err, errTooLong) || errors.Is(err, errTree) {
		return &lineError{at, err}
	}
	return err
}

// torn says whether a line is what a file system shows of a write that it had
// begun when the power failed: zeros, which no entry holds.
func torn(line []byte) bool { return bytes.IndexByte(line, 0) >= 0 }

// lineError is a CorruptError that still says what it is about.
type lineError struct {
	CorruptError
	err error
}

func (e *lineError) Unwrap() []error { return []error{&e.CorruptError, e.err} }

func (r *replay) line(line []byte, first bool) error {
	p, err := parseLine(line)
	if err != nil {
		return err
	}
	if p.seq != r.tree.n {
		return fmt.Errorf("%w %d: it is entry %d", errForm, r.tree.n, p.seq)
	}
	if first != (string(p.kind) == KindSegment) {
		return fmt.Errorf("%w: the first of a file, and no other, is of kind %s", errForm, KindSegment)
	}
	switch string(p.kind) {
	case KindSegment:
		var d segmentData
		if err := json.Unmarshal(p.data, &d); err != nil {
			return fmt.Errorf("%w of kind segment: %w", errForm, err)
		}
		if d.Size != r.tree.n || d.Root != r.tree.root().String() {
			return errTree
		}
		r.vkey = d.Key
		clear(r.cursors)
	case KindKey:
		var d keyData
		if err := json.Unmarshal(p.data, &d); err != nil {
			return fmt.Errorf("%w of kind key: %w", errForm, err)
		}
		r.vkey = d.To
	}
	for _, c := range p.cursors {
		if c.at == "" {
			delete(r.cursors, c.name)
		} else {
			r.cursors[c.name] = c.at
		}
	}
	r.stored = r.tree.add(tlog.RecordHash(line), r.stored[:0])
	return r.compareStored(r.stored)
}

// hashReader reads the file hashes from one end to the other.
type hashReader struct {
	r   io.ReaderAt
	off int64 // of buf[0] in the file
	buf []byte
	pos int
}

func (h *hashReader) offset() int64 { return h.off + int64(h.pos) }

// next returns the next n bytes, fewer at the end of the file, and goes on by n
// in any case.
func (h *hashReader) next(n int) ([]byte, error) {
	if len(h.buf)-h.pos < n {
		if err := h.fill(); err != nil {
			return nil, err
		}
	}
	out := h.buf[min(h.pos, len(h.buf)):min(h.pos+n, len(h.buf))]
	h.pos += n
	return out, nil
}

func (h *hashReader) fill() error {
	chunk := min(max(4<<10, 2*cap(h.buf)), 256<<10)
	if cap(h.buf) < chunk {
		h.buf = make([]byte, 0, chunk)
	}
	h.off, h.pos = h.off+int64(h.pos), 0
	n, err := h.r.ReadAt(h.buf[:chunk], h.off)
	h.buf = h.buf[:n]
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return err
}
