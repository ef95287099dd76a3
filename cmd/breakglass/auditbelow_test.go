package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// logAt makes a log of which entry i is at times[i].
func logAt(t *testing.T, dir string, times ...int) {
	t.Helper()
	// The log asks for the time from goroutines of its own, too.
	var now atomic.Pointer[time.Time]
	now.Store(&began)
	l, err := merkle.Open(dir, merkle.Options{Log: noLog, Now: func() time.Time { return *now.Load() }})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range times {
		then := began.Add(time.Duration(at) * time.Second)
		now.Store(&then)
		if err := l.Append(context.Background(), merkle.Draft{Kind: "problem", Data: json.RawMessage(`{"v":1,"file":"x","reason":"r"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func listed(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := newAuditListCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	cmd.SilenceUsage = true
	err := cmd.Execute()
	return out.String(), err
}

func TestLogsBelowADirectoryAreShownAsOne(t *testing.T) {
	root := t.TempDir()
	logAt(t, filepath.Join(root, "pods", "a", "log"), 1, 4, 5)
	logAt(t, filepath.Join(root, "pods", "b"), 2, 3, 6)
	if err := os.MkdirAll(filepath.Join(root, "nothing"), 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := listed(t, "--below", root, "--kind", "problem", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for line := range strings.Lines(out) {
		var e struct {
			Log  string
			Seq  uint64
			Time time.Time
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		order = append(order, e.Log[len("pods/"):][:1]+e.Time.Sub(began).String())
	}
	if got, want := strings.Join(order, " "), "a1s b2s b3s a4s a5s b6s"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
	out, err = listed(t, "--below", root, "--kind", "problem")
	if err != nil || strings.Count(out, "LOG ") != 1 || strings.Count(out, "\n") != 7 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestALogThatCannotBeReadKeepsTheOthersFromNothing(t *testing.T) {
	root := t.TempDir()
	logAt(t, filepath.Join(root, "a"), 1, 4)
	logAt(t, filepath.Join(root, "b"), 2, 3)
	segments, err := filepath.Glob(filepath.Join(root, "b", "segment-*.jsonl"))
	if err != nil || len(segments) == 0 {
		t.Fatal(err, segments)
	}
	if err := os.WriteFile(segments[0], []byte("garbage\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := listed(t, "--below", root, "--kind", "problem", "-o", "json")
	if err == nil || !strings.Contains(err.Error(), "log b") || strings.Count(out, `"log":"a"`) != 2 {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := listed(t, "--below", t.TempDir()); err == nil || !strings.Contains(err.Error(), "there is no audit log below") {
		t.Error(err)
	}
}
