package sink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

var quiet = slog.New(slog.DiscardHandler)

// quick is for tests: what takes seconds takes milliseconds.
var quick = pace{
	entries: 64, bytes: 64 << 10, attempt: 2 * time.Second, first: 2 * time.Millisecond, most: 20 * time.Millisecond,
	patience: 10 * time.Millisecond, calm: 0, save: 5 * time.Millisecond, grace: time.Second, quiet: time.Millisecond, stuck: 30 * time.Millisecond,
}

func openLog(t testing.TB, dir string, o merkle.Options) *merkle.Log {
	t.Helper()
	o.Log = quiet
	l, err := merkle.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func add(t testing.TB, l *merkle.Log, kind string, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		if err := l.Append(context.Background(), merkle.Draft{Kind: kind, Data: fmt.Appendf(nil, `{"n":%d}`, n)}); err != nil {
			t.Fatal(err)
		}
	}
}

func addAlarm(t testing.TB, l *merkle.Log, a audit.Alarm) {
	t.Helper()
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Append(context.Background(), merkle.Draft{Kind: audit.KindAlarm, Data: b}); err != nil {
		t.Fatal(err)
	}
}

// states are what a sink said of itself.
type states struct {
	mu  sync.Mutex
	all []audit.Sink
}

func (s *states) add(a audit.Sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, a)
}

func (s *states) events() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.all {
		out = append(out, a.Event)
	}
	return out
}

func (s *states) last() audit.Sink {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 {
		return audit.Sink{}
	}
	return s.all[len(s.all)-1]
}

func start(t testing.TB, o Options) *Sinks {
	t.Helper()
	if o.pace == nil {
		o.pace = &quick
	}
	o.Log = quiet
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func stop(t testing.TB, s *Sinks) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what comes by itself.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not after 20 s: %s", what)
		}
	}
}

func linesOf(t testing.TB, path string) [][]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var out [][]byte
	for l := range bytes.Lines(b) {
		out = append(out, bytes.TrimSuffix(l, []byte("\n")))
	}
	return out
}

// entriesIn are the lines of entries, without those of checkpoints.
func entriesIn(t testing.TB, path string) (entries, checkpoints [][]byte) {
	t.Helper()
	for _, l := range linesOf(t, path) {
		if bytes.Contains(l, []byte(`"kind":"checkpoint"`)) {
			checkpoints = append(checkpoints, l)
		} else {
			entries = append(entries, l)
		}
	}
	return entries, checkpoints
}

// logLines are the lines of the log itself.
func logLines(t testing.TB, dir string) (out [][]byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "segment-*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		out = append(out, linesOf(t, f)...)
	}
	return out
}

func jsonLinesConfig(name, path string) Config {
	return Config{Sinks: []Sink{{Name: name, JSONLines: &JSONLines{Path: path}}}}
}

func same(a, b [][]byte) bool {
	return bytes.Equal(bytes.Join(a, []byte("\n")), bytes.Join(b, []byte("\n")))
}

func entryOf(t testing.TB, data string) merkle.Entry {
	t.Helper()
	return merkle.Entry{V: 1, Seq: 7, Time: time.Date(2026, 11, 26, 1, 0, 0, 0, time.UTC), Kind: "request", Data: json.RawMessage(data)}
}

func isRefused(err error) bool {
	var r *refusedError
	return errors.As(err, &r)
}

func laterOf(err error) time.Duration {
	var l *laterError
	if errors.As(err, &l) {
		return l.after
	}
	return 0
}
