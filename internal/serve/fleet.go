package serve

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/intent"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/dataplane"
	"github.com/breakglass-gateway/breakglass-gateway/internal/engine"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
	"github.com/breakglass-gateway/breakglass-gateway/xds"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// fleet is the world of a directory: one Envoy process for each Gateway.
type fleet struct {
	opts    Options
	log     *slog.Logger
	engine  *engine.Engine
	xds     *xds.Server
	als     *audit.Receiver
	intents *intent.Server
	servers []*grpc.Server

	swept bool             // what an earlier serve left is looked after
	doors map[string]*door // by Gateway, also of those that are gone

	mu     sync.Mutex // the loop changes envoys, others read it
	envoys map[types.NamespacedName]*envoy
}

var _ engine.World = &fleet{}

func newFleet(o Options, e *engine.Engine) *fleet {
	return &fleet{opts: o, log: o.Log, engine: e, doors: map[string]*door{}, envoys: map[types.NamespacedName]*envoy{}}
}

// Requester is the owner of the file: the object's own word for it is not taken.
func (f *fleet) Requester(set *source.Set, key types.NamespacedName) string {
	o := set.Origins[source.ObjectKey{Kind: "Activation", Namespace: key.Namespace, Name: key.Name}]
	return fmt.Sprintf("manifest:%s,uid=%d", o.File, o.OwnerUID)
}

// Amend has nothing to add.
func (f *fleet) Amend(*translator.Input) {}

// Apply hands the last translation to the Envoys. It waits for nothing.
func (f *fleet) Apply(ctx context.Context, _ *source.Set, r *translator.Result) {
	f.sweep(ctx, r)
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, g := range r.Gateways {
		f.xds.Set(key.String(), g.Snapshot)
		e := f.envoys[key]
		if e == nil {
			e = f.startEnvoy(ctx, key)
			f.envoys[key] = e
		}
		e.setLife(dataplane.Life{Until: g.LastDeadline, Unrecorded: g.Unrecorded})
	}
	for key, e := range f.envoys {
		if r.Gateways[key] == nil {
			f.xds.Set(key.String(), &snapshot.Snapshot{})
			e.stop()
			delete(f.envoys, key)
		}
	}
}

// sweep ends, once, the Envoys that an earlier serve left for Gateways that are
// gone.
func (f *fleet) sweep(ctx context.Context, r *translator.Result) {
	if f.swept {
		return
	}
	f.swept = true
	var keep []string
	for key := range r.Gateways {
		keep = append(keep, key.String())
	}
	go func() {
		swept, err := dataplane.Sweep(ctx, f.envoyDir(), keep, f.engine.Recorder().Exited, f.log)
		if err != nil {
			f.log.Error("cannot clear what an earlier serve left", "error", err)
		}
		for _, dir := range swept {
			f.log.Info("ended an orphaned Envoy", "dir", dir)
		}
	}()
}

func (f *fleet) running() map[types.NamespacedName]*envoy {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.envoys)
}

// Deliveries are what each Envoy has acknowledged.
func (f *fleet) Deliveries() map[types.NamespacedName]snapshot.Delivery {
	out := map[types.NamespacedName]snapshot.Delivery{}
	for key, e := range f.running() {
		state, _ := e.state()
		out[key] = delivery{f.xds.Delivery(key.String()), state.Ready}
	}
	return out
}

// Envoy tells of the process of a Gateway.
func (f *fleet) Envoy(key types.NamespacedName) (control.EnvoyStatus, string) {
	f.mu.Lock()
	e := f.envoys[key]
	f.mu.Unlock()
	if e == nil {
		return control.EnvoyStatus{}, ""
	}
	state, err := e.state()
	out := control.EnvoyStatus{
		PID: state.PID, Ready: state.Ready, Restarts: state.Restarts, LastError: state.LastError,
		Connected: f.xds.Delivery(key.String()).Connected(),
	}
	switch {
	case err != nil:
		out.LastError = err.Error()
		return out, fmt.Sprintf("Envoy does not start: %v", err)
	case state.PID == 0:
		return out, "Envoy is being started"
	case !state.Ready:
		return out, fmt.Sprintf("Envoy is not ready: %s", cmp.Or(state.LastError, "it is starting"))
	}
	return out, ""
}

// NotReady has nothing to add.
func (f *fleet) NotReady() []string { return nil }

var (
	descConnected = prometheus.NewDesc("breakglass_envoy_connected", "1 if the Envoy of the Gateway holds a configuration stream.", []string{"gateway"}, nil)
	descRestarts  = prometheus.NewDesc("breakglass_envoy_restarts_total", "Restarts of the Gateway's Envoy since the start.", []string{"gateway"}, nil)
	descNoIntent  = prometheus.NewDesc("breakglass_audit_intents_refused_total",
		"Requests that were refused because their intent was not durable, since the start. Envoy refuses by itself while nobody answers.", nil, nil)
	descMalformed = prometheus.NewDesc("breakglass_audit_malformed_messages_total",
		"Messages of the gRPC access log that could not be decoded, since the start; the spool has what was in them.", nil, nil)
)

// Collect metrics of the Envoys.
func (f *fleet) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(descNoIntent, prometheus.CounterValue, float64(f.intents.Stats().Refused))
	ch <- prometheus.MustNewConstMetric(descMalformed, prometheus.CounterValue, float64(f.als.Stats().Malformed))
	for key, e := range f.running() {
		state, _ := e.state()
		connected := 0.0
		if f.xds.Delivery(key.String()).Connected() {
			connected = 1
		}
		ch <- prometheus.MustNewConstMetric(descConnected, prometheus.GaugeValue, connected, key.String())
		ch <- prometheus.MustNewConstMetric(descRestarts, prometheus.CounterValue, float64(state.Restarts), key.String())
	}
}

// Stop ends all Envoys and waits.
func (f *fleet) Stop() {
	all := f.running()
	for _, e := range all {
		e.stop()
	}
	for _, e := range all {
		<-e.done
	}
}
