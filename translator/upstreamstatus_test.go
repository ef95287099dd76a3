package translator

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	asked "github.com/breakglass-gateway/breakglass-gateway/test/upstream"
)

// unresolved are upstream's tests with a backendRef that leads nowhere, and why.
var unresolved = map[string]gwv1.RouteConditionReason{
	"invalid-backendref-unknown-kind":               gwv1.RouteReasonInvalidKind,
	"invalid-nonexistent-backendref":                gwv1.RouteReasonBackendNotFound,
	"invalid-cross-namespace-backend-ref":           gwv1.RouteReasonRefNotPermitted,
	"invalid-reference-grant":                       gwv1.RouteReasonRefNotPermitted,
	"partially-invalid-via-invalid-reference-grant": gwv1.RouteReasonRefNotPermitted,
}

// What upstream's helpers ask of the status of any route: group and kind of the
// parent, both conditions whatever the other says, and the generation on all.
func TestUpstreamsRoutesHaveTheStatusThatTheyExpect(t *testing.T) {
	tests, err := asked.Tests()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, test := range tests {
		if unresolved[test.Name] != "" {
			found++
		}
		t.Run(test.Name, func(t *testing.T) {
			in, _ := upstreamWorld(t, test)
			for _, r := range in.HTTPRoutes {
				r.Generation = 7
			}
			out := settle(t, in, nil)
			for key, r := range in.HTTPRoutes {
				parents := out.Statuses.Routes[activation.HTTPRoute(key)].Parents
				if len(parents) != len(r.Spec.ParentRefs) {
					t.Fatalf("%s has %d parents: %+v", key, len(parents), parents)
				}
				for _, p := range parents {
					if p.ParentRef.Group == nil || p.ParentRef.Kind == nil {
						t.Errorf("%s: %+v", key, p.ParentRef)
					}
					checkRouteConditions(t, test.Name, key.Name, p.Conditions)
				}
			}
		})
	}
	if found != len(unresolved) {
		t.Errorf("%d tests of %d are there", found, len(unresolved))
	}
}

func checkRouteConditions(t *testing.T, test, route string, conditions []metav1.Condition) {
	t.Helper()
	want := map[string]string{"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs"}
	if reason := unresolved[test]; reason != "" {
		want["ResolvedRefs"] = "False " + string(reason)
	}
	if route == "no-intersecting-hosts" {
		want["Accepted"] = "False NoMatchingListenerHostname"
	}
	got := map[string]string{}
	for _, c := range conditions {
		if c.ObservedGeneration != 7 {
			t.Errorf("%s: %s is of generation %d", route, c.Type, c.ObservedGeneration)
		}
		got[c.Type] = string(c.Status) + " " + c.Reason
	}
	for kind, w := range want {
		if got[kind] != w {
			t.Errorf("%s: %s is %q, want %q", route, kind, got[kind], w)
		}
	}
}
