package merkle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
)

var quiet = slog.New(slog.DiscardHandler)

func open(t testing.TB, dir string, o Options) *Log {
	t.Helper()
	if o.Log == nil {
		o.Log = quiet
	}
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func draft(n int) Draft {
	return Draft{
		Kind: "request", Data: fmt.Appendf(nil, `{"n":%d}`, n),
		Cursors: map[string]string{"spool/a": fmt.Sprintf("f:%d", n)},
	}
}

func add(t testing.TB, l *Log, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		if err := l.Append(context.Background(), draft(n)); err != nil {
			t.Fatal(err)
		}
	}
}

// numbers are the n of the request entries.
func numbers(t testing.TB, dir string) []int {
	t.Helper()
	var out []int
	err := Read(context.Background(), dir, Filter{}, func(e Entry) error {
		if e.Kind != "request" {
			return nil
		}
		var d struct{ N int }
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return err
		}
		out = append(out, d.N)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func verify(t testing.TB, dir string, o VerifyOptions) *Report {
	t.Helper()
	if o.delay == 0 {
		o.delay = time.Nanosecond
	}
	r, err := Verify(context.Background(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sound(t testing.TB, dir string, o VerifyOptions) *Report {
	t.Helper()
	r := verify(t, dir, o)
	if len(r.Findings) > 0 {
		t.Fatalf("a sound log has findings: %+v", r.Findings)
	}
	return r
}

// finds fails unless the report has a finding with all of the texts.
func finds(t testing.TB, r *Report, texts ...string) {
	t.Helper()
	for _, f := range r.Findings {
		s := fmt.Sprintf("%s:%d seq %d: %s", filepath.Base(f.File), f.Line, f.Seq, f.Problem)
		if !slices.ContainsFunc(texts, func(x string) bool { return !strings.Contains(s, x) }) {
			return
		}
	}
	t.Fatalf("no finding says %q: %+v", texts, r.Findings)
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "log")
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	des, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	// In this order: the checkpoint is no newer than the entries.
	for _, de := range des {
		b, err := os.ReadFile(filepath.Join(from, de.Name()))
		if strings.HasSuffix(de.Name(), ".tmp") {
			continue // may be gone
		}
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(to, de.Name()), b)
	}
	return to
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func pubKeys(t testing.TB, dir string) []string {
	t.Helper()
	return strings.Fields(string(read(t, filepath.Join(dir, pubName))))
}

func segmentPaths(t testing.TB, dir string) []string {
	t.Helper()
	segs, err := segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, s := range segs {
		out = append(out, filepath.Join(dir, s.name))
	}
	return out
}

// smallLog is closed, has three segments or more and the numbers up to n.
func smallLog(t testing.TB, n int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	l := open(t, dir, Options{SegmentBytes: 1200, Retention: -1})
	add(t, l, 0, n)
	closeLog(t, l)
	return dir
}

var errDisk = errors.New("the disk fails")

// disk fails operations on files when told to.
type disk struct {
	mu sync.Mutex
	// fail is asked before each operation: write, sync, truncate or open.
	fail func(op, name string) error
}

func (d *disk) ask(op, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail == nil {
		return nil
	}
	return d.fail(op, filepath.Base(name))
}

func (d *disk) set(f func(op, name string) error) {
	d.mu.Lock()
	d.fail = f
	d.mu.Unlock()
}

func (d *disk) open(path string, flag int) (file, error) {
	if err := d.ask("open", path); err != nil {
		return nil, err
	}
	f, err := durable.Open(path, flag)
	if err != nil {
		return nil, err
	}
	return &diskFile{f, d, path}, nil
}

type diskFile struct {
	file
	d    *disk
	path string
}

func (f *diskFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.d.ask("write", f.path); err != nil {
		// As a disk that fills up: a part of it is there.
		_, _ = f.file.WriteAt(b[:len(b)/2], off)
		return 0, err
	}
	return f.file.WriteAt(b, off)
}

func (f *diskFile) Sync() error {
	if err := f.d.ask("sync", f.path); err != nil {
		return err
	}
	return f.file.Sync()
}

func (f *diskFile) Truncate(size int64) error {
	if err := f.d.ask("truncate", f.path); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

var errFull = fmt.Errorf("a full disk: %w", unix.ENOSPC)
