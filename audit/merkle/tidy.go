package merkle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
)

// tidyEvery is how often old segments are looked for, shortEvery how often it is
// asked whether there is room.
const tidyEvery, shortEvery = time.Hour, time.Minute

// retentionData is the data of an entry of kind retention.
type retentionData struct {
	// Before is the seq of the first entry that is kept.
	Before uint64 `json:"before"`
	// Segments are the names of the files that are removed.
	Segments []string `json:"segments"`
}

func (l *Log) tidyLoop() {
	tick := time.NewTicker(shortEvery)
	defer tick.Stop()
	last, due := time.Time{}, true
	for {
		if due || time.Since(last) >= tidyEvery || l.opts.Short() {
			last = time.Now()
			if err := l.tidy(); err != nil && !errors.Is(err, ErrClosed) {
				l.opts.Log.Warn("old audit entries are not removed", "dir", l.dir, "error", err)
			}
		}
		select {
		case <-l.tidyWake:
			due = true
		case <-tick.C:
			due = false
		case <-l.written:
			return
		}
	}
}

// tidy removes segments that are too old. Their hashes stay. The entry that says
// so is signed before, so that whoever verifies the log knows that it was us.
func (l *Log) tidy() error {
	l.tidyMu.Lock()
	defer l.tidyMu.Unlock()
	old, before, err := l.oldSegments()
	if err != nil || len(old) == 0 {
		return err
	}
	// They can be derived again only as long as the entries are there.
	if err := l.hashes.Sync(); err != nil {
		return err
	}
	if err := checkHashes(l.dir, old, before); err != nil {
		return err
	}
	d := retentionData{Before: before}
	for _, s := range old {
		d.Segments = append(d.Segments, s.name)
	}
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := l.append(context.Background(), &batch{drafts: []Draft{{Kind: KindRetention, Data: data}}}); err != nil {
		return err
	}
	if err := l.sign(); err != nil {
		return err
	}
	for _, s := range old {
		if err := os.Remove(filepath.Join(l.dir, s.name)); err != nil {
			return err
		}
	}
	l.opts.Log.Info("old audit entries were removed", "dir", l.dir, "segments", len(old), "before", before)
	return durable.SyncDir(l.dir)
}

// oldSegments are those that ended before the time that is kept: when the next
// one begins. The newest is never among them, nor is what is held.
func (l *Log) oldSegments() (old []segment, before uint64, err error) {
	short := l.opts.Short()
	if l.opts.Retention < 0 && !short {
		return nil, 0, nil
	}
	segs, err := segments(l.dir)
	if err != nil {
		return nil, 0, err
	}
	limit, held := l.opts.Now().Add(-l.opts.Retention), l.opts.Hold()
	n := 0
	// At most so many at once that their names fit in an entry.
	for n+1 < len(segs) && n < 1000 && segs[n+1].first <= held {
		p, err := firstEntry(l.dir, segs[n+1])
		if err != nil {
			return nil, 0, err
		}
		if p == nil || !short && !p.time.Before(limit) {
			break
		}
		n++
	}
	if n == 0 {
		return nil, 0, nil
	}
	return segs[:n], segs[n].first, nil
}

// firstEntry reads the first line of a segment; nil when there is none yet.
func firstEntry(dir string, s segment) (*parsed, error) {
	path := filepath.Join(dir, s.name)
	f, err := openRead(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lr := lineReader{r: f}
	line, err := lr.next()
	if err != nil || line == nil {
		return nil, err
	}
	p, err := parseLine(line)
	if err == nil && (p.seq != s.first || string(p.kind) != KindSegment) {
		err = fmt.Errorf("%w %d of kind segment", errForm, s.first)
	}
	if err != nil {
		return nil, &CorruptError{File: path, Line: 1, Reason: err.Error()}
	}
	return &p, nil
}

// checkHashes says whether the stored hashes of segments, up to the entry before,
// are those of their entries.
func checkHashes(dir string, segs []segment, before uint64) error {
	f, err := openRead(filepath.Join(dir, hashesName))
	if err != nil {
		return err
	}
	defer f.Close()
	tree, err := storedHashes{f}.frontier(segs[0].first)
	if err != nil {
		return err
	}
	r := &replay{
		dir: dir, tree: tree, hashes: hashReader{r: f, off: storedSize(tree.n)}, cursors: map[string]string{},
		fix: func(int64, []byte) error {
			return &CorruptError{File: filepath.Join(dir, hashesName), Reason: "the stored hashes are not those of the entries"}
		},
	}
	for _, s := range segs {
		if err := r.segment(s, false); err != nil {
			return err
		}
	}
	if r.tree.n != before {
		return fmt.Errorf("the segments hold entries up to %d, and the next one begins with %d", r.tree.n, before)
	}
	return nil
}
