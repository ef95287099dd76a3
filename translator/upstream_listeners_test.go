package translator

import (
	"fmt"
	"strings"
	"testing"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
)

// gatewayYAML makes a Gateway of listeners in flow style.
func gatewayYAML(name string, listeners ...string) string {
	out := fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: %s, namespace: INFRA}\nspec:\n  gatewayClassName: emergency\n  listeners:\n", name)
	for _, l := range listeners {
		out += "  - " + l + "\n"
	}
	return out + "---\n"
}

// routeYAML makes an HTTPRoute of one rule.
func routeYAML(name, parents, hostnames, path string) string {
	return fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: %s, namespace: INFRA}\nspec:\n  parentRefs: %s\n  hostnames: [%s]\n"+
		"  rules:\n  - matches: [{path: {type: PathPrefix, value: %s}}]\n    backendRefs: [{name: backend, port: 8080}]\n---\n", name, parents, hostnames, path)
}

// certificateYAML is a Secret with a pair of its own.
func certificateYAML(namespace, name string) string {
	s := testCertificate("example.org")
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n%s  tls.key: |\n%s---\n",
		name, namespace, indent(s.Data["tls.crt"]), indent(s.Data["tls.key"]))
}

func indent(text []byte) string {
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		out.WriteString("    " + line)
	}
	return out.String()
}

const tlsOptions = "protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}"

// GatewayHTTPListenerIsolation: a request is its listener's, and nobody else's.
func TestUpstreamARequestBelongsToItsListenerAlone(t *testing.T) {
	listeners := []string{
		"{name: empty-hostname, port: 80, protocol: HTTP}",
		"{name: wildcard-example-com, port: 80, protocol: HTTP, hostname: '*.example.com'}",
		"{name: wildcard-foo-example-com, port: 80, protocol: HTTP, hostname: '*.foo.example.com'}",
		"{name: abc-foo-example-com, port: 80, protocol: HTTP, hostname: abc.foo.example.com}",
	}
	hosts := map[string]string{
		"bar.com": "empty-hostname", "bar.example.com": "wildcard-example-com", "bar.foo.example.com": "wildcard-foo-example-com", "abc.foo.example.com": "abc-foo-example-com",
	}
	for name, hostnames := range map[string]string{
		"hostnames of listeners only": "",
		"hostnames of routes as well": "bar.com, '*.example.com', '*.foo.example.com', abc.foo.example.com",
	} {
		t.Run(name, func(t *testing.T) {
			manifests := gatewayYAML("isolation", listeners...)
			for _, l := range hosts {
				manifests += routeYAML("to-"+l, "[{name: isolation, sectionName: "+l+"}]", hostnames, "/"+l)
			}
			out := upstream(t, manifests)
			for host, own := range hosts {
				for _, l := range hosts {
					want := "404"
					if l == own {
						want = "to-" + l
					}
					if got := answer(t, out, "isolation", 80, "", host, "/"+l); got != want {
						t.Errorf("%s/%s: %s, want %s", host, l, got, want)
					}
				}
				if c, l := conditionsOf(t, out, "isolation", own); c["Programmed"] != "True Programmed" || l.AttachedRoutes != 1 {
					t.Errorf("listener %s: %v, %d routes", own, c, l.AttachedRoutes)
				}
			}
		})
	}
}

func httpsGateway() string {
	return certificateYAML(infra, "cert") + gatewayYAML("https",
		"{name: https, port: 443, "+tlsOptions+"}",
		"{name: https-with-hostname, port: 443, hostname: second-example.org, "+tlsOptions+"}",
		"{name: https-with-wildcard-hostname, port: 443, hostname: '*.wildcard.org', "+tlsOptions+"}",
		"{name: https-with-hostname-matching-wildcard, port: 443, hostname: fourth-example.wildcard.org, "+tlsOptions+"}")
}

// HTTPRouteHTTPSListenerDetectMisdirectedRequests.
func TestUpstreamARequestOnAnotherListenersConnectionIsMisdirected(t *testing.T) {
	out := upstream(t, httpsGateway()+
		routeYAML("test-1", "[{name: https, sectionName: https}]", "example.org", "/detect")+
		routeYAML("test-2", "[{name: https, sectionName: https-with-hostname}]", "", "/detect")+
		routeYAML("test-3", "[{name: https, sectionName: https-with-wildcard-hostname}]", "", "/detect")+
		routeYAML("test-4", "[{name: https, sectionName: https-with-hostname-matching-wildcard}]", "", "/detect"))
	for _, c := range []struct{ sni, host, want string }{
		{"example.org", "example.org", "test-1"},
		{"example.org", "second-example.org", "421"},
		{"example.org", "unknown-example.org", "404"},
		{"second-example.org", "second-example.org", "test-2"},
		{"second-example.org", "example.org", "421"},
		{"second-example.org", "unknown-example.org", "421"},
		{"third-example.wildcard.org", "third-example.wildcard.org", "test-3"},
		{"third-example.wildcard.org", "fith-example.wildcard.org", "test-3"},
		{"third-example.wildcard.org", "fourth-example.wildcard.org", "421"},
		{"third-example.wildcard.org", "second-example.org", "421"},
		{"third-example.wildcard.org", "unknown-example.org", "421"},
		{"fourth-example.wildcard.org", "fourth-example.wildcard.org", "test-4"},
		{"fourth-example.wildcard.org", "fith-example.wildcard.org", "421"},
		{"unknown-example.org", "example.org", "test-1"},
		{"unknown-example.org", "unknown-example.org", "404"},
		{"example.org", "a.wildcard.org", "421"},
	} {
		if got := answer(t, out, "https", 443, c.sni, c.host, "/detect"); got != c.want {
			t.Errorf("SNI %s, host %s: %s, want %s", c.sni, c.host, got, c.want)
		}
		if got := answer(t, out, "https", 443, c.sni, c.host, "/none"); c.want != "421" && got != "404" || c.want == "421" && got != "421" {
			t.Errorf("SNI %s, host %s, no route: %s", c.sni, c.host, got)
		}
	}
}

// Without a listener for all hosts nobody has what has no listener, and what
// nobody has is a 404. A route that a wider listener takes does not serve what
// another listener has.
func TestAHostOfNoListenerIsNotMisdirected(t *testing.T) {
	out := upstream(t, certificateYAML(infra, "cert")+gatewayYAML("https",
		"{name: exact, port: 443, hostname: a.example.org, "+tlsOptions+"}",
		"{name: wide, port: 443, hostname: '*.example.org', "+tlsOptions+"}",
		"{name: broken, port: 443, hostname: '*.b.example.org', protocol: HTTPS, tls: {certificateRefs: [{name: nope}]}}",
		"{name: other-port, port: 8443, "+tlsOptions+"}")+
		routeYAML("wide", "[{name: https, sectionName: wide}]", "'*.example.org', a.example.org, b.example.org, x.b.example.org", "/")+
		routeYAML("all", "[{name: https, sectionName: other-port}]", "", "/"))
	for _, c := range []struct {
		port      int32
		sni, host string
		want      string
	}{
		{443, "b.example.org", "b.example.org", "wide"},
		{443, "b.example.org", "c.example.org", "wide"},
		{443, "b.example.org", "a.example.org", "421"},
		{443, "b.example.org", "x.b.example.org", "421"}, // its listener is broken, and the wider one does not step in
		{443, "b.example.org", "example.org", "404"},
		{443, "b.example.org", "example.com", "404"},
		{443, "a.example.org", "a.example.org", "404"}, // its listener has no route
		{443, "a.example.org", "b.example.org", "421"},
		{443, "a.example.org", "example.com", "404"},
		{443, "example.com", "a.example.org", "no connection"},
		{8443, "a.example.org", "a.example.org", "all"},
	} {
		if got := answer(t, out, "https", c.port, c.sni, c.host, "/"); got != c.want {
			t.Errorf("port %d, SNI %s, host %s: %s, want %s", c.port, c.sni, c.host, got, c.want)
		}
	}
}

// Gateway API, OverlappingTLSConfig: it must be told, and never be False.
func TestListenersWhoseHostnamesOverlapSaySo(t *testing.T) {
	out := upstream(t, certificateYAML(infra, "cert")+gatewayYAML("https",
		"{name: a, port: 443, hostname: foo.example.com, "+tlsOptions+"}", "{name: b, port: 443, hostname: foo.example.org, "+tlsOptions+"}",
		"{name: c, port: 443, hostname: '*.example.com', "+tlsOptions+"}", "{name: d, port: 8443, "+tlsOptions+"}",
		"{name: e, port: 80, protocol: HTTP}", "{name: f, port: 80, protocol: HTTP, hostname: foo.example.com}"))
	for l, want := range map[string]string{"a": "True OverlappingHostnames", "b": "", "c": "True OverlappingHostnames", "d": "", "e": "", "f": ""} {
		if c, _ := conditionsOf(t, out, "https", l); c["OverlappingTLSConfig"] != want {
			t.Errorf("listener %s: %q, want %q", l, c["OverlappingTLSConfig"], want)
		}
	}
}

// HTTPRouteHTTPSListener, HTTPRouteListenerHostnameMatching,
// HTTPRouteHostnameIntersection, HTTPRouteListenerPortMatching.
func TestUpstreamHostnamesAndPortsOfListenersSelectRoutes(t *testing.T) {
	out := upstream(t, httpsGateway()+
		routeYAML("https-test", "[{name: https}]", "example.org", "/")+
		routeYAML("https-test-no-hostname", "[{name: https, sectionName: https-with-hostname}]", "", "/")+
		gatewayYAML("matching",
			"{name: listener-1, port: 80, protocol: HTTP, hostname: bar.com}", "{name: listener-2, port: 80, protocol: HTTP, hostname: foo.bar.com}",
			"{name: listener-3, port: 80, protocol: HTTP, hostname: '*.bar.com'}", "{name: listener-4, port: 80, protocol: HTTP, hostname: '*.foo.com'}")+
		routeYAML("backend-v1", "[{name: matching, sectionName: listener-1}]", "", "/")+
		routeYAML("backend-v2", "[{name: matching, sectionName: listener-2}]", "", "/")+
		routeYAML("backend-v3", "[{name: matching, sectionName: listener-3}, {name: matching, sectionName: listener-4}]", "", "/")+
		gatewayYAML("intersection",
			"{name: listener-1, port: 80, protocol: HTTP, hostname: very.specific.com}", "{name: listener-2, port: 80, protocol: HTTP, hostname: '*.wildcard.io'}",
			"{name: listener-3, port: 80, protocol: HTTP, hostname: '*.anotherwildcard.io'}")+
		routeYAML("s1", "[{name: intersection}]", "non.matching.com, '*.nonmatchingwildcard.io', very.specific.com", "/s1")+
		routeYAML("s2", "[{name: intersection}]", "non.matching.com, wildcard.io, foo.wildcard.io, bar.wildcard.io, foo.bar.wildcard.io", "/s2")+
		routeYAML("s3", "[{name: intersection}]", "non.matching.com, '*.specific.com'", "/s3")+
		routeYAML("s4", "[{name: intersection}]", "'*.anotherwildcard.io'", "/s4")+
		routeYAML("s5", "[{name: intersection}]", "specific.but.wrong.com, wildcard.io", "/s5")+
		gatewayYAML("ports",
			"{name: listener-1, port: 80, protocol: HTTP, hostname: foo.com}", "{name: listener-2, port: 8080, protocol: HTTP, hostname: foo.com}",
			"{name: listener-3, port: 8080, protocol: HTTP, hostname: bar.com}", "{name: listener-4, port: 8090, protocol: HTTP, hostname: foo.com}",
			"{name: listener-5, port: 8090, protocol: HTTP, hostname: bar.com}")+
		routeYAML("on-80", "[{name: ports, port: 80}]", "", "/")+routeYAML("on-8080", "[{name: ports, port: 8080}]", "", "/")+
		routeYAML("on-8090", "[{name: ports, port: 8090, sectionName: listener-4}]", "", "/"))
	for _, c := range []struct {
		gateway    string
		port       int32
		host, path string
		want       string
	}{
		{"https", 443, "example.org", "/", "https-test"}, {"https", 443, "unknown-example.org", "/", "404"}, {"https", 443, "second-example.org", "/", "https-test-no-hostname"},
		{"matching", 80, "bar.com", "/", "backend-v1"}, {"matching", 80, "foo.bar.com", "/", "backend-v2"}, {"matching", 80, "baz.bar.com", "/", "backend-v3"},
		{"matching", 80, "multiple.prefixes.bar.com", "/", "backend-v3"}, {"matching", 80, "multiple.prefixes.foo.com", "/", "backend-v3"},
		{"matching", 80, "foo.com", "/", "404"}, {"matching", 80, "no.matching.host", "/", "404"},
		{"intersection", 80, "very.specific.com", "/s1", "s1"}, {"intersection", 80, "non.matching.com", "/s1", "404"}, {"intersection", 80, "foo.nonmatchingwildcard.io", "/s1", "404"},
		{"intersection", 80, "foo.wildcard.io", "/s1", "404"}, {"intersection", 80, "very.specific.com", "/none", "404"},
		{"intersection", 80, "foo.wildcard.io", "/s2", "s2"}, {"intersection", 80, "foo.bar.wildcard.io", "/s2", "s2"}, {"intersection", 80, "wildcard.io", "/s2", "404"},
		{"intersection", 80, "very.specific.com", "/s3", "s3"}, {"intersection", 80, "foo.specific.com", "/s3", "404"},
		{"intersection", 80, "foo.anotherwildcard.io", "/s4", "s4"}, {"intersection", 80, "foo.bar.anotherwildcard.io", "/s4", "s4"}, {"intersection", 80, "anotherwildcard.io", "/s4", "404"},
		{"ports", 80, "foo.com", "/", "on-80"}, {"ports", 8080, "foo.com", "/", "on-8080"}, {"ports", 8080, "bar.com", "/", "on-8080"},
		{"ports", 8090, "foo.com", "/", "on-8090"}, {"ports", 8090, "bar.com", "/", "404"},
	} {
		if got := answer(t, out, c.gateway, c.port, c.host, c.host, c.path); got != c.want {
			t.Errorf("%s:%d %s%s: %s, want %s", c.gateway, c.port, c.host, c.path, got, c.want)
		}
	}
	if got := conditionMap(out.Statuses.Routes[activation.HTTPRoute(inInfra("s5"))].Parents[0].Conditions)["Accepted"]; got != "False NoMatchingListenerHostname" {
		t.Errorf("a route without a hostname in common: %s", got)
	}
	if _, l := conditionsOf(t, out, "intersection", "listener-1"); l.AttachedRoutes != 2 {
		t.Errorf("listener-1 counts %d routes, want s1 and s3", l.AttachedRoutes)
	}
}

// HTTPRouteInvalidParentRef...: both sectionName and port must fit.
func TestUpstreamAParentRefThatFitsNoListenerAttachesNothing(t *testing.T) {
	for name, ref := range map[string]string{
		"port": "port: 81", "sectionName": "port: 80, sectionName: http1", "port of the section": "port: 81, sectionName: http",
	} {
		t.Run(name, func(t *testing.T) {
			out := upstream(t, gatewayYAML("one", "{name: http, port: 80, protocol: HTTP}")+routeYAML("r", "[{name: one, "+ref+"}]", "", "/"))
			parents := out.Statuses.Routes[activation.HTTPRoute(inInfra("r"))].Parents
			if c := conditionMap(parents[0].Conditions); len(parents) != 1 || c["Accepted"] != "False NoMatchingParent" || c["ResolvedRefs"] != "True ResolvedRefs" {
				t.Errorf("%v", c)
			}
			if _, l := conditionsOf(t, out, "one", "http"); l.AttachedRoutes != 0 {
				t.Errorf("%d routes", l.AttachedRoutes)
			}
		})
	}
}

// GatewayListenerUnsupportedProtocol, GatewayInvalidRouteKind,
// GatewayInvalidTLSConfiguration, GatewayWithAttachedRoutes and others: what a
// listener says of itself, and the Gateway of its listeners.
func TestUpstreamConditionsOfListeners(t *testing.T) {
	const valid = "{name: http, port: 80, protocol: HTTP}"
	tls := func(ref string) string {
		return "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [" + ref + "]}}"
	}
	grant := func(namespace, from, to string) string {
		return fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: grant, namespace: %s}\nspec: {from: [%s], to: [%s]}\n---\n", namespace, from, to)
	}
	const fromGateway, web = "{group: gateway.networking.k8s.io, kind: Gateway, namespace: INFRA}", "web"
	foreign := certificateYAML(web, "cert")
	malformed := "apiVersion: v1\nkind: Secret\nmetadata: {name: malformed, namespace: INFRA}\ntype: kubernetes.io/tls\ndata: {tls.crt: SGVsbG8gd29ybGQK, tls.key: SGVsbG8gd29ybGQK}\n---\n"
	for _, c := range []struct {
		name, more         string
		listeners          []string
		of                 string // the listener
		kinds              string
		conditions         string
		gateway, attaching string
	}{
		{name: "an unsupported protocol alone", listeners: []string{"{name: invalid, port: 1111, protocol: INVALID}"}, of: "invalid",
			conditions: "Accepted False UnsupportedProtocol, Programmed False Invalid, Conflicted False NoConflicts",
			gateway:    "Accepted False ListenersNotValid, Programmed False Invalid"},
		{name: "an unsupported protocol beside a valid listener", listeners: []string{valid, "{name: invalid, port: 1111, protocol: INVALID}"}, of: "invalid",
			conditions: "Accepted False UnsupportedProtocol, Programmed False Invalid",
			gateway:    "Accepted True ListenersNotValid, Programmed True Programmed"},
		{name: "a valid listener beside an unsupported protocol", listeners: []string{valid, "{name: invalid, port: 1111, protocol: INVALID}"}, of: "http", kinds: "HTTPRoute GRPCRoute",
			conditions: "Accepted True Accepted, Programmed True Programmed"},
		{name: "TCP on the port of a valid listener", listeners: []string{valid, "{name: tcp, port: 80, protocol: TCP}"}, of: "http", kinds: "HTTPRoute GRPCRoute",
			conditions: "Accepted True Accepted, Programmed True Programmed, Conflicted False NoConflicts"},
		{name: "TCP itself", listeners: []string{"{name: tcp, port: 80, protocol: TCP}", valid}, of: "tcp",
			conditions: "Accepted False UnsupportedProtocol, Conflicted False NoConflicts"},
		{name: "HTTP and HTTPS on one port, the first", listeners: []string{valid, "{name: https, port: 80, " + tlsOptions + "}", "{name: other, port: 81, protocol: HTTP}"}, of: "http", kinds: "HTTPRoute GRPCRoute",
			conditions: "Accepted False ProtocolConflict, Programmed False ProtocolConflict, Conflicted True ProtocolConflict",
			gateway:    "Accepted True ListenersNotValid, Programmed True Programmed"},
		{name: "HTTP and HTTPS on one port, the second", listeners: []string{valid, "{name: https, port: 80, " + tlsOptions + "}"}, of: "https", kinds: "HTTPRoute GRPCRoute",
			conditions: "Accepted False ProtocolConflict, Programmed False ProtocolConflict, Conflicted True ProtocolConflict",
			gateway:    "Accepted False ListenersNotValid, Programmed False Invalid"},
		{name: "unknown route kinds only", listeners: []string{"{name: http, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: InvalidRoute}]}}"}, of: "http",
			conditions: "ResolvedRefs False InvalidRouteKinds"},
		{name: "an unknown route kind beside HTTPRoute", listeners: []string{"{name: http, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: InvalidRoute}, {kind: HTTPRoute}]}}"}, of: "http", kinds: "HTTPRoute",
			conditions: "ResolvedRefs False InvalidRouteKinds"},
		{name: "no such Secret", listeners: []string{tls("{name: nope}")}, of: "https", kinds: "HTTPRoute GRPCRoute",
			conditions: "Accepted True Accepted, ResolvedRefs False InvalidCertificateRef, Programmed False Invalid"},
		{name: "another group", listeners: []string{tls("{name: cert, group: wrong.group.company.io}")}, of: "https", kinds: "HTTPRoute GRPCRoute", conditions: "ResolvedRefs False InvalidCertificateRef"},
		{name: "another kind", listeners: []string{tls("{name: cert, kind: WrongKind}")}, of: "https", kinds: "HTTPRoute GRPCRoute", conditions: "ResolvedRefs False InvalidCertificateRef"},
		{name: "a malformed Secret", listeners: []string{tls("{name: malformed}")}, more: malformed, of: "https", kinds: "HTTPRoute GRPCRoute", conditions: "ResolvedRefs False InvalidCertificateRef"},
		{name: "a Secret of another namespace", listeners: []string{tls("{name: cert, namespace: web}")}, more: foreign, of: "https", kinds: "HTTPRoute GRPCRoute",
			conditions: "ResolvedRefs False RefNotPermitted, Programmed False Invalid"},
		{name: "a grant for another name", listeners: []string{tls("{name: cert, namespace: web}")}, more: foreign + grant(web, fromGateway, "{group: '', kind: Secret, name: other}"), of: "https", kinds: "HTTPRoute GRPCRoute",
			conditions: "ResolvedRefs False RefNotPermitted"},
		{name: "a grant for HTTPRoutes", listeners: []string{tls("{name: cert, namespace: web}")}, of: "https", kinds: "HTTPRoute GRPCRoute",
			more: foreign + grant(web, "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: INFRA}", "{group: '', kind: Secret}"), conditions: "ResolvedRefs False RefNotPermitted"},
		{name: "a grant elsewhere", listeners: []string{tls("{name: cert, namespace: web}")}, more: foreign + grant("app", fromGateway, "{group: '', kind: Secret}"), of: "https", kinds: "HTTPRoute GRPCRoute",
			conditions: "ResolvedRefs False RefNotPermitted"},
		{name: "a grant for the name", listeners: []string{tls("{name: cert, namespace: web}")}, more: foreign + grant(web, fromGateway, "{group: '', kind: Secret, name: cert}"), of: "https", kinds: "HTTPRoute GRPCRoute",
			conditions: "ResolvedRefs True ResolvedRefs, Programmed True Programmed"},
		{name: "a grant for all", listeners: []string{tls("{name: cert, namespace: web}")}, more: foreign + grant(web, fromGateway, "{group: '', kind: Secret}"), of: "https", kinds: "HTTPRoute GRPCRoute",
			conditions: "ResolvedRefs True ResolvedRefs, Programmed True Programmed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := upstream(t, certificateYAML(infra, "cert")+c.more+gatewayYAML("one", c.listeners...))
			got, l := conditionsOf(t, out, "one", c.of)
			wantConditions(t, got, c.conditions)
			var kinds []string
			for _, k := range l.SupportedKinds {
				if *k.Group != gwv1.GroupName {
					t.Errorf("group %s", *k.Group)
				}
				kinds = append(kinds, string(k.Kind))
			}
			if got := strings.Join(kinds, " "); got != c.kinds {
				t.Errorf("supportedKinds %q, want %q", got, c.kinds)
			}
			st := out.Statuses.Gateways[inInfra("one")]
			wantConditions(t, conditionMap(st.Conditions), c.gateway)
			if len(st.Listeners) != len(c.listeners) {
				t.Errorf("%d listeners in the status", len(st.Listeners))
			}
		})
	}
}

func wantConditions(t *testing.T, got map[string]string, want string) {
	t.Helper()
	for _, w := range strings.Split(want, ", ") {
		if kind, is, _ := strings.Cut(w, " "); w != "" && got[kind] != is {
			t.Errorf("%s is %q, want %q", kind, got[kind], is)
		}
	}
}

// GatewayWithAttachedRoutes, GatewayWithAttachedRoutesWithPort8080: what counts is
// accepted, whatever becomes of the listener, and is counted once.
func TestUpstreamAttachedRoutesAreCounted(t *testing.T) {
	out := upstream(t, gatewayYAML("two", "{name: http, port: 80, protocol: HTTP, hostname: foo.example.com, allowedRoutes: {kinds: [{kind: HTTPRoute}]}}")+
		routeYAML("route-2", "[{name: two}]", "", "/")+routeYAML("route-3", "[{name: two}]", "", "/")+routeYAML("not-accepted", "[{name: two}]", "not-accepted.test.com", "/")+
		gatewayYAML("unresolved", "{name: tls, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: does-not-exist}]}}")+
		strings.Replace(routeYAML("route-4", "[{name: unresolved, sectionName: tls}]", "", "/"), "name: backend", "name: does-not-exist", 1)+
		gatewayYAML("with-8080", "{name: http-unattached, port: 8080, protocol: HTTP}", "{name: http, port: 80, protocol: HTTP}")+
		routeYAML("route-5", "[{name: with-8080, sectionName: http}]", "", "/"), func(in *Input) {
		r := in.HTTPRoutes[inInfra("route-3")]
		r.Spec.ParentRefs = append(r.Spec.ParentRefs, gwv1.ParentReference{Name: "two", SectionName: ptr(gwv1.SectionName("http"))})
	})
	for _, c := range []struct {
		gateway, listener string
		routes            int32
	}{{"two", "http", 2}, {"unresolved", "tls", 1}, {"with-8080", "http", 1}, {"with-8080", "http-unattached", 0}} {
		if _, l := conditionsOf(t, out, c.gateway, c.listener); l.AttachedRoutes != c.routes {
			t.Errorf("%s of %s counts %d routes, want %d", c.listener, c.gateway, l.AttachedRoutes, c.routes)
		}
	}
	if got := conditionMap(out.Statuses.Routes[activation.HTTPRoute(inInfra("route-4"))].Parents[0].Conditions)["ResolvedRefs"]; !strings.HasPrefix(got, "False") {
		t.Errorf("route-4: ResolvedRefs %s", got)
	}
	c, _ := conditionsOf(t, out, "unresolved", "tls")
	wantConditions(t, c, "Programmed False Invalid, ResolvedRefs False InvalidCertificateRef")
}

// GatewayModifyListeners, GatewayObservedGenerationBump.
func TestUpstreamListenersComeAndGo(t *testing.T) {
	manifests := certificateYAML(infra, "cert") + gatewayYAML("one", "{name: https, port: 443, hostname: secure.test.com, "+tlsOptions+"}", "{name: http, port: 80, protocol: HTTP, hostname: data.test.com}") +
		routeYAML("r", "[{name: one}]", "", "/")
	both := upstream(t, manifests)
	for _, l := range []string{"https", "http"} {
		c, st := conditionsOf(t, both, "one", l)
		wantConditions(t, c, "Accepted True Accepted, ResolvedRefs True ResolvedRefs, Programmed True Programmed")
		if st.AttachedRoutes != 1 {
			t.Errorf("%s counts %d routes", l, st.AttachedRoutes)
		}
	}
	one := upstream(t, manifests, func(in *Input) {
		g := in.Gateways[inInfra("one")]
		g.Generation, g.Spec.Listeners = 7, g.Spec.Listeners[1:]
	})
	st := one.Statuses.Gateways[inInfra("one")]
	if len(st.Listeners) != 1 || st.Listeners[0].Name != "http" || st.Listeners[0].AttachedRoutes != 1 {
		t.Errorf("%+v", st.Listeners)
	}
	for _, c := range append(st.Conditions, st.Listeners[0].Conditions...) {
		if c.ObservedGeneration != 7 {
			t.Errorf("%s is of generation %d", c.Type, c.ObservedGeneration)
		}
	}
	if got := answer(t, one, "one", 443, "secure.test.com", "secure.test.com", "/"); got != "no connection" {
		t.Errorf("the listener that is gone: %s", got)
	}
}

// Listeners of two objects: the one of the lower rank has the port, and what has lost it
// takes it from nobody.
func TestAListenerOfALowerRankKeepsItsPort(t *testing.T) {
	g := &gateway{}
	add := func(rank int, name string, port gwv1.PortNumber, protocol gwv1.ProtocolType, hostname string) *listener {
		l := &listener{gateway: g, rank: rank, hostname: hostname, spec: &gwv1.Listener{Name: gwv1.SectionName(name), Port: port, Protocol: protocol}}
		l.accepted, l.conflicted = yes(accepted, "Accepted"), no(conflicted, "NoConflicts", "")
		if !l.carriesHTTP() {
			l.accepted = no(accepted, "UnsupportedProtocol", "")
		}
		g.listeners = append(g.listeners, l)
		return l
	}
	wants := map[*listener]string{
		add(0, "a", 80, "HTTP", "a.com"): "NoConflicts",
		add(0, "b", 81, "HTTP", "a.com"): "NoConflicts",
		add(1, "c", 80, "HTTP", "c.com"): "NoConflicts",
		add(1, "d", 80, "HTTP", "a.com"): "HostnameConflict",
		add(1, "e", 80, "TCP", ""):       "ProtocolConflict",
		add(1, "f", 82, "HTTP", "f.com"): "ProtocolConflict",
		add(1, "g", 82, "HTTPS", "g.co"): "ProtocolConflict",
		add(2, "h", 82, "HTTPS", "h.co"): "NoConflicts",
		add(2, "i", 80, "HTTP", "c.com"): "HostnameConflict",
		add(2, "j", 83, "TCP", ""):       "NoConflicts",
		add(3, "k", 83, "HTTP", ""):      "NoConflicts",
	}
	conflicts(g.listeners)
	for l, want := range wants {
		if l.conflicted.reason != want || l.conflicted.ok() != (want != "NoConflicts") || l.conflicted.ok() && (l.accepted.ok() || l.accepted.reason != want) {
			t.Errorf("%s: %+v, %+v, want %s", l.spec.Name, l.conflicted, l.accepted, want)
		}
	}
}
