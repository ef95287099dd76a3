package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func mustOpen(t testing.TB, dir string, o Options) *Journal {
	t.Helper()
	if o.Log == nil {
		o.Log = quiet
	}
	j, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func entry(kind, text string) Entry {
	data, _ := json.Marshal(text)
	return Entry{Kind: kind, Data: data}
}

func mustAppend(t testing.TB, j *Journal, texts ...string) {
	t.Helper()
	var es []Entry
	for _, s := range texts {
		es = append(es, entry(KindActivation, s))
	}
	if err := j.Append(context.Background(), es...); err != nil {
		t.Fatal(err)
	}
}

// replay returns the texts of all control entries and checks their seq.
func replay(t testing.TB, j *Journal) []string {
	t.Helper()
	var out []string
	seq := uint64(1)
	if err := j.Replay(func(e Entry) error {
		if e.Seq != seq {
			t.Errorf("seq %d, want %d", e.Seq, seq)
		}
		seq++
		var s string
		if err := json.Unmarshal(e.Data, &s); err != nil {
			return err
		}
		out = append(out, s)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func wantTexts(t testing.TB, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("entries %q, want %q", got, want)
	}
}

// sample makes a closed journal with these batches and returns control.jsonl.
func sample(t testing.TB, dir string, batches ...[]string) (path string, content []byte) {
	t.Helper()
	j := mustOpen(t, dir, Options{})
	for _, b := range batches {
		mustAppend(t, j, b...)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, controlName)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, content
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEntriesComeBackInOrderAfterReopening(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "journal")
	j := mustOpen(t, dir, Options{})
	if !j.First() || j.Recovered() != nil {
		t.Errorf("first %v, recovered %v", j.First(), j.Recovered())
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = mustOpen(t, dir, Options{})
	if !j.First() {
		t.Error("a journal that never got an entry is still a first one")
	}
	at := time.Date(2026, 11, 23, 1, 2, 3, 456789999, time.FixedZone("x", 3600))
	if err := j.Append(t.Context(), Entry{Time: at, Kind: KindStart, Data: json.RawMessage(` "a" `)}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, "b", "c\u2028<\x00")
	wantTexts(t, replay(t, j), "a", "b", "c\u2028<\x00")
	id := j.ID()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = mustOpen(t, dir, Options{})
	if j.First() || j.ID() != id || j.Size() != 3 {
		t.Errorf("first %v, id %s and was %s, size %d", j.First(), j.ID(), id, j.Size())
	}
	mustAppend(t, j, "d")
	wantTexts(t, replay(t, j), "a", "b", "c\u2028<\x00", "d")
	if err := j.Replay(func(e Entry) error {
		if e.Seq == 1 && (!e.Time.Equal(at.Truncate(time.Microsecond)) || e.Time.Location() != time.UTC || e.Kind != KindStart) {
			t.Errorf("got %+v", e)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, controlName): 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, want mode %o", path, st.Mode(), mode)
		}
	}
}

func TestAppendRefusesWhatItCouldNotReadBack(t *testing.T) {
	j := mustOpen(t, t.TempDir(), Options{})
	for _, e := range []Entry{
		{Kind: ""}, {Kind: "Start"}, {Kind: kindJournal}, {Kind: KindStart, Data: json.RawMessage(`{"a":`)},
		{Kind: KindStart, Data: json.RawMessage(`1 2`)}, {Kind: KindStart, Time: time.Unix(1e18, 0)},
		{Kind: KindStart, Data: json.RawMessage(`"` + strings.Repeat("x", maxData) + `"`)},
	} {
		if err := j.Append(t.Context(), entry(KindStart, "good"), e); err == nil {
			t.Errorf("%q %.20s was taken", e.Kind, e.Data)
		}
	}
	if err := j.Append(t.Context(), Entry{Kind: KindStart, Data: json.RawMessage("\"\xff\n\"")}); err == nil {
		t.Error("a newline within a string was taken")
	}
	if err := j.Append(t.Context(), Entry{Kind: KindStart, Data: json.RawMessage("\"\xff\"")}); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Append(ctx, entry(KindStart, "late")); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	wantTexts(t, replay(t, j), "\uFFFD")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(t.Context(), entry(KindStart, "x")); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v", err)
	}
}

func TestASecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, Options{})
	_, err := Open(dir, Options{Log: quiet})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, dir, Options{})
}

func TestALineTornAtAnyByteIsCutAndSaid(t *testing.T) {
	dir := t.TempDir()
	path, content := sample(t, dir, []string{"a"}, []string{"b", "c"}, []string{"d"})
	last := bytes.LastIndexByte(content[:len(content)-1], '\n') + 1
	for _, zeros := range []int{0, 3} {
		for n := last; n <= len(content); n++ {
			write(t, path, append(bytes.Clone(content[:n]), make([]byte, zeros)...))
			j := mustOpen(t, dir, Options{})
			want := []string{"a", "b", "c"}
			if n >= len(content)-1 {
				want = append(want, "d") // only its newline is missing
			}
			wantTexts(t, replay(t, j), want...)
			clean := zeros == 0 && (n == last || n == len(content))
			if (len(j.Recovered()) == 0) != clean {
				t.Errorf("cut at %d with %d zeros: recovered %q", n, zeros, j.Recovered())
			}
			mustAppend(t, j, "e")
			j.Close()
			j = mustOpen(t, dir, Options{})
			wantTexts(t, replay(t, j), append(want, "e")...)
			if j.Recovered() != nil {
				t.Errorf("cut at %d: repaired twice", n)
			}
			j.Close()
		}
	}
}

func TestABatchTornAtAnyByteIsCutAsAWhole(t *testing.T) {
	dir := t.TempDir()
	path, content := sample(t, dir, []string{"a"}, []string{"b", "c", "d"})
	first := bytes.Index(content, []byte(`{"seq":2`))
	for n := first; n < len(content)-1; n++ {
		write(t, path, content[:n])
		j := mustOpen(t, dir, Options{})
		wantTexts(t, replay(t, j), "a")
		j.Close()
	}
}

func TestEveryChangedByteIsNoticed(t *testing.T) {
	dir := t.TempDir()
	path, content := sample(t, dir, []string{"a"}, []string{"b", "c"}, []string{"d"})
	for i := range content {
		for _, mask := range []byte{0x01, 0x20, content[i] ^ '\n', content[i]} {
			if mask == 0 {
				continue
			}
			bad := bytes.Clone(content)
			bad[i] ^= mask
			write(t, path, bad)
			j, err := Open(dir, Options{Log: quiet})
			if err == nil {
				// The last newline may be lost without harm: nothing else may.
				if i != len(content)-1 || bad[i] != 0 {
					t.Errorf("byte %d ^ %#x: not noticed", i, mask)
				} else {
					wantTexts(t, replay(t, j), "a", "b", "c", "d")
				}
				j.Close()
				continue
			}
			var ce *CorruptError
			if !errors.As(err, &ce) || ce.File != path || ce.Line != 1+bytes.Count(content[:i], []byte("\n")) {
				t.Errorf("byte %d ^ %#x: %v", i, mask, err)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(after, bad) {
				t.Errorf("byte %d ^ %#x: the file was changed", i, mask)
			}
		}
	}
}

func TestLinesMovedDoubledOrRemovedAreNoticed(t *testing.T) {
	dir := t.TempDir()
	path, content := sample(t, dir, []string{"a"}, []string{"b"}, []string{"c"})
	l := bytes.SplitAfter(content, []byte("\n"))
	for name, bad := range map[string][][]byte{
		"no header": {l[1], l[2], l[3]}, "removed": {l[0], l[2], l[3]}, "doubled": {l[0], l[1], l[1], l[2]},
		"swapped": {l[0], l[2], l[1], l[3]}, "empty line": {l[0], []byte("\n"), l[1]}, "empty file": {},
		"header doubled": {l[0], l[0]},
	} {
		write(t, path, bytes.Join(bad, nil))
		var ce *CorruptError
		if _, err := Open(dir, Options{Log: quiet}); !errors.As(err, &ce) {
			t.Errorf("%s: error %v", name, err)
		} else if !strings.Contains(err.Error(), "move "+dir+" away") {
			t.Errorf("%s: no remedy in %v", name, err)
		}
	}
}

func TestConcurrentAppendsAreAllKeptInBatches(t *testing.T) {
	dir := t.TempDir()
	j := mustOpen(t, dir, Options{})
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 25 {
				mustAppend(t, j, fmt.Sprintf("%d.%d.a", g, i), fmt.Sprintf("%d.%d.b", g, i))
			}
		})
	}
	wg.Wait()
	j.Close()
	got := replay(t, mustOpen(t, dir, Options{}))
	if len(got) != 16*25*2 {
		t.Fatalf("%d entries", len(got))
	}
	next := map[string]int{}
	for i := 0; i < len(got); i += 2 {
		g, rest, _ := strings.Cut(got[i], ".")
		if rest != fmt.Sprintf("%d.a", next[g]) || got[i+1] != fmt.Sprintf("%s.%d.b", g, next[g]) {
			t.Fatalf("at %d: %q %q", i, got[i], got[i+1])
		}
		next[g]++
	}
}

func TestAContextThatEndsInTheQueueRecordsNothing(t *testing.T) {
	d := &disk{hold: make(chan struct{}), held: make(chan struct{})}
	j := mustOpen(t, t.TempDir(), Options{open: d.open})
	d.holdWrites(true)
	errs := make(chan error, 2)
	go func() { errs <- j.Append(context.Background(), entry(KindStart, "a")) }()
	<-d.held
	ctx, cancel := context.WithCancel(t.Context())
	go func() { errs <- j.Append(ctx, entry(KindStart, "b")) }()
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	d.holdWrites(false)
	close(d.hold)
	if err := <-errs; err != nil {
		t.Error(err)
	}
	mustAppend(t, j, "c")
	wantTexts(t, replay(t, j), "a", "c")
}
