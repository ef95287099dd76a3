package merkle

import (
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// agedLog appends an entry an hour; its segments are of some hours each.
func agedLog(t *testing.T, entries int, retention time.Duration) (dir string, l *Log, at func(time.Time)) {
	t.Helper()
	var now atomic.Int64
	set := func(x time.Time) { now.Store(x.UnixNano()) }
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	set(start)
	dir = filepath.Join(t.TempDir(), "log")
	l = open(t, dir, Options{SegmentBytes: 900, Retention: retention, Now: func() time.Time { return time.Unix(0, now.Load()) }})
	for n := range entries {
		set(start.Add(time.Duration(n) * time.Hour))
		add(t, l, n, n+1)
	}
	return dir, l, set
}

func TestOldSegmentsAreRemovedAndEverythingCanStillBeProven(t *testing.T) {
	const keep = 24 * time.Hour
	dir, l, set := agedLog(t, 40, 1000*time.Hour)
	var kept [][]byte
	if err := l.sign(); err != nil {
		t.Fatal(err)
	}
	kept = append(kept, l.Checkpoint())
	old, all := l.Checkpoint(), segmentPaths(t, dir)
	end := time.Date(2026, 1, 2, 16, 0, 0, 0, time.UTC)
	set(end.Add(1000*time.Hour - keep)) // what was appended in the last 24 hours stays
	if err := l.tidy(); err != nil {
		t.Fatal(err)
	}
	left := segmentPaths(t, dir)
	if len(left) == 0 || len(left) >= len(all) || !slices.Equal(left, all[len(all)-len(left):]) {
		t.Fatalf("left %d of %d", len(left), len(all))
	}
	err := Read(t.Context(), dir, Filter{}, func(e Entry) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	got := numbers(t, dir)
	if got[0] > 40-24 || got[len(got)-1] != 39 {
		t.Fatalf("there are %v", got)
	}
	r := sound(t, dir, VerifyOptions{Checkpoints: kept})
	if r.Pruned == 0 || r.Pruned != r.FirstSeq || r.Entries+r.Pruned != r.Size {
		t.Fatalf("%+v", r)
	}
	keys := pubKeys(t, dir)
	c, err := ProveConsistency(dir, headSize(t, old))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(old, keys); err != nil {
		t.Fatal(err)
	}
	if _, err := Prove(dir, 0); err == nil {
		t.Fatal("an entry that is not there was proven")
	}
	p, err := Prove(dir, r.FirstSeq)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(keys); err != nil {
		t.Fatal(err)
	}
	// Again and again, over restarts, and the newest segment stays.
	for range 3 {
		closeLog(t, l)
		l = open(t, dir, Options{Retention: time.Nanosecond, SegmentBytes: 500, Now: func() time.Time { return end.Add(9000 * time.Hour) }})
		add(t, l, 40, 44)
		if err := l.tidy(); err != nil {
			t.Fatal(err)
		}
		sound(t, dir, VerifyOptions{Checkpoints: kept})
	}
	closeLog(t, l)
	if len(segmentPaths(t, dir)) == 0 {
		t.Fatal("the newest segment was removed")
	}
	sound(t, dir, VerifyOptions{Checkpoints: kept})
}

func headSize(t *testing.T, b []byte) uint64 {
	t.Helper()
	h, err := readHead(b)
	if err != nil {
		t.Fatal(err)
	}
	return h.size
}

func prunedLog(t *testing.T) string {
	t.Helper()
	dir, l, set := agedLog(t, 40, 1000*time.Hour)
	set(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC).Add(1000 * time.Hour))
	if err := l.tidy(); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	return dir
}

func TestMoreThanRetentionRemovedIsFound(t *testing.T) {
	dir := prunedLog(t)
	sound(t, dir, VerifyOptions{})
	os.Remove(segmentPaths(t, dir)[0])
	finds(t, verify(t, dir, VerifyOptions{}), "are not there")
}

func TestARemovedSegmentIsFoundWhileTheLogIsWritten(t *testing.T) {
	dir := smallLog(t, 40)
	os.Remove(segmentPaths(t, dir)[1])
	l := open(t, dir, Options{Retention: -1})
	for n := 40; n < 44; n++ {
		add(t, l, n, n+1)
		finds(t, verify(t, dir, VerifyOptions{Progress: func(uint64, uint64) { add(t, l, 100, 101) }}), "are not there")
	}
}

func TestARemovalThatNobodySignedIsFound(t *testing.T) {
	dir := smallLog(t, 40)
	l := open(t, dir, Options{Retention: -1})
	size, paths := l.Size(), segmentPaths(t, dir)
	closeLog(t, l)
	// Somebody without the key appends the entry that permits it.
	forged := appendLine(nil, size, Draft{Kind: KindRetention, Time: time.Now().UTC(), Data: []byte(`{"before":20,"segments":[]}`)})
	last := paths[len(paths)-1]
	write(t, last, append(read(t, last), forged...))
	os.Remove(paths[0])
	finds(t, verify(t, dir, VerifyOptions{}), "are not there")
}

func TestEachFlippedHashOfRemovedEntriesIsFound(t *testing.T) {
	dir := prunedLog(t)
	path := filepath.Join(dir, hashesName)
	b := read(t, path)
	for i := 0; i < len(b); i += 31 { // another byte of each hash
		b[i] ^= 4
		write(t, path, b)
		if !found(t, dir, VerifyOptions{}) {
			t.Errorf("byte %d: not found", i)
		}
		b[i] ^= 4
	}
	// Without them the tree cannot be known, and the log is not opened.
	write(t, path, b[:64])
	if !refused(t, dir) {
		t.Fatal("opened")
	}
	finds(t, verify(t, dir, VerifyOptions{}), "cannot be compared")
}

func TestARemovalThatWasCutShortIsDoneAgain(t *testing.T) {
	dir, l, set := agedLog(t, 40, 1000*time.Hour)
	before := copyDir(t, dir)
	set(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC).Add(1000 * time.Hour))
	if err := l.tidy(); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	gone := segmentPaths(t, before)[:len(segmentPaths(t, before))-len(segmentPaths(t, dir))]
	if len(gone) < 2 {
		t.Fatalf("only %d were removed", len(gone))
	}
	for i := range gone { // the first i of them were removed, then it died
		crashed := copyDir(t, dir)
		for _, g := range gone[i:] {
			write(t, filepath.Join(crashed, filepath.Base(g)), read(t, g))
		}
		sound(t, crashed, VerifyOptions{})
		l := open(t, crashed, Options{Retention: time.Hour, Now: func() time.Time { return time.Date(2026, 1, 1, 20, 0, 0, 0, time.UTC) }})
		if err := l.tidy(); err != nil {
			t.Fatal(err)
		}
		closeLog(t, l)
		sound(t, crashed, VerifyOptions{})
	}
}

func TestNothingIsRemovedWhoseHashesAreNotSound(t *testing.T) {
	dir, l, set := agedLog(t, 40, 1000*time.Hour)
	path := filepath.Join(dir, hashesName)
	b := read(t, path)
	b[3]++
	write(t, path, b)
	n := len(segmentPaths(t, dir))
	set(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC).Add(1000 * time.Hour))
	if err := l.tidy(); err == nil {
		t.Fatal("no error")
	}
	if got := len(segmentPaths(t, dir)); got != n {
		t.Fatalf("%d segments, were %d", got, n)
	}
}

func TestANegativeRetentionKeepsEverything(t *testing.T) {
	dir, l, set := agedLog(t, 40, -1)
	n := len(segmentPaths(t, dir))
	set(time.Date(2999, 1, 2, 0, 0, 0, 0, time.UTC))
	add(t, l, 40, 60)
	closeLog(t, l)
	if got := len(segmentPaths(t, dir)); got < n {
		t.Fatal("removed")
	}
}
