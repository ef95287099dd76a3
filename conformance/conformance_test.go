// Package conformance runs the upstream conformance suite of the Gateway API, unmodified, on a release of our chart, with
// the locks on: see docs/conformance.md. What is here does what an operator does, and carries tokens.
//
// `make conformance` starts a cluster for it; the suite runs in the network namespace of the node.
package conformance

import (
	"flag"
	"testing"

	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/utils/roundtripper"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

var claim = flag.String("claim", "", "claim `all` features of GATEWAY-HTTP and GATEWAY-GRPC, whatever the GatewayClass says")

// The namespaces of the suite that are there before the release: the chart wants those that it reads Secrets in. The
// suite's own manifests apply them again.
var namespaces = []string{suite.InfrastructureNamespace, suite.AppBackendNamespace, suite.WebBackendNamespace}

// optIn is the label of a namespace that may have emergency routes: the suite puts it on those that it makes.
const optIn = "breakglass.dev/emergency-routes"

func TestConformance(t *testing.T) {
	o := conformance.DefaultOptions(t)
	o.NamespaceLabels = map[string]string{optIn: "allowed"}
	if *claim == "all" && len(o.SupportedFeatures) == 0 {
		o.SupportedFeatures = everything()
	}
	people := newIssuer(t)
	install(t, o.Client, people)

	seen := happening
	o.Hook = seen.result
	o.RoundTripper = &roundTripper{next: &roundtripper.DefaultRoundTripper{Debug: o.Debug, TimeoutConfig: o.TimeoutConfig}, tokens: people, seen: seen}
	o.GRPCClient = &grpcClient{tokens: people, seen: seen}
	o.WebSocketDialer = &webSocketDialer{tokens: people, seen: seen, met: map[string]error{}}
	if *locked {
		people.none = true
	} else {
		operate(t, o.RestConfig)
	}
	conformance.RunConformanceWithOptions(t, o)
}

// everything is what the profiles that we are for consist of.
func everything() []features.FeatureName {
	names := sets.New[features.FeatureName]()
	for _, p := range []suite.ConformanceProfile{suite.GatewayHTTPConformanceProfile, suite.GatewayGRPCConformanceProfile} {
		names = names.Union(p.CoreFeatures).Union(p.ExtendedFeatures)
	}
	return sets.List(names)
}
