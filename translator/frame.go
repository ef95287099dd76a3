package translator

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/internal/compare"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
)

// frame is what stands around the routes: policies with their keys, classes, and
// Gateways with their listeners and certificates. There are few of each.
type frame struct {
	policies map[string]*policy
	classes  map[string]*class
	gateways []*gateway // in the order in which they win
	sets     map[types.NamespacedName]*listenerSet
	grants   map[string][]*gwv1.ReferenceGrant // by namespace
	issuers  map[string][]IssuerKeys
	// since and until bound when the frame holds: at until a key set is too old, at
	// since one became so. Zero: no bound.
	since, until time.Time
	made         bool
	// edition counts what Envoy is to be told of it.
	edition int
}

// resolveFrame brings the frame up to date, and reports whether all routes have
// to be resolved anew because of it.
func (s *state) resolveFrame() bool {
	if s.frameStands() {
		return false
	}
	old := s.frame
	s.frame = frame{edition: old.edition + 1, made: true}
	s.indexGrants()
	s.resolvePolicies()
	s.resolveClasses()
	s.resolveGateways()
	if old.made && s.sameSurroundings() && old.sameShape(&s.frame) {
		old.take(&s.frame)
		s.frame = old
		return false
	}
	for _, g := range s.gateways {
		s.listenerHosts(g)
	}
	return true
}

// frameStands reports whether nothing that the frame is made of has changed.
func (s *state) frameStands() bool {
	in, was := &s.in, &s.was
	return s.made && !in.Now.Before(s.since) && (s.until.IsZero() || in.Now.Before(s.until)) && s.sameSurroundings() &&
		compare.Same(was.GatewayClasses, in.GatewayClasses) && compare.Same(was.Gateways, in.Gateways) && compare.Same(was.ListenerSets, in.ListenerSets) && compare.Same(was.Policies, in.Policies) &&
		compare.Same(was.Secrets, in.Secrets) && compare.Same(was.ConfigMaps, in.ConfigMaps) && sameKeySets(was.RemoteKeys, in.RemoteKeys)
}

// sameSurroundings: what routes are resolved by besides Gateways.
func (s *state) sameSurroundings() bool {
	return s.was.Cluster.sameRules(s.in.Cluster) && compare.Same(s.was.Namespaces, s.in.Namespaces) && compare.Same(s.was.ReferenceGrants, s.in.ReferenceGrants)
}

func sameKeySets(a, b map[jwks.Key]jwks.Result) bool {
	if len(a) != len(b) {
		return false
	}
	for k, x := range a {
		y, ok := b[k]
		if !ok || x.Set != y.Set || x.Stale != y.Stale || !x.Expires.Equal(y.Expires) || (x.Err == nil) != (y.Err == nil) ||
			x.Err != nil && x.Err.Error() != y.Err.Error() {
			return false
		}
	}
	return true
}

// sameShape reports whether every route would be resolved alike within n. Keys,
// certificates, roles and limits may differ: no route is made of them.
func (f *frame) sameShape(n *frame) bool {
	if len(f.policies) != len(n.policies) || len(f.classes) != len(n.classes) || len(f.gateways) != len(n.gateways) {
		return false
	}
	for name, p := range f.policies {
		q := n.policies[name]
		if q == nil || p.obj != q.obj && !equality.Semantic.DeepEqual(p.obj.Spec.Scope, q.obj.Spec.Scope) {
			return false
		}
	}
	for name, c := range f.classes {
		d := n.classes[name]
		if d == nil || c.obj != d.obj || c.cond != d.cond || (c.policy == nil) != (d.policy == nil) {
			return false
		}
	}
	for i, g := range f.gateways {
		if !g.sameShape(n.gateways[i]) {
			return false
		}
	}
	return true
}

func (g *gateway) sameShape(n *gateway) bool {
	if g.obj != n.obj || g.accepted != n.accepted || g.client.name != n.client.name || g.client.missing() != n.client.missing() ||
		!slices.EqualFunc(g.sets, n.sets, func(a, b *listenerSet) bool { return a.obj == b.obj && a.refused == b.refused }) {
		return false
	}
	for i, l := range g.listeners {
		m := n.listeners[i]
		if l.accepted != m.accepted || l.conflicted != m.conflicted || l.serving() != m.serving() {
			return false
		}
	}
	return true
}

// take takes over what differs in n, which is of the same shape. Routes and scopes
// point to what is in f: it stays, and changes within.
func (f *frame) take(n *frame) {
	for name, p := range f.policies {
		q := n.policies[name]
		decision := p.decision
		*decision = *q.decision
		*p = *q
		p.decision = decision
	}
	for i, g := range f.gateways {
		g.client = n.gateways[i].client
		for j, l := range g.listeners {
			m := n.gateways[i].listeners[j]
			l.secrets, l.clients, l.resolved = m.secrets, m.clients, m.resolved
		}
	}
	f.issuers, f.since, f.until, f.edition = n.issuers, n.since, n.until, n.edition
}

func (s *state) indexGrants() {
	s.grants = map[string][]*gwv1.ReferenceGrant{}
	for key, g := range s.in.ReferenceGrants {
		s.grants[key.Namespace] = append(s.grants[key.Namespace], g)
	}
}
