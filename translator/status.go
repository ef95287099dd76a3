package translator

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

func (s *state) writeStatuses() {
	for name, p := range s.policies {
		s.out.Statuses.Policies[name] = p.status(s.in.AuditFailing)
	}
	for name, c := range s.classes {
		s.out.Statuses.GatewayClasses[name] = gwv1.GatewayClassStatus{Conditions: conditionsAt(c.obj.Generation, c.cond)}
	}
	for _, g := range s.gateways {
		s.out.Statuses.Gateways[g.key] = s.gatewayStatus(g)
	}
	for key, r := range s.routes {
		s.out.Statuses.HTTPRoutes[key] = s.routeStatus(r)
	}
}

func (p *policy) status(auditFailing string) v1alpha1.EmergencyPolicyStatus {
	accepted := yes(v1alpha1.ConditionAccepted, "Accepted")
	switch {
	case p.obj.Spec.Suspended:
		accepted.message = "suspended: nothing is open and nothing can be opened"
	case auditFailing != "" && p.obj.Spec.Audit.OnFailure == v1alpha1.AuditDegrade:
		accepted.message = "the audit log cannot be kept, so nothing new opens; what is open stays open (audit.onFailure Degrade): " + auditFailing
	case auditFailing != "":
		accepted.message = "the audit log cannot be kept, so nothing is open (audit.onFailure Refuse): " + auditFailing
	}
	refs := yes(v1alpha1.ConditionResolvedRefs, "ResolvedRefs")
	if m := p.problem(); m != "" {
		refs = no(v1alpha1.ConditionResolvedRefs, "NoUsableKeys", m)
	}
	return v1alpha1.EmergencyPolicyStatus{Conditions: conditionsAt(p.obj.Generation, accepted, refs)}
}

func (s *state) gatewayStatus(g *gateway) gwv1.GatewayStatus {
	out := gwv1.GatewayStatus{}
	all := g.accepted
	programmed := yes(string(gwv1.GatewayConditionProgrammed), string(gwv1.GatewayReasonProgrammed))
	for _, a := range g.addresses {
		out.Addresses = append(out.Addresses, gwv1.GatewayStatusAddress{Type: ptr(gwv1.IPAddressType), Value: a})
	}
	for _, l := range g.listeners {
		ls, why := s.listenerStatus(l)
		out.Listeners = append(out.Listeners, ls)
		if why != "" && programmed.ok() {
			programmed = no(programmed.kind, string(gwv1.GatewayReasonPending), fmt.Sprintf("listener %s: %s", l.spec.Name, why))
		}
		if all.ok() && (!l.accepted.ok() || l.conflicted.ok()) {
			all.reason = string(gwv1.GatewayReasonListenersNotValid)
			all.message = fmt.Sprintf("listener %s is not accepted", l.spec.Name)
		}
	}
	// Envoy asks for the token filter when it has a listener.
	if ok, why := s.programmed(g, snapshot.Key{Type: snapshot.ExtensionConfig, Name: lock.JWTResource}); !ok && programmed.ok() {
		programmed = no(programmed.kind, string(gwv1.GatewayReasonPending), why)
	}
	if !g.accepted.ok() {
		programmed = no(programmed.kind, string(gwv1.GatewayReasonInvalid), g.accepted.message)
	}
	out.Conditions = conditionsAt(g.obj.Generation, all, programmed)
	return out
}

// listenerStatus also says why the listener is not programmed, if it is not.
func (s *state) listenerStatus(l *listener) (gwv1.ListenerStatus, string) {
	programmed := yes(string(gwv1.ListenerConditionProgrammed), string(gwv1.ListenerReasonProgrammed))
	var complaint string
	if !l.serving() {
		programmed = no(programmed.kind, string(gwv1.ListenerReasonInvalid), "see the other conditions")
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
		Conditions:     conditionsAt(l.gateway.obj.Generation, l.accepted, l.conflicted, l.resolved, programmed),
	}, complaint
}

// listens reports whether Envoy has the listener and its certificates.
func (s *state) listens(l *listener) (bool, string) {
	keys := []snapshot.Key{{Type: snapshot.Listener, Name: lock.ListenerName(int32(l.spec.Port))}}
	for _, sec := range l.secrets {
		keys = append(keys, snapshot.Key{Type: snapshot.Secret, Name: sec.name})
	}
	for _, k := range keys {
		if ok, why := s.programmed(l.gateway, k); !ok {
			return false, why
		}
	}
	return true, ""
}

func (s *state) routeStatus(r *route) gwv1.HTTPRouteStatus {
	out := gwv1.HTTPRouteStatus{}
	live := s.routeLive(r)
	for _, p := range r.parents {
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
				ref := ru.spec.BackendRefs[i]
				namespace := r.key.Namespace
				if ref.Namespace != nil {
					namespace = string(*ref.Namespace)
				}
				out = append(out, fmt.Sprintf("spec.rules[%d].backendRefs[%d]: Service %s/%s has no ready endpoint: it answers 503", ru.index, i, namespace, ref.Name))
			}
		}
	}
	out = append(out, s.shadows[r.key]...)
	slices.Sort(out)
	return strings.Join(slices.Compact(out), "; ")
}

// routeLive says whether any rule of the route is served, and if none why.
func (s *state) routeLive(r *route) condition {
	dormant := no(v1alpha1.ConditionRouteLive, "Dormant", "no Activation is open for this route")
	for _, ru := range r.rules {
		wk := activation.WindowKey{Route: r.key, Rule: ru.key}
		w := s.plan.Windows[wk]
		if w == nil {
			continue
		}
		if ok, why := s.served(wk, w); !ok {
			dormant.reason, dormant.message = activation.ReasonOpening, why
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
		dormant.reason, dormant.message = b.Reason, b.Message
	}
	if why := s.excluded[r.key]; why != "" {
		dormant.reason, dormant.message = "RefusedByEnvoy", why
	}
	if b := r.decision.Blocked; b.Reason != "" {
		dormant.reason, dormant.message = b.Reason, b.Message
	}
	return dormant
}
