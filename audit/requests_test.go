package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// tail returns kind and text of all entries.
func tail(t testing.TB, j *Journal, from time.Time) (out []string) {
	t.Helper()
	if err := j.Tail(context.Background(), from, func(e Entry) error {
		out = append(out, e.Kind+":"+strings.Trim(string(e.Data), `"`))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRequestsAreDurableWithin100ms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := mustOpen(t, t.TempDir(), Options{})
		j.Request(entry(KindRequest, "a"))
		synctest.Wait()
		// In the file at once, so that it survives this process.
		if got := tail(t, j, time.Time{}); len(got) != 1 {
			t.Errorf("entries %q", got)
		}
		if s := j.Stats(); s.Waiting != 1 || s.Requests != 0 {
			t.Errorf("stats %+v", s)
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if s := j.Stats(); s.Waiting != 0 || s.Requests != 1 || s.Lost != 0 {
			t.Errorf("stats %+v", s)
		}
		j.Close()
	})
}

func TestADropIsCountedInAGapEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := &disk{hold: make(chan struct{}), held: make(chan struct{})}
		j := mustOpen(t, dir, Options{open: d.open, QueueEntries: 10})
		d.holdWrites(true)
		j.Request(entry(KindRequest, "0"))
		<-d.held
		for i := range 110 {
			j.Request(entry(KindRequest, fmt.Sprint(i+1))) // returns although the disk hangs
		}
		if s := j.Stats(); s.Lost != 100 || s.Waiting != 11 {
			t.Errorf("stats %+v", s)
		}
		d.holdWrites(false)
		close(d.hold)
		time.Sleep(time.Second)
		synctest.Wait()
		got := tail(t, j, time.Time{})
		if len(got) != 12 || got[10] != "request:10" {
			t.Fatalf("entries %q", got)
		}
		var g Gap
		if err := json.Unmarshal([]byte(strings.TrimPrefix(got[11], "gap:")), &g); err != nil || g.Lost != 100 {
			t.Errorf("gap %q: %v", got[11], err)
		}
		// What cannot be written is a gap too.
		j.Request(Entry{Kind: KindRequest, Data: json.RawMessage(`{`)})
		synctest.Wait()
		if got := tail(t, j, time.Time{}); len(got) != 13 || !strings.HasPrefix(got[12], "gap:") || j.Stats().Lost != 101 {
			t.Errorf("entries %q", got)
		}
		j.Close()
	})
}

func TestRequestsOutliveAFullDiskAndAreNotDoubled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := &disk{}
		j := mustOpen(t, dir, Options{open: d.open, QueueEntries: 100})
		var want []string
		for round := range 8 {
			d.set(func(d *disk) {
				d.limited, d.free = round%2 == 1, 250
				d.failSync = round == 4
				d.failTruncate = round == 5
			})
			for i := range 20 {
				text := fmt.Sprintf("%d.%d", round, i)
				j.Request(entry(KindRequest, text))
				want = append(want, "request:"+text)
				if i%5 == 0 {
					synctest.Wait()
				}
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if round%2 == 1 && j.Err() == nil {
				t.Errorf("round %d: no error", round)
			}
		}
		d.set(func(d *disk) { d.limited = false })
		time.Sleep(time.Second)
		synctest.Wait()
		if err := j.Err(); err != nil {
			t.Error(err)
		}
		wantTexts(t, tail(t, j, time.Time{}), want...)
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		j = mustOpen(t, dir, Options{})
		wantTexts(t, tail(t, j, time.Time{}), want...)
		j.Close()
	})
}

func TestCloseSaysHowManyRequestsWereLost(t *testing.T) {
	d := &disk{}
	j := mustOpen(t, t.TempDir(), Options{open: d.open})
	d.set(func(d *disk) { d.limited = true })
	j.Request(entry(KindRequest, "a"))
	j.Request(entry(KindRequest, "b"))
	if err := j.Close(); err == nil || !strings.Contains(err.Error(), "2 request entries could not be written") {
		t.Errorf("error %v", err)
	}
}

func TestRequestFilesRotateAndTheTimelineIsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var want []string
		begin := time.Now()
		n := 0
		for range 3 {
			j := mustOpen(t, dir, Options{RequestFileBytes: 1000})
			for range 40 {
				j.Request(entry(KindRequest, fmt.Sprint("r", n)))
				time.Sleep(60 * time.Millisecond)
				mustAppend(t, j, fmt.Sprint("c", n))
				time.Sleep(60 * time.Millisecond)
				want = append(want, fmt.Sprint("request:r", n), fmt.Sprint("activation:c", n))
				n++
			}
			wantTexts(t, tail(t, j, time.Time{}), want...)
			for _, skip := range []int{0, 1, 7, 20, 41} {
				if skip < n {
					from := begin.Add(time.Duration(skip) * 120 * time.Millisecond)
					wantTexts(t, tail(t, j, from), want[2*skip:]...)
				}
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		}
		names, err := requestFiles(dir)
		if err != nil || len(names) < 10 {
			t.Errorf("files %v, %v", names, err)
		}
		for _, name := range names {
			if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Size() > 1400 || st.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", name, st, err)
			}
		}
		var got []string
		if err := Read(t.Context(), dir, time.Time{}, func(e Entry) error {
			got = append(got, e.Kind+":"+strings.Trim(string(e.Data), `"`))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		wantTexts(t, got, want...)
	})
}

func TestFollowHandsOutEachEntryOnceAcrossRotation(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, Options{RequestFileBytes: 2000})
	mustAppend(t, j, "before")
	var mu sync.Mutex
	seen := map[string]int{}
	total := make(chan int, 10000)
	ended := make(chan error, 1)
	go func() {
		ended <- j.Follow(context.Background(), time.Time{}, func(e Entry) error {
			mu.Lock()
			defer mu.Unlock()
			seen[e.Kind+string(e.Data)]++
			total <- len(seen)
			return nil
		})
	}()
	const n = 300
	for i := range n {
		j.Request(entry(KindRequest, fmt.Sprint(i)))
		if i%10 == 0 {
			mustAppend(t, j, fmt.Sprint(i))
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(seen) != n+n/10+1 {
		t.Errorf("%d entries, want %d", len(seen), n+n/10+1)
	}
	for k, c := range seen {
		if c != 1 {
			t.Errorf("%s was handed out %d times", k, c)
		}
	}
}

func TestDamagedRequestLinesAreShownAndStopNothing(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, Options{})
	for i := range 5 {
		j.Request(entry(KindRequest, fmt.Sprint(i)))
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, requestFileName(1))
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(content, []byte("\n"))
	for i := range content {
		bad := bytes.Clone(content)
		bad[i] ^= 0x01
		write(t, path, bad)
		j := mustOpen(t, dir, Options{})
		j.Request(entry(KindRequest, "new"))
		j.Close()
		got := strings.Join(tail(t, j, time.Time{}), "|")
		// The last newline damaged looks like a torn line: cut, and said.
		if said := len(j.Recovered()) > 0; !said || !strings.HasSuffix(got, "request:new") ||
			i < len(content)-1 && !strings.Contains(got, "problem:") {
			t.Fatalf("byte %d: recovered %v, entries %q", i, j.Recovered(), got)
		}
	}
	write(t, path, bytes.Join([][]byte{lines[0], lines[1], lines[3], lines[4]}, nil))
	j = mustOpen(t, dir, Options{})
	got := tail(t, j, time.Time{})
	if len(got) != 5 || !strings.Contains(got[2], "seq goes from 2 to 4") {
		t.Errorf("a removed line: %q", got)
	}
	j.Close()
	write(t, path, bytes.Repeat([]byte("x"), maxLine+10))
	j = mustOpen(t, dir, Options{})
	j.Request(entry(KindRequest, "new"))
	j.Close()
	if got := tail(t, j, time.Time{}); len(got) < 2 || got[len(got)-1] != "request:new" {
		t.Errorf("a line without end: %q", got)
	}
}

func TestATornRequestLineIsCut(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, Options{})
	j.Request(entry(KindRequest, "a"))
	j.Request(entry(KindRequest, "b"))
	j.Close()
	path := filepath.Join(dir, requestFileName(1))
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(content, '\n') + 1
	for n := range len(content) {
		write(t, path, content[:n])
		j := mustOpen(t, dir, Options{})
		j.Request(entry(KindRequest, "c"))
		j.Close()
		want := []string{"request:c"}
		if n >= first {
			want = []string{"request:a", "request:c"}
		}
		wantTexts(t, tail(t, j, time.Time{}), want...)
	}
}

func BenchmarkRequest(b *testing.B) {
	j := mustOpen(b, b.TempDir(), Options{})
	e := entry(KindRequest, strings.Repeat("x", 450))
	for b.Loop() {
		j.Request(e)
		for j.Stats().Waiting > 20000 {
			time.Sleep(time.Millisecond)
		}
	}
	j.Close()
	b.ReportMetric(float64(j.Stats().Lost), "lost")
}
