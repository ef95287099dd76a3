package activation

import (
	"time"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// Entitled says why the policy of a route does not let a role open it. Nil: it
// does. A route under no policy, or under two, is opened by nobody.
func Entitled(route *Route, role string) *Blocked {
	if len(route.Policies) != 1 {
		return &Blocked{ReasonNoPolicy, "the route is not under exactly one EmergencyPolicy"}
	}
	r := Record{Namespace: route.Key.Namespace, Spec: v1alpha1.ActivationSpec{Role: role}}
	return (&Plan{}).entitlement(r, route)
}

// Longest is the longest window that the policy allows this role.
func (p *Policy) Longest(role string, drill bool) time.Duration {
	asked := gwv1.Duration("24h") // more than any policy allows, or nothing would be cut
	return p.longest(&v1alpha1.ActivationSpec{Duration: &asked, Drill: drill}, p.role(role))
}
