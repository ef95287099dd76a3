package merkle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// walk reads the segments, up to where the log ended when this began.
func (v *verification) walk(segs []segment) error {
	v.pass()
	if n := len(segs); n > 0 {
		v.report.FirstSeq, v.next = segs[0].first, 0
		if st, err := os.Stat(filepath.Join(v.dir, segs[n-1].name)); err == nil {
			v.lastName, v.lastSize = segs[n-1].name, st.Size()
		}
	}
	for len(segs) > 0 {
		s := segs[0]
		f, err := openRead(filepath.Join(v.dir, s.name))
		if errors.Is(err, os.ErrNotExist) {
			// Removed because of its age meanwhile, or the entry that says so is missing.
			if segs, err = v.after(s.first); err != nil {
				return err
			}
			if v.report.Entries == 0 && len(segs) > 0 {
				v.report.FirstSeq = segs[0].first
			}
			continue
		}
		if err != nil {
			return err
		}
		done, err := v.segment(s, f)
		f.Close()
		if err != nil {
			return err
		}
		if done {
			break
		}
		v.prev = s.name
		if segs, err = v.after(s.first); err != nil {
			return err
		}
	}
	return v.longHashes()
}

func (v *verification) after(first uint64) ([]segment, error) {
	segs, err := segments(v.dir)
	i := slices.IndexFunc(segs, func(s segment) bool { return s.first > first })
	if i < 0 {
		i = len(segs)
	}
	return segs[i:], err
}

// segment reads one segment. It is true when that was the last one.
func (v *verification) segment(s segment, f *os.File) (bool, error) {
	if err := v.begin(s); err != nil {
		return false, err
	}
	lr := lineReader{r: f}
	ended := false // another segment follows
	for n := 1; ; n++ {
		if s.name == v.lastName && lr.offset() >= v.lastSize {
			return true, nil
		}
		line, err := lr.next()
		switch {
		case errors.Is(err, errTooLong):
			v.wrong(s.name, n, v.next, remedyCopy, "%s", err)
			return false, nil
		case err != nil:
			return false, err
		case line == nil && ended:
			if len(lr.rest()) > 0 {
				v.wrong(s.name, n, v.next, remedyCopy, "the last line does not end")
			}
			return false, nil
		case line == nil:
			next, err := v.after(s.first)
			if err != nil || len(next) == 0 {
				return true, err // what is left of a write under way is no entry
			}
			// What came before the change of the segment is seen now.
			ended, n = true, n-1
			lr.forget()
			continue
		}
		if err := v.line(s, n, line); err != nil {
			return false, err
		}
	}
}

// begin compares the name of a segment with where the one before ended.
func (v *verification) begin(s segment) error {
	if s.first < v.next {
		v.wrong(s.name, 1, s.first, remedyCopy, "the file is named for entry %d, and the one before it goes up to entry %d", s.first, v.next-1)
	}
	if s.first <= v.next {
		return nil
	}
	v.prev = "" // what it follows is missing, and that is said
	return v.skip(s.first, s.name, 1)
}

func (v *verification) tell() error {
	if v.opts.Progress != nil {
		total := v.report.Entries
		if v.own != nil && v.own.head.size > v.report.FirstSeq {
			total = max(total, v.own.head.size-v.report.FirstSeq)
		}
		v.opts.Progress(v.report.Entries, total)
	}
	return v.ctx.Err()
}

// line takes a line to be the entry that is next, or the one that it says when
// its stored hash agrees.
func (v *verification) line(s segment, n int, line []byte) error {
	p, formErr := parseLine(line)
	h := tlog.RecordHash(line)
	switch {
	case formErr != nil:
		v.wrong(s.name, n, v.next, remedyCopy, "%s", formErr)
	case p.seq != v.next && v.storedLeaf(p.seq) == h && p.seq < v.next:
		v.wrong(s.name, n, p.seq, remedyCopy, "entry %d is here, and entry %d should be: it is in the wrong place or twice", p.seq, v.next)
		return nil
	case p.seq > v.next && (v.storedLeaf(p.seq) == h || v.nohash):
		if err := v.skip(p.seq, s.name, n); err != nil {
			return err
		}
	case p.seq != v.next:
		v.wrong(s.name, n, v.next, remedyCopy, "the line says that it is entry %d, and entry %d should be here", p.seq, v.next)
	}
	if formErr == nil {
		if v.report.Entries == 0 {
			v.report.First = p.time
		}
		v.report.Last = p.time
		v.content(s, n, &p)
	}
	v.report.Entries++
	if v.report.Entries%4096 == 0 {
		if err := v.tell(); err != nil {
			return err
		}
	}
	return v.add(h, true, s.name, n)
}

// storedLeaf looks up a stored hash; zero when it is not there.
func (v *verification) storedLeaf(seq uint64) (h tlog.Hash) {
	if v.hashes.r == nil || seq > 1<<55 {
		return h
	}
	if _, err := v.hashes.r.ReadAt(h[:], tlog.StoredHashIndex(0, int64(seq))*tlog.HashSize); err != nil {
		return tlog.Hash{}
	}
	return h
}

// skip goes on to an entry without those before it: their hashes may be stored.
func (v *verification) skip(to uint64, file string, line int) error {
	v.missing = append(v.missing, missing{v.next, to, file, line})
	for v.next < to {
		if v.nohash {
			v.blind, v.next = true, to
			// Those in between are reached, in a way: they are not compared.
			for v.claimed < len(v.claims) && v.claims[v.claimed].head.size < to {
				v.claims[v.claimed].reached, v.claims[v.claimed].blind = true, true
				v.claimed++
			}
			v.pass()
			return nil
		}
		if v.next%4096 == 0 && v.ctx.Err() != nil {
			return v.ctx.Err()
		}
		if err := v.add(v.storedLeaf(v.next), false, file, line); err != nil {
			return err
		}
	}
	return nil
}

// add puts the next leaf on the tree, and compares its stored hashes.
func (v *verification) add(h tlog.Hash, present bool, file string, line int) error {
	defer v.pass()
	seq := v.next
	v.next++
	if v.blind {
		return nil
	}
	v.before.n, v.before.nodes = v.tree.n, append(v.before.nodes[:0], v.tree.nodes...)
	v.stored = v.tree.add(h, v.stored[:0])
	if v.nohash {
		return nil
	}
	want := v.stored
	got, err := v.hashesOf(len(want))
	if err != nil {
		return err
	}
	if len(got) < len(want) {
		v.nohash = true
		switch {
		case !present:
			v.blind = true
		case v.own == nil || seq < v.own.head.size: // else a copy that was made meanwhile, or a crash
			v.wrong(hashesName, 0, seq, remedyHashes, "the hashes end before entry %d", seq)
		}
		return nil
	}
	leaf := tlog.Hash(got[:len(h)])
	differs := leaf != h
	if differs || v.alt != nil {
		if v.alt == nil {
			before := v.before.clone()
			v.alt = &before
		}
		want = v.alt.add(leaf, nil)
	}
	if differs && len(v.report.Findings) < maxFindings {
		v.doubts = append(v.doubts, len(v.report.Findings))
		v.wrong(file, line, seq, remedyCopy, "entry %d is not the one whose hash is stored: it was edited", seq)
	} else if differs {
		v.more++
	}
	if !bytes.Equal(got[len(h):], want[len(h):]) {
		v.wrong(hashesName, 0, seq, remedyHashes, "the stored hashes that entry %d completes are not those of the entries", seq)
	}
	return nil
}

// hashesOf reads the next stored hashes, and waits for them a little.
func (v *verification) hashesOf(n int) ([]byte, error) {
	at := v.hashes.offset()
	for began := time.Now(); ; {
		got, err := v.hashes.next(n)
		if err != nil || len(got) == n || time.Since(began) > v.opts.delay {
			return got, err
		}
		time.Sleep(v.opts.delay / 100) // an open Log writes them after the entry
		v.hashes = hashReader{r: v.hashes.r, off: at}
	}
}

// longHashes looks whether there are hashes of more than the entries, when the
// log does not grow.
func (v *verification) longHashes() error {
	f, ok := v.hashes.r.(*os.File)
	if !ok || v.nohash || v.blind {
		return nil
	}
	for began := time.Now(); ; time.Sleep(v.opts.delay / 100) {
		st, err := f.Stat()
		if err != nil || st.Size() <= storedSize(v.next) {
			return err
		}
		segs, err := v.after(0)
		if err != nil {
			return err
		}
		if n := len(segs); n > 0 && v.lastName != "" {
			last, err := os.Stat(filepath.Join(v.dir, segs[n-1].name))
			if err != nil || segs[n-1].name != v.lastName || last.Size() != v.lastSize {
				return nil // it grows
			}
		}
		if time.Since(began) > v.opts.delay {
			v.wrong(hashesName, 0, v.next, remedyHashes, "there are hashes of more than the %d entries", v.next)
			return nil
		}
	}
}

// content checks what entries of our own say.
func (v *verification) content(s segment, n int, p *parsed) {
	kind := string(p.kind)
	if (n == 1) != (kind == KindSegment) {
		v.wrong(s.name, n, p.seq, remedyCopy, "the first entry of a file, and no other, is of kind %s; this is of kind %s", KindSegment, kind)
	}
	var err error
	switch kind {
	case KindSegment:
		err = v.segmentEntry(p)
	case KindKey:
		err = v.keyEntry(p)
	case KindRetention:
		var d retentionData
		// Signed before anything is removed, so what is not signed permits nothing.
		if err = json.Unmarshal(p.data, &d); err == nil && v.own != nil && p.seq < v.own.head.size {
			v.removed = max(v.removed, d.Before)
		}
	}
	if err != nil {
		v.wrong(s.name, n, p.seq, remedyCopy, "%s", err)
	}
}

func (v *verification) segmentEntry(p *parsed) error {
	var d segmentData
	if err := json.Unmarshal(p.data, &d); err != nil {
		return err
	}
	if d.Size != p.seq {
		return fmt.Errorf("the file begins with entry %d, and says that there are %d before it", p.seq, d.Size)
	}
	if v.prev != "" && d.Previous != v.prev {
		return fmt.Errorf("the file says that it follows %q, and it follows %q", d.Previous, v.prev)
	}
	if v.vkey != "" && d.Key != v.vkey {
		return fmt.Errorf("the file says that it is signed with %s, and the one before it was signed with %s", d.Key, v.vkey)
	}
	v.vkey = d.Key
	v.name(d.Key)
	if !v.blind && d.Root != v.tree.root().String() && (v.alt == nil || d.Root != v.alt.root().String()) {
		return fmt.Errorf("the file was begun after other entries than those that are there")
	}
	return nil
}

func (v *verification) keyEntry(p *parsed) error {
	var d keyData
	if err := json.Unmarshal(p.data, &d); err != nil {
		return err
	}
	if v.vkey != "" && d.From != v.vkey {
		return fmt.Errorf("the key %s is given up, and %s signed so far", d.From, v.vkey)
	}
	origin := ""
	if k, err := parseVkey(d.From); err == nil {
		origin = k.Name()
	}
	t := treeHead{origin: origin, size: p.seq, root: v.tree.root()}
	if v.alt != nil {
		t.root = v.alt.root()
	}
	if !v.blind {
		if err := d.check(t); err != nil {
			return err
		}
		if slices.Contains(v.trusted, d.From) && !slices.Contains(v.trusted, d.To) {
			v.trusted = append(v.trusted, d.To)
		}
	}
	v.vkey = d.To
	v.name(d.From)
	v.name(d.To)
	return nil
}

func (v *verification) name(vkey string) {
	if !slices.Contains(v.named, vkey) {
		v.named = append(v.named, vkey)
	}
}
