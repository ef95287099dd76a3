//go:build envoy

package serve

import (
	"net/http"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

const allowed = "https://console.example.test"

// corsRoute answers browsers of one origin.
func corsRoute(name string) string {
	return testbed.Route{Name: name, Rules: []testbed.Rule{{
		Matches: []string{"{path: {type: PathPrefix, value: /api}}"},
		Extra:   "filters: [{type: CORS, cors: {allowOrigins: ['" + allowed + "'], allowMethods: [GET, PUT], allowHeaders: [authorization]}}]",
	}}}.YAML()
}

// preflight is what a browser asks before a request to path.
func preflight(c *testbed.Client, host, path, origin string) testbed.Reply {
	return c.Do(testbed.Request{Method: http.MethodOptions, Host: host, Path: path, Header: http.Header{
		"Origin": {origin}, "Access-Control-Request-Method": {"PUT"}, "Access-Control-Request-Headers": {"authorization"},
	}})
}

// corsHeaders of a reply.
func corsHeaders(r testbed.Reply) []string {
	var out []string
	for name := range r.Header {
		if strings.HasPrefix(name, "Access-Control-") {
			out = append(out, name)
		}
	}
	return out
}

var _ = Describe("A browser", Ordered, func() {
	var w *testbed.World
	var c *testbed.Client
	BeforeAll(func() {
		w = testbed.New()
		w.Policy.Scope = "{allowAnyMethod: true}"
		w.WritePolicy()
		w.Write("routes.yaml", corsRoute("open"), corsRoute("dormant"), corsRoute("short"), testbed.Route{Name: "silent", Rules: []testbed.Rule{{
			Matches: []string{"{path: {type: PathPrefix, value: /api}}"},
		}}}.YAML())
		w.Start()
		c = w.TLS2()
		w.Activate(testbed.Activation{Name: "open", Routes: []string{"open", "silent"}, Duration: "30m"})
	})

	It("is told by an open route what it may ask, without a token and without a backend", func() {
		r := preflight(c, testbed.Host("open"), "/api/preflight", allowed)
		Expect(r).To(haveStatus(200, 204))
		Expect(r.Header).To(And(
			HaveKeyWithValue("Access-Control-Allow-Origin", []string{allowed}),
			HaveKeyWithValue("Access-Control-Allow-Methods", []string{"GET,PUT"}),
			HaveKeyWithValue("Access-Control-Allow-Headers", []string{"authorization"}),
			HaveKeyWithValue("Access-Control-Max-Age", []string{"5"}),
			Not(HaveKey("Access-Control-Allow-Credentials")),
		))
		Expect(w.Backend.Hits("/api/preflight")).To(BeZero())
	})

	It("of another origin is allowed nothing, and gets no further", func() {
		r := preflight(c, testbed.Host("open"), "/api/stranger", "https://evil.example.test")
		Expect(r).To(haveStatus(200, 204))
		Expect(r.Header).NotTo(HaveKey("Access-Control-Allow-Origin")) // without it the other headers allow nothing
		Expect(w.Backend.Hits("/api/stranger")).To(BeZero())
	})

	It("needs a token for the request itself, whatever it is", func() {
		for _, r := range []testbed.Request{
			{Method: "GET"}, {Method: "PUT"}, {Method: "POST"},
			{Method: "OPTIONS"}, // without a method that it asks for it is no preflight
			{Method: "GET", Header: http.Header{"Access-Control-Request-Method": {"PUT"}}},
			{Method: "HEAD", Header: http.Header{"Access-Control-Request-Method": {"PUT"}}},
			{Method: "GET", Header: http.Header{"Access-Control-Request-Method": {"PUT"}, "X-Http-Method-Override": {"OPTIONS"}}},
			{Method: "options", Header: http.Header{"Access-Control-Request-Method": {"PUT"}}},
		} {
			r.Host, r.Path = testbed.Host("open"), "/api/request"
			if r.Header == nil {
				r.Header = http.Header{}
			}
			r.Header.Set("Origin", allowed)
			Expect(w.H1().Do(r)).To(beRefused(), "%+v", r)
			r.Token = w.Issuer.Token("web")
			Expect(w.H1().Do(r)).To(beRefused(), "%+v", r)
		}
		Expect(w.Backend.Hits("/api/request")).To(BeZero())
		r := c.Do(testbed.Request{Host: testbed.Host("open"), Path: "/api/request", Token: w.Token(), Header: http.Header{"Origin": {allowed}}})
		Expect(r).To(haveStatus(200))
		Expect(r.Header.Get("Access-Control-Allow-Origin")).To(Equal(allowed))
		r = c.Do(testbed.Request{Host: testbed.Host("open"), Path: "/api/request", Token: w.Token(), Header: http.Header{"Origin": {"https://evil.example.test"}}})
		Expect(r).To(haveStatus(200))
		Expect(corsHeaders(r)).To(BeEmpty())
	})

	It("hears of a route that is not open what it hears of one that does not exist", func() {
		none := preflight(c, testbed.Host("none"), "/api/x", allowed)
		dormant := preflight(c, testbed.Host("dormant"), "/api/x", allowed)
		Expect(none).To(haveStatus(404))
		Expect(dormant.Status).To(Equal(none.Status))
		Expect(corsHeaders(dormant)).To(BeEmpty())
		Expect(preflight(c, testbed.Host("open"), "/elsewhere", allowed)).To(haveStatus(404))
	})

	It("is asked for a token by a route that does not know browsers", func() {
		r := preflight(c, testbed.Host("silent"), "/api/x", allowed)
		Expect(r).To(haveStatus(401))
		Expect(corsHeaders(r)).To(BeEmpty())
		Expect(w.Backend.Hits("/api/x")).To(BeZero())
	})

	It("is in the audit log with what it asked", func() {
		preflight(c, testbed.Host("open"), "/api/logged", allowed)
		preflight(c, testbed.Host("dormant"), "/api/logged-dormant", allowed)
		Eventually(func() int { return len(w.Logged(audit.TypeEnd, "/api/logged")) }).Should(Equal(2))
		logged := w.Logged(audit.TypeEnd, "/api/logged")
		e := logged["/api/logged"][0]
		Expect(e.Method).To(Equal("OPTIONS"))
		Expect(e.Route).To(Equal("pay/open"))
		Expect(e.Details).To(ContainSubstring("cors"))
		Expect(e.Subject).To(BeEmpty())
		Expect(e.UpstreamAddress).To(BeEmpty())
		Expect(logged["/api/logged-dormant"][0].Denied).To(Equal("not open"))
	})

	It("is told nothing after the deadline, although serve was killed a second before", func() {
		w.Activate(testbed.Activation{Name: "short", Routes: []string{"short"}, Duration: "3s"})
		deadline := w.Deadline("short")
		Expect(preflight(c, testbed.Host("short"), "/api/x", allowed)).To(haveStatus(200, 204))
		testbed.WaitUntil(deadline.Add(-time.Second))
		w.KillServe()
		Expect(preflight(c, testbed.Host("short"), "/api/x", allowed)).To(haveStatus(200, 204))
		testbed.WaitUntil(deadline.Add(late))
		r := preflight(c, testbed.Host("short"), "/api/x", allowed)
		Expect(r).To(haveStatus(403, 404))
		Expect(corsHeaders(r)).To(BeEmpty())
	})
})
