package agent

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
	"google.golang.org/grpc"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/intent"
	"github.com/breakglass-gateway/breakglass-gateway/internal/dataplane"
)

// listen opens the sockets.
func (a *agent) listen() error {
	if err := a.connect(); err != nil {
		return err
	}
	a.receiver = audit.NewReceiver(a.recorder, a.log)
	logs := grpc.NewServer(dataplane.TakePings())
	a.receiver.Register(logs)
	if err := a.serveGRPC(logs, a.opts.RunDir.ALSSocket()); err != nil {
		return err
	}
	a.intents = intent.New(a.recorder, a.log)
	intents := grpc.NewServer(dataplane.TakePings())
	a.intents.Register(intents)
	if err := a.serveGRPC(intents, a.opts.RunDir.IntentSocket()); err != nil {
		return err
	}
	if err := a.serveGRPC(a.newForwarder(), a.opts.RunDir.XDSSocket()); err != nil {
		return err
	}
	return a.serveHTTP()
}

// serveGRPC listens on a unix socket. The log's lock has made sure that no other
// agent uses this directory, so that a file in the way is a leftover.
func (a *agent) serveGRPC(s *grpc.Server, path string) error {
	sock, err := dataplane.Listen(path)
	if err != nil {
		return err
	}
	a.servers = append(a.servers, s)
	go func() {
		if err := s.Serve(sock); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			a.cancel(fmt.Errorf("%s: %w", path, err))
		}
	}()
	return nil
}

func (a *agent) serveHTTP() error {
	if a.opts.MetricsAddress == "" {
		return nil
	}
	sock, err := net.Listen("tcp", a.opts.MetricsAddress)
	if err != nil {
		return fmt.Errorf("listen for metrics (choose another with --metrics-address): %w", err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), metrics{a})
	if a.ship != nil {
		registry.MustRegister(a.ship)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.readyz)
	a.metrics = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}
	go func() {
		if err := a.metrics.Serve(sock); !errors.Is(err, http.ErrServerClosed) {
			a.cancel(fmt.Errorf("the metrics server: %w", err))
		}
	}()
	return nil
}

// readyz is about Envoy alone. One that serves is ready although the controller is
// away. That entries cannot be kept is for the policy to judge, which the
// controller knows: with onFailure: Degrade the last pods must not be taken away.
func (a *agent) readyz(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	why, failing := a.why, a.report.failing
	a.mu.Unlock()
	if why != "" {
		http.Error(w, strings.TrimSpace(why), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
	if failing != "" {
		fmt.Fprintln(w, "but entries cannot be kept: "+failing)
	}
}

// metrics reads the state when it is asked. The names of those of the audit log
// are serve's.
type metrics struct{ *agent }

var (
	descConnected = desc("agent_connected", "1 if Envoy's configuration stream reaches the controller.")
	descReady     = desc("agent_envoy_ready", "1 if Envoy has its configuration and serves it.")
	descResponses = desc("agent_responses_total", "Responses of the controller passed on to Envoy since the agent started.")
	descEntries   = desc("audit_entries_total", "Entries written to the audit log since the agent started.")
	descIntents   = desc("audit_intents_total", "Of these, intents of requests that were not forwarded yet (audit.mode Strict).")
	descNoIntent  = desc("audit_intents_refused_total", "Requests that were refused because their intent was not durable, since the agent started. Envoy refuses by itself while nobody answers.")
	descRescued   = desc("audit_rescued_total", "Requests that only the gRPC access log told of, since the agent started.")
	descMissing   = desc("audit_missing_total", "Requests that Envoy counted and the audit log lacks, as said by gap entries since the agent started.")
	descRefused   = desc("requests_refused_total", "Requests that were refused, by what refused them (token, rbac, not_open, ...), since the agent started.", "lock")
	descGaps      = desc("audit_gaps_total", "Gap entries written since the agent started.")
	descMalformed = desc("audit_malformed_messages_total", "Messages of the gRPC access log that could not be decoded, since the agent started; the spool has what was in them.")
	descUnread    = desc("audit_spool_unread_bytes", "Bytes in Envoy's spool that are not in the audit log yet.")
	descComplete  = desc("audit_complete", "1 if the audit log has as many requests as Envoy has counted.")
	descKeeping   = desc("audit_keeping", "1 if entries can be kept. 0: nothing opens, and by policy nothing is served.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("breakglass_"+name, help, labels, nil)
}

func (m metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

func (m metrics) Collect(ch chan<- prometheus.Metric) {
	value := func(d *prometheus.Desc, t prometheus.ValueType, v float64) {
		ch <- prometheus.MustNewConstMetric(d, t, v)
	}
	m.mu.Lock()
	streams, forwarded, r := m.streams, m.forwarded, m.report
	m.mu.Unlock()
	s := m.recorder.Stats()
	value(descConnected, prometheus.GaugeValue, truth(streams > 0))
	value(descReady, prometheus.GaugeValue, truth(r.ready))
	value(descResponses, prometheus.CounterValue, float64(forwarded))
	value(descEntries, prometheus.CounterValue, float64(s.Entries))
	value(descRescued, prometheus.CounterValue, float64(s.Rescued))
	value(descIntents, prometheus.CounterValue, float64(s.Intents))
	value(descNoIntent, prometheus.CounterValue, float64(m.intents.Stats().Refused))
	value(descMissing, prometheus.CounterValue, float64(s.Missing))
	value(descGaps, prometheus.CounterValue, float64(s.Gaps))
	for lock, n := range s.Refused {
		ch <- prometheus.MustNewConstMetric(descRefused, prometheus.CounterValue, float64(n), lock)
	}
	value(descMalformed, prometheus.CounterValue, float64(m.receiver.Stats().Malformed))
	value(descUnread, prometheus.GaugeValue, float64(s.Unread))
	value(descComplete, prometheus.GaugeValue, truth(!s.Incomplete))
	value(descKeeping, prometheus.GaugeValue, truth(r.failing == ""))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
