package translator

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

func (s *state) writeStatuses() {
	st := &s.out.Statuses
	st.Policies = make(map[string]v1alpha1.EmergencyPolicyStatus, len(s.policies))
	st.GatewayClasses = make(map[string]gwv1.GatewayClassStatus, len(s.classes))
	st.Gateways = make(map[types.NamespacedName]gwv1.GatewayStatus, len(s.gateways))
	for name, p := range s.policies {
		st.Policies[name] = p.status(&s.in)
	}
	for name, c := range s.classes {
		st.GatewayClasses[name] = gwv1.GatewayClassStatus{Conditions: conditionsAt(c.obj.Generation, c.cond), SupportedFeatures: supportedFeatures}
	}
	for _, g := range s.gateways {
		st.Gateways[g.key] = s.gatewayStatus(g)
	}
	st.ListenerSets = make(map[types.NamespacedName]gwv1.ListenerSetStatus, len(s.sets))
	for key, set := range s.sets {
		st.ListenerSets[key] = s.setStatus(set)
	}
	s.writeRouteStatuses()
	s.writeTLSPolicyStatuses()
}

// writeRouteStatuses writes those that may be others now: of routes that were
// resolved anew, and of those that are or were more than dormant.
func (s *state) writeRouteStatuses() {
	look := s.touched
	for _, keys := range []iter.Seq[activation.RouteKey]{maps.Keys(s.lively), maps.Keys(s.excluded), maps.Keys(s.plan.Withheld)} {
		for key := range keys {
			look[key] = true
		}
	}
	for wk := range s.plan.Windows {
		look[wk.Route] = true
	}
	s.lively = map[activation.RouteKey]bool{}
	copied := false
	for key := range look {
		r := s.routes[key]
		if r == nil {
			if _, there := s.known[key]; there {
				delete(edit(&s.known, &copied), key)
			}
			continue
		}
		was := r.live
		if r.live = s.routeLive(r); r.live.reason != dormant {
			s.lively[key] = true
		}
		if r.live != was {
			edit(&s.known, &copied)[key] = routeStatus(r)
		}
	}
	if s.known == nil {
		s.known = map[activation.RouteKey]gwv1.RouteStatus{}
	}
	s.out.Statuses.Routes = s.known
}

func (p *policy) status(in *Input) v1alpha1.EmergencyPolicyStatus {
	accepted := yes(v1alpha1.ConditionAccepted, "Accepted")
	switch {
	case p.obj.Spec.Suspended:
		accepted.message = "suspended: nothing is open and nothing can be opened"
	case in.AuditFailing != "" && p.obj.Spec.Audit.OnFailure == v1alpha1.AuditDegrade:
		accepted.message = "the audit log cannot be kept, so nothing new opens; what is open stays open (audit.onFailure Degrade): " + in.AuditFailing
	case in.AuditFailing != "":
		accepted.message = "the audit log cannot be kept, so nothing is open (audit.onFailure Refuse): " + in.AuditFailing
	case in.AuditPending != "":
		accepted.message = "nothing new opens yet; what is open stays open: " + in.AuditPending
	}
	refs := yes(v1alpha1.ConditionResolvedRefs, "ResolvedRefs")
	if m := p.problem(); m != "" {
		refs = no(v1alpha1.ConditionResolvedRefs, "NoUsableKeys", m)
	}
	conditions := []condition{accepted, refs}
	if in.NobodyIsTold != "" {
		conditions = append(conditions, no(v1alpha1.ConditionAlarmsDelivered, "NobodyIsTold", in.NobodyIsTold))
	}
	return v1alpha1.EmergencyPolicyStatus{Conditions: conditionsAt(p.obj.Generation, conditions...)}
}

func (s *state) gatewayStatus(g *gateway) gwv1.GatewayStatus {
	out := gwv1.GatewayStatus{AttachedListenerSets: s.attachedSets(g)}
	if c := s.in.Cluster; c != nil {
		out.Addresses = c.Addresses[g.key]
	} else {
		for _, a := range g.addresses {
			out.Addresses = append(out.Addresses, gwv1.GatewayStatusAddress{Type: ptr(gwv1.IPAddressType), Value: a})
		}
	}
	var pending, invalid string // the first of each
	for _, l := range g.listeners {
		if l.set != nil {
			continue // its set tells
		}
		ls, why := s.listenerStatus(l)
		out.Listeners = append(out.Listeners, ls)
		switch {
		case why == "":
		case l.serving():
			pending = cmp.Or(pending, fmt.Sprintf("listener %s: %s", l.spec.Name, why))
		default:
			invalid = cmp.Or(invalid, fmt.Sprintf("listener %s: %s", l.spec.Name, why))
		}
	}
	// Envoy asks for the token filter when it has a listener.
	if ok, why := s.programmed(g, snapshot.Key{Type: snapshot.ExtensionConfig, Name: lock.JWTResource}); !ok {
		pending = cmp.Or(pending, why)
	}
	not := func(reason gwv1.GatewayConditionReason, message string) condition {
		return no(string(gwv1.GatewayConditionProgrammed), string(reason), message)
	}
	// What is said of a listener that is not served is said there: the others are.
	programmed := s.reachable(g)
	switch {
	case !g.accepted.ok():
		programmed = not(gwv1.GatewayReasonInvalid, g.accepted.message)
	case !slices.ContainsFunc(g.listeners, (*listener).serving):
		programmed = not(gwv1.GatewayReasonInvalid, invalid)
	case !programmed.ok():
	case pending != "":
		programmed = not(unprogrammed(pending), pending)
	}
	out.Conditions = conditionsAt(g.obj.Generation, g.acceptance(), programmed, g.refs())
	if g.insecureFrontend() {
		out.Conditions = append(out.Conditions, condition{kind: string(gwv1.GatewayConditionInsecureFrontendValidationMode), status: metav1.ConditionTrue,
			reason:  string(gwv1.GatewayReasonConfigurationChanged),
			message: "spec.tls.frontend: with mode AllowInsecureFallback a client needs no certificate and may show any: only its token says who it is"}.at(g.obj.Generation))
	}
	return out
}

// acceptance of a Gateway depends on its listeners too: one that is valid is enough.
func (g *gateway) acceptance() condition {
	all := g.accepted
	var good, bad []string
	others := false // those of its sets
	for _, l := range g.listeners {
		if l.set != nil {
			others = others || l.accepted.ok() && !l.conflicted.ok()
			continue
		}
		if l.accepted.ok() && !l.conflicted.ok() {
			good = append(good, string(l.spec.Name))
		} else {
			bad = append(bad, string(l.spec.Name))
		}
	}
	if !all.ok() || len(bad) == 0 {
		return all
	}
	if all.reason = string(gwv1.GatewayReasonListenersNotValid); len(good) == 0 && !others {
		return no(all.kind, all.reason, fmt.Sprintf("no listener is accepted: their own conditions say why (%s)", strings.Join(bad, ", ")))
	}
	all.message = fmt.Sprintf("not accepted, as their own conditions say: %s; accepted: %s", strings.Join(bad, ", "), strings.Join(good, ", "))
	return all
}

// listenerStatus also says why the listener is not programmed, if it is not.
func (s *state) listenerStatus(l *listener) (gwv1.ListenerStatus, string) {
	programmed := yes(string(gwv1.ListenerConditionProgrammed), string(gwv1.ListenerReasonProgrammed))
	var complaint string
	if !l.serving() {
		programmed = no(programmed.kind, string(gwv1.ListenerReasonInvalid), "see the other conditions")
		if l.conflicted.ok() {
			programmed.reason = l.conflicted.reason
		}
		complaint = programmed.message
		for _, c := range []condition{l.accepted, l.conflicted, l.resolved} {
			if c.ok() == (c.kind == conflicted) && c.message != "" {
				complaint = c.message
				break
			}
		}
	} else if ok, why := s.listens(l); !ok {
		programmed = no(programmed.kind, string(gwv1.ListenerReasonPending), why)
		complaint = why
	}
	return gwv1.ListenerStatus{
		Name:           l.spec.Name,
		SupportedKinds: l.supported,
		AttachedRoutes: l.attached,
		Conditions:     conditionsAt(l.generation(), append([]condition{l.accepted, l.conflicted, l.resolved, programmed}, l.overlapping()...)...),
	}, complaint
}

// listens reports whether Envoy has the listener, its certificates and the authorities
// of its clients.
func (s *state) listens(l *listener) (bool, string) {
	keys := []snapshot.Key{{Type: snapshot.Listener, Name: lock.ListenerName(int32(l.spec.Port))}}
	for _, sec := range l.secrets {
		keys = append(keys, snapshot.Key{Type: snapshot.Secret, Name: sec.name})
	}
	if l.clients != nil {
		keys = append(keys, snapshot.Key{Type: snapshot.Secret, Name: l.clients.Authorities})
	}
	for _, k := range keys {
		if ok, why := s.programmed(l.gateway, k); !ok {
			return false, why
		}
	}
	return true, ""
}

func routeStatus(r *route) gwv1.RouteStatus {
	out := gwv1.RouteStatus{}
	for _, p := range r.parents {
		live := r.live
		if !p.accepted.ok() && live.ok() { // at another parent
			live = no(live.kind, "RouteNotAccepted", p.accepted.message)
		}
		out.Parents = append(out.Parents, gwv1.RouteParentStatus{
			ParentRef:      p.ref,
			ControllerName: v1alpha1.ControllerName,
			Conditions:     conditionsAt(r.obj.Generation, p.accepted, r.resolved, live),
		})
	}
	return out
}

// remarks are what somebody who meets no good answer should know of an open
// route.
func (s *state) remarks(r *route) string {
	var out []string
	for _, ru := range r.rules {
		if _, open := s.plan.Windows[activation.WindowKey{Route: r.key, Rule: ru.key}]; !open {
			continue
		}
		for i, b := range ru.backends {
			if b.weight > 0 && len(b.Endpoints) == 0 && !b.broken {
				out = append(out, fmt.Sprintf("spec.rules[%d].backendRefs[%d]: Service %s has no ready endpoint: it answers 503", ru.index, i, r.serviceKey(ru.spec.BackendRefs[i].BackendObjectReference)))
			}
		}
		for _, m := range ru.mirrors {
			if len(m.Endpoints) == 0 && !m.broken {
				out = append(out, fmt.Sprintf("spec.rules[%d].filters[%d]: Service %s has no ready endpoint: nothing is mirrored", ru.index, m.index, r.serviceKey(m.ref)))
			}
		}
	}
	out = append(out, r.shadows()...)
	slices.Sort(out)
	return strings.Join(slices.Compact(out), "; ")
}

// dormant is the reason of a route that nothing is said of.
const dormant = "Dormant"

// routeLive says whether any rule of the route is served, and if none why.
func (s *state) routeLive(r *route) condition {
	still := no(v1alpha1.ConditionRouteLive, dormant, "no Activation is open for this route")
	for _, ru := range r.rules {
		wk := activation.WindowKey{Route: r.key, Rule: ru.key}
		w := s.plan.Windows[wk]
		if w == nil {
			continue
		}
		if ok, why := s.served(wk, w); !ok {
			still.reason, still.message = activation.ReasonOpening, why
			continue
		}
		live := condition{v1alpha1.ConditionRouteLive, metav1.ConditionTrue, "Live",
			fmt.Sprintf("open for role %s until %s", w.Role.Name, w.Deadline.UTC().Format(lock.DeadlineLayout))}
		if but := s.remarks(r); but != "" {
			live.message += "; " + but
		}
		return live
	}
	if b, withheld := s.plan.Withheld[r.key]; withheld {
		still.reason, still.message = b.Reason, b.Message
	}
	if why := s.excluded[r.key]; why != "" {
		still.reason, still.message = "RefusedByEnvoy", why
	}
	if b := r.decision.Blocked; b.Reason != "" {
		still.reason, still.message = b.Reason, b.Message
	}
	return still
}

// edit returns a map that may be changed: the first time it is copied, because it
// was published.
func edit[K comparable, V any](m *map[K]V, copied *bool) map[K]V {
	if !*copied {
		*copied = true
		if *m = maps.Clone(*m); *m == nil {
			*m = map[K]V{}
		}
	}
	return *m
}
