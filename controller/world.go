package controller

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/engine"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

var _ engine.World = &controller{}

// outcome is what the loop found last.
type outcome struct {
	set    *source.Set
	result *translator.Result
}

// Requester is who the API server saw: its admission policy has written him down.
func (c *controller) Requester(set *source.Set, key types.NamespacedName) string {
	return set.Activations[key].Spec.RequestedBy
}

// Amend adds what only a cluster has.
func (c *controller) Amend(in *translator.Input) {
	in.FirstStart = false // the status of an Activation says what it did before
	in.Cluster = &translator.Cluster{
		Cluster:           activation.Cluster{Follow: !c.leader.is.Load(), Restored: !c.connected.Load(), Refusing: c.refusing(), Distrusted: map[types.NamespacedName]string{}},
		GatewayNamespaces: c.gatewayNamespaces, SecretNamespaces: c.secretNamespaces,
		Addresses: c.addresses(), Peers: c.peers.all(),
	}
	if in.Seen == nil {
		in.Seen = map[types.NamespacedName]time.Time{}
	}
	for key, a := range in.Activations {
		if _, known := in.Records[key]; known {
			continue
		}
		in.Seen[key] = a.CreationTimestamp.Time
		if a.Status.Phase != "" {
			continue // it was judged before
		}
		if why := c.trust.doubt(a); why != "" {
			in.Cluster.Distrusted[key] = why
		}
	}
	in.Reviews = c.reviews.requests(in.Records)
}

// refusing says why nothing opens here, "" if it does.
func (c *controller) refusing() string {
	var why []string
	if !c.connected.Load() {
		why = append(why, "this replica has not read the cluster since it started: it serves what was last good")
	}
	if p := c.skew.problem(); p != "" {
		why = append(why, p)
	}
	for _, key := range c.gateways() {
		for _, e := range c.xds.Envoys(key.String()) {
			if e.Skew > skewed || e.Skew < -skewed {
				why = append(why, fmt.Sprintf("the clock of Envoy %s is %s off this replica's: nothing opens until they agree to %s", e.ID, e.Skew.Round(time.Second/10), skewed))
			}
		}
	}
	return strings.Join(why, "; ")
}

// Apply hands over a translation, and waits for nothing.
func (c *controller) Apply(_ context.Context, set *source.Set, r *translator.Result) {
	for key, g := range r.Gateways {
		c.xds.Set(key.String(), g.Snapshot)
		c.xds.ServeUnrecorded(key.String(), g.Unrecorded)
	}
	if old := c.last.Load(); old != nil {
		for key := range old.result.Gateways {
			if r.Gateways[key] == nil {
				c.xds.Set(key.String(), &snapshot.Snapshot{})
			}
		}
	}
	c.last.Store(&outcome{set, r})
	c.status.Load().poke()
	c.reviews.poke()
	c.peers.poke()
	c.fleets.poke()
	c.keep.poke()
}

// gateways of the last translation, sorted.
func (c *controller) gateways() []types.NamespacedName {
	o := c.last.Load()
	if o == nil {
		return nil
	}
	return slices.SortedFunc(maps.Keys(o.result.Gateways), func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

// envoys that serve a Gateway and are connected to this replica.
func (c *controller) envoys(gateway types.NamespacedName) (n int) {
	for _, e := range c.xds.Envoys(gateway.String()) {
		if e.Ready && !e.Held {
			n++
		}
	}
	return n
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Deliveries are what the Envoys of each Gateway have.
func (c *controller) Deliveries() map[types.NamespacedName]snapshot.Delivery {
	out := map[types.NamespacedName]snapshot.Delivery{}
	for _, key := range c.gateways() {
		out[key] = c.xds.Delivery(key.String())
	}
	return out
}

// Envoy tells of the Envoys of a Gateway that are connected to this replica.
func (c *controller) Envoy(gateway types.NamespacedName) (control.EnvoyStatus, string) {
	var s control.EnvoyStatus
	var problems []string
	for _, e := range c.xds.Envoys(gateway.String()) {
		s.Connected = true
		s.Ready = s.Ready || e.Ready && !e.Held
		if e.Failing != "" {
			problems = append(problems, fmt.Sprintf("Envoy %s: %s", e.ID, e.Failing))
		}
	}
	s.LastError = strings.Join(problems, "; ")
	return s, s.LastError
}

// NotReady lists what should work and does not.
func (c *controller) NotReady() []string {
	var out []string
	if !c.connected.Load() {
		out = append(out, "the API server cannot be reached, or has not told everything yet: nothing opens here")
	}
	if p := c.trust.problem(); p != "" && c.connected.Load() {
		out = append(out, "no Activation is believed: "+p)
	}
	if p := c.skew.problem(); p != "" {
		out = append(out, p)
	}
	return out
}

var (
	descEnvoys = prometheus.NewDesc("breakglass_envoys", "Envoys of a Gateway that are connected to this replica; state is serving, starting or held (its audit log cannot be kept).", []string{"gateway", "state"}, nil)
	descLeader = prometheus.NewDesc("breakglass_leader", "1 if this replica decides what opens.", nil, nil)
	descSkew   = prometheus.NewDesc("breakglass_clock_skew_exceeded", "1 if this node's clock and the API server's differ by more than 2 s: nothing opens.", nil, nil)
	descTrust  = prometheus.NewDesc("breakglass_admission_policies_in_force", "1 if the admission policies are those of this release. 0: no Activation is believed.", nil, nil)
	descSynced = prometheus.NewDesc("breakglass_cluster_synced", "1 if the cluster was read since the start.", nil, nil)
	descNacks  = prometheus.NewDesc("breakglass_xds_rejected_total", "Responses that an Envoy refused.", []string{"type"}, nil)
)

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Collect metrics.
func (c *controller) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, key := range c.gateways() {
		states := map[string]int{"serving": 0, "starting": 0, "held": 0}
		for _, e := range c.xds.Envoys(key.String()) {
			switch {
			case e.Held:
				states["held"]++
			case e.Ready:
				states["serving"]++
			default:
				states["starting"]++
			}
		}
		for state, n := range states {
			gauge(descEnvoys, float64(n), key.String(), state)
		}
	}
	if c.ship != nil {
		c.ship.Collect(ch)
	}
	gauge(descLeader, number(c.leader.is.Load()))
	gauge(descSkew, number(c.skew.problem() != ""))
	gauge(descTrust, number(c.trust.problem() == ""))
	gauge(descSynced, number(c.connected.Load()))
	for typ, n := range c.xds.Stats().Types {
		ch <- prometheus.MustNewConstMetric(descNacks, prometheus.CounterValue, float64(n.Nacks), typ[strings.LastIndexByte(typ, '.')+1:])
	}
}

// addresses of the Services of the fleets.
func (c *controller) addresses() map[types.NamespacedName][]gwv1.GatewayStatusAddress {
	return c.fleets.known()
}

// Stop leaves everything as it is: Envoys keep what they have, and every deadline,
// until another replica, or the next one, takes over.
func (c *controller) Stop() {}
