//go:build envoy

package oracle

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// request as it is sent.
type request struct {
	Port, Version int // index of the port; 1 or 2 of HTTP
	Host, Method  string
	Path, Query   string
	Header        map[string]string
	Token         *token
	What          []string // for readers of a report
}

func (q request) String() string {
	what := append(slices.Clone(q.What), q.Token.What...)
	return fmt.Sprintf("HTTP/%d port %d %s %s%s?%s headers %v; token %s by %q header %v claims %v (%s)",
		q.Version, q.Port, q.Method, q.Host, q.Path, q.Query, q.Header, q.Token.Manner, q.Token.Signer, q.Token.Header, q.Token.Claims, strings.Join(what, ", "))
}

// expected is what an answer must be.
type expected struct {
	// Let in: must, may or must not be.
	In verdict
	// Refusals that may be, if it is not let in.
	Refusals []int
	// Backend that must have been reached, under one of Paths.
	Backend string
	Paths   []string
	Why     string
	// Undecided says why nothing can be said.
	Undecided string
}

// judge a request that was under way from start to end.
func (w *world) answer(q request, start, end time.Time) expected {
	if q.forbidden() {
		return expected{Refusals: []int{400, 404}, Why: "the path is one of those that are refused as they are"}
	}
	p := w.find(q)
	if p == nil {
		return expected{Refusals: []int{404}, Why: "no rule has this host, path, method, headers and query"}
	}
	where := fmt.Sprintf("%s/%s rule %d", p.route.Namespace, p.route.Name, p.at)
	s, roleName := w.state(p, start, end)
	if s == closed {
		return expected{Refusals: []int{404}, Why: where + " is not open"}
	}
	if s == just {
		return expected{Refusals: []int{401, 403, 404}, Why: where + " was open a moment ago"}
	}
	out := expected{
		In: w.holds(q.Token, roleName, start, end), Refusals: []int{401, 403},
		Backend: p.rule.Service, Paths: p.rewritten(q.path()),
		Why:       fmt.Sprintf("%s is open for role %s", where, roleName),
		Undecided: "at an instant of the token",
	}
	if s == closing {
		out.Undecided = "at a deadline"
		out.In = out.In.and(maybe)
		out.Refusals = append(out.Refusals, 404, 503, 504)
		out.Why = where + " is about to close"
	}
	return out
}
