package merkle

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestWhatIsHeldIsNotRemovedHoweverOldItIs(t *testing.T) {
	var held atomic.Uint64
	var short atomic.Bool
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var passed atomic.Int64 // the log's own goroutines read the clock, too
	dir := t.TempDir()
	l := open(t, dir, Options{SegmentBytes: 900, Retention: time.Hour, Hold: held.Load, Short: short.Load, Now: func() time.Time { return start.Add(time.Duration(passed.Load())) }})
	add(t, l, 0, 40)
	oldest := func() uint64 {
		t.Helper()
		if err := l.tidy(); err != nil {
			t.Fatal(err)
		}
		segs, err := segments(dir)
		if err != nil {
			t.Fatal(err)
		}
		return segs[0].first
	}
	passed.Store(int64(1000 * time.Hour))
	if at := oldest(); at != 0 {
		t.Fatalf("entries before %d are gone, and all are held", at)
	}
	held.Store(20)
	if at := oldest(); at == 0 || at > 20 {
		t.Fatalf("entries before %d are gone, and those from 20 on are held", at)
	}
	// Where there is no room age does not count, and what is held stays.
	passed.Store(0)
	was := oldest()
	held.Store(30)
	if at := oldest(); at != was {
		t.Fatalf("entries before %d are gone, and they are young", at)
	}
	short.Store(true)
	if at := oldest(); at <= was || at > 30 {
		t.Fatalf("entries before %d are gone: those before 30 could be, by whole segments", at)
	}
	sound(t, dir, VerifyOptions{})
}

func TestALogReaderGivesWhatIsDurableInBatchesAndOverSegments(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{SegmentBytes: 900})
	r := l.From(0)
	defer r.Close()
	if got, err := r.Next(10, 1<<20); err != nil || len(got) != 0 {
		t.Fatalf("%v %v", got, err)
	}
	var seqs []uint64
	for round := range 5 {
		add(t, l, 10*round, 10*round+10)
		for {
			got, err := r.Next(3, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) == 0 {
				break
			}
			if len(got) > 3 {
				t.Fatalf("a batch of %d", len(got))
			}
			for _, e := range got {
				seqs = append(seqs, e.Seq)
			}
		}
		if uint64(len(seqs)) != l.Size() {
			t.Fatalf("%d of %d were read", len(seqs), l.Size())
		}
	}
	for i, seq := range seqs {
		if seq != uint64(i) {
			t.Fatalf("%v", seqs)
		}
	}
	late := l.From(l.Size() - 2)
	defer late.Close()
	if got, err := late.Next(100, 1<<20); err != nil || len(got) != 2 || got[0].Seq != l.Size()-2 {
		t.Fatalf("%v %v", got, err)
	}
	big := l.From(0)
	defer big.Close()
	if got, err := big.Next(100, 1); err != nil || len(got) != 1 {
		t.Fatalf("%d entries for one byte, %v", len(got), err)
	}
}

func TestAParsedLineIsTheOneThatWasWritten(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	add(t, l, 0, 3)
	var lines []string
	if err := Read(t.Context(), dir, Filter{}, func(e Entry) error {
		got, err := ParseLine(e.Line())
		if err != nil {
			return err
		}
		a, _ := json.Marshal(e)
		b, _ := json.Marshal(got)
		if string(a) != string(b) {
			return fmt.Errorf("%s is not %s", b, a)
		}
		lines = append(lines, string(e.Line()))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", lines[0] + " ", lines[1][1:], "{}"} {
		if _, err := ParseLine([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if !slices.IsSorted(l.Keys()) || len(l.Keys()) != 1 || l.Origin() == "" {
		t.Error(l.Keys(), l.Origin())
	}
}
