package translator

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// scope is what becomes one RouteConfiguration: an exact hostname of a filter
// chain, or, as "*", all its wildcards and the hosts that nobody named. It is
// small, so that a change in it costs Envoy little.
type scope struct {
	gateway     *gateway
	chain, name string
	hosts       map[string]*host
	// misdirected are hosts of other listeners of the port, in order: a TLS connection
	// tells by its SNI whose it is, and a request on it for another's host is
	// answered 421.
	misdirected []string

	// arranged: what follows fits hosts.
	arranged bool
	names    []string // of hosts, in order
	rules    []*rule
	shadows  map[*route][]string // matches that an equal one of another route comes before

	// What was last made, of which windows, and what Envoy refused of it.
	windows  []windowState
	whole    *snapshot.Resource
	excluded map[activation.RouteKey]string
}

// host is everything served on one hostname.
type host struct {
	fixed   bool // a listener's own: it is there without routes too
	routes  map[activation.RouteKey]*route
	entries []entry // in order of precedence, once arranged
}

// entry is one match of one rule, in its place.
type entry struct {
	rule  *rule
	index int
	match match
}

// windowState is what a rule's routes are made of besides the rule.
type windowState struct {
	open                            bool
	opening, activations, incidents string
	deadline                        time.Time // by Envoy's clock
	role                            *v1alpha1.Role
	policy                          *v1alpha1.EmergencyPolicy
}

func (sc *scope) key() string { return lock.ScopeKey(sc.chain, sc.name) }

// scope finds or makes the place of a hostname of a filter chain.
func (g *gateway) scope(chain, hostname string) (*scope, *host) {
	name := hostname
	if strings.HasPrefix(hostname, "*") {
		name = "*"
	}
	sc := g.scopeOf(chain, name)
	h := sc.hosts[hostname]
	if h == nil {
		h = &host{routes: map[activation.RouteKey]*route{}}
		sc.hosts[hostname] = h
		sc.arranged = false
	}
	return sc, h
}

func (g *gateway) scopeOf(chain, name string) *scope {
	key := lock.ScopeKey(chain, name)
	sc := g.scopes[key]
	if sc == nil {
		sc = &scope{gateway: g, chain: chain, name: name, hosts: map[string]*host{}}
		g.scopes[key] = sc
	}
	return sc
}

// listenerHosts makes a place for each listener hostname, so that a wider one
// never serves it, and for the hosts that nobody named.
func (s *state) listenerHosts(g *gateway) {
	for _, l := range g.listeners {
		if !l.serving() {
			continue
		}
		others := g.othersByTLS(l)
		for _, name := range []string{"*", cmp.Or(l.hostname, "*")} {
			if slices.Contains(others, name) {
				continue // another listener has all hosts that have none of their own
			}
			sc, h := g.scope(l.chain(), name)
			h.fixed = true
			s.scopes[sc] = true
		}
		if len(others) > 0 {
			sc := g.scopeOf(l.chain(), "*")
			sc.misdirected = others
			s.scopes[sc] = true
		}
	}
}

// othersByTLS are the hostnames of the listeners that share l's port and are told from
// it by TLS, in order. One that is not served has its hosts too: it is narrower, or
// its clients would not have come this way, and what is meant for it is for nobody else.
func (g *gateway) othersByTLS(l *listener) []string {
	var out []string
	for _, o := range g.listeners {
		if o != l && l.tls() && l.besides(o) {
			out = append(out, cmp.Or(o.hostname, "*"))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// besides reports whether l shares its port with o, so that one of them has what the
// hostname of the other has not.
func (l *listener) besides(o *listener) bool {
	return o.spec.Port == l.spec.Port && o.spec.Protocol == l.spec.Protocol && !o.conflicted.ok()
}

// place puts a route where the Gateway's listeners want it.
func (s *state) place(r *route, p *parent) {
	for _, a := range p.attached {
		if !a.listener.serving() {
			continue
		}
		for _, name := range a.hostnames {
			if p.gateway.mostSpecific(a.listener, name) != a.listener {
				continue // listener isolation: a narrower listener has this host
			}
			sc, h := p.gateway.scope(a.listener.chain(), name)
			h.routes[r.key] = r
			sc.arranged = false
			if !slices.Contains(r.scopes, sc) {
				r.scopes = append(r.scopes, sc)
			}
			s.scopes[sc] = true
		}
	}
}

// remove takes a route out.
func (sc *scope) remove(r *route) {
	sc.arranged = false
	for name, h := range sc.hosts {
		if delete(h.routes, r.key); len(h.routes) == 0 && !h.fixed {
			delete(sc.hosts, name)
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

// mostSpecific is the listener, of those that share l's port, that a request for
// host belongs to. Over TLS, who asked for another one's certificate is sent there.
func (g *gateway) mostSpecific(l *listener, host string) *listener {
	best := l
	for _, other := range g.listeners {
		if !l.besides(other) {
			continue
		}
		covers := other.hostname == "" || other.hostname == host || Covers(other.hostname, host)
		if covers && specificity(other.hostname) > specificity(best.hostname) {
			best = other
		}
	}
	return best
}

// arrange puts everything in its order.
func (sc *scope) arrange() {
	sc.arranged, sc.names, sc.rules, sc.windows, sc.whole = true, sc.names[:0:0], nil, nil, nil
	for name := range sc.hosts {
		sc.names = append(sc.names, name)
	}
	slices.Sort(sc.names)
	for _, name := range sc.names {
		sc.hosts[name].arrange()
	}
	for _, r := range sc.routes() {
		sc.rules = append(sc.rules, r.rules...)
	}
	sc.noteShadows()
}

func (h *host) arrange() {
	h.entries = nil
	for _, r := range slices.SortedFunc(maps.Values(h.routes), (*route).before) {
		for _, ru := range r.rules {
			for i, m := range ru.matches {
				if m.invalid == nil {
					h.entries = append(h.entries, entry{ru, i, m})
				}
			}
		}
	}
	slices.SortStableFunc(h.entries, func(x, y entry) int { return precedes(x.match, y.match) })
}

// routes of all hosts with a match that can be served, by name.
func (sc *scope) routes() []*route {
	seen := map[*route]bool{}
	var out []*route
	for _, h := range sc.hosts {
		for _, e := range h.entries {
			if r := e.rule.route; !seen[r] {
				seen[r] = true
				out = append(out, r)
			}
		}
	}
	slices.SortFunc(out, func(x, y *route) int { return x.key.Compare(y.key) })
	return out
}

// noteShadows remembers which routes are never reached on a host because another
// route has the very same match and comes first. Serving the first is what
// Gateway API asks for; its owner being silent about it is not.
func (sc *scope) noteShadows() {
	sc.shadows = nil
	for _, name := range sc.names {
		if len(sc.hosts[name].routes) < 2 {
			continue
		}
		first := map[string]*route{}
		for _, e := range sc.hosts[name].entries {
			m := activation.Digest(e.match.identity())
			r := e.rule.route
			switch other := first[m]; {
			case other == nil:
				first[m] = r
			case other != r:
				if sc.shadows == nil {
					sc.shadows = map[*route][]string{}
				}
				sc.shadows[r] = append(sc.shadows[r], fmt.Sprintf("%s %s on %s is held by %s, which has the same match and comes first",
					cmp.Or(e.match.method, "any method of"), e.match.path, name, other.key))
			}
		}
	}
}

// shadows of a route wherever it has its place.
func (r *route) shadows() []string {
	var out []string
	for _, sc := range slices.SortedFunc(slices.Values(r.scopes), func(a, b *scope) int {
		return cmp.Or(cmp.Compare(a.gateway.key.String(), b.gateway.key.String()), cmp.Compare(a.key(), b.key()))
	}) {
		out = append(out, sc.shadows[r]...)
	}
	return out
}

func (sc *scope) owner() string {
	var owners []string
	for _, r := range sc.routes() {
		owners = append(owners, r.owner())
	}
	return cmp.Or(strings.Join(owners, ", "), "Gateway "+sc.gateway.key.String())
}

// findScopes finds what has to be looked at: where a route was put in or taken out,
// where something is open or was, and where Envoy refused something.
func (s *state) findScopes() {
	for sc := range s.watch {
		s.scopes[sc] = true
	}
	for wk := range s.plan.Windows {
		if r := s.routes[wk.Route]; r != nil {
			for _, sc := range r.scopes {
				s.scopes[sc] = true
			}
		}
	}
	for _, g := range s.gateways {
		if d := s.in.Delivery[g.key]; d != nil {
			for _, k := range d.Refused() {
				if sc := g.scopes[k.Name]; sc != nil && k.Type == snapshot.Route {
					s.scopes[sc] = true
				}
			}
		}
	}
	s.watch = map[*scope]bool{}
}
