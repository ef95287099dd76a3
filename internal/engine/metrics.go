package engine

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// serveMetrics serves metrics and health on a loopback address: what they tell
// is for this host, and there is no authentication.
func (l *Engine) serveMetrics() error {
	if l.opts.MetricsAddress == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(l.opts.MetricsAddress)
	if ip := net.ParseIP(host); err != nil || !l.opts.MetricsAnywhere && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("metrics address %q: must be a loopback IP and a port, such as 127.0.0.1:9102", l.opts.MetricsAddress)
	}
	sock, err := net.Listen("tcp", l.opts.MetricsAddress)
	if err != nil {
		return fmt.Errorf("listen for metrics (choose another with --metrics-address): %w", err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), metrics{l})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if reasons := l.notReady(); len(reasons) > 0 {
			http.Error(w, strings.Join(reasons, "\n"), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}
	l.httpServers = append(l.httpServers, s)
	go func() {
		if err := s.Serve(sock); !errors.Is(err, http.ErrServerClosed) {
			l.log.Error("the metrics server failed", "error", err)
		}
	}()
	return nil
}

// metrics reads the state when it is asked.
type metrics struct{ *Engine }

var (
	descReady       = desc("ready", "1 if everything that should be served can be served.")
	descActivations = desc("activations", "Activations by phase.", "phase")
	descDeadline    = desc("activation_deadline_seconds", "Deadline of each live activation, Unix time.", "namespace", "name", "role")
	descProblems    = desc("manifest_problems", "Problems found in the manifests.")
	descBehind      = desc("clock_behind_seconds", "How far the wall clock is behind the clock that windows are judged by.")
	descRecording   = desc("recording", "1 if facts can be recorded. 0: nothing opens.")
	descEntries     = desc("audit_entries_total", "Entries written to the audit log since the start.")
	descIntents     = desc("audit_intents_total", "Of these, intents of requests that were not forwarded yet (audit.mode Strict).")
	descRescued     = desc("audit_rescued_total", "Requests that only the gRPC access log told of, since the start.")
	descMissing     = desc("audit_missing_total", "Requests that Envoy counted and the audit log lacks, as said by gap entries since the start.")
	descRefused     = desc("requests_refused_total", "Requests that were refused, by what refused them (token, rbac, not_open, ...), since the start.", "lock")
	descGaps        = desc("audit_gaps_total", "Gap entries written since the start.")
	descUnread      = desc("audit_spool_unread_bytes", "Bytes in Envoy's spools that are not in the audit log yet.")
	descComplete    = desc("audit_complete", "1 if the audit log has as many requests as Envoy has counted.")
	descAuditing    = desc("audit_keeping", "1 if entries can be kept. 0: nothing opens, and by policy nothing is served.")
	descPending     = desc("reviews_pending", "Activations that have ended and wait for their review, those that are overdue included.")
	descOverdue     = desc("reviews_overdue", "Activations whose review is overdue, by their role.", "role")
	descIssuerKeys  = desc("issuer_keys", "Usable keys of an issuer. 0: its tokens are refused.", "policy", "issuer")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("breakglass_"+name, help, labels, nil)
}

func (m metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

func (m metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descReady, truth(len(m.notReady()) == 0))
	gauge(descBehind, m.clock.Behind().Seconds())
	m.collectAudit(ch)
	if m.sinks != nil {
		m.sinks.Collect(ch)
	}
	m.alarms.receipts.Collect(ch)
	m.world.Collect(ch)
	v := m.view.Load()
	if v == nil {
		return
	}
	gauge(descRecording, truth(v.journalErr == nil))
	gauge(descProblems, float64(len(v.set.Problems)))
	phases := map[v1alpha1.Phase]int{v1alpha1.PhasePending: 0, v1alpha1.PhaseLive: 0, v1alpha1.PhaseExpired: 0, v1alpha1.PhaseRevoked: 0, v1alpha1.PhaseRefused: 0}
	for key, a := range v.activations {
		phases[a.Status.Phase]++
		if a.Status.Phase == v1alpha1.PhaseLive {
			gauge(descDeadline, float64(a.Status.Deadline.UnixMilli())/1000, key.Namespace, key.Name, a.Spec.Role)
		}
	}
	for phase, n := range phases {
		gauge(descActivations, float64(n), string(phase))
	}
	collectReviews(v, gauge)
	for name, issuers := range v.result.Issuers {
		for _, i := range issuers {
			gauge(descIssuerKeys, float64(i.Keys), name, i.Name)
		}
	}
}

// collectReviews counts what waits for a review. A role of a policy of which nothing is
// overdue has a zero, so that there is something to compare with.
func collectReviews(v *view, gauge func(*prometheus.Desc, float64, ...string)) {
	waiting, overdue := 0, map[string]int{}
	for _, p := range v.set.Policies {
		for _, r := range p.Spec.Roles {
			overdue[r.Name] = 0
		}
	}
	for _, a := range v.activations {
		s := a.Status.Review
		if s == nil || s.State.Reviewed() {
			continue
		}
		waiting++
		if s.State == v1alpha1.ReviewOverdue {
			overdue[a.Spec.Role]++
		}
	}
	gauge(descPending, float64(waiting))
	for role, n := range overdue {
		gauge(descOverdue, float64(n), role)
	}
}

func (m metrics) collectAudit(ch chan<- prometheus.Metric) {
	s := m.recorder.Stats()
	value := func(d *prometheus.Desc, t prometheus.ValueType, v float64) {
		ch <- prometheus.MustNewConstMetric(d, t, v)
	}
	value(descEntries, prometheus.CounterValue, float64(s.Entries))
	value(descRescued, prometheus.CounterValue, float64(s.Rescued))
	value(descIntents, prometheus.CounterValue, float64(s.Intents))
	value(descMissing, prometheus.CounterValue, float64(s.Missing))
	value(descGaps, prometheus.CounterValue, float64(s.Gaps))
	for lock, n := range s.Refused {
		ch <- prometheus.MustNewConstMetric(descRefused, prometheus.CounterValue, float64(n), lock)
	}
	value(descUnread, prometheus.GaugeValue, float64(s.Unread))
	value(descComplete, prometheus.GaugeValue, truth(!s.Incomplete))
	value(descAuditing, prometheus.GaugeValue, truth(m.recorder.Problem() == ""))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
