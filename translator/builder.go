package translator

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// builder makes the resources of one Gateway out of those it had.
type builder struct {
	*state
	*snapshot.Editor
	gateway *gateway
	last    time.Time
}

// lease is what was made for an open window.
type lease struct {
	rule     *rule
	opening  string
	deadline time.Time
	keys     []snapshot.Key
}

func (b *builder) make(typ, name string, m proto.Message, owner string) *snapshot.Resource {
	r, err := snapshot.New(typ, name, m)
	if err != nil {
		// A message of our own that cannot be marshalled holds invalid UTF-8 from
		// an object: leave the resource out, which is closed.
		return nil
	}
	r.Owner = owner
	return r
}

// replace puts the resources in the place of those that had the keys, and returns
// the new keys.
func (b *builder) replace(old []snapshot.Key, resources ...*snapshot.Resource) []snapshot.Key {
	var keys []snapshot.Key
	for _, r := range resources {
		if r != nil {
			b.Put(r)
			keys = append(keys, r.Key)
		}
	}
	for _, k := range old {
		if !slices.Contains(keys, k) {
			b.Drop(k)
		}
	}
	return keys
}

// base makes what does not depend on routes: the token filter, one Envoy listener
// per port, their certificates.
func (b *builder) base() {
	g := b.gateway
	if g.edition == b.edition {
		return
	}
	g.edition = b.edition
	owner := "Gateway " + g.key.String()
	all := []*snapshot.Resource{
		b.make(snapshot.ExtensionConfig, lock.JWTResource, lock.JWT(g.class.policy.usable()), owner),
		b.make(snapshot.ExtensionConfig, lock.LimitResource, lock.RequestLimits(g.class.policy.requestLimits()), owner),
		b.make(snapshot.Cluster, lock.OriginalDst().GetName(), lock.OriginalDst(), owner),
	}
	for port, chains := range g.chains() {
		all = append(all, b.make(snapshot.Listener, lock.ListenerName(port), lock.Listener(g.addresses, port, b.bind(port), chains), owner))
	}
	for _, l := range g.listeners {
		if !l.serving() {
			continue
		}
		for _, sec := range l.secrets {
			all = append(all, b.make(snapshot.Secret, sec.name, lock.Secret(sec.name, sec.cert, sec.key), owner))
		}
		if c := l.clients; c != nil {
			all = append(all, b.make(snapshot.Secret, c.Authorities, lock.Authorities(c.Authorities, c.authorities), owner))
		}
	}
	if sec := g.client.secret; sec.name != "" {
		all = append(all, b.make(snapshot.Secret, sec.name, lock.Secret(sec.name, sec.cert, sec.key), owner))
	}
	g.base = b.replace(g.base, all...)
}

// leases makes the lease and the clusters of each open window of this Gateway, and
// withdraws those of windows that are not open any more.
func (b *builder) leases() {
	g := b.gateway
	for wk, w := range b.plan.Windows {
		r := b.servedRoute(wk)
		if r == nil {
			continue
		}
		b.last = later(b.last, later(w.Deadline, b.forEnvoy(w.Deadline)))
		ru, old := r.rule(wk.Rule), g.leases[wk]
		if old != nil && old.rule == ru && old.opening == w.Opening && old.deadline.Equal(w.Deadline) {
			continue
		}
		var keys []snapshot.Key
		if old != nil {
			keys = old.keys
		}
		g.leases[wk] = &lease{ru, w.Opening, w.Deadline, b.replace(keys, b.lease(r, ru, w)...)}
	}
	for wk, l := range g.leases {
		if b.plan.Windows[wk] == nil || b.servedRoute(wk) == nil {
			b.replace(l.keys)
			delete(g.leases, wk)
		}
	}
}

func (b *builder) lease(r *route, ru *rule, w *activation.Window) []*snapshot.Resource {
	l := b.make(snapshot.Listener, lock.LeaseName(w.Opening), lock.Lease(w.Opening), r.owner())
	l.Expires = w.Deadline
	l.Needs = []snapshot.Key{{Type: snapshot.Cluster, Name: lock.OriginalDst().GetName()}}
	all := []*snapshot.Resource{l}
	for i, be := range ru.reached() {
		if !be.broken {
			all = append(all, b.make(snapshot.Cluster, lock.ClusterName(w.Opening, i), lock.Cluster(w.Opening, i, b.gateway.toward(be.Backend)), r.owner()))
		}
	}
	return all
}

// servedRoute is the route of a window if this Gateway serves it.
func (b *builder) servedRoute(wk activation.WindowKey) *route {
	r := b.state.routes[wk.Route]
	if r == nil || r.rule(wk.Rule) == nil {
		return nil
	}
	if slices.ContainsFunc(r.parents, func(p *parent) bool { return p.gateway == b.gateway && p.accepted.ok() }) {
		return r
	}
	return nil
}

func (r *route) rule(key string) *rule {
	for _, ru := range r.rules {
		if ru.key == key {
			return ru
		}
	}
	return nil
}

// routes makes the RouteConfigurations that have to be looked at.
func (b *builder) routes() {
	for sc := range b.scopes {
		if sc.gateway == b.gateway {
			b.routeConfiguration(sc)
		}
	}
}

// routeConfiguration makes the resource and, with it, the scope that finds it.
func (b *builder) routeConfiguration(sc *scope) {
	config, scoped := snapshot.Key{Type: snapshot.Route, Name: sc.key()}, snapshot.Key{Type: snapshot.ScopedRoute, Name: sc.key()}
	if len(sc.hosts) == 0 && len(sc.misdirected) == 0 {
		b.Drop(config)
		b.Drop(scoped)
		delete(b.gateway.scopes, sc.key())
		return
	}
	if !sc.arranged {
		sc.arrange()
	}
	d := &hostDraft{builder: b, scope: sc, forms: map[*route]form{}}
	windows := b.windowStates(sc)
	if sc.whole == nil || !slices.Equal(windows, sc.windows) {
		sc.windows, sc.whole = windows, d.make()
	}
	rc := sc.whole
	sc.excluded = nil
	if rc == nil {
		b.Drop(config)
		b.Drop(scoped)
		return
	}
	if _, refused := d.tried(rc); refused != "" {
		rc = d.without(refused)
	}
	for key, why := range sc.excluded {
		if other, twice := b.excluded[key]; !twice || why < other { // of several, always the same one is told
			b.excluded[key] = why
		}
	}
	if sc.excluded != nil || slices.ContainsFunc(windows, func(w windowState) bool { return w.open }) {
		b.watch[sc] = true
	}
	b.Put(rc)
	if b.Get(scoped) == nil || b.Get(scoped).Owner != rc.Owner {
		b.Put(b.make(snapshot.ScopedRoute, sc.key(), lock.Scope(sc.key()), rc.Owner))
	}
}

// window of a rule that this Gateway may serve now, nil for none.
func (b *builder) window(ru *rule) *activation.Window {
	wk := activation.WindowKey{Route: ru.route.key, Rule: ru.key}
	if w := b.plan.Windows[wk]; w != nil && b.servedRoute(wk) != nil && !b.quarantined(w, ru) {
		return w
	}
	return nil
}

// windowStates of the rules of a scope, as its routes are made of them.
func (b *builder) windowStates(sc *scope) []windowState {
	out := make([]windowState, len(sc.rules))
	for i, ru := range sc.rules {
		w := b.window(ru)
		if w == nil {
			continue
		}
		out[i] = windowState{
			open: true, opening: w.Opening, activations: strings.Join(w.Activations, ","), incidents: strings.Join(w.Incidents, ","),
			deadline: b.forEnvoy(w.Deadline), role: w.Role, policy: b.gateway.class.policy.obj,
		}
	}
	return out
}

// route makes the Envoy route of an entry: open if its window is, else a 404 in
// its place.
func (b *builder) route(e entry, at origin, needs map[snapshot.Key]bool) lock.Route {
	r, w := e.rule.route, b.window(e.rule)
	if w == nil {
		return lock.Closed(e.name(), e.match.envoy(), 404)
	}
	policy := b.gateway.class.policy
	l := lock.Lock{
		Deadline: b.forEnvoy(w.Deadline), Role: w.Role.Name, Grants: policy.grants(w.Role),
		Route: r.key.Ref(), Rule: e.rule.key, Opening: w.Opening,
		Activations: w.Activations, Incidents: w.Incidents,
		Strict: policy.obj.Spec.Audit.Strict(), Gateway: b.gateway.key.String(),
	}
	open := l.Open(e.name(), e.match.envoy(), e.rule.action(w.Opening, e.match, at))
	if open.Open() {
		for _, k := range windowNeeds(w, e.rule) {
			needs[k] = true
		}
	}
	return open
}

func (e entry) name() string {
	return fmt.Sprintf("%s/%s/%d", e.rule.route.key.Ref(), e.rule.key, e.index)
}

// windowNeeds are the resources without which an open rule would answer 503.
func windowNeeds(w *activation.Window, ru *rule) []snapshot.Key {
	keys := []snapshot.Key{{Type: snapshot.Listener, Name: lock.LeaseName(w.Opening)}}
	for i, be := range ru.reached() {
		if !be.broken {
			keys = append(keys, snapshot.Key{Type: snapshot.Cluster, Name: lock.ClusterName(w.Opening, i)})
		}
	}
	return keys
}

// quarantined reports whether Envoy has refused something the rule needs. The
// rule then stays closed, so that its host's other routes go on.
func (b *builder) quarantined(w *activation.Window, ru *rule) bool {
	d := b.in.Delivery[b.gateway.key]
	if d == nil {
		return false
	}
	// Without the present token filter an older one would let in whoever it knew.
	jwt := snapshot.Key{Type: snapshot.ExtensionConfig, Name: lock.JWTResource}
	for _, k := range append(windowNeeds(w, ru), jwt) {
		if r := b.Get(k); r == nil {
			return true
		} else if v, _ := d.Rejected(k); v == r.Version {
			return true
		}
	}
	return false
}
