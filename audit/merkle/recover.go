package merkle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
)

// recover reads the end of the log, makes what is missing of a new one, and
// repairs what a crash leaves.
func (l *Log) recover() error {
	for _, name := range []string{checkpointName, keyName, nextKeyName, pubName} {
		_ = os.Remove(filepath.Join(l.dir, name+".tmp")) // what a crash left takes room only
	}
	segs, err := segments(l.dir)
	if err != nil {
		return err
	}
	path := filepath.Join(l.dir, checkpointName)
	signed, err := readSmall(path, maxNote)
	missing := errors.Is(err, os.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	fresh := missing && len(segs) == 0
	if err := l.loadKeys(fresh); err != nil {
		return err
	}
	if err := l.openHashes(fresh); err != nil {
		return err
	}
	if missing && !fresh {
		return rollback(l.dir, "there are entries, and the checkpoint that vouches for them is missing")
	}
	head := treeHead{root: frontier{}.root()}
	if !missing {
		if head, err = openHead(signed, l.pub); err != nil {
			return &CorruptError{File: path, Reason: err.Error()}
		}
		if head.origin != l.origin {
			return rollback(l.dir, "the checkpoint is of the log %s, the keys are of %s", head.origin, l.origin)
		}
		l.note, l.signed = signed, head.size
	}
	if err := l.recoverEntries(segs, head); err != nil {
		return err
	}
	return l.settleKeys()
}

func (l *Log) openHashes(fresh bool) error {
	path := filepath.Join(l.dir, hashesName)
	st, err := os.Lstat(path)
	if err == nil && fresh && st.Size() > 0 {
		return rollback(l.dir, "there are hashes of entries, and no entries")
	}
	l.hashes, err = l.opts.open(path, os.O_CREATE)
	if err != nil {
		return err
	}
	return durable.SyncDir(l.dir)
}

// recoverEntries reads the entries from the segment on in which the checkpoint
// ends, the last one at least.
func (l *Log) recoverEntries(segs []segment, head treeHead) error {
	segs, err := l.dropEmpty(segs, head)
	if err != nil {
		return err
	}
	if len(segs) == 0 {
		if head.size > 0 {
			return rollback(l.dir, "there are no entries, and the checkpoint vouches for %d", head.size)
		}
		l.tip.cursors = map[string]string{}
		return l.hashes.Truncate(0)
	}
	from := len(segs) - 1
	for from > 0 && segs[from].first > head.size {
		from--
	}
	f, err := openRead(filepath.Join(l.dir, hashesName))
	if err != nil {
		return err
	}
	defer f.Close()
	// Nothing is repaired before all is known to be as it was signed.
	none := func(int64, []byte) error { return nil }
	read := func() (*replay, error) { return l.replay(f, segs, from, head, none) }
	r, err := read()
	var corrupt *CorruptError
	if err != nil && (!errors.As(err, &corrupt) || errors.Is(err, errTree)) {
		// The hashes may be at fault: they are not synced with each entry.
		from = -1
		r, err = read()
	}
	if err == nil && r.fixed > 0 {
		r, err = l.replay(f, segs, from, head, l.fixHashes)
	}
	if err != nil {
		return err
	}
	return l.take(r, segs[len(segs)-1])
}

// replay reads from a segment on; from -1: all, and what is left of removed ones.
func (l *Log) replay(f *os.File, segs []segment, from int, head treeHead, fix func(int64, []byte) error) (*replay, error) {
	r := &replay{dir: l.dir, head: head, hashes: hashReader{r: f}, cursors: map[string]string{}, fix: fix}
	var err error
	if from < 0 {
		from, err = 0, r.removed(segs[0])
	} else if r.tree, err = (storedHashes{f}).frontier(segs[from].first); err == nil {
		err = r.checkOld(f)
	}
	if err == nil {
		err = r.run(segs[from:])
	}
	return r, err
}

// dropEmpty removes the last segment when it holds no whole entry.
func (l *Log) dropEmpty(segs []segment, head treeHead) ([]segment, error) {
	if len(segs) == 0 {
		return nil, nil
	}
	last := segs[len(segs)-1]
	if last.first < head.size {
		return segs, nil
	}
	path := filepath.Join(l.dir, last.name)
	f, err := openRead(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lr := lineReader{r: f}
	line, err := lr.next()
	if err != nil || line != nil && !torn(line) {
		return segs, nil // reading it says what is wrong
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	l.recovered("%s was begun and held no whole entry: removed", last.name)
	return segs[:len(segs)-1], durable.SyncDir(l.dir)
}

func (l *Log) fixHashes(at int64, stored []byte) error {
	_, err := l.hashes.WriteAt(stored, at)
	return err
}

// take makes what was read the end of the log, and all of it durable: what was
// never acknowledged counts from here on.
func (l *Log) take(r *replay, last segment) (err error) {
	if r.tree.n < r.head.size {
		return rollback(l.dir, "there are %d entries, and the checkpoint vouches for %d", r.tree.n, r.head.size)
	}
	if l.seg, err = l.opts.open(filepath.Join(l.dir, last.name), 0); err != nil {
		return err
	}
	if r.end < r.size {
		if err := l.seg.Truncate(r.end); err != nil {
			return fmt.Errorf("cut an unfinished entry off %s: %w", last.name, err)
		}
		l.recovered("%d bytes of entries that were not written to their end were cut off %s", r.size-r.end, last.name)
	}
	if err := l.seg.Sync(); err != nil {
		return err
	}
	if r.fixed > 0 {
		l.recovered("the stored hashes of %d entries were derived again", r.fixed)
	}
	if err := errors.Join(l.hashes.Truncate(storedSize(r.tree.n)), l.hashes.Sync()); err != nil {
		return err
	}
	l.segName, l.segSize = last.name, r.end
	l.tip = tip{r.tree, r.vkey, r.cursors}
	return nil
}
