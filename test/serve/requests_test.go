//go:build envoy

package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/internal/echo"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// What a client writes into a request beside its token must not matter.
var _ = Describe("Requests", Ordered, ContinueOnFailure, func() {
	const (
		host    = "req.example.test"
		dormant = "req-dormant.example.test"
	)
	var w *testbed.World
	var good, wrongRole string

	BeforeAll(func() {
		w = shared
		good, wrongRole = w.Token(), w.Issuer.Token("web")
		closed := func(name, path, kind string) testbed.Route {
			return testbed.Route{Name: name, Role: "web", Hosts: []string{host}, Rules: []testbed.Rule{{
				Matches: []string{testbed.Match("GET", kind, path, ""), testbed.Match("POST", kind, path, "")},
			}}}
		}
		w.Write("req.yaml",
			testbed.Route{Name: "req"}.YAML(),
			testbed.Route{Name: "req-dormant"}.YAML(),
			// Beside the open rule, and inside of it.
			closed("req-admin", "/admin", "PathPrefix").YAML(),
			closed("req-inner", "/api/admin", "PathPrefix").YAML(),
			closed("req-exact", "/api/exact", "Exact").YAML(),
			testbed.Activation{Name: "req", Routes: []string{"req"}, Duration: "30m"}.YAML())
		w.AwaitPhase("req", "Live")
	})

	DescribeTable("pays no attention to headers that mean something to a proxy", func(name string, values ...string) {
		with := func(host, path, token string) testbed.Reply {
			return w.H1().Do(testbed.Request{Host: host, Path: path, Token: token, Header: http.Header{name: values}})
		}
		path := "/api/spoof-" + w.Unique()
		Expect(with(host, path, "")).To(haveStatus(401))
		Expect(with(host, path, wrongRole)).To(haveStatus(403))
		Expect(with(dormant, path, good)).To(haveStatus(404))
		Expect(with(host, "/admin", good)).To(haveStatus(404))
		Expect(w.Backend.Hits(path)).To(BeZero())

		r := with(host, path, good)
		Expect(r).To(haveStatus(200))
		var seen echo.Request
		Expect(json.Unmarshal([]byte(r.Body), &seen)).To(Succeed())
		Expect(seen.Path).To(Equal(path))
		Expect(seen.Host).To(Equal(host))
		if h := strings.ToLower(name); strings.HasPrefix(h, "x-envoy-") || strings.HasPrefix(h, "x-breakglass-") {
			Expect(seen.Headers).NotTo(HaveKey(http.CanonicalHeaderKey(name)))
		}
	},
		Entry("our scope of the open host", "x-breakglass-scope", "http|"+host),
		Entry("our scope of the dormant host", "X-Breakglass-Scope", "http|"+dormant),
		Entry("our scope, twice", "x-breakglass-scope", "http|*", "http|"+host),
		Entry("any header of ours", "x-breakglass-role", "db"),
		Entry("the original path", "x-envoy-original-path", "/admin"),
		Entry("the original host", "x-envoy-original-host", host),
		Entry("another host", "X-Forwarded-Host", host),
		Entry("another path", "X-Original-URL", "/api/x"),
		Entry("another path, as IIS says it", "X-Rewrite-URL", "/api/x"),
		Entry("another method", "X-HTTP-Method-Override", "DELETE"),
		Entry("an internal client", "x-envoy-internal", "true"),
		Entry("a client address", "X-Forwarded-For", "127.0.0.1"),
		Entry("a timeout", "x-envoy-upstream-rq-timeout-ms", "1"),
		Entry("retries", "x-envoy-retry-on", "5xx"),
		Entry("a cluster", "x-envoy-upstream-alt-stat-name", "x"),
		Entry("a decorator", "x-envoy-decorator-operation", "x"),
		Entry("a fault", "x-envoy-fault-abort-request", "503"),
		Entry("another scheme", "X-Forwarded-Proto", "https"),
	)

	It("ends a stream at the token's exp whatever x-envoy-upstream-stream-duration-ms the client sends", func() {
		exp, token := shortToken(w)
		var streams []*testbed.Stream
		for _, values := range [][]string{{"0"}, {"999999999"}, {"1", "0"}, {"-1"}, {"x"}, {"18446744073709551616"}} {
			s := w.H1().EventsWith(fmt.Sprint(values), testbed.Request{Host: host, Path: "/api/stream", Token: token,
				Header: http.Header{"X-Envoy-Upstream-Stream-Duration-Ms": values}})
			Expect(s.Status()).To(Equal(200))
			streams = append(streams, s)
		}
		for _, s := range streams {
			Eventually(s.Done(), time.Until(exp)+time.Second).Should(BeClosed(), s.String)
			notAfter(s.Last(), exp, late, s)
			Expect(s.Last()).To(BeTemporally(">", exp.Add(-time.Second)), "it ended early: %s", s)
		}
	})

	DescribeTable("finds the host however it is written", func(written string) {
		written = strings.ReplaceAll(written, "PORT", fmt.Sprint(w.HTTP))
		for _, c := range []*testbed.Client{w.H1(), w.TLS2()} {
			Expect(c.Get(written, "/api/host", good)).To(haveStatus(200))
			Expect(c.Get(written, "/api/host", "")).To(haveStatus(401))
			Expect(c.Get(written, "/api/host", wrongRole)).To(haveStatus(403))
			Expect(c.Get(written, "/admin", good)).To(haveStatus(404))
			Expect(c.Get(strings.Replace(strings.ToLower(written), "req", "req-dormant", 1), "/api/host", good)).To(haveStatus(404))
		}
	},
		Entry("in upper case", "REQ.Example.TEST"),
		Entry("with the port", host+":PORT"),
		Entry("with another port", host+":1"),
		Entry("with a dot at the end", host+"."),
		Entry("in upper case with a port", "REQ.example.test:PORT"),
	)

	DescribeTable("serves no other host", func(written string) {
		before := w.Backend.Hits("/api/otherhost")
		Expect(w.Raw("GET /api/otherhost HTTP/1.1", "Host: "+written, "Authorization: Bearer "+good)).To(beRefused())
		Expect(w.H2C().Get(written, "/api/otherhost", good)).To(beRefused())
		Expect(w.Backend.Hits("/api/otherhost")).To(Equal(before))
	},
		Entry("an unknown one", "nobody.example.test"),
		Entry("a sub-domain", "x."+host),
		Entry("a parent", "example.test"),
		Entry("the address", "127.0.0.1"),
		Entry("a scope key", "http|"+host),
		Entry("another domain", host+".evil.test"),
		Entry("the wildcard itself", "*.example.test"),
		Entry("only a star", "*"),
		Entry("with user information", "x@"+host),
		Entry("with a password", host+":x@other.example.test"),
		Entry("with a port that is none", host+":x"),
		Entry("with an empty port", host+":"),
		Entry("with two ports", host+":80:81"),
		Entry("in brackets", "["+host+"]"),
		Entry("a list", host+","+host),
	)

	// The token is good for /api of this host, and for nothing else on it.
	DescribeTable("does not lead to another rule's path by", func(path string) {
		hits := func() int {
			return w.Backend.Hits("/admin") + w.Backend.Hits("/api/admin") + w.Backend.Hits("/api/exact")
		}
		before := hits()
		for _, method := range []string{"GET", "POST"} {
			r := w.Raw(method+" "+path+" HTTP/1.1", "Host: "+host, "Authorization: Bearer "+good, "Content-Length: 0", "Connection: close")
			Expect(r).To(beRefused(), "%s answered: %s", method, r.Body)
		}
		if !strings.HasPrefix(path, "//") && !strings.Contains(path, "#") {
			r := w.TLS2().Get(host, path, good)
			Expect(r).To(beRefused(), "HTTP/2 answered: %s", r.Body)
		}
		Expect(hits()).To(Equal(before))
	},
		Entry("its name", "/admin"),
		Entry("its name, inside", "/api/admin/x"),
		Entry("its name, exactly", "/api/exact"),
		Entry("a slash at the end", "/admin/"),
		Entry("two slashes", "//admin"),
		Entry("two slashes, inside", "/api//admin"),
		Entry("two slashes before an exact path", "//api//exact"),
		Entry("/./", "/./admin"),
		Entry("/./ inside", "/api/./admin"),
		Entry("/../", "/api/../admin"),
		Entry("/../ inside", "/api/x/../admin"),
		Entry("/../ above the root", "/../../admin"),
		Entry("/.././", "/api/.././admin"),
		Entry("%2e%2e", "/api/%2e%2e/admin"),
		Entry("%2E.", "/api/%2E./admin"),
		Entry("%2e inside", "/api/%2e/admin"),
		Entry("%2f", "/api/..%2fadmin"),
		Entry("%2F for the first slash", "/api%2Fadmin"),
		Entry("%2f twice", "/api/%2f%2fadmin"),
		Entry("%5c", `/api/..%5cadmin`),
		Entry("a backslash", `/api/..\admin`),
		Entry("%61 for a", "/api/%61dmin"),
		Entry("%61 for a, beside", "/%61dmin"),
		Entry("%65 for e in an exact path", "/api/%65xact"),
		Entry("an absolute URL", "http://"+host+"/admin"),
		Entry("an absolute URL of a dormant host", "http://"+dormant+"/api/x"),
		Entry("a fragment", "/api/../admin#/api"),
		Entry("..; as Java servers read it", "/api/..;/admin"),
		Entry(";/../", "/api;/../admin"),
		Entry(";x at the end, as Java servers read it", "/api/admin;x=1"),
		Entry(";x at the end of an exact path", "/api/exact;x=1"),
		Entry("a prefix of a name", "/apiadmin"),
		Entry("a null byte", "/api/admin%00"),
	)

	It("does not count as the open path what only begins like it", func() {
		Expect(w.H1().Get(host, "/apix", good)).To(haveStatus(404))
		Expect(w.H1().Get(host, "/API", good)).To(haveStatus(404))
		Expect(w.H1().Get(host, "/", good)).To(haveStatus(404))
	})

	It("serves no method that the rule does not name", func() {
		for _, method := range []string{"PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PURGE"} {
			Expect(w.H1().Do(testbed.Request{Method: method, Host: host, Path: "/api/method", Token: good})).To(haveStatus(404, 405), method)
		}
		Expect(w.Raw("CONNECT "+host+":80 HTTP/1.1", "Host: "+host, "Authorization: Bearer "+good)).To(beRefused())
		Expect(w.Backend.Hits("/api/method")).To(BeZero())
	})

	DescribeTable("does not take a request apart differently than the backend would", func(lines ...string) {
		before := w.Backend.Hits("/")
		for i := range lines {
			lines[i] = strings.NewReplacer("TOKEN", good, "HOST", host).Replace(lines[i])
		}
		r := w.Raw(lines...)
		Expect(r).To(Or(beRefused(), haveStatus(501)), "answered: %s", r.Body)
		Expect(w.Backend.Hits("/")).To(Equal(before))
	},
		Entry("two Content-Lengths", "POST /api/smuggle HTTP/1.1", "Host: HOST", "Authorization: Bearer TOKEN", "Content-Length: 0", "Content-Length: 30", "", "GET /admin HTTP/1.1", "Host: HOST"),
		Entry("Content-Length and chunked", "POST /api/smuggle HTTP/1.1", "Host: HOST", "Authorization: Bearer TOKEN", "Content-Length: 4", "Transfer-Encoding: chunked", "", "0", "", "GET /admin HTTP/1.1", "Host: HOST"),
		Entry("a chunked that is none", "POST /api/smuggle HTTP/1.1", "Host: HOST", "Authorization: Bearer TOKEN", "Transfer-Encoding: xchunked", "", "0"),
		Entry("two Hosts", "GET /api/smuggle HTTP/1.1", "Host: HOST", "Host: "+dormant, "Authorization: Bearer TOKEN"),
		Entry("no Host", "GET /api/smuggle HTTP/1.1", "Authorization: Bearer TOKEN"),
		Entry("an underscore for a dash", "GET /api/smuggle HTTP/1.1", "Host: HOST", "Authorization: Bearer TOKEN", "X_Breakglass_Scope: x"),
		Entry("a space before the colon", "GET /api/smuggle HTTP/1.1", "Host: HOST", "Authorization : Bearer TOKEN"),
		Entry("upgrade to h2c", "GET /admin HTTP/1.1", "Host: HOST", "Authorization: Bearer TOKEN", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
	)
})
