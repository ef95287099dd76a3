package translator

import (
	"slices"
	"testing"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/features"
)

func TestAGatewayClassTellsOfFeaturesThatTheGatewayAPIKnows(t *testing.T) {
	in := inCluster(t)
	told := settle(t, in, nil).Statuses.GatewayClasses["emergency"].SupportedFeatures
	known := map[gwv1.FeatureName]bool{}
	for f := range features.AllFeatures {
		known[gwv1.FeatureName(f.Name)] = true
	}
	for i, f := range told {
		if !known[f.Name] {
			t.Errorf("%s: the Gateway API has no such feature", f.Name)
		}
		if i > 0 && told[i-1].Name >= f.Name {
			t.Errorf("%s is not in order, or there twice", f.Name)
		}
	}
	if len(told) > 64 {
		t.Errorf("%d features: the API server takes 64", len(told))
	}
	for _, f := range []gwv1.FeatureName{"Gateway", "HTTPRoute", "ReferenceGrant"} {
		if !slices.Contains(told, gwv1.SupportedFeature{Name: f}) {
			t.Errorf("%s is missing: without it the conformance suite asks for nothing", f)
		}
	}
}

// TestWhatCannotCarryAnIdentityIsNotClaimed: these would be doors without a lock.
func TestWhatCannotCarryAnIdentityIsNotClaimed(t *testing.T) {
	for _, f := range supported {
		switch f {
		case features.SupportTLSRoute, features.SupportTLSRouteModeMixed, features.SupportTLSRouteModeTerminate, features.SupportTCPRoute, features.SupportUDPRoute, features.SupportMesh:
			t.Errorf("%s is claimed", f)
		}
	}
}
