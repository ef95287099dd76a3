package merkle

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// benchDraft is an entry of about 0.5 kB on disk.
func benchDraft(n int) Draft {
	return Draft{
		Kind:    "request",
		Data:    fmt.Appendf(nil, `{"key":"%032x","n":%d,"path":"%s"}`, n, n, strings.Repeat("/a", 150)),
		Cursors: map[string]string{"spool/payments/emergency": fmt.Sprintf("3fa91c22:%d", n)},
	}
}

// BenchmarkAppend has concurrent callers append batches, each waiting for the
// disk. The target is 100,000 entries/s.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct{ callers, batch int }{{1, 1}, {64, 1}, {4, 100}, {8, 500}, {1, 1000}} {
		b.Run(fmt.Sprintf("callers=%d/batch=%d", c.callers, c.batch), func(b *testing.B) {
			dir := filepath.Join(benchDir(b), "log")
			l := open(b, dir, Options{})
			drafts := make([]Draft, c.batch)
			for i := range drafts {
				drafts[i] = benchDraft(i)
			}
			b.SetParallelism(max(1, c.callers/runtime.GOMAXPROCS(0)))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := l.Append(context.Background(), drafts...); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N*c.batch)/b.Elapsed().Seconds(), "entries/s")
			st, _ := os.Stat(filepath.Join(dir, l.segName))
			b.ReportMetric(float64(st.Size())/float64(max(1, l.Size()-segFirst(b, dir))), "B/entry")
			closeLog(b, l)
		})
	}
}

func segFirst(b *testing.B, dir string) uint64 {
	segs, err := segments(dir)
	if err != nil {
		b.Fatal(err)
	}
	return segs[len(segs)-1].first
}

// benchDir is on the disk that MERKLE_BENCH_DIR names; the default directory may
// be in memory, where a sync costs nothing.
func benchDir(b *testing.B) string {
	at := os.Getenv("MERKLE_BENCH_DIR")
	dir, err := os.MkdirTemp(at, "merkle")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// BenchmarkVerify verifies 1,000,000 entries of about 0.5 kB; the target is 15 s
// in bounded memory.
func BenchmarkVerify(b *testing.B) {
	const entries, batch = 1_000_000, 1000
	dir := filepath.Join(benchDir(b), "log")
	l := open(b, dir, Options{})
	for n := 0; n < entries; n += batch {
		drafts := make([]Draft, batch)
		for i := range drafts {
			drafts[i] = benchDraft(n + i)
		}
		if err := l.Append(context.Background(), drafts...); err != nil {
			b.Fatal(err)
		}
	}
	closeLog(b, l)
	b.Run("verify", func(b *testing.B) {
		peak, stop := peakHeap()
		for b.Loop() {
			sound(b, dir, VerifyOptions{})
		}
		stop()
		b.ReportMetric(float64(peak.Load())/(1<<20), "MiB-peak")
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			if err := Read(context.Background(), dir, Filter{}, func(Entry) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			closeLog(b, open(b, dir, Options{}))
		}
	})
}

// peakHeap samples what the heap holds.
func peakHeap() (peak *atomic.Uint64, stop func()) {
	peak, end, ended := new(atomic.Uint64), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapInuse))
			select {
			case <-end:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return peak, func() { close(end); <-ended }
}
