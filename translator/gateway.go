package translator

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// gateway is a Gateway of ours.
type gateway struct {
	key       types.NamespacedName
	obj       *gwv1.Gateway
	class     *class
	addresses []string // that Envoy binds
	requested []string // that spec.addresses names
	// anyAddress: spec.addresses has an entry without a value.
	anyAddress bool
	// listeners of the Gateway, and then of its sets that are allowed.
	listeners []*listener
	sets      []*listenerSet
	accepted  condition
	client    clientCertificate

	// Kept from one translation to the next.
	scopes   map[string]*scope // by key
	leases   map[activation.WindowKey]*lease
	base     []snapshot.Key // what does not depend on routes
	edition  int            // of the frame that base was made of
	snapshot *snapshot.Snapshot
	parents  map[string]int // parentRefs of routes to it, by kind
	stirred  bool           // one came or went since clashes were looked for
	clashed  bool           // there were some
}

func (s *state) resolveGateways() {
	for key, obj := range s.in.Gateways {
		c := s.classes[string(obj.Spec.GatewayClassName)]
		if c == nil {
			continue // not ours
		}
		g := &gateway{key: key, obj: obj, class: c, scopes: map[string]*scope{}, leases: map[activation.WindowKey]*lease{}, snapshot: &snapshot.Snapshot{}, parents: map[string]int{}}
		g.accepted = yes(string(gwv1.GatewayConditionAccepted), string(gwv1.GatewayReasonAccepted))
		if !c.cond.ok() {
			g.refuse(gwv1.GatewayReasonInvalidParameters, fmt.Sprintf("GatewayClass %s: %s", c.obj.Name, c.cond.message))
		}
		if s.in.Cluster != nil {
			g.inCluster(s.in.Cluster)
		}
		if i := obj.Spec.Infrastructure; i != nil && i.ParametersRef != nil {
			g.refuse(gwv1.GatewayReasonInvalidParameters, fmt.Sprintf("spec.infrastructure.parametersRef: %s %s is not supported: remove it; what the fleets of all Gateways are is said by the installation, "+
				"and what may be opened by the EmergencyPolicy that the GatewayClass names", i.ParametersRef.Kind, i.ParametersRef.Name))
		}
		s.resolveAddresses(g)
		s.gateways = append(s.gateways, g)
	}
	// The older Gateway wins what two of them want, then the one first by name.
	slices.SortFunc(s.gateways, func(a, b *gateway) int {
		return cmp.Or(
			a.obj.CreationTimestamp.Compare(b.obj.CreationTimestamp.Time),
			cmp.Compare(a.key.Namespace, b.key.Namespace),
			cmp.Compare(a.key.Name, b.key.Name))
	})
	s.resolveSets()
	taken := map[string]*gateway{}
	for _, g := range s.gateways {
		s.resolveListeners(g, taken)
		s.resolveClientCertificate(g)
	}
}

// refuse says why the Gateway is not accepted; the first reason stands.
func (g *gateway) refuse(reason gwv1.GatewayConditionReason, message string) {
	if g.accepted.ok() {
		g.accepted = no(string(gwv1.GatewayConditionAccepted), string(reason), message)
	}
}

// build makes the snapshot of one Gateway.
func (s *state) build(g *gateway) {
	if !g.accepted.ok() || g.class.policy == nil {
		// No policy, no door: an Envoy with nothing.
		s.out.Gateways[g.key] = &Gateway{Snapshot: g.snapshot, Ports: g.ports()}
		return
	}
	b := &builder{state: s, gateway: g, Editor: snapshot.Edit(g.snapshot)}
	b.base()
	b.leases()
	b.routes()
	g.snapshot = b.Snapshot()
	s.out.Gateways[g.key] = &Gateway{Snapshot: g.snapshot, Ports: g.ports(), LastDeadline: b.last,
		Unrecorded: g.class.policy.obj.Spec.Audit.OnFailure == v1alpha1.AuditDegrade}
}

// ports of the listeners that are accepted, each once, sorted.
func (g *gateway) ports() []int32 {
	var out []int32
	for _, l := range g.listeners {
		if l.accepted.ok() {
			out = append(out, int32(l.spec.Port))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// programmed reports whether Envoy has acknowledged the current version of a
// resource of g, and if not why not.
func (s *state) programmed(g *gateway, key snapshot.Key) (bool, string) {
	r := g.snapshot.Get(key)
	if r == nil {
		return false, fmt.Sprintf("%s is not configured", key.Name)
	}
	d := s.in.Delivery[g.key]
	if d == nil || !d.Connected() {
		if s.elsewhere(g.key) {
			return true, "" // they say so themselves
		}
		return false, fmt.Sprintf("Envoy of Gateway %s is not connected", g.key)
	}
	if v, message := d.Rejected(key); v == r.Version {
		return false, fmt.Sprintf("Envoy rejected %s: %s", key.Name, message)
	}
	if d.Acked(key) != r.Version {
		return false, fmt.Sprintf("Envoy of Gateway %s has not acknowledged %s yet", g.key, key.Name)
	}
	return true, ""
}

// later returns the later time.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
