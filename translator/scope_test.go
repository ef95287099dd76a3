package translator

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// Each least-privilege rule refuses the route that breaks it, says how to mend it
// and which field relaxes it, and is relaxed by that field alone.
func TestEachScopeRuleIsStrictUntilItIsRelaxedByName(t *testing.T) {
	match := func(r *gwv1.HTTPRoute) *gwv1.HTTPRouteMatch { return &r.Spec.Rules[0].Matches[0] }
	path := func(kind gwv1.PathMatchType, value string) func(*gwv1.HTTPRoute) {
		return func(r *gwv1.HTTPRoute) { match(r).Path = &gwv1.HTTPPathMatch{Type: &kind, Value: &value} }
	}
	for _, c := range []struct {
		name, field, relaxedBy string
		breaks                 func(*gwv1.HTTPRoute)
		relax                  func(*v1alpha1.Scope)
	}{
		{"a wildcard hostname", "spec.hostnames[0]", "scope.allowWildcardHostnames",
			func(r *gwv1.HTTPRoute) { r.Spec.Hostnames = []gwv1.Hostname{"*.example.com"} },
			func(s *v1alpha1.Scope) { s.AllowWildcardHostnames = true }},
		{"no hostname", "spec.hostnames", "scope.allowWildcardHostnames",
			func(r *gwv1.HTTPRoute) { r.Spec.Hostnames = nil },
			func(s *v1alpha1.Scope) { s.AllowWildcardHostnames = true }},
		{"every path", "spec.rules[0].matches[0].path", "scope.allowCatchAllPath",
			path(gwv1.PathMatchPathPrefix, "/"), func(s *v1alpha1.Scope) { s.AllowCatchAllPath = true }},
		{"every path, in two slashes", "spec.rules[0].matches[0].path", "scope.allowCatchAllPath",
			path(gwv1.PathMatchPathPrefix, "//"), func(s *v1alpha1.Scope) { s.AllowCatchAllPath = true }},
		{"every path, as an expression", "spec.rules[0].matches[0].path", "scope.allowCatchAllPath",
			path(gwv1.PathMatchRegularExpression, "/.*"), func(s *v1alpha1.Scope) { s.AllowCatchAllPath = true }},
		{"every path, unsaid", "spec.rules[0].matches[0].path", "scope.allowCatchAllPath",
			func(r *gwv1.HTTPRoute) { match(r).Path = nil }, func(s *v1alpha1.Scope) { s.AllowCatchAllPath = true }},
		{"every method", "spec.rules[0].matches[0].method", "scope.allowAnyMethod",
			func(r *gwv1.HTTPRoute) { match(r).Method = nil }, func(s *v1alpha1.Scope) { s.AllowAnyMethod = true }},
		{"no role", "metadata.labels", "scope.allowUnlabelled",
			func(r *gwv1.HTTPRoute) { r.Labels = nil }, func(s *v1alpha1.Scope) { s.AllowUnlabelled = true }},
		{"many rules", "spec.rules", "scope.maxRules",
			func(r *gwv1.HTTPRoute) {
				for len(r.Spec.Rules) < 9 {
					r.Spec.Rules = append(r.Spec.Rules, gwv1.HTTPRouteRule{Matches: r.Spec.Rules[0].Matches})
				}
			},
			func(s *v1alpha1.Scope) { s.MaxRules = ptr(int32(16)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			judge := func(change ...func(*v1alpha1.Scope)) (metav1.Condition, v1alpha1.Phase) {
				in := load(t, "testdata/httproute-live/in.yaml", epoch)
				c.breaks(in.HTTPRoutes[key("db")])
				for _, f := range change {
					f(&in.Policies["emergency"].Spec.Scope)
				}
				out := settle(t, in, nil)
				checkLocked(t, out.Gateways[key("door")].Snapshot, epoch)
				return out.Statuses.Routes[routeKey("db")].Parents[0].Conditions[0], out.Statuses.Activations[key("inc-1")].Phase
			}
			others := func(s *v1alpha1.Scope) {
				*s = v1alpha1.Scope{AllowWildcardHostnames: true, AllowCatchAllPath: true, AllowAnyMethod: true, AllowUnlabelled: true, AllowPlainHTTP: true, MaxRules: ptr(int32(16))}
				strict := v1alpha1.Scope{}
				c.relax(&strict)
				s.AllowWildcardHostnames = s.AllowWildcardHostnames && !strict.AllowWildcardHostnames
				s.AllowCatchAllPath = s.AllowCatchAllPath && !strict.AllowCatchAllPath
				s.AllowAnyMethod = s.AllowAnyMethod && !strict.AllowAnyMethod
				s.AllowUnlabelled = s.AllowUnlabelled && !strict.AllowUnlabelled
				if strict.MaxRules != nil {
					s.MaxRules = nil
				}
			}
			for name, change := range map[string][]func(*v1alpha1.Scope){"strict": nil, "all others relaxed": {others}} {
				accepted, phase := judge(change...)
				if accepted.Status != metav1.ConditionFalse || accepted.Reason != "ScopeViolation" || phase == v1alpha1.PhaseLive ||
					!strings.HasPrefix(accepted.Message, c.field+":") || !strings.Contains(accepted.Message, c.relaxedBy+" of EmergencyPolicy emergency") {
					t.Errorf("%s: activation %s, %+v", name, phase, accepted)
				}
			}
			if accepted, phase := judge(c.relax); accepted.Status != metav1.ConditionTrue || phase != v1alpha1.PhaseLive {
				t.Errorf("relaxed: activation %s, %+v", phase, accepted)
			}
		})
	}
}
