package translator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// builder makes the resources of one Gateway.
type builder struct {
	*state
	gateway *gateway
	// hosts by filter chain and hostname.
	hosts map[string]map[string]*host
	last  time.Time
}

// host is everything served on one hostname of one filter chain.
type host struct {
	entries []entry
}

// entry is one match of one rule, in its place.
type entry struct {
	rule  *rule
	index int
	match match
}

func (b *builder) add(typ, name string, m proto.Message, owner string) *snapshot.Resource {
	r, err := snapshot.New(typ, name, m)
	if err != nil {
		// A message of our own that cannot be marshalled holds invalid UTF-8 from
		// an object: leave the resource out, which is closed.
		return nil
	}
	r.Owner = owner
	b.gateway.resources[r.Key] = r
	return r
}

// listeners makes one Envoy listener per port, their certificates, and a place
// for each listener hostname, so that a wider one never serves it.
func (b *builder) listeners() {
	owner := "Gateway " + b.gateway.key.String()
	for port, chains := range b.gateway.chains() {
		b.add(snapshot.Listener, lock.ListenerName(port), lock.Listener(b.gateway.addresses, port, chains), owner)
		for _, c := range chains {
			b.host(c.Name, "*")
		}
	}
	for _, l := range b.gateway.listeners {
		if !l.serving() {
			continue
		}
		for _, sec := range l.secrets {
			b.add(snapshot.Secret, sec.name, lock.Secret(sec.name, sec.cert, sec.key), owner)
		}
		if l.hostname != "" {
			b.host(l.chain(), l.hostname)
		}
	}
}

// host finds or makes the place of a hostname.
func (b *builder) host(chain, name string) *host {
	if b.hosts[chain] == nil {
		b.hosts[chain] = map[string]*host{}
	}
	h := b.hosts[chain][name]
	if h == nil {
		h = &host{}
		b.hosts[chain][name] = h
	}
	return h
}

// leases makes the lease and the clusters of each open window of this Gateway.
func (b *builder) leases() {
	for wk, w := range b.plan.Windows {
		r := b.servedRoute(wk)
		if r == nil {
			continue
		}
		deadline := b.forEnvoy(w.Deadline)
		lease := b.add(snapshot.Listener, lock.LeaseName(w.Opening), lock.Lease(w.Opening), r.owner())
		lease.Expires = w.Deadline
		lease.Needs = []snapshot.Key{{Type: snapshot.Cluster, Name: lock.OriginalDst().GetName()}}
		b.last = later(b.last, later(w.Deadline, deadline))
		ru := r.rule(wk.Rule)
		for i, be := range ru.backends {
			if be.broken {
				continue
			}
			b.add(snapshot.Cluster, lock.ClusterName(w.Opening, i), lock.Cluster(w.Opening, i, be.Backend), r.owner())
		}
	}
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

// routes makes the RouteConfigurations: one per exact hostname, and one per
// filter chain for wildcards and for hosts nobody named.
func (b *builder) routes() {
	for _, r := range b.sortedRoutes() {
		for _, p := range r.parents {
			if p.gateway == b.gateway && p.placed() {
				b.place(r, p)
			}
		}
	}
	for _, chain := range slices.Sorted(maps.Keys(b.hosts)) {
		var fallback []string
		for _, name := range slices.Sorted(maps.Keys(b.hosts[chain])) {
			if strings.HasPrefix(name, "*") {
				fallback = append(fallback, name)
				continue
			}
			b.routeConfiguration(chain, name, []string{name})
		}
		b.routeConfiguration(chain, "*", fallback)
	}
}

// place puts every match of a route where the Gateway's listeners want it.
func (b *builder) place(r *route, p *parent) {
	for _, a := range p.attached {
		if !a.listener.serving() {
			continue
		}
		for _, name := range a.hostnames {
			if b.mostSpecific(a.listener, name) != a.listener {
				continue // listener isolation: a narrower listener has this host
			}
			h := b.host(a.listener.chain(), name)
			for _, ru := range r.rules {
				for i, m := range ru.matches {
					e := entry{ru, i, m}
					if m.invalid != nil {
						continue
					}
					if !slices.ContainsFunc(h.entries, func(o entry) bool { return o.rule == ru && o.index == i }) {
						h.entries = append(h.entries, e)
					}
				}
			}
		}
	}
}

// specificity orders listener hostnames: exact before any wildcard, a longer
// wildcard before a shorter, none last.
func specificity(hostname string) int {
	suffix, wildcard := strings.CutPrefix(hostname, "*")
	if wildcard || hostname == "" {
		return len(suffix)
	}
	return 1<<10 + len(hostname) // hostnames are at most 253 long
}

// mostSpecific is the listener, of those that share l's filter chain, that a
// request for host belongs to.
func (b *builder) mostSpecific(l *listener, host string) *listener {
	best := l
	for _, other := range b.gateway.listeners {
		if !other.serving() || other.chain() != l.chain() {
			continue
		}
		covers := other.hostname == "" || other.hostname == host || wildcardCovers(other.hostname, host)
		if covers && specificity(other.hostname) > specificity(best.hostname) {
			best = other
		}
	}
	return best
}

// routeConfiguration makes the resource and, with it, the scope that finds it.
func (b *builder) routeConfiguration(chain, name string, hosts []string) {
	key := lock.ScopeKey(chain, name)
	d := &hostDraft{builder: b, key: key, chain: chain, name: name, hosts: hosts, forms: map[*route]form{}}
	d.noteShadows()
	rc := d.make()
	if rc == nil {
		return
	}
	if _, refused := d.tried(rc); refused != "" {
		rc = d.without(refused)
	}
	b.gateway.resources[rc.Key] = rc
	b.add(snapshot.ScopedRoute, key, lock.Scope(key), rc.Owner)
}

// route makes the Envoy route of an entry: open if its window is, else a 404 in
// its place.
func (b *builder) route(e entry, at origin, needs map[snapshot.Key]bool) lock.Route {
	r := e.rule.route
	wk := activation.WindowKey{Route: r.key, Rule: e.rule.key}
	w := b.plan.Windows[wk]
	if w == nil || b.servedRoute(wk) == nil || b.quarantined(w, e.rule) {
		return lock.Closed(e.name(), e.match.envoy(), 404)
	}
	policy := b.gateway.class.policy
	l := lock.Lock{
		Deadline: b.forEnvoy(w.Deadline), Role: w.Role.Name, Grants: policy.grants(w.Role),
		Route: r.key.String(), Rule: e.rule.key, Opening: w.Opening,
		Activations: w.Activations, Incidents: w.Incidents,
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
	return fmt.Sprintf("%s/%s/%d", e.rule.route.key, e.rule.key, e.index)
}

// windowNeeds are the resources without which an open rule would answer 503.
func windowNeeds(w *activation.Window, ru *rule) []snapshot.Key {
	keys := []snapshot.Key{{Type: snapshot.Listener, Name: lock.LeaseName(w.Opening)}}
	for i, be := range ru.backends {
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
		if r := b.gateway.resources[k]; r == nil {
			return true
		} else if v, _ := d.Rejected(k); v == r.Version {
			return true
		}
	}
	return false
}
