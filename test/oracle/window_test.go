//go:build envoy

package oracle

import (
	"cmp"
	"reflect"
	"slices"
	"time"
)

// This file says what opens and until when: README, "What to know at 3 a.m.", and
// the comments of EmergencyPolicy and Activation.

// accepted reports whether the policy's scope lets the route be. One that is not
// accepted keeps its place, closed.
func (w *world) accepted(r *route) bool {
	s := w.Policy.Scope
	if !s.Unlabelled && r.Label == "" {
		return false
	}
	if !s.Wildcards && (len(r.Hosts) == 0 || slices.ContainsFunc(r.Hosts, func(h string) bool { return h[0] == '*' })) {
		return false
	}
	for _, ru := range r.Rules {
		for _, m := range ru.Matches {
			if !s.AnyMethod && m.Method == "" || !s.CatchAll && m.Kind == "PathPrefix" && m.Path == "/" {
				return false
			}
		}
	}
	return len(w.served(r)) > 0
}

// served are the hostnames of the route on all listeners.
func (w *world) served(r *route) []string {
	var out []string
	for i := range w.Listeners {
		out = append(out, r.hostnames(&w.Listeners[i])...)
	}
	return out
}

// entitled reports whether the policy lets the role open the route at all.
func (w *world) entitled(roleName string, r *route) bool {
	ro := w.Policy.role(roleName)
	if ro == nil || r.Label != "" && r.Label != roleName {
		return false
	}
	if len(ro.Namespaces) > 0 && !slices.Contains(ro.Namespaces, r.Namespace) {
		return false
	}
	for _, host := range w.served(r) {
		if len(ro.Hostnames) > 0 && !slices.ContainsFunc(ro.Hostnames, func(h string) bool { return covers(h, host) }) {
			return false
		}
	}
	return true
}

// outcome of a target at a time.
type outcome int

const (
	refused outcome = iota
	pending
	opens
)

// see judges an activation that is seen now, and reports whether all of it opens.
func (w *world) see(a *act, now time.Time) bool {
	if !a.NotAfter.IsZero() && !now.Before(a.NotAfter) || w.Policy.Suspended {
		return false
	}
	w.part(a, a.Targets, now)
	return len(a.Open) == len(a.Targets)
}

// part judges targets of an activation: what can open is opened, the rest waits.
// If none ever opened and one must not, the activation is refused for good.
func (w *world) part(a *act, targets []target, now time.Time) {
	a.Wait = nil
	no := false
	for _, t := range targets {
		switch w.judge(a, t, now) {
		case opens:
			a.Open, a.Opened = append(a.Open, t), true
			continue
		case refused:
			no = true
		}
		a.Wait = append(a.Wait, t)
	}
	if no && !a.Opened {
		a.end()
	}
}

// mixed reports whether some of its targets would be refused now and others not.
// Nobody promises in which way that ends.
func (w *world) mixed(a *act, now time.Time) bool {
	seen := map[bool]bool{}
	for _, t := range a.Targets {
		seen[w.judge(a, t, now) == refused] = true
	}
	return len(seen) == 2
}

func (w *world) judge(a *act, t target, now time.Time) outcome {
	r := w.route(a.Namespace, t.Route)
	if r == nil || !w.accepted(r) {
		return pending
	}
	if t.Rule != "" && !slices.ContainsFunc(r.Rules, func(ru rule) bool { return ru.Name == t.Rule }) {
		return pending
	}
	if !w.entitled(a.Role, r) {
		return refused
	}
	if h := w.holder(a, t); h != nil && (h.Deadline.IsZero() || now.Before(h.Deadline)) {
		return refused // a second role
	}
	return opens
}

// holder is the last to close of those that hold a target's route for another role.
func (w *world) holder(a *act, t target) *act {
	var out *act
	for _, o := range w.Acts {
		if o != a && o.Role != a.Role && o.Namespace == a.Namespace && holds(o.Open, t.Route) && (out == nil || o.Deadline.After(out.Deadline)) {
			out = o
		}
	}
	return out
}

// hidden reports whether the gateway may not call the target live although it is
// open: some rule of it has only matches that other routes have too, so that
// perhaps nobody reaches it; or a narrower listener has one of its hostnames.
func (w *world) hidden(namespace string, t target) bool {
	r := w.route(namespace, t.Route)
	others := func(m match) bool {
		return slices.ContainsFunc(w.Routes, func(o *route) bool {
			return o != r && !o.Deleted && slices.ContainsFunc(o.Rules, func(ru rule) bool {
				return slices.ContainsFunc(ru.Matches, func(n match) bool { return reflect.DeepEqual(m, n) })
			})
		})
	}
	for _, ru := range r.Rules {
		if (t.Rule == "" || t.Rule == ru.Name) && !slices.ContainsFunc(ru.Matches, func(m match) bool { return !others(m) }) {
			return true
		}
	}
	return false
}

func holds(ts []target, routeName string) bool {
	return slices.ContainsFunc(ts, func(t target) bool { return t.Route == routeName })
}

// longest is what policy and role allow the activation now.
func (w *world) longest(a *act) time.Duration {
	d := min(cmp.Or(a.Duration, 15*time.Minute), w.Policy.Limit)
	if a.Drill {
		d = min(d, w.Policy.Drill)
	}
	if ro := w.Policy.role(a.Role); ro != nil && ro.Max > 0 {
		d = min(d, ro.Max)
	}
	return d
}

// between are the earliest and the latest that the deadline may be, given when
// the activation was seen. Nothing moves it later.
func (w *world) between(a *act) (earliest, latest time.Time) {
	a.Longest = min(cmp.Or(a.Longest, 24*time.Hour), w.longest(a))
	out := [2]time.Time{}
	for i, seen := range a.Seen {
		out[i] = seen.Add(a.Longest)
		if !a.NotAfter.IsZero() && a.NotAfter.Before(out[i]) {
			out[i] = a.NotAfter
		}
	}
	return out[0], out[1]
}

// close ends the targets for which is says so, for good.
func (a *act) close(is func(target) bool) { a.Open = slices.DeleteFunc(a.Open, is) }

// end of an activation, for good.
func (a *act) end() { a.Open, a.Wait = nil, nil }

// settle draws the consequences of a change, each in the order in which the
// activations were seen. What is open ends for good if the policy is suspended,
// its role may not open the route any more or the route is gone; what waits opens
// if nothing stands in its way any more.
func (w *world) settle(now time.Time) {
	for _, a := range w.Acts {
		if w.Policy.Suspended {
			a.end()
		}
		a.close(func(t target) bool {
			r := w.route(a.Namespace, t.Route)
			return r == nil || !w.entitled(a.Role, r)
		})
		if len(a.Wait) > 0 && (a.Deadline.IsZero() || now.Before(a.Deadline)) {
			w.part(a, a.Wait, now)
		}
	}
}

// state of a rule between two instants.
type state int

const (
	closed  state = iota
	just          // closed a moment ago: not withdrawn yet, perhaps
	closing       // too close to a deadline
	open
)

const (
	// Within these of a deadline, before and after, nothing is decided: the clock is
	// one, but a request takes a while.
	early = 20 * time.Millisecond
	late  = 10 * time.Millisecond
	// withdrawal: until then a window that is over may answer 403 in place of 404.
	withdrawal = 2 * time.Second
)

// state of the rule, from start to end; and the role for which it is open.
func (w *world) state(p *place, start, end time.Time) (state, string) {
	out, roleName := closed, ""
	if !w.accepted(p.route) {
		return closed, ""
	}
	for _, a := range w.Acts {
		if a.Namespace != p.route.Namespace {
			continue
		}
		is := func(t target) bool {
			return t.Route == p.route.Name && (t.Rule == "" || t.Rule == p.rule.Name)
		}
		s := closed
		switch {
		case start.After(a.Deadline.Add(late)):
			if start.Before(a.Deadline.Add(withdrawal)) {
				s = just
			}
		case slices.ContainsFunc(a.Open, is) && end.Before(a.Deadline.Add(-early)):
			s = open
		case slices.ContainsFunc(a.Open, is):
			s = closing
		}
		if s > out {
			out, roleName = s, a.Role
		}
	}
	return out, roleName
}
