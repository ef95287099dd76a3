package translator

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// TestTheConformanceSuitesGRPCRequestsFindTheirRule asks what the tests of the suite
// ask, of what their manifests are made into.
func TestTheConformanceSuitesGRPCRequestsFindTheirRule(t *testing.T) {
	const echo = "/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/"
	for _, c := range []struct {
		manifest, gateway, host, method string
		headers                         []string
		want                            string // of the name of the route; "" for a 404
	}{
		{"exact-method-matching", "", "", "Echo", nil, "exact-matching/#0"},
		{"exact-method-matching", "", "", "EchoTwo", nil, "exact-matching/#1"},
		{"exact-method-matching", "", "", "EchoThree", nil, ""},
		{"named-rule", "", "", "Echo", nil, "grpc-named-rules/named-rule"},
		{"named-rule", "", "", "EchoTwo", nil, "grpc-named-rules/#1"},
		{"header-matching", "", "", "Echo", []string{"version", "one"}, "grpc-header-matching/#0"},
		{"header-matching", "", "", "Echo", []string{"version", "two"}, "grpc-header-matching/#1"},
		{"header-matching", "", "", "Echo", []string{"version", "two", "color", "orange"}, "grpc-header-matching/#2"},
		{"header-matching", "", "", "Echo", []string{"color", "blue"}, "grpc-header-matching/#3"},
		{"header-matching", "", "", "Echo", []string{"color", "green"}, "grpc-header-matching/#3"},
		{"header-matching", "", "", "Echo", []string{"color", "red"}, "grpc-header-matching/#4"},
		{"header-matching", "", "", "Echo", []string{"color", "yellow"}, "grpc-header-matching/#4"},
		{"header-matching", "", "", "Echo", []string{"color", "purple"}, ""},
		{"header-matching", "", "", "Echo", nil, ""},
		{"listener-hostname-matching", "grpcroute-listener-hostname-matching", "bar.com", "Echo", nil, "backend-v1/#0"},
		{"listener-hostname-matching", "grpcroute-listener-hostname-matching", "foo.bar.com", "Echo", nil, "backend-v2/#0"},
		{"listener-hostname-matching", "grpcroute-listener-hostname-matching", "baz.bar.com", "Echo", nil, "backend-v3/#0"},
		{"listener-hostname-matching", "grpcroute-listener-hostname-matching", "boo.bar.com", "Echo", nil, "backend-v3/#0"},
		{"listener-hostname-matching", "grpcroute-listener-hostname-matching", "multiple.prefixes.bar.com", "Echo", nil, "backend-v3/#0"},
		{"listener-hostname-matching", "grpcroute-listener-hostname-matching", "multiple.prefixes.foo.com", "Echo", nil, "backend-v3/#0"},
		{"listener-hostname-matching", "grpcroute-listener-hostname-matching", "foo.com", "Echo", nil, ""},
		{"listener-hostname-matching", "grpcroute-listener-hostname-matching", "no.matching.host", "Echo", nil, ""},
		{"weight", "", "", "Echo", nil, "weighted-backends/#0"},
	} {
		out := settle(t, load(t, "testdata/grpcroute-"+c.manifest+"/in.yaml", epoch), nil)
		gateway := types.NamespacedName{Namespace: "gateway-conformance-infra", Name: "same-namespace"}
		if c.gateway != "" {
			gateway.Name = c.gateway
		}
		r := ask(t, out, gateway, grpcTo(c.host, echo+c.method, c.headers...))
		name, rest, _ := strings.Cut(strings.TrimPrefix(r.GetName(), "GRPCRoute gateway-conformance-infra/"), "/")
		rule, _, _ := strings.Cut(rest, "/")
		got := name + "/" + rule
		if r.GetDirectResponse().GetStatus() == 404 {
			got = ""
		}
		if got != c.want {
			t.Errorf("%s: %s %s %v goes to %q, want %q", c.manifest, c.host, c.method, c.headers, got, c.want)
		}
		if c.manifest == "weight" && shares(r) != "0:70 1:30" {
			t.Errorf("shares are %s", shares(r))
		}
	}
}

// grpcInput is one door with one open GRPCRoute that has these matches, a rule each.
func grpcInput(t testing.TB, matches ...gwv1.GRPCRouteMatch) *Input {
	in := load(t, "testdata/grpcroute-weight/in.yaml", epoch)
	r := in.GRPCRoutes[inSuite("weighted-backends")]
	rule := r.Spec.Rules[0]
	r.Spec.Rules = nil
	for _, m := range matches {
		next := rule
		next.Matches = []gwv1.GRPCRouteMatch{m}
		r.Spec.Rules = append(r.Spec.Rules, next)
	}
	return in
}

func inSuite(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "gateway-conformance-infra", Name: name}
}

func method(kind gwv1.GRPCMethodMatchType, service, method string, headers ...string) gwv1.GRPCRouteMatch {
	m := gwv1.GRPCRouteMatch{Method: &gwv1.GRPCMethodMatch{Type: &kind}}
	if service != "" {
		m.Method.Service = &service
	}
	if method != "" {
		m.Method.Method = &method
	}
	for _, h := range headers {
		m.Headers = append(m.Headers, gwv1.GRPCHeaderMatch{Name: gwv1.GRPCHeaderName(h), Value: "1"})
	}
	return m
}

const (
	exactly  = gwv1.GRPCMethodMatchExact
	regExpr  = gwv1.GRPCMethodMatchRegularExpression
	testHost = "any.example.com"
)

func ruleOf(r *routev3.Route) string {
	if r.GetDirectResponse() != nil {
		return ""
	}
	return strings.Split(r.GetName(), "/")[2]
}

func TestEachFormOfAMethodMatchFitsWhatItSays(t *testing.T) {
	for name, c := range map[string]struct {
		match gwv1.GRPCRouteMatch
		fits  []string
		not   []string
	}{
		"service and method":  {method(exactly, "a.B", "Get"), []string{"/a.B/Get"}, []string{"/a.B/GetAll", "/a.B/get", "/xa.B/Get", "/a.B", "/a.B/Get/x", "/aXB/Get"}},
		"service":             {method(exactly, "a.B", ""), []string{"/a.B/Get", "/a.B/Set"}, []string{"/a.Bc/Get", "/a/B/Get", "/x/a.B/Get"}},
		"method":              {method(exactly, "", "Get"), []string{"/a.B/Get", "/c/Get"}, []string{"/Get", "/a/b/Get", "/a.B/GetAll", "/a.B/Set"}},
		"none":                {gwv1.GRPCRouteMatch{}, []string{"/a.B/Get", "/c/D"}, nil},
		"both empty":          {method(exactly, "", ""), []string{"/a.B/Get", "/c/D"}, nil},
		"expressions":         {method(regExpr, `a\.(B|C)`, "Get|Set"), []string{"/a.B/Get", "/a.C/Set"}, []string{"/a.D/Get", "/a.B/GetAll", "/a.B", "/Set", "/a.B/Get/x"}},
		"service, expression": {method(regExpr, "a|b", ""), []string{"/a/Get", "/b/Set"}, []string{"/a", "/c/Get", "/a/b/c"}},
		"method, expression":  {method(regExpr, "", "G.*"), []string{"/a.B/Get", "/c/Go"}, []string{"/a/Set", "/Get"}},
	} {
		out := settle(t, grpcInput(t, c.match), nil)
		for _, path := range c.fits {
			if got := ruleOf(ask(t, out, inSuite("same-namespace"), grpcTo(testHost, path))); got != "#0" {
				t.Errorf("%s: %s does not reach the rule", name, path)
			}
		}
		for _, path := range c.not {
			if got := ruleOf(ask(t, out, inSuite("same-namespace"), grpcTo(testHost, path))); got != "" {
				t.Errorf("%s: %s reaches rule %s", name, path, got)
			}
		}
		// What is no gRPC request is none of a GRPCRoute's.
		for _, change := range []map[string]string{{"content-type": "application/json"}, {":method": "GET"}} {
			a := grpcTo(testHost, c.fits[0])
			maps.Copy(a.headers, change)
			if got := ruleOf(ask(t, out, inSuite("same-namespace"), a)); got != "" {
				t.Errorf("%s: %v reaches the rule", name, change)
			}
		}
	}
}

// TestTheLongestServiceComesFirst is GRPCRouteRule.matches: the characters of the
// service, those of the method, the number of headers, the order of the rules.
func TestTheLongestServiceComesFirst(t *testing.T) {
	header := gwv1.GRPCRouteMatch{Headers: []gwv1.GRPCHeaderMatch{{Name: "h", Value: "1"}}}
	all := []gwv1.GRPCRouteMatch{
		{}, header, method(exactly, "", "Get"), method(exactly, "", "Get", "h"), method(exactly, "a.B", ""), method(exactly, "a.B", "", "h"),
		method(exactly, "a.B", "Get"), method(exactly, "a.B", "Get", "h"), method(regExpr, "a.B", "Get"), method(regExpr, "aa.B+", ""),
	}
	for _, reversed := range []bool{false, true} {
		order, tie := slices.Clone(all), all[6] // of two that are alike the first rule
		if reversed {
			slices.Reverse(order)
			tie = all[8]
		}
		in := grpcInput(t, order...)
		in.Policies["emergency"].Spec.Scope.MaxRules = ptr(int32(16))
		out := settle(t, in, nil)
		for _, c := range []struct {
			path    string
			headers []string
			want    gwv1.GRPCRouteMatch
		}{
			{"/c/Set", nil, all[0]},
			{"/c/Set", []string{"h", "1"}, all[1]},
			{"/c/Get", nil, all[2]},
			{"/c/Get", []string{"h", "1"}, all[3]},
			{"/a.B/Set", nil, all[4]},
			{"/a.B/Set", []string{"h", "1"}, all[5]},
			{"/a.B/Get", nil, tie},
			{"/a.B/Get", []string{"h", "1"}, all[7]},
			{"/aaxBB/Get", []string{"h", "1"}, all[9]}, // the service is longer
		} {
			rule := ruleOf(ask(t, out, inSuite("same-namespace"), grpcTo(testHost, c.path, c.headers...)))
			if got := order[rule[1]-'0']; activation.Digest(got) != activation.Digest(c.want) {
				t.Errorf("reversed %t: %s %v belongs to %s", reversed, c.path, c.headers, toYAML(t, got))
			}
		}
	}
}

func TestOfTwoGRPCRoutesTheOlderComesFirst(t *testing.T) {
	in := grpcInput(t, method(exactly, "a.B", "Get"))
	older := in.GRPCRoutes[inSuite("weighted-backends")].DeepCopy()
	older.Name = "z"
	older.CreationTimestamp = metav1.NewTime(epoch.Add(-time.Hour))
	in.GRPCRoutes[inSuite("weighted-backends")].CreationTimestamp = metav1.NewTime(epoch)
	in.GRPCRoutes[inSuite("z")] = older
	out := settle(t, in, nil)
	if r := ask(t, out, inSuite("same-namespace"), grpcTo(testHost, "/a.B/Get")); r.GetName() != "GRPCRoute gateway-conformance-infra/z/#0/0" || r.GetDirectResponse().GetStatus() != 404 {
		t.Errorf("the match belongs to %s", r.GetName())
	}
}

func TestAGRPCRouteThatSaysWhatIsNotServedIsRefused(t *testing.T) {
	set := func(change func(*gwv1.GRPCRouteRule)) func(*gwv1.GRPCRoute) {
		return func(r *gwv1.GRPCRoute) { change(&r.Spec.Rules[0]) }
	}
	filter := func(f gwv1.GRPCRouteFilter) func(*gwv1.GRPCRoute) {
		return set(func(r *gwv1.GRPCRouteRule) { r.Filters = []gwv1.GRPCRouteFilter{f} })
	}
	matched := func(m gwv1.GRPCRouteMatch) func(*gwv1.GRPCRoute) {
		return set(func(r *gwv1.GRPCRouteRule) { r.Matches = []gwv1.GRPCRouteMatch{m} })
	}
	for _, c := range []struct {
		change func(*gwv1.GRPCRoute)
		says   string
	}{
		{filter(gwv1.GRPCRouteFilter{Type: gwv1.GRPCRouteFilterExtensionRef, ExtensionRef: &gwv1.LocalObjectReference{}}), "spec.rules[0].filters[0].type: ExtensionRef is not supported: supported are RequestHeaderModifier, ResponseHeaderModifier, RequestMirror"},
		{filter(gwv1.GRPCRouteFilter{Type: "RequestRedirect"}), "spec.rules[0].filters[0].type: RequestRedirect is not supported"},
		{filter(gwv1.GRPCRouteFilter{Type: gwv1.GRPCRouteFilterRequestHeaderModifier}), "spec.rules[0].filters[0].requestHeaderModifier: missing"},
		{filter(gwv1.GRPCRouteFilter{Type: gwv1.GRPCRouteFilterRequestHeaderModifier, RequestHeaderModifier: &gwv1.HTTPHeaderFilter{Remove: []string{"Authorization"}}}), "reserved"},
		{set(func(r *gwv1.GRPCRouteRule) { r.SessionPersistence = &gwv1.SessionPersistence{} }), "spec.rules[0].sessionPersistence is not supported"},
		{set(func(r *gwv1.GRPCRouteRule) {
			r.BackendRefs[1].Filters = []gwv1.GRPCRouteFilter{{Type: gwv1.GRPCRouteFilterExtensionRef}}
		}), "spec.rules[0].backendRefs[1].filters[0].type: ExtensionRef is not supported"},
		{matched(method(exactly, "a/b", "")), "spec.rules[0].matches[0].method.service: \"a/b\" is not the name of a service"},
		{matched(method(exactly, "", "Get/../Set")), "spec.rules[0].matches[0].method.method: "},
		{matched(method(regExpr, "a)|(b", "")), "spec.rules[0].matches[0].method.service: not an RE2 regular expression"},
		{matched(method(regExpr, "", "a{1001}")), "spec.rules[0].matches[0].method.method: not an RE2 regular expression"},
		{matched(gwv1.GRPCRouteMatch{Headers: []gwv1.GRPCHeaderMatch{{Name: "x-envoy-x", Value: "1"}}}), "spec.rules[0].matches[0].headers[0].name: "},
		{func(r *gwv1.GRPCRoute) { r.Spec.UseDefaultGateways = gwv1.GatewayDefaultScopeAll }, "spec.useDefaultGateways"},
	} {
		in := grpcInput(t, method(exactly, "a.B", "Get"))
		c.change(in.GRPCRoutes[inSuite("weighted-backends")])
		out := settle(t, in, nil)
		s := out.Statuses.Routes[activation.GRPCRoute(inSuite("weighted-backends"))].Parents[0].Conditions[0]
		if s.Status != metav1.ConditionFalse || s.Reason != string(gwv1.RouteReasonUnsupportedValue) || !strings.Contains(s.Message, c.says) {
			t.Errorf("%+v, want %q", s, c.says)
		}
		if p := out.Statuses.Activations[inSuite("open-weighted-backends")].Phase; p == v1alpha1.PhaseLive {
			t.Errorf("%s: open all the same", c.says)
		}
	}
}

func TestAGRPCRouteHasItsScopeRules(t *testing.T) {
	for _, c := range []struct {
		match gwv1.GRPCRouteMatch
		says  string
	}{
		{method(exactly, "a.B", "Get"), ""},
		{method(exactly, "a.B", ""), ""},
		{method(exactly, "", "Get"), ""},
		{gwv1.GRPCRouteMatch{}, "spec.rules[0].matches[0].method: covers every service and method"},
		{method(regExpr, ".*", ""), "spec.rules[0].matches[0].method: covers every service and method"},
		{method(regExpr, "[a-zA-Z0-9_.]+", "[a-zA-Z0-9_]+"), "spec.rules[0].matches[0].method: covers every service and method"},
		{method(regExpr, "[a-z.]+", ""), ""},
	} {
		in := grpcInput(t, c.match)
		scope := &in.Policies["emergency"].Spec.Scope
		scope.AllowCatchAllPath, scope.AllowAnyMethod = false, false
		out := settle(t, in, nil)
		s := out.Statuses.Routes[activation.GRPCRoute(inSuite("weighted-backends"))].Parents[0].Conditions[0]
		if (s.Status == metav1.ConditionTrue) != (c.says == "") || !strings.Contains(s.Message, c.says) {
			t.Errorf("%+v: %s %q, want %q", c.match, s.Status, s.Message, c.says)
		}
	}
}

func TestABackendOfAGRPCRouteThatIsMissingIsUnavailable(t *testing.T) {
	in := grpcInput(t, method(exactly, "a.B", "Get"))
	delete(in.Services, inSuite("grpc-infra-backend-v1"))
	out := settle(t, in, nil)
	r := ask(t, out, inSuite("same-namespace"), grpcTo(testHost, "/a.B/Get"))
	if code := r.GetRoute().GetClusterNotFoundResponseCode(); code != routev3.RouteAction_SERVICE_UNAVAILABLE || shares(r) != "none:70 1:30" {
		t.Errorf("its share is answered %s of %s", code, shares(r))
	}
	delete(in.Services, inSuite("grpc-infra-backend-v2"))
	r = ask(t, settle(t, in, nil), inSuite("same-namespace"), grpcTo(testHost, "/a.B/Get"))
	if got := r.GetDirectResponse().GetStatus(); got != 503 {
		t.Errorf("without any backend it answers %d", got)
	}
}

func TestTheBackendsOfAGRPCRouteSpeakHTTP2(t *testing.T) {
	in := grpcInput(t, method(exactly, "a.B", "Get"))
	for _, svc := range in.Services {
		svc.Spec.Ports[0].AppProtocol = nil
	}
	clusters := 0
	for r := range settle(t, in, nil).Gateways[inSuite("same-namespace")].Snapshot.All() {
		if r.Key.Type != snapshot.Cluster || !strings.HasPrefix(r.Key.Name, "open/") {
			continue
		}
		clusters++
		for _, any := range mustUnpack(t, r.Body, &clusterv3.Cluster{}).GetTypedExtensionProtocolOptions() {
			if mustUnpack(t, any, &httpv3.HttpProtocolOptions{}).GetExplicitHttpConfig().GetHttp2ProtocolOptions() == nil {
				t.Errorf("%s: %v", r.Key.Name, any)
			}
		}
	}
	if clusters != 3 {
		t.Errorf("%d clusters", clusters)
	}
}

func TestAReferenceGrantIsForOneKindOfRoute(t *testing.T) {
	for kind, resolved := range map[gwv1.Kind]bool{"GRPCRoute": true, "HTTPRoute": false} {
		in := grpcInput(t, method(exactly, "a.B", "Get"))
		for _, name := range []string{"grpc-infra-backend-v1", "grpc-infra-backend-v2", "grpc-infra-backend-v3"} {
			svc, slice := in.Services[inSuite(name)].DeepCopy(), in.EndpointSlices[inSuite(name)].DeepCopy()
			svc.Namespace, slice.Namespace = "other", "other"
			in.Services[types.NamespacedName{Namespace: "other", Name: name}] = svc
			in.EndpointSlices[types.NamespacedName{Namespace: "other", Name: name}] = slice
		}
		for i := range in.GRPCRoutes[inSuite("weighted-backends")].Spec.Rules[0].BackendRefs {
			in.GRPCRoutes[inSuite("weighted-backends")].Spec.Rules[0].BackendRefs[i].Namespace = ptr(gwv1.Namespace("other"))
		}
		in.ReferenceGrants = map[types.NamespacedName]*gwv1.ReferenceGrant{{Namespace: "other", Name: "g"}: {
			ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "g"},
			Spec: gwv1.ReferenceGrantSpec{
				From: []gwv1.ReferenceGrantFrom{{Group: gwv1.GroupName, Kind: kind, Namespace: "gateway-conformance-infra"}},
				To:   []gwv1.ReferenceGrantTo{{Kind: "Service"}},
			},
		}}
		out := settle(t, in, nil)
		c := out.Statuses.Routes[activation.GRPCRoute(inSuite("weighted-backends"))].Parents[0].Conditions[1]
		if (c.Status == metav1.ConditionTrue) != resolved {
			t.Errorf("a grant for %s: %+v", kind, c)
		}
	}
}

func TestAListenerTakesTheKindsThatItAllows(t *testing.T) {
	kind := func(names ...gwv1.Kind) (out []gwv1.RouteGroupKind) {
		for _, n := range names {
			out = append(out, gwv1.RouteGroupKind{Kind: n})
		}
		return out
	}
	for _, c := range []struct {
		allowed   []gwv1.RouteGroupKind
		attached  bool
		supported string
	}{
		{nil, true, "HTTPRoute GRPCRoute"},
		{kind("GRPCRoute"), true, "GRPCRoute"},
		{kind("HTTPRoute"), false, "HTTPRoute"},
		{kind("GRPCRoute", "TLSRoute", "HTTPRoute", "GRPCRoute"), true, "GRPCRoute HTTPRoute"},
		{kind("TLSRoute"), false, ""},
	} {
		in := grpcInput(t, method(exactly, "a.B", "Get"))
		in.Gateways[inSuite("same-namespace")].Spec.Listeners[0].AllowedRoutes.Kinds = c.allowed
		out := settle(t, in, nil)
		s := out.Statuses.Routes[activation.GRPCRoute(inSuite("weighted-backends"))].Parents[0].Conditions[0]
		if (s.Status == metav1.ConditionTrue) != c.attached || !c.attached && (s.Reason != string(gwv1.RouteReasonNotAllowedByListeners) || !strings.Contains(s.Message, "allows GRPCRoutes of namespace")) {
			t.Errorf("%v: %+v", c.allowed, s)
		}
		var names []string
		for _, k := range out.Statuses.Gateways[inSuite("same-namespace")].Listeners[0].SupportedKinds {
			names = append(names, string(k.Kind))
		}
		if got := strings.Join(names, " "); got != c.supported {
			t.Errorf("%v: supported are %q, want %q", c.allowed, got, c.supported)
		}
	}
}
