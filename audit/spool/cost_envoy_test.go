//go:build envoy

package spool

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// BenchmarkRequest compares requests through our listener with all locks, without
// logs, with each, and with both. In "kept" this process also reads both, and
// keeps the lines in a log on disk, on the same cores. A rate of 0: one request
// after the other.
//
//	BREAKGLASS_ENVOY=... go test -tags envoy -run '^$' -bench Request -benchtime 10000x ./audit/spool
func BenchmarkRequest(b *testing.B) {
	for _, load := range []struct{ connections, rate int }{{1, 0}, {8, 1000}} {
		for _, logs := range []string{"none", "file", "gRPC", "file and gRPC", "file and gRPC, kept"} {
			b.Run(fmt.Sprintf("%d connections, %d a second/%s", load.connections, load.rate, logs), func(b *testing.B) {
				r := newRigOf(b, http.HandlerFunc(hello), logs)
				if strings.Contains(logs, "kept") {
					r.keep(b)
				}
				took := r.drive(b, load.connections, load.rate, b.N)
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
				b.ReportMetric(0, "ns/op") // the rate, turned round
			})
		}
	}
}

// keep reads both logs, and writes the lines to a log, until the end.
func (r *rig) keep(b *testing.B) {
	log, err := merkle.Open(b.TempDir(), merkle.Options{Log: quiet})
	must(b, err)
	tail := r.tail(Options{}, "")
	done, stop := make(chan struct{}), make(chan struct{})
	go func() {
		for {
			select {
			case <-r.als:
			case <-stop:
				return
			}
		}
	}()
	go func() {
		defer close(done)
		for {
			records, more, err := tail.Read(2000)
			if err != nil {
				b.Error(err)
				return
			}
			var drafts []merkle.Draft
			for _, rec := range records {
				if rec.Row != nil && rec.Row.Request != nil {
					data, _ := json.Marshal(rec.Row.Request)
					drafts = append(drafts, merkle.Draft{Kind: audit.KindRequest, Data: data, Cursors: map[string]string{"spool/x": rec.Position}})
				}
			}
			if err := log.Append(b.Context(), drafts...); err != nil && b.Context().Err() == nil {
				b.Error(err)
			}
			if more {
				continue
			}
			select {
			case <-time.After(10 * time.Millisecond): // as the recorder
			case <-stop:
				return
			}
		}
	}()
	b.Cleanup(func() {
		close(stop)
		<-done
		_ = tail.Close()
		_ = log.Close()
	})
}

// drive sends n requests at a rate and returns how long each took.
func (r *rig) drive(b *testing.B, connections, rate, n int) []time.Duration {
	token := r.token(time.Now().Add(time.Hour), nil)
	var mu sync.Mutex
	var all []time.Duration
	var sent atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range connections {
		wg.Go(func() {
			c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
			}}}
			defer c.CloseIdleConnections()
			var mine []time.Duration
			for i := sent.Add(1); i <= int64(n); i = sent.Add(1) {
				if rate > 0 {
					time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))))
				}
				req, err := http.NewRequest(http.MethodGet, "http://db.example/open/x", nil)
				must(b, err)
				req.Header.Set("Authorization", "Bearer "+token)
				start := time.Now()
				res, err := c.Do(req)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				mine = append(mine, time.Since(start))
				if res.StatusCode != http.StatusOK {
					b.Errorf("status %d", res.StatusCode)
					return
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
		})
	}
	wg.Wait()
	return all
}
