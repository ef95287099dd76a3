package translator

import (
	"fmt"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// decide asks which windows are open.
func (s *state) decide() {
	s.plan = activation.Decide(activation.Input{
		Now:          s.in.Now,
		FirstStart:   s.in.FirstStart,
		Objects:      s.in.Activations,
		Seen:         s.in.Seen,
		RequestedBy:  s.in.RequestedBy,
		Requests:     s.in.Requests,
		Records:      s.in.Records,
		Revocations:  s.in.Revocations,
		Reviews:      s.in.Reviews,
		AuditFailing: s.in.AuditFailing,
		Cluster:      s.in.Cluster.decisions(),
		AuditPending: s.in.AuditPending,
		Route: func(key activation.RouteKey) *activation.Route {
			if r := s.routes[key]; r != nil {
				return r.decision
			}
			return nil
		},
	})
}

// served reports whether every Gateway that serves a window has it from Envoy's
// own word, or from that of another replica whose Envoys they are.
func (s *state) served(wk activation.WindowKey, w *activation.Window) (bool, string) {
	ok, why := s.servedHere(wk, w)
	if s.in.Cluster == nil || !ok {
		return ok, why
	}
	s.out.Served[w.Opening] = true
	for _, p := range s.routes[wk.Route].parents {
		if peer := s.lagging(p.gateway.key, w.Opening); p.accepted.ok() && peer != "" {
			return false, fmt.Sprintf("an Envoy of Gateway %s that is connected to %s has not acknowledged it yet", p.gateway.key, peer)
		}
	}
	return true, ""
}

// servedHere asks the Envoys that are connected to this replica.
func (s *state) servedHere(wk activation.WindowKey, w *activation.Window) (bool, string) {
	r := s.routes[wk.Route]
	if r == nil {
		return false, "the route is gone"
	}
	if why := s.excluded[wk.Route]; why != "" {
		return false, why
	}
	ru := r.rule(wk.Rule)
	places := 0
	for _, p := range r.parents {
		if !p.accepted.ok() {
			continue
		}
		for _, k := range windowNeeds(w, ru) {
			if ok, why := s.programmed(p.gateway, k); !ok {
				return false, why
			}
		}
		for _, a := range p.attached {
			if !a.listener.serving() {
				continue
			}
			places++
			if ok, why := s.attachmentServed(p.gateway, a); !ok {
				return false, why
			}
		}
	}
	if held := s.shadowed(r, ru); held != "" {
		return false, held
	}
	if places == 0 {
		return false, fmt.Sprintf("no listener serves %s now: see the Gateway's listener conditions", wk.Route)
	}
	return true, ""
}

// shadowed says who holds the matches of a rule, if others hold all of them: it
// is open and nobody can reach it.
func (s *state) shadowed(r *route, ru *rule) string {
	total := 0
	for _, p := range r.parents {
		for _, a := range p.attached {
			total += len(a.hostnames) * len(ru.matches)
		}
	}
	if held := r.shadows(); len(r.rules) == 1 && total > 0 && len(held) >= total {
		return strings.Join(held, "; ")
	}
	return ""
}

func (s *state) attachmentServed(g *gateway, a attachment) (bool, string) {
	if ok, why := s.listens(a.listener); !ok {
		return false, why
	}
	keys := []snapshot.Key{{Type: snapshot.ExtensionConfig, Name: lock.JWTResource}}
	for _, h := range a.hostnames {
		if g.mostSpecific(a.listener, h) != a.listener {
			continue // listener isolation: a narrower listener has this host
		}
		name := h
		if h[0] == '*' {
			name = "*"
		}
		key := lock.ScopeKey(a.listener.chain(), name)
		keys = append(keys, snapshot.Key{Type: snapshot.Route, Name: key}, snapshot.Key{Type: snapshot.ScopedRoute, Name: key})
	}
	for _, k := range keys {
		if ok, why := s.programmed(g, k); !ok {
			return false, why
		}
	}
	return true, ""
}
