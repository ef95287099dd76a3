//go:build envoy

package serve

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// contest is a narrow rule of a strong role and a wide rule of a weak role that
// both match one request. HOST in it is the contest's own host.
type contest struct {
	name                   string
	narrow, wide           string // matches, flow style
	narrowHosts, wideHosts []string
	// request is what both match, beside what only the wide one does.
	request, beside testbed.Request
	// ofNobody: the request is for the narrow rule's host, and for none of its paths.
	ofNobody bool
}

const anyPath = "{path: {type: PathPrefix, value: /}}"

var contests = []contest{
	{name: "an exact path beside a prefix", narrow: "{path: {type: Exact, value: /db/drop}}", wide: "{path: {type: PathPrefix, value: /db}}",
		request: testbed.Request{Path: "/db/drop"}, beside: testbed.Request{Path: "/db/dropped"}},
	{name: "an exact path beside every path", narrow: "{path: {type: Exact, value: /drop}}", wide: anyPath,
		request: testbed.Request{Path: "/drop?x=1"}, beside: testbed.Request{Path: "/drop/1"}},
	{name: "a longer prefix beside a shorter one", narrow: "{path: {type: PathPrefix, value: /db/admin}}", wide: "{path: {type: PathPrefix, value: /db}}",
		request: testbed.Request{Path: "/db/admin/x"}, beside: testbed.Request{Path: "/db/adminx"}},
	{name: "a prefix with a slash at its end beside a shorter one", narrow: "{path: {type: PathPrefix, value: /db/admin/}}", wide: "{path: {type: PathPrefix, value: /db}}",
		request: testbed.Request{Path: "/db/admin"}, beside: testbed.Request{Path: "/db/x"}},
	{name: "a header beside none", narrow: "{path: {value: /db}, headers: [{name: X-Admin, value: 'yes'}]}", wide: "{path: {value: /db}}",
		request: testbed.Request{Path: "/db", Header: http.Header{"X-Admin": {"yes"}}}, beside: testbed.Request{Path: "/db", Header: http.Header{"X-Admin": {"no"}}}},
	{name: "two headers beside one", narrow: "{path: {value: /db}, headers: [{name: X-A, value: '1'}, {name: X-B, value: '1'}]}",
		wide:    "{path: {value: /db}, headers: [{name: X-A, value: '1'}]}",
		request: testbed.Request{Path: "/db", Header: http.Header{"X-A": {"1"}, "X-B": {"1"}}}, beside: testbed.Request{Path: "/db", Header: http.Header{"X-A": {"1"}}}},
	{name: "a method beside none", narrow: "{path: {value: /db}, method: DELETE}", wide: "{path: {value: /db}}",
		request: testbed.Request{Method: "DELETE", Path: "/db"}, beside: testbed.Request{Path: "/db"}},
	{name: "a query parameter beside none", narrow: "{path: {value: /db}, queryParams: [{name: drop, value: all}]}", wide: "{path: {value: /db}}",
		request: testbed.Request{Path: "/db?drop=all"}, beside: testbed.Request{Path: "/db?drop=none"}},
	{name: "an exact path beside a regular expression", narrow: "{path: {type: Exact, value: /db/drop}}", wide: "{path: {type: RegularExpression, value: '/db/[a-z]+'}}",
		request: testbed.Request{Path: "/db/drop"}, beside: testbed.Request{Path: "/db/list"}},
	{name: "an exact host beside a wildcard", narrow: "{path: {value: /db}}", wide: anyPath,
		narrowHosts: []string{"a.HOST"}, wideHosts: []string{"*.HOST"},
		request: testbed.Request{Host: "a.HOST", Path: "/db"}, beside: testbed.Request{Host: "b.HOST", Path: "/db"}},
	{name: "an exact host beside a wildcard, in upper case and with a port", narrow: "{path: {value: /db}}", wide: anyPath,
		narrowHosts: []string{"a.HOST"}, wideHosts: []string{"*.HOST"},
		request: testbed.Request{Host: "A.HOST:81", Path: "/db"}, beside: testbed.Request{Host: "B.HOST:81", Path: "/db"}},
	{name: "an exact host, on a path that it does not have, beside a wildcard", narrow: "{path: {value: /db}}", wide: anyPath,
		narrowHosts: []string{"a.HOST"}, wideHosts: []string{"*.HOST"},
		request: testbed.Request{Host: "a.HOST", Path: "/other"}, beside: testbed.Request{Host: "b.HOST", Path: "/other"}, ofNobody: true},
	{name: "a longer wildcard beside a shorter one", narrow: "{path: {value: /db}}", wide: anyPath,
		narrowHosts: []string{"*.a.HOST"}, wideHosts: []string{"*.HOST"},
		request: testbed.Request{Host: "x.a.HOST", Path: "/db"}, beside: testbed.Request{Host: "x.b.HOST", Path: "/db"}},
}

// standings are ways not to be open. Each brings the narrow route of a contest
// there; the route may be changed before it is written.
var standings = []struct {
	name   string
	route  func(yaml string) string
	settle func(w *testbed.World, route string)
}{
	{name: "dormant"},
	{name: "refused", settle: func(w *testbed.World, route string) {
		w.Write(route+"-refused.yaml", testbed.Activation{Name: route + "-refused", Role: "web", Routes: []string{route}, Duration: "1h"}.YAML())
		w.AwaitPhase(route+"-refused", "Refused RoleMismatch")
	}},
	{name: "revoked", settle: func(w *testbed.World, route string) {
		w.Activate(testbed.Activation{Name: route + "-revoked", Routes: []string{route}, Duration: "1h"})
		w.Revoke(route + "-revoked")
	}},
	{name: "expired", settle: func(w *testbed.World, route string) {
		w.Write(route+"-expired.yaml", testbed.Activation{Name: route + "-expired", Routes: []string{route}, Duration: "1h", NotAfter: time.Now().Add(2 * time.Second)}.YAML())
		Eventually(w.Phase(route+"-expired")).Should(Or(Equal("Live"), HavePrefix("Expired")), told(w))
	}},
	{name: "not accepted, for want of a role", route: func(yaml string) string {
		return strings.Replace(yaml, ", labels: {breakglass.dev/role: db}", "", 1)
	}},
	{name: "not accepted, for a filter that is not supported", route: func(yaml string) string {
		return strings.Replace(yaml, "backendRefs:", "filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: Filter, name: any}}], backendRefs:", 1)
	}},
	{name: "without its Service", route: func(yaml string) string { return strings.Replace(yaml, "name: echo", "name: gone", 1) }},
}

var _ = Describe("A rule that is", Ordered, ContinueOnFailure, func() {
	var w *testbed.World
	var weak, strong string

	hosts := func(c contest, id string) (narrow, wide []string) {
		fill := func(hs []string) []string {
			if hs == nil {
				return []string{testbed.Host(id)}
			}
			var out []string
			for _, h := range hs {
				out = append(out, strings.ReplaceAll(h, "HOST", testbed.Host(id)))
			}
			return out
		}
		return fill(c.narrowHosts), fill(c.wideHosts)
	}

	BeforeAll(func() {
		w = testbed.New()
		w.Policy.Scope = "{allowWildcardHostnames: true, allowCatchAllPath: true, allowAnyMethod: true}"
		w.WritePolicy()
		w.Start()
		weak, strong = w.Issuer.Token("web"), w.Token()
		for j, s := range standings {
			var docs []string
			var wides []string
			for i, c := range contests {
				id := fmt.Sprintf("c%d-%d", i, j)
				narrow, wide := hosts(c, id)
				n := testbed.Route{Name: id + "-narrow", Hosts: narrow, Rules: []testbed.Rule{{Matches: []string{c.narrow}}}}.YAML()
				if s.route != nil {
					n = s.route(n)
				}
				docs = append(docs, n, testbed.Route{Name: id + "-wide", Role: "web", Hosts: wide, Rules: []testbed.Rule{{Matches: []string{c.wide}}}}.YAML())
				wides = append(wides, id+"-wide")
			}
			w.Write(fmt.Sprintf("routes-%d.yaml", j), docs...)
			w.Activate(testbed.Activation{Name: fmt.Sprintf("wide-%d", j), Role: "web", Routes: wides, Duration: "1h"})
			if s.settle != nil {
				for i := range contests {
					s.settle(w, fmt.Sprintf("c%d-%d-narrow", i, j))
				}
			}
		}
		for i := range contests {
			Eventually(w.Phase(fmt.Sprintf("c%d-3-narrow-expired", i))).Should(HavePrefix("Expired"))
		}
	})

	ask := func(c *testbed.Client, r testbed.Request, id, token string) testbed.Reply {
		r.Host = strings.ReplaceAll(r.Host, "HOST", strings.ToUpper(testbed.Host(id)))
		if r.Host == "" {
			r.Host = testbed.Host(id)
		}
		r.Token = token
		return c.Do(r)
	}

	for j, s := range standings {
		for i, c := range contests {
			id := fmt.Sprintf("c%d-%d", i, j)
			It(s.name+" keeps its place: "+c.name, func() {
				for _, client := range []*testbed.Client{w.H1(), w.TLS2()} {
					r := ask(client, c.request, id, weak)
					Expect(r).To(haveStatus(404), "the weak role got %s", r.Body)
					Expect(ask(client, c.request, id, strong)).To(haveStatus(404), "the strong role, too, has to be activated first")
					Expect(ask(client, c.beside, id, weak)).To(haveStatus(200), "what only the wide rule matches")
					Expect(ask(client, c.beside, id, strong)).To(haveStatus(403))
				}
			})
		}
	}

	It("opened beside an open wide one is served to its own role only", func() {
		for i, c := range contests {
			id := fmt.Sprintf("c%d-0", i)
			w.Activate(testbed.Activation{Name: id + "-narrow-open", Routes: []string{id + "-narrow"}, Duration: "1h"})
			want := 200
			if c.ofNobody {
				want = 404 // the exact host has no such path, and the wildcard does not stand in
			}
			Expect(ask(w.H1(), c.request, id, strong)).To(haveStatus(want), c.name)
			if want == 200 {
				Expect(ask(w.H1(), c.request, id, weak)).To(haveStatus(403), c.name)
			}
			Expect(ask(w.H1(), c.beside, id, weak)).To(haveStatus(200), c.name)
		}
	})

	It("not the one that its activation names keeps its place beside the one that is", func() {
		w.Write("rules.yaml", testbed.Route{Name: "rules", Rules: []testbed.Rule{
			{Name: "narrow", Matches: []string{"{path: {type: Exact, value: /db/drop}}"}},
			{Name: "wide", Matches: []string{"{path: {type: PathPrefix, value: /db}}"}},
		}}.YAML())
		w.Activate(testbed.Activation{Name: "rules-wide", Routes: []string{"rules:wide"}, Duration: "1h"})
		Expect(w.H1().Get(testbed.Host("rules"), "/db/list", strong)).To(haveStatus(200))
		Expect(w.H1().Get(testbed.Host("rules"), "/db/drop", strong)).To(haveStatus(404))
	})
})
