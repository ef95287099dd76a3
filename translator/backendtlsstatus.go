package translator

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/compare"
)

// writeTLSPolicyStatuses writes those that may be others now: of policies that are
// others, and of those that target a Service of which something is.
func (s *state) writeTLSPolicyStatuses() {
	look := map[types.NamespacedName]*tlsPolicy{}
	for svc := range s.tls.look {
		for _, p := range s.tls.byService[svc] {
			look[p.key] = p
		}
	}
	copied := false
	for key, p := range look {
		if st := s.tlsPolicyStatus(p); len(st.Ancestors) > 0 {
			edit(&s.tls.told, &copied)[key] = st
		} else if _, there := s.tls.told[key]; there {
			delete(edit(&s.tls.told, &copied), key)
		}
	}
	for key := range compare.Keys(s.was.BackendTLSPolicies, s.in.BackendTLSPolicies) {
		if _, there := s.tls.told[key]; there && look[key] == nil {
			delete(edit(&s.tls.told, &copied), key) // gone, or it targets nothing any more
		}
	}
	s.tls.look = nil
	if s.tls.told == nil {
		s.tls.told = map[types.NamespacedName]gwv1.PolicyStatus{}
	}
	s.out.Statuses.BackendTLSPolicies = s.tls.told
}

// maxAncestors is as many as the status of a policy holds.
const maxAncestors = 16

// tlsPolicyStatus has an ancestor for each Gateway that reaches what the policy
// targets.
func (s *state) tlsPolicyStatus(p *tlsPolicy) gwv1.PolicyStatus {
	reached := map[*gateway][]string{} // what is wrong, by Gateway
	reasons := map[*gateway]gwv1.PolicyConditionReason{}
	for _, t := range p.targets() {
		svc := types.NamespacedName{Namespace: p.key.Namespace, Name: string(t.Name)}
		reason, why := s.targetProblem(p, svc, section(t))
		for _, g := range s.gatewaysOf(svc) {
			reached[g] = append(reached[g], why...)
			if len(why) > 0 && reasons[g] == "" {
				reasons[g] = reason
			}
		}
	}
	var out gwv1.PolicyStatus
	for _, g := range s.gateways {
		wrong, is := reached[g]
		if !is || len(out.Ancestors) == maxAncestors {
			continue
		}
		accepted := p.accepted
		if accepted.ok() && len(wrong) > 0 {
			accepted = no(policyAccepted, string(reasons[g]), strings.Join(wrong, "; "))
		}
		out.Ancestors = append(out.Ancestors, gwv1.PolicyAncestorStatus{
			AncestorRef: gwv1.ParentReference{
				Group: ptr(gwv1.Group(gwv1.GroupName)), Kind: ptr(gwv1.Kind("Gateway")),
				Namespace: ptr(gwv1.Namespace(g.key.Namespace)), Name: gwv1.ObjectName(g.key.Name),
			},
			ControllerName: v1alpha1.ControllerName,
			Conditions:     conditionsAt(p.obj.Generation, accepted, p.resolved),
		})
	}
	slices.SortFunc(out.Ancestors, func(a, b gwv1.PolicyAncestorStatus) int {
		return cmp.Or(cmp.Compare(*a.AncestorRef.Namespace, *b.AncestorRef.Namespace), cmp.Compare(a.AncestorRef.Name, b.AncestorRef.Name))
	})
	return out
}

// targetProblem says why a policy does not count for one of its targets.
func (s *state) targetProblem(p *tlsPolicy, svc types.NamespacedName, sectionName string) (gwv1.PolicyConditionReason, []string) {
	obj := s.in.Services[svc]
	switch {
	case obj == nil:
		return gwv1.PolicyReasonTargetNotFound, []string{fmt.Sprintf("Service %s does not exist", svc)}
	case !hasPort(obj, sectionName):
		return gwv1.PolicyReasonTargetNotFound, []string{noPort(obj, sectionName).Error()}
	}
	if w := s.winner(svc, sectionName); w != p {
		what := "Service " + svc.String()
		if sectionName != "" {
			what = fmt.Sprintf("port %s of %s", sectionName, what)
		}
		return gwv1.PolicyReasonConflicted, []string{fmt.Sprintf("BackendTLSPolicy %s, which is older or first by name, says how to reach %s", w.key, what)}
	}
	return "", nil
}

// lookAt has the policies of a Service looked at: what they say of it, or who
// reaches it, may be something else now.
func (s *state) lookAt(service types.NamespacedName) {
	if s.tls.look == nil {
		s.tls.look = map[types.NamespacedName]bool{}
	}
	s.tls.look[service] = true
}

// gatewaysOf are those that serve a route that names a Service.
func (s *state) gatewaysOf(svc types.NamespacedName) []*gateway {
	var out []*gateway
	for key := range s.users[svc] {
		for _, p := range s.routes[key].parents {
			if p.accepted.ok() && !slices.Contains(out, p.gateway) {
				out = append(out, p.gateway)
			}
		}
	}
	return out
}
