package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
)

// disk is a disk that fills up, fails or hangs.
type disk struct {
	mu                     sync.Mutex
	free                   int64 // when limited
	limited                bool
	failSync, failTruncate bool
	holding                bool
	hold, held             chan struct{}
}

type diskFile struct {
	file
	d *disk
}

func (d *disk) open(path string, flag int) (file, error) {
	f, err := durable.Open(path, flag)
	return diskFile{f, d}, err
}

func (d *disk) set(fn func(d *disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fn(d)
}

func (d *disk) holdWrites(on bool) { d.set(func(d *disk) { d.holding = on }) }

// WriteAt writes what there is room for, as a real disk does.
func (f diskFile) WriteAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	n, holding := len(b), f.d.holding
	if f.d.limited {
		n = int(min(int64(n), f.d.free))
		f.d.free -= int64(n)
	}
	f.d.mu.Unlock()
	if holding {
		f.d.held <- struct{}{}
		<-f.d.hold
	}
	if n, err := f.file.WriteAt(b[:n], off); err != nil {
		return n, err
	}
	if n < len(b) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func (f diskFile) Sync() error {
	f.d.mu.Lock()
	fail := f.d.failSync
	f.d.mu.Unlock()
	if fail {
		return syscall.EIO
	}
	return f.file.Sync()
}

func (f diskFile) Truncate(n int64) error {
	f.d.mu.Lock()
	fail := f.d.failTruncate
	f.d.mu.Unlock()
	if fail {
		return syscall.EIO
	}
	return f.file.Truncate(n)
}

func TestNothingOfAFailedAppendCounts(t *testing.T) {
	dir := t.TempDir()
	d := &disk{}
	j := mustOpen(t, dir, Options{open: d.open})
	want := []string{"a"}
	mustAppend(t, j, "a")
	for room := int64(0); room < 600; room += 7 {
		d.set(func(d *disk) { d.limited, d.free = true, room })
		err := j.Append(t.Context(), entry(KindActivation, "lost"), entry(KindActivation, "lost"))
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrBroken) {
			t.Fatalf("room %d: %v", room, err)
		}
		wantTexts(t, replay(t, j), want...)
		if room%70 == 0 {
			d.set(func(d *disk) { d.limited = false })
			mustAppend(t, j, "more")
			want = append(want, "more")
		}
	}
	d.set(func(d *disk) { d.limited, d.failSync = false, true })
	if err := j.Append(t.Context(), entry(KindActivation, "x")); !errors.Is(err, ErrBroken) {
		t.Errorf("a sync that fails twice: %v", err)
	}
}

func TestAJournalThatCannotBeCutBackIsBrokenUntilReopened(t *testing.T) {
	dir := t.TempDir()
	d := &disk{}
	j := mustOpen(t, dir, Options{open: d.open})
	mustAppend(t, j, "a")
	d.set(func(d *disk) { d.limited, d.free, d.failTruncate = true, 100, true })
	for range 2 {
		if err := j.Append(t.Context(), entry(KindActivation, "b")); !errors.Is(err, ErrBroken) {
			t.Fatalf("error %v", err)
		}
	}
	if j.Err() == nil {
		t.Error("Err is nil")
	}
	d.set(func(d *disk) { d.limited = false })
	if err := j.Append(t.Context(), entry(KindActivation, "b")); !errors.Is(err, ErrBroken) {
		t.Errorf("with room again: %v", err)
	}
	wantTexts(t, replay(t, j), "a")
	if err := j.Close(); err == nil {
		t.Error("Close does not say that the file could not be cut")
	}
	j = mustOpen(t, dir, Options{})
	wantTexts(t, replay(t, j), "a")
	mustAppend(t, j, "c")
	wantTexts(t, replay(t, j), "a", "c")
}

// TestARealDiskFillsUpAndIsEmptiedAgain runs on a tmpfs of 64 KiB.
func TestARealDiskFillsUpAndIsEmptiedAgain(t *testing.T) {
	mnt := t.TempDir()
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, "size=64k,mode=700"); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(mnt, "journal")
	j := mustOpen(t, dir, Options{})
	ballast := filepath.Join(mnt, "ballast")
	write(t, ballast, make([]byte, 20<<10))
	var acked []string
	for range 1000 {
		text := strings.Repeat("x", 700)
		if err := j.Append(t.Context(), entry(KindActivation, text)); err != nil {
			if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrBroken) {
				t.Fatal(err)
			}
			break
		}
		acked = append(acked, text)
	}
	if len(acked) == 1000 {
		t.Fatal("the disk never filled up")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, "room")
	acked = append(acked, "room")
	wantTexts(t, replay(t, j), acked...)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = mustOpen(t, dir, Options{})
	wantTexts(t, replay(t, j), acked...)
	if j.Size() != uint64(len(acked)) || j.Recovered() != nil {
		t.Errorf("size %d, recovered %v", j.Size(), j.Recovered())
	}
}

func BenchmarkAppend(b *testing.B) {
	j := mustOpen(b, b.TempDir(), Options{})
	e := entry(KindActivation, strings.Repeat("x", 300))
	var took []time.Duration
	for b.Loop() {
		begin := time.Now()
		if err := j.Append(context.Background(), e); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	report(b, took)
}

func BenchmarkAppendFrom64(b *testing.B) {
	j := mustOpen(b, b.TempDir(), Options{})
	e := entry(KindActivation, strings.Repeat("x", 300))
	var mu sync.Mutex
	var took []time.Duration
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		var mine []time.Duration
		for pb.Next() {
			begin := time.Now()
			if err := j.Append(context.Background(), e); err != nil {
				b.Error(err)
				return
			}
			mine = append(mine, time.Since(begin))
		}
		mu.Lock()
		took = append(took, mine...)
		mu.Unlock()
	})
	report(b, took)
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
