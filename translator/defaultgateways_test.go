package translator

import (
	"testing"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

func TestARouteThatAsksForDefaultGatewaysIsRefused(t *testing.T) {
	for scope, why := range map[gwv1.GatewayDefaultScope]string{
		"": "open for role db", gwv1.GatewayDefaultScopeNone: "open for role db", gwv1.GatewayDefaultScopeAll: "spec.useDefaultGateways",
	} {
		in := inCluster(t)
		in.HTTPRoutes[key("db")].Spec.UseDefaultGateways = scope
		wantOpen(t, in, scope != gwv1.GatewayDefaultScopeAll, why)
	}
}
