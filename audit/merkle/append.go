package merkle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
)

// maxGroup bounds the bytes of one write.
const maxGroup = 8 << 20

// batch is the drafts of one Append.
type batch struct {
	drafts []Draft
	bytes  int
	// fill makes the data of the only draft when its place is known.
	fill func(t tip) (json.RawMessage, error)
	// vkey is the signing key from this batch on.
	vkey string
	err  error
	done chan error // of size 1
}

// Append records entries, all or none, in order with nothing between them, and
// returns nil when they are written and synced. Concurrent callers share one
// write and one sync. When ctx ends before the write begins nothing is
// recorded; after that Append waits for the disk, because only the disk knows
// the answer.
func (l *Log) Append(ctx context.Context, drafts ...Draft) error {
	if len(drafts) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("append to the audit log: %w", err)
	}
	for _, d := range drafts {
		if d.Kind == KindSegment || d.Kind == KindKey || d.Kind == KindRetention {
			return fmt.Errorf("append to the audit log: kind %q is reserved", d.Kind)
		}
	}
	return l.append(ctx, &batch{drafts: drafts})
}

func (l *Log) append(ctx context.Context, b *batch) error {
	b.done = make(chan error, 1)
	drafts := make([]Draft, len(b.drafts))
	for i, d := range b.drafts {
		if d.Time.IsZero() {
			d.Time = l.opts.Now()
		}
		var err error
		if drafts[i], err = normal(d); err != nil {
			return fmt.Errorf("append to the audit log: %w", err)
		}
		b.bytes += len(d.Data) + 128
	}
	b.drafts = drafts
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.pending = append(l.pending, b)
	l.mu.Unlock()
	wake(l.wake)
	select {
	case err := <-b.done:
		return err
	case <-ctx.Done():
		if l.withdraw(b) {
			return fmt.Errorf("append to the audit log: %w", ctx.Err())
		}
		return <-b.done
	}
}

// withdraw takes b back. It is false when the writer has it already.
func (l *Log) withdraw(b *batch) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, p := range l.pending {
		if p == b {
			l.pending = append(l.pending[:i], l.pending[i+1:]...)
			return true
		}
	}
	return false
}

// write is the only goroutine that writes entries.
func (l *Log) write() {
	defer close(l.written)
	for range l.wake {
		for {
			l.mu.Lock()
			group, closed := l.group(), l.closed
			l.mu.Unlock()
			if len(group) == 0 {
				if closed {
					return
				}
				break
			}
			err := l.commit(group)
			for _, b := range group {
				if b.err == nil {
					b.err = err
				}
				b.done <- b.err
			}
		}
	}
}

// group takes batches for one write.
func (l *Log) group() []*batch {
	n, size := 0, 0
	for n < len(l.pending) && (n == 0 || size+l.pending[n].bytes <= maxGroup) {
		size += l.pending[n].bytes
		n++
	}
	group := l.pending[:n:n]
	l.pending = l.pending[n:]
	return group
}

// commit writes a group of batches and waits for the disk.
func (l *Log) commit(group []*batch) error {
	before := l.tip // only this goroutine moves it
	next, err := l.tryCommit(group)
	if err != nil {
		err = fmt.Errorf("append to the audit log: nothing was recorded; check the disk and the free space of %s: %w", l.dir, err)
		if undoErr := l.tryUndo(); undoErr != nil {
			err = fmt.Errorf("%w: %w; %w", ErrBroken, err, undoErr)
		}
	}
	l.mu.Lock()
	was := l.failed
	l.failed = err
	if err == nil && next.tree.n > before.tree.n {
		l.tip.tree, l.tip.vkey = next.tree, next.vkey
		for name, at := range next.cursors {
			if at == "" {
				delete(l.tip.cursors, name)
			} else {
				l.tip.cursors[name] = at
			}
		}
		close(l.changed)
		l.changed = make(chan struct{})
	}
	l.mu.Unlock()
	switch {
	case err != nil && was == nil:
		l.opts.Log.Error("audit entries cannot be written", "dir", l.dir, "error", err)
	case err == nil && was != nil:
		l.opts.Log.Info("audit entries are written again", "dir", l.dir)
	}
	if err == nil {
		wake(l.signWake)
	}
	return err
}

// tryUndo makes sure that nothing counts of a write that failed. How much of
// it was written is not asked: os.File.WriteAt says 0 after a partial write
// that ended in ENOSPC (measured, Go 1.26).
func (l *Log) tryUndo() error {
	if l.undo == nil {
		return nil
	}
	if err := l.undo(); err != nil {
		return err
	}
	l.undo = nil
	return nil
}

// tryCommit returns the end of the log after the group; of the cursors only
// those that moved.
func (l *Log) tryCommit(group []*batch) (tip, error) {
	if err := l.tryUndo(); err != nil {
		return tip{}, err
	}
	next := tip{l.tip.tree.clone(), l.tip.vkey, map[string]string{}}
	l.lines, l.stored = l.lines[:0], l.stored[:0]
	f, name, off := l.seg, l.segName, l.segSize
	fresh := f == nil || off >= l.opts.SegmentBytes
	if fresh {
		if err := l.segmentEntry(&next); err != nil {
			return tip{}, err
		}
	}
	for _, b := range group {
		if b.err = l.plan(&next, b); b.err != nil {
			b.err = fmt.Errorf("append to the audit log: %w", b.err)
		}
	}
	if next.tree.n == l.tip.tree.n {
		return next, nil
	}
	var err error
	if fresh {
		name, off = segmentFile(l.tip.tree.n), 0
		if f, err = l.create(name); err != nil {
			return tip{}, err
		}
	} else {
		hashesAt := storedSize(l.tip.tree.n)
		l.undo = func() error {
			return errors.Join(f.Truncate(off), f.Sync(), l.hashes.Truncate(hashesAt))
		}
	}
	if err := l.put(f, off); err != nil {
		return tip{}, err
	}
	l.undo = nil
	if fresh && l.seg != nil {
		// All of it is synced: nothing to learn from closing.
		_ = l.seg.Close()
		wake(l.tidyWake)
	}
	l.seg, l.segName, l.segSize = f, name, off+int64(len(l.lines))
	if cap(l.lines) > maxGroup {
		l.lines, l.stored = nil, nil
	}
	return next, nil
}

// put writes the planned lines and their hashes. The hashes after the entries,
// so that a killed process does not leave more of them than of entries. The sync
// of the entries is the acknowledgement.
func (l *Log) put(f file, off int64) error {
	if _, err := f.WriteAt(l.lines, off); err != nil {
		return err
	}
	if _, err := l.hashes.WriteAt(l.stored, storedSize(l.tip.tree.n)); err != nil {
		return err
	}
	return f.Sync()
}

// create begins a segment file, and prepares to take it away again.
func (l *Log) create(name string) (file, error) {
	// Of all segments but the last, the hashes are durable: Open needs to look at
	// those of the last one only.
	if err := l.hashes.Sync(); err != nil {
		return nil, err
	}
	path := filepath.Join(l.dir, name)
	// A file of this name can only be what a failed append left.
	f, err := l.opts.open(path, os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, err
	}
	hashesAt, open := storedSize(l.tip.tree.n), true
	l.undo = func() error {
		if open {
			// First of all: an empty file is no entry, whatever follows.
			if err := f.Truncate(0); err != nil {
				return err
			}
			open = false
			_ = f.Close()
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return errors.Join(durable.SyncDir(l.dir), l.hashes.Truncate(hashesAt))
	}
	return f, durable.SyncDir(l.dir)
}

// segmentData is the data of the first entry of a segment.
type segmentData struct {
	Size     uint64 `json:"size"`
	Root     string `json:"root"`
	Previous string `json:"previous,omitempty"`
	Key      string `json:"key"` // vkey that signs
}

// segmentEntry plans the first line of a segment. All cursors are in it, so
// that opening the log needs no older segment.
func (l *Log) segmentEntry(next *tip) error {
	data, err := json.Marshal(segmentData{next.tree.n, next.tree.root().String(), l.segName, next.vkey})
	if err != nil {
		return err
	}
	d, err := normal(Draft{Time: l.opts.Now(), Kind: KindSegment, Data: data})
	if err != nil {
		return err
	}
	d.Cursors = l.tip.cursors
	l.line(next, d)
	return nil
}

func (l *Log) line(next *tip, d Draft) {
	from := len(l.lines)
	l.lines = appendLine(l.lines, next.tree.n, d)
	l.stored = next.tree.add(tlog.RecordHash(l.lines[from:len(l.lines)-1]), l.stored)
}

// plan adds a batch to the lines, or nothing when it cannot be.
func (l *Log) plan(next *tip, b *batch) error {
	if b.fill != nil {
		data, err := b.fill(*next)
		if err != nil {
			return err
		}
		b.drafts[0].Data = data
		if b.drafts[0], err = normal(b.drafts[0]); err != nil {
			return err
		}
	}
	// Counted without what ends: more than enough room is left.
	added := map[string]bool{}
	for _, d := range b.drafts {
		for name := range d.Cursors {
			if _, ok := l.tip.cursors[name]; !ok && next.cursors[name] == "" {
				added[name] = true
			}
		}
	}
	if len(added) > 0 && len(l.tip.cursors)+len(next.cursors)+len(added) > maxCursors {
		return fmt.Errorf("there are more than %d cursors", maxCursors)
	}
	for _, d := range b.drafts {
		maps.Copy(next.cursors, d.Cursors)
		l.line(next, d)
	}
	if b.vkey != "" {
		next.vkey = b.vkey
	}
	return nil
}
