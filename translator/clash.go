package translator

import (
	"fmt"
	"slices"
	"strings"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
)

// An HTTPRoute and a GRPCRoute that share a hostname on a listener are not served
// together: the older one has it, and the other is not accepted by that Gateway
// (Gateway API, GRPCRouteSpec.hostnames).

// clash is why a route is not accepted by a parent.
type clash struct {
	with activation.RouteKey
	host string
}

// settleClashes finds the clashes of the routes as they are now. Without GRPCRoutes
// there are none, and where none of the routes of a Gateway was touched nothing has
// changed.
func (s *state) settleClashes() {
	for _, g := range s.gateways {
		mixed := g.parents[v1alpha1.KindHTTPRoute] > 0 && g.parents[v1alpha1.KindGRPCRoute] > 0
		if (mixed || g.clashed) && g.stirred {
			s.clashesOf(g, mixed)
		}
		g.stirred = false
	}
}

func (s *state) clashesOf(g *gateway, mixed bool) {
	found := map[*parent]*clash{}
	if mixed {
		found = g.findClashes(s.routes)
	}
	g.clashed = len(found) > 0
	for key, r := range s.routes {
		if !slices.ContainsFunc(r.parents, func(p *parent) bool { return p.gateway == g && !sameClash(p.clash, found[p]) }) {
			continue
		}
		s.takeOut(r)
		for _, p := range r.parents {
			if p.gateway == g {
				p.clash = found[p]
				p.yield(r)
			}
		}
		r.decision = s.decisionRoute(r)
		r.live = condition{} // so that its status is written again
		s.putIn(r)
		s.touched[key] = true
	}
	g.stirred = false
}

func sameClash(a, b *clash) bool { return a == b || a != nil && b != nil && *a == *b }

// yield says what a clash makes of the route.
func (p *parent) yield(r *route) {
	p.accepted = p.fits
	if c := p.clash; c != nil {
		p.accepted = no(string(gwv1.RouteConditionAccepted), "HostnameConflict", fmt.Sprintf("%s has hostname %s on the same listener of Gateway %s and comes first; "+
			"an HTTPRoute and a GRPCRoute cannot share one: give this %s a hostname of its own", c.with, c.host, p.gateway.key, r.key.Kind))
	}
}

// findClashes goes through the routes in the order in which they win.
func (g *gateway) findClashes(routes map[activation.RouteKey]*route) map[*parent]*clash {
	var order []*route
	for _, r := range routes {
		if slices.ContainsFunc(r.parents, func(p *parent) bool { return p.gateway == g && p.fits.ok() }) {
			order = append(order, r)
		}
	}
	slices.SortFunc(order, (*route).before)
	out := map[*parent]*clash{}
	taken := map[taking]holders{}
	for _, r := range order {
		for _, p := range r.parents {
			if p.gateway != g || !p.fits.ok() {
				continue
			}
			if c := p.findClash(r, taken); c != nil {
				out[p] = c
				continue
			}
			for _, a := range p.attached {
				at := taking{a.listener, r.key.Kind}
				if taken[at] == nil {
					taken[at] = holders{}
				}
				for _, h := range a.hostnames {
					taken[at].add(h, r.key)
				}
			}
		}
	}
	return out
}

func (p *parent) findClash(r *route, taken map[taking]holders) *clash {
	for _, a := range p.attached {
		for _, kind := range routeKinds {
			if string(kind) == r.key.Kind {
				continue
			}
			for _, h := range a.hostnames {
				if other, shared := taken[taking{a.listener, string(kind)}].shares(h); shared {
					return &clash{other, h}
				}
			}
		}
	}
	return nil
}

// taking is what the routes of a kind take of a listener.
type taking struct {
	listener *listener
	kind     string
}

// holders are who has hostnames: the names themselves, each wildcard that covers one
// of them as "under *.example.com", and "under *" for any.
type holders map[string]activation.RouteKey

func (hs holders) add(host string, key activation.RouteKey) {
	first := func(k string) {
		if _, held := hs[k]; !held {
			hs[k] = key
		}
	}
	first(host)
	for w := range wider(host) {
		first("under " + w)
	}
}

// shares reports whether a hostname and one that is held have any host in common.
func (hs holders) shares(host string) (activation.RouteKey, bool) {
	if key, held := hs[host]; held {
		return key, true
	}
	for w := range wider(host) {
		if key, held := hs[w]; held {
			return key, true
		}
	}
	key, held := hs["under "+host]
	return key, held
}

// wider yields the wildcards that cover host, which may itself be one.
func wider(host string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		if host == "*" {
			return
		}
		rest := strings.TrimPrefix(host, "*.")
		if rest == host { // no wildcard: *.example.com does not cover example.com
			_, rest, _ = strings.Cut(host, ".")
		} else {
			_, rest, _ = strings.Cut(rest, ".")
		}
		for rest != "" {
			if !yield("*." + rest) {
				return
			}
			_, rest, _ = strings.Cut(rest, ".")
		}
		yield("*")
	}
}
