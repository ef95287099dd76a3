//go:build envoy

package serve

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/internal/echo"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// filtered opens a route with filters, in flow style, and returns its host.
func filtered(filters string) string {
	GinkgoHelper()
	name := shared.Unique()
	route := testbed.Route{Name: name, Rules: []testbed.Rule{{
		Matches: []string{testbed.Match("GET", "PathPrefix", "/api", "")}, Extra: "filters: [" + filters + "]",
	}}}.YAML()
	if strings.Contains(filters, "RequestRedirect") { // which has no backend
		route = strings.Replace(route, ", backendRefs: [{name: echo, port: 80}]", "", 1)
	}
	shared.Write(name+"-route.yaml", route)
	shared.Activate(testbed.Activation{Name: name, Routes: []string{name}, Duration: "30m"})
	return testbed.Host(name)
}

// saw is what the backend saw of a request with a good token.
func saw(host, path string) echo.Request {
	GinkgoHelper()
	r := shared.H1().Get(host, path, shared.Token())
	Expect(r).To(haveStatus(200))
	var seen echo.Request
	Expect(json.Unmarshal([]byte(r.Body), &seen)).To(Succeed())
	return seen
}

var _ = Describe("A filter", func() {
	It("that redirects does so only for who may come in", func() {
		host := filtered("{type: RequestRedirect, requestRedirect: {hostname: elsewhere.example.test, statusCode: 302}}")
		Expect(shared.H1().Get(host, "/api/x", "")).To(haveStatus(401))
		Expect(shared.H1().Get(host, "/api/x", shared.Issuer.Token("web"))).To(haveStatus(403))
		r := shared.H1().Get(host, "/api/x", shared.Token())
		Expect(r).To(haveStatus(302))
		Expect(r.Header.Get("Location")).To(ContainSubstring("elsewhere.example.test"))
	})

	It("that redirects stays on the port of its listener", func() {
		host := filtered("{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}")
		for location, c := range map[string]*testbed.Client{
			fmt.Sprintf("http://%s:%d/new/x?q=1", host, shared.HTTP):   shared.H1(),
			fmt.Sprintf("https://%s:%d/new/x?q=1", host, shared.HTTPS): shared.TLS2(),
		} {
			r := c.Get(host, "/api/x?q=1", shared.Token())
			Expect(r).To(haveStatus(302))
			Expect(r.Header.Get("Location")).To(Equal(location))
			Expect(c.Get(host+":7", "/api/x?q=1", shared.Token()).Header.Get("Location")).To(Equal(location), "with a port in the host")
		}
	})

	It("that redirects to https goes to its port, whatever port the request has in its host", func() {
		host := filtered("{type: RequestRedirect, requestRedirect: {scheme: https}}")
		for _, port := range []string{"", ":80", ":7"} {
			Expect(shared.H1().Get(host+port, "/api/x", shared.Token()).Header.Get("Location")).To(Equal("https://"+host+"/api/x"), port)
		}
	})

	It("that redirects ends at the deadline, although serve was killed a second before", func() {
		w := testbed.New()
		w.Start()
		route := testbed.Route{Name: "away", Rules: []testbed.Rule{{
			Matches: []string{testbed.Match("GET", "PathPrefix", "/api", "")}, Extra: "filters: [{type: RequestRedirect, requestRedirect: {hostname: elsewhere.example.test}}]",
		}}}.YAML()
		w.Write("away-route.yaml", strings.Replace(route, ", backendRefs: [{name: echo, port: 80}]", "", 1))
		w.Activate(testbed.Activation{Name: "away", Routes: []string{"away"}, Duration: "3s"})
		w.AwaitPhase("away", "Live")
		deadline := w.Deadline("away")
		p := w.H1().Probe(testbed.Request{Host: testbed.Host("away"), Path: "/api/x", Token: w.Token()}, time.Millisecond)
		testbed.WaitUntil(deadline.Add(-time.Second))
		w.KillServe()
		testbed.WaitUntil(deadline.Add(300 * time.Millisecond))
		samples := p.Stop()
		onlyStatuses(samples, 302, 403, 404)
		last, some := testbed.LastWith(samples, 302)
		Expect(some).To(BeTrue())
		notAfter(last.Start, deadline, late)
		Expect(samples[len(samples)-1]).To(haveStatus(403, 404))
	})

	It("that rewrites the path tells the backend nothing of Envoy", func() {
		host := filtered("{type: URLRewrite, urlRewrite: {hostname: inner.test, path: {type: ReplacePrefixMatch, replacePrefixMatch: /inner}}}")
		seen := saw(host, "/api/x")
		Expect(seen.Path).To(Equal("/inner/x"))
		Expect(seen.Host).To(Equal("inner.test"))
		for name := range seen.Headers {
			Expect(strings.ToLower(name)).NotTo(HavePrefix("x-envoy-"))
		}
	})

	It("that sets a header takes no command of Envoy's in its value", func() {
		value := "%REQ(AUTHORIZATION)% %DYNAMIC_METADATA(envoy.filters.http.jwt_authn:jwt)% %CEL(request.time)% 100%"
		host := filtered("{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: '" + value + "'}]}}")
		Expect(saw(host, "/api/x").Headers).To(HaveKeyWithValue("X-Set", []string{value}))
	})

	DescribeTable("that touches what the locks are made of refuses its route, and names the header", func(filter string) {
		for _, header := range []string{"x-envoy-upstream-stream-duration-ms", "X-Envoy-Retry-On", "Authorization", "x-breakglass-scope", "Host"} {
			name := shared.Unique()
			shared.Write(name+".yaml", testbed.Route{Name: name, Rules: []testbed.Rule{{
				Matches: []string{testbed.Match("GET", "PathPrefix", "/api", "")}, Extra: "filters: [" + strings.ReplaceAll(filter, "HEADER", header) + "]",
			}}}.YAML(), testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"}.YAML())
			Eventually(told(shared)).Should(Or(line("route "+name, "accepted false", header), line("problem", name+".yaml", header)), header)
			Expect(shared.H1().Get(testbed.Host(name), "/api/x", shared.Token())).To(haveStatus(404))
		}
	},
		Entry("by setting it", "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: HEADER, value: '0'}]}}"),
		Entry("by adding to it", "{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: HEADER, value: '0'}]}}"),
		Entry("by removing it", "{type: RequestHeaderModifier, requestHeaderModifier: {remove: [HEADER]}}"),
	)

	It("that is not known refuses its route, and says which are", func() {
		name := shared.Unique()
		shared.Write(name+".yaml", testbed.Route{Name: name, Rules: []testbed.Rule{{
			Matches: []string{testbed.Match("GET", "PathPrefix", "/api", "")}, Extra: "filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: Filter, name: any}}]",
		}}}.YAML(), testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"}.YAML())
		Eventually(told(shared)).Should(line("route "+name, "accepted false", "ExtensionRef", "URLRewrite"))
		Eventually(told(shared)).Should(line("activation "+name, "ExtensionRef"))
		Expect(shared.H1().Get(testbed.Host(name), "/api/x", shared.Token())).To(haveStatus(404))
	})
})

var _ = Describe("A backend that speaks HTTP/2", Ordered, ContinueOnFailure, func() {
	host := testbed.Host("h2c")
	BeforeAll(func() {
		service := strings.Replace(testbed.Service("h2c", shared.Backend.Port()), "port: 80}", "port: 80, appProtocol: kubernetes.io/h2c}", 1)
		rules := []testbed.Rule{{Service: "h2c", Matches: []string{testbed.Match("GET", "PathPrefix", "/api", ""), testbed.Match("POST", "PathPrefix", "/api", "")}}}
		shared.Write("h2c-routes.yaml", service, testbed.Route{Name: "h2c", Rules: rules}.YAML(), testbed.Route{Name: "h2c-other", Rules: rules}.YAML())
		shared.Activate(testbed.Activation{Name: "h2c-other", Routes: []string{"h2c-other"}, Duration: "30m"})
	})

	It("sees no token either, and loses its streams at the deadline, but not those of another route", func() {
		deadline := shared.Activate(testbed.Activation{Name: "h2c", Routes: []string{"h2c"}, Duration: "3s"})
		Expect(saw(host, "/api/x")).To(And(HaveField("Proto", "HTTP/2.0"), HaveField("Headers", Not(HaveKey("Authorization")))))
		other := shared.TLS2().Events("another route's", testbed.Host("h2c-other"), "/api/stream", shared.Token())
		streams := []*testbed.Stream{
			shared.H1().Events("events over HTTP/1.1", host, "/api/stream", shared.Token()),
			shared.TLS2().Events("events over HTTP/2", host, "/api/stream", shared.Token()),
			shared.Upload(shared.H2C(), host, "/api/upload", shared.Token()),
		}
		for _, s := range streams {
			cutAt("stream at the deadline, HTTP/2 backend", s, deadline, late)
		}
		bystanders{other}.undisturbed()
	})

	It("keeps the stream of one token when that of another on the same connection ends", func() {
		client := shared.TLS2()
		long := client.Events("the long token's", testbed.Host("h2c-other"), "/api/stream", shared.Token())
		exp, token := shortToken(shared)
		short := client.Events("the short token's", testbed.Host("h2c-other"), "/api/stream", token)
		Expect(short.SharesConnection(long)).To(BeTrue())
		cutAt("stream at its token's exp, HTTP/2 backend", short, exp, late)
		bystanders{long}.undisturbed()
	})
})
