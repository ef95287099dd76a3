package merkle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestWhatIsAppendedIsThereAgainAfterOpening(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "log")
	for round := range 4 {
		l := open(t, dir, Options{SegmentBytes: 1500, Origin: "example.com/log"})
		if r := l.Recovered(); r != nil {
			t.Fatalf("repaired after Close: %q", r)
		}
		if round > 0 {
			if got, want := l.Cursor("spool/a"), fmt.Sprintf("f:%d", round*10-1); got != want {
				t.Fatalf("cursor %q, want %q", got, want)
			}
		}
		add(t, l, round*10, round*10+10)
		closeLog(t, l)
		if err := l.Append(context.Background(), draft(0)); !errors.Is(err, ErrClosed) {
			t.Fatalf("append after Close: %v", err)
		}
		if got := numbers(t, dir); !reflect.DeepEqual(got, upTo(round*10+10)) {
			t.Fatalf("read %v", got)
		}
		r := sound(t, dir, VerifyOptions{})
		if r.Unsigned != 0 || r.Origin != "example.com/log" || r.Size != l.Size() || r.Entries != r.Size {
			t.Fatalf("%+v", r)
		}
	}
}

func TestEachEndOfASourceLeavesTheCursors(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{SegmentBytes: 300})
	ctx := context.Background()
	for i := range 20 {
		for _, at := range []string{"x", ""} {
			if err := l.Append(ctx, Draft{Kind: "a", Cursors: map[string]string{fmt.Sprint("s", i): at, `q"\`: `v\"`}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := map[string]string{`q"\`: `v\"`}
	if got := l.Cursors(); !reflect.DeepEqual(got, want) {
		t.Fatal(got)
	}
	closeLog(t, l)
	l = open(t, dir, Options{})
	if got := l.Cursors(); !reflect.DeepEqual(got, want) {
		t.Fatal(got)
	}
}

func TestABatchIsWholeAndInOrderAmongManyCallers(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{SegmentBytes: 4000})
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for i := range 20 {
				var ds []Draft
				for k := range 5 {
					ds = append(ds, Draft{Kind: "request", Data: fmt.Appendf(nil, `{"c":%d,"i":%d,"k":%d}`, c, i, k)})
				}
				if err := l.Append(context.Background(), ds...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	closeLog(t, l)
	sound(t, dir, VerifyOptions{})
	var got []string
	err := Read(context.Background(), dir, Filter{Match: func(e *Entry) bool { return e.Kind == "request" }}, func(e Entry) error {
		got = append(got, string(e.Data))
		return nil
	})
	if err != nil || len(got) != 8*20*5 {
		t.Fatal(len(got), err)
	}
	for i := 0; i < len(got); i += 5 {
		head, _ := strings.CutSuffix(got[i], `0}`)
		for k := range 5 {
			if want := fmt.Sprintf("%s%d}", head, k); got[i+k] != want {
				t.Fatalf("entry %d is %s, want %s", i+k, got[i+k], want)
			}
		}
	}
}

func TestAnAppendThatCannotBeIsRefusedAndHarmsNoOther(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	ctx := context.Background()
	for _, d := range []Draft{
		{Kind: "Bad"}, {Kind: ""}, {Kind: KindKey}, {Kind: KindSegment}, {Kind: KindRetention},
		{Kind: "a", Data: []byte("{")}, {Kind: "a", Cursors: map[string]string{"": "x"}},
		{Kind: "a", Data: []byte(`"` + strings.Repeat("x", maxData) + `"`)},
		{Kind: "a", Cursors: map[string]string{"a\nb": "x"}},
	} {
		if err := l.Append(ctx, draft(0), d); err == nil {
			t.Fatalf("taken: %.100v", d)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := l.Append(ended, draft(0)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	add(t, l, 0, 3)
	closeLog(t, l)
	if got := numbers(t, dir); !reflect.DeepEqual(got, upTo(3)) {
		t.Fatal(got)
	}
}

func TestOnlyOneProcessWritesALog(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	if _, err := Open(dir, Options{Log: quiet}); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	closeLog(t, l)
	closeLog(t, open(t, dir, Options{}))
}

func TestFilesAreOfNobodyElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l := open(t, dir, Options{})
	add(t, l, 0, 1)
	closeLog(t, l)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if info, _ := d.Info(); info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnOriginThatANoteCannotHaveIsRefused(t *testing.T) {
	for _, origin := range []string{"with space", "with+plus", "with\nline"} {
		if _, err := Open(t.TempDir(), Options{Log: quiet, Origin: origin}); err == nil {
			t.Errorf("%q was taken", origin)
		}
	}
}

func TestReadHandsOutWhatTheFilterTakes(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	l := open(t, dir, Options{SegmentBytes: 700, Retention: -1, Now: func() time.Time { return now }})
	start := now
	for n := range 60 {
		now = start.Add(time.Duration(n) * 10 * time.Minute)
		add(t, l, n, n+1)
	}
	closeLog(t, l)
	var all []Entry
	collect := func(f Filter) (out []Entry) {
		if err := Read(context.Background(), dir, f, func(e Entry) error { out = append(out, e); return nil }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	all = collect(Filter{})
	for from := range all {
		if got := collect(Filter{From: uint64(from)}); !reflect.DeepEqual(got, all[from:]) {
			t.Fatalf("from %d: %d entries, want %d", from, len(got), len(all)-from)
		}
	}
	for n := range 62 {
		at := start.Add(time.Duration(n)*10*time.Minute + time.Second)
		until := at.Add(time.Hour)
		var want []Entry
		for _, e := range all {
			if !e.Time.Before(at) && e.Time.Before(until) && e.Seq >= 20 && e.Kind == "request" {
				want = append(want, e)
			}
		}
		got := collect(Filter{From: 20, Since: at, Until: until, Match: func(e *Entry) bool { return e.Kind == "request" }})
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("since %v: %d entries, want %d", at, len(got), len(want))
		}
	}
	stop := errors.New("enough")
	if err := Read(context.Background(), dir, Filter{}, func(Entry) error { return stop }); !errors.Is(err, stop) {
		t.Fatal(err)
	}
}

func TestFollowSeesEachEntryOnceWhileSegmentsChange(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{SegmentBytes: 2000})
	add(t, l, 0, 20)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done, next := make(chan error, 1), uint64(0)
	go func() {
		done <- Follow(ctx, dir, Filter{}, func(e Entry) error {
			if e.Seq != next {
				return fmt.Errorf("got %d, want %d", e.Seq, next)
			}
			if next++; string(e.Data) == `{"n":299}` {
				cancel()
			}
			return nil
		})
	}()
	add(t, l, 20, 300)
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestVerifyAndReadWorkWhileTheLogIsWritten(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{SegmentBytes: 3000})
	add(t, l, 0, 1)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for n := 1; n < 1000; n++ {
			if err := l.Append(context.Background(), draft(n)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for writing := true; writing; {
		select {
		case <-written:
			writing = false // and once more
		default:
		}
		old := l.Checkpoint()
		sound(t, dir, VerifyOptions{Checkpoints: [][]byte{old}, delay: time.Second})
		if got := numbers(t, dir); !reflect.DeepEqual(got, upTo(len(got))) {
			t.Fatal("read with holes")
		}
	}
	if got := numbers(t, dir); len(got) != 1000 {
		t.Errorf("%d entries", len(got))
	}
}

func TestVerifyReadAndFollowWorkWhileSegmentsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{SegmentBytes: 4000, Retention: time.Millisecond})
	add(t, l, 0, 20)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := 20; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := l.Append(context.Background(), draft(n)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	followed := make(chan error, 1)
	go func() {
		last := uint64(0)
		followed <- Follow(ctx, dir, Filter{}, func(e Entry) error {
			if last > 0 && e.Seq <= last {
				return fmt.Errorf("%d after %d", e.Seq, last)
			}
			last = e.Seq
			return nil
		})
	}()
	pruned := uint64(0)
	for n := 0; n < 20 || pruned == 0; n++ {
		r := sound(t, dir, VerifyOptions{Checkpoints: [][]byte{l.Checkpoint()}, delay: time.Second})
		pruned = r.Pruned
		numbers(t, dir)
	}
	cancel()
	if err := <-followed; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	close(stop)
	<-stopped
}
