package auditlog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
	"github.com/breakglass-gateway/breakglass-gateway/audit/ship"
)

const (
	// minFree is the free space below which nothing is taken: signing and removing
	// what is too old need some.
	minFree = 4 << 20
	// shutMost is what batches that are under way get at the end.
	shutMost = 3 * time.Second
)

// listen opens the sockets. shut ends what it began.
func (s *Service) listen(fail context.CancelCauseFunc) (shut func(), err error) {
	sock, err := net.Listen("tcp", s.opts.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for logs (--listen): %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle(ship.Path, s)
	servers := []*http.Server{s.serve(tls.NewListener(sock, s.tlsConfig()), mux, fail)}
	s.log.Info("listening for logs", "address", sock.Addr().String())
	if s.opts.MetricsAddress != "" {
		sock, err := net.Listen("tcp", s.opts.MetricsAddress)
		if err != nil {
			_ = servers[0].Close() // the other error counts
			return nil, fmt.Errorf("listen for metrics (--metrics-address): %w", err)
		}
		servers = append(servers, s.serve(sock, s.metricsMux(), fail))
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), shutMost)
		defer cancel()
		for _, server := range servers {
			if server.Shutdown(ctx) != nil {
				_ = server.Close() // who is cut asks again
			}
		}
	}, nil
}

// serve on a socket until it is shut.
func (s *Service) serve(sock net.Listener, h http.Handler, fail context.CancelCauseFunc) *http.Server {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // of handshakes
	}
	go func() {
		if err := server.Serve(sock); !errors.Is(err, http.ErrServerClosed) {
			fail(fmt.Errorf("the listener %s: %w", sock.Addr(), err))
		}
	}()
	return server
}

func (s *Service) metricsMux() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), metrics{s})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := s.Problem(); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// Problem says why entries cannot be taken, "" when they can.
func (s *Service) Problem() string {
	s.mu.Lock()
	l, why := s.ledger, s.why
	s.mu.Unlock()
	if l == nil {
		return why
	}
	if err := l.Err(); err != nil {
		return err.Error()
	}
	return s.refuse()
}

// refuse says why nothing is taken: a disk that is full is not filled to the last
// byte. That the last write failed is no reason not to try the next.
func (s *Service) refuse() string {
	if durable.Free(s.opts.DataDir) < minFree {
		return fmt.Sprintf("the disk of %s is almost full: free some space, %d MiB at least", s.opts.DataDir, minFree>>20)
	}
	return ""
}

// metrics reads the state when it is asked.
type metrics struct{ *Service }

var (
	descKeeping  = desc("audit_keeping", "1 if entries can be taken. 0: they are kept where they are.")
	descSize     = desc("audit_log_entries", "Entries of the audit log, over all time.")
	descEntries  = desc("audit_entries_total", "Entries taken since the start.")
	descRefused  = desc("audit_refused_batches_total", "Batches that can never be taken, since the start: somebody brings what is not his, or another version does.")
	descGaps     = desc("audit_gaps_total", "Gap entries written since the start, of sources that are lost.")
	descSources  = desc("audit_sources", "Logs of agents and controllers, by state: begun, and ended or lost in the last 24 hours.", "state")
	descMissing  = desc("audit_sources_missing_entries", "Entries that sources have said they have, and that are not here yet.")
	descQuietest = desc("audit_sources_silent_seconds", "How long the source that was not heard of longest, and has not ended, is silent.")
	descFree     = desc("audit_disk_free_bytes", "Free space on the disk of the audit log.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("breakglass_"+name, help, labels, nil)
}

func (m metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

func (m metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	count := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	keeping := 1.0
	if m.Problem() != "" {
		keeping = 0
	}
	gauge(descKeeping, keeping)
	gauge(descFree, float64(durable.Free(m.opts.DataDir)))
	m.mu.Lock()
	ledger, taker, follows, sinks := m.ledger, m.taker, m.follows, m.sinks
	m.mu.Unlock()
	if ledger == nil {
		return
	}
	follows.receipts.Collect(ch)
	if sinks != nil {
		sinks.Collect(ch)
	}
	gauge(descSize, float64(ledger.Size()))
	st := taker.Stats()
	count(descEntries, st.Entries)
	count(descRefused, st.Refused)
	count(descGaps, st.Gaps)
	for _, state := range []string{"begun", "ended", "lost"} {
		ch <- prometheus.MustNewConstMetric(descSources, prometheus.GaugeValue, float64(st.Sources[state]), state)
	}
	gauge(descMissing, float64(st.Missing))
	gauge(descQuietest, st.Quietest.Seconds())
}
