//go:build envoy

package serve

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/net/http2"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// What the gateway lets through, the backend must read as the gateway did. So
// requests go out as bytes, and a backend that believes everything tells what it
// made of them.
var _ = Describe("On the wire", Ordered, ContinueOnFailure, func() {
	const host = "wire.example.test"
	const patience = 300 * time.Millisecond
	var (
		wire *testbed.Wire
		good string
	)

	BeforeAll(func() {
		wire, good = testbed.StartWire(), shared.Token()
		rule := func(name, role, kind, path string, methods ...string) testbed.Route {
			var matches []string
			for _, m := range methods {
				matches = append(matches, testbed.Match(m, kind, path, ""))
			}
			return testbed.Route{Name: name, Role: role, Hosts: []string{host}, Rules: []testbed.Rule{{Service: "wire", Matches: matches}}}
		}
		shared.Write("wire.yaml", testbed.Service("wire", wire.Port()),
			rule("wire", "db", "PathPrefix", "/api", "GET", "POST").YAML(),
			rule("wire-admin", "web", "PathPrefix", "/admin", "GET", "POST").YAML(),
			rule("wire-inner", "web", "PathPrefix", "/api/admin", "GET", "POST").YAML(),
			rule("wire-exact", "web", "Exact", "/api/exact", "GET", "POST").YAML(),
			// Open too, for another role: the strongest reason to get the path wrong.
			testbed.Activation{Name: "wire", Routes: []string{"wire"}, Duration: "30m"}.YAML(),
			testbed.Activation{Name: "wire-web", Role: "web", Routes: []string{"wire-admin", "wire-inner", "wire-exact"}, Duration: "30m"}.YAML())
		shared.AwaitPhase("wire", "Live")
		shared.AwaitPhase("wire-web", "Live")
	})

	AfterAll(func() {
		Expect(wire.Strange()).To(BeEmpty(), "the backend got what nobody was let in for")
	})

	// agree sends a request for target and checks that it was refused, or that the
	// backend got it once and can read nothing in it but a path of the open rule.
	agree := func(target string) (served bool) {
		GinkgoHelper()
		name := shared.Unique()
		replies := shared.Bytes(testbed.Lines("GET "+target+" HTTP/1.1", "Host: "+host, "Authorization: Bearer "+good, "X-Case: "+name, "Connection: close"), 10*time.Second)
		seen := wire.Seen(name)
		if len(replies) > 0 && replies[0].Status == 200 {
			Expect(seen).To(HaveLen(1), "%q: the backend got it %d times", target, len(seen))
			Expect(seen[0].Host).To(Equal(host), "%q", target)
			for reading := range readings(seen[0].Target) {
				Expect(inside(reading)).To(BeTrue(), "%q went to the backend as %q, which can be read as %q", target, seen[0].Target, reading)
			}
			return true
		}
		Expect(seen).To(BeEmpty(), "%q was refused and is at the backend", target)
		for _, r := range replies {
			Expect(r).To(beRefused(), "%q", target)
		}
		return false
	}

	DescribeTable("sees the path that the backend will see", func(target string, served bool) {
		Expect(agree(target)).To(Equal(served), "served")
	},
		Entry("plain", "/api/x", true),
		Entry("with a query", "/api/x?y=/admin/../;%2f%00", true),
		Entry("one dot", "/api/./x", true),
		Entry("two dots inside", "/api/y/../x", true),
		Entry("two slashes", "/api//x", true),
		Entry("many slashes", "////api////x//", true),
		Entry("an escaped letter", "/api/%78", true),
		Entry("an escaped space", "/api/a%20b", true),
		Entry("an umlaut", "/api/%C3%A4", true),
		Entry("raw bytes above 127", "/api/\xc3\xa4", false),
		Entry("two dots out", "/api/../admin", false),
		Entry("two dots out, escaped", "/api/%2e%2E/admin", false),
		Entry("two dots out, escaped twice", "/api/%252e%252e/admin", false),
		Entry("two dots after two slashes", "/api//../admin", false),
		Entry("two dots after escaped slash", "/api/x%2f../admin", false),
		Entry("above the root", "/../../api/../admin", false),
		Entry("escaped slash", "/api%2fadmin", false),
		Entry("escaped slash, upper case", "/api%2Fadmin", false),
		Entry("escaped slash, twice", "/api%252fadmin", false),
		Entry("escaped backslash", `/api/%5cadmin`, false),
		Entry("escaped backslash, twice", `/api/%255Cadmin`, false),
		Entry("backslash", `/api\admin`, false),
		Entry("backslash first", `\api\admin`, false),
		Entry("escaped letter of another rule", "/api/%61dmin", false),
		Entry("escaped letter, twice", "/api/%2561dmin", false),
		Entry("parameter", "/api/admin;x", false),
		Entry("parameter of a segment", "/api;x/admin", false),
		Entry("parameter, escaped", "/api/admin%3bx", false),
		Entry("parameter, escaped twice", "/api/admin%253bx", false),
		Entry("..; as Java reads it", "/api/..;/admin", false),
		Entry("escaped question mark", "/api/exact%3Fx", false),
		Entry("escaped hash", "/api/exact%23x", false),
		Entry("hash", "/api/exact#x", false),
		Entry("hash in the query", "/api/x?a#/admin", false),
		Entry("escaped null byte", "/api/exact%00", false),
		Entry("null byte", "/api/exact\x00", false),
		Entry("escaped line feed", "/api/exact%0ax", false),
		Entry("escaped carriage return", "/api/exact%0Dx", false),
		Entry("escaped tab", "/api/x%09", false),
		Entry("escaped delete", "/api/x%7f", false),
		Entry("tab", "/api/x\ty", false),
		Entry("space", "/api/x y", false),
		Entry("an escape that is none", "/api/%zz", false),
		Entry("an escape cut off", "/api/x%2", false),
		Entry("a percent sign", "/api/100%", false),
		Entry("an overlong dot", "/api/%c0%ae%c0%ae/admin", false),
		Entry("an overlong slash", "/api/..%C0%AFadmin", false),
		Entry("an overlong backslash", "/api/..%c1%9cadmin", false),
		Entry("an overlong slash of three bytes", "/api/..%e0%80%afadmin", false),
		Entry("an overlong backslash of three bytes", "/api/..%E0%81%9Cadmin", false),
		Entry("an overlong slash of four bytes", "/api/..%F0%80%80%AFadmin", false),
		Entry("an overlong slash of five bytes", "/api/..%f8%80%80%80%afadmin", false),
		Entry("an overlong slash of six bytes", "/api/..%fc%80%80%80%80%afadmin", false),
		Entry("an overlong slash, partly escaped", "/api/..%e0\x80\xafadmin", false),
		Entry("three bytes that must be", "/api/%E0%A4%85%e0%b8%81", true),
		Entry("four bytes that must be", "/api/%F0%9F%94%A5", true),
		Entry("absolute, of this host", "http://"+host+"/api/x", true),
		Entry("absolute, another path", "http://"+host+"/admin", false),
		Entry("absolute, dots", "http://"+host+"/api/../admin", false),
		Entry("absolute, no path", "http://"+host, false),
		Entry("absolute, another scheme", "ftp://"+host+"/api/x", false),
		Entry("absolute, with user information", "http://a:b@"+host+"/api/x", true),
		Entry("a scheme-relative one", "//"+host+"/api/x", false),
		Entry("the star", "*", false),
		Entry("a host alone", host+":80", false),
		Entry("no slash first", "api/x", false),
		Entry("a query alone", "?/api/x", false),
		Entry("nothing", "", false),
		Entry("case", "/API/x", false),
		Entry("a letter more", "/apix", false),
	)

	It("sees the path that the backend will see, whatever it is made of", func() {
		pieces := []string{
			"/", "/", "/", "//", ".", "..", "/..", "/../", "%2e", "%2E%2e", "%2f", "%5c", `\`, ";", ";x=1", "%3b", "%3f", "%23", "#", "?", "%00", "%", "%25",
			"%252e", "%c0%af", "%e0%80%af", "%F0%80%80%AF", "%0a", "%20", "%7E", "%61", "\t", "\x80", "a", "api", "/api", "/api/", "admin", "/admin", "exact", "/exact", "x", "http://" + host, ":", "@", "*", "&", "+",
		}
		seed := uint64(time.Now().UnixNano())
		random, served := rand.New(rand.NewPCG(seed, 0)), 0
		const targets = 500
		for range targets {
			var b strings.Builder
			if random.IntN(4) > 0 {
				b.WriteString("/api/")
			}
			for range random.IntN(6) {
				b.WriteString(pieces[random.IntN(len(pieces))])
			}
			if agree(b.String()) {
				served++
			}
		}
		Expect(served).To(BeNumerically(">", targets/20), "too few got through to prove anything, seed %d", seed)
		AddReportEntry("random targets that reached the backend", served, ReportEntryVisibilityFailureOrVerbose)
	})

	// refuses sends bytes and checks that no more than allowed requests of the case
	// came out at the other side.
	smuggle := func(allowed int, sent string) {
		GinkgoHelper()
		name := shared.Unique()
		sent = strings.NewReplacer("HOST", host, "AUTH", "Authorization: Bearer "+good, "CASE", "X-Case: "+name).Replace(sent)
		replies := shared.Bytes(sent, patience)
		Expect(len(wire.Seen(name))).To(Equal(allowed), "answers: %v, the backend saw %q", replies, wire.Seen(name))
		ok := 0
		for _, r := range replies {
			if r.Status == 200 {
				ok++
				continue
			}
			Expect(r.Status).To(BeElementOf(400, 401, 403, 404, 426, 431, 501, 505), r.Body)
		}
		Expect(ok).To(Equal(allowed))
		Expect(wire.Strange()).To(BeEmpty(), "a request was smuggled: %v", replies)
	}
	const head = "POST /api/x HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nCASE\r\n"
	const canary = "GET /api/canary HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"

	DescribeTable("takes a request apart as the backend does", smuggle,
		Entry("one that is fine", 1, head+"Content-Length: 5\r\nConnection: close\r\n\r\nhello"),
		Entry("one that is fine, chunked", 1, head+"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
		Entry("a body that looks like a request", 1, head+"Content-Length: 48\r\nConnection: close\r\n\r\nGET /api/canary HTTP/1.1\r\nHost: wire.example.test"),
		Entry("a pipelined one without a token", 1, head+"Content-Length: 0\r\n\r\n"+canary),
		Entry("CL and TE", 0, head+"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+canary),
		Entry("TE and CL", 0, head+"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"+canary),
		Entry("two CL that differ", 0, head+"Content-Length: 0\r\nContent-Length: 60\r\n\r\n"+canary),
		Entry("two CL that agree", 0, head+"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
		Entry("a list of CL", 0, head+"Content-Length: 0, 60\r\n\r\n"+canary),
		Entry("a signed CL", 0, head+"Content-Length: +5\r\n\r\nhello"),
		Entry("a negative CL", 0, head+"Content-Length: -1\r\n\r\n"+canary),
		Entry("a hexadecimal CL", 0, head+"Content-Length: 0x5\r\n\r\nhello"),
		Entry("a CL of 65 bits", 0, head+"Content-Length: 18446744073709551621\r\n\r\nhello"),
		Entry("TE folded", 0, head+"Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"+canary),
		Entry("TE chunked twice", 0, head+"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+canary),
		Entry("TE chunked, identity", 0, head+"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"+canary),
		Entry("TE with a tab", 0, head+"Transfer-Encoding:\tchunked\x0b\r\n\r\n0\r\n\r\n"+canary),
		Entry("TE with a space before the colon", 0, head+"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"+canary),
		Entry("TE in quotes", 0, head+"Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"+canary),
		Entry("a null byte in a header", 0, head+"X: y\x00z\r\nContent-Length: 0\r\n\r\n"+canary),
		Entry("a chunk size with a sign", 0, head+"Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n"+canary),
		Entry("a chunk size with 0x", 0, head+"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n"+canary),
		Entry("HTTP/1.0", 0, "GET /api/x HTTP/1.0\r\nHost: HOST\r\nAUTH\r\nCASE\r\n\r\n"),
		Entry("HTTP/1.0 kept alive", 0, "GET /api/x HTTP/1.0\r\nHost: HOST\r\nAUTH\r\nCASE\r\nConnection: keep-alive\r\n\r\n"+canary),
		Entry("HTTP/0.9", 0, "GET /api/x\r\n\r\n"),
		Entry("HTTP/1.2", 0, "GET /api/x HTTP/1.2\r\nHost: HOST\r\nAUTH\r\nCASE\r\n\r\n"),
		Entry("HTTP/2.0 in text", 0, "GET /api/x HTTP/2.0\r\nHost: HOST\r\nAUTH\r\nCASE\r\n\r\n"),
		Entry("two Hosts", 0, head+"Host: other.example.test\r\nContent-Length: 0\r\n\r\n"),
		Entry("a Host with a path", 0, strings.Replace(head, "HOST", "HOST/api", 1)+"Content-Length: 0\r\n\r\n"),
		Entry("a Host with user information", 0, strings.Replace(head, "HOST", "HOST@HOST", 1)+"Content-Length: 0\r\n\r\n"),
		Entry("a Host with a space", 0, strings.Replace(head, "HOST", "HOST x", 1)+"Content-Length: 0\r\n\r\n"),
		Entry("a Host that is an IPv6 address", 0, strings.Replace(head, "HOST", "[::1]:80", 1)+"Content-Length: 0\r\n\r\n"),
		Entry("an underscore in a name", 0, head+"Content_Length: 60\r\nContent-Length: 0\r\n\r\n"+canary),
		Entry("CONNECT", 0, "CONNECT HOST:80 HTTP/1.1\r\nHost: HOST:80\r\nAUTH\r\nCASE\r\n\r\n"+canary),
		Entry("h2c by upgrade", 0, "GET /admin HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nCASE\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"+canary),
	)

	// Whether these are refused or understood is Envoy's to choose: what comes out
	// must be one request, and not the canary.
	DescribeTable("lets no second request out of", func(sent string) {
		name := shared.Unique()
		replies := shared.Bytes(strings.NewReplacer("HOST", host, "AUTH", "Authorization: Bearer "+good, "CASE", "X-Case: "+name).Replace(sent), patience)
		Expect(len(wire.Seen(name))).To(BeNumerically("<=", 1))
		Expect(wire.Strange()).To(BeEmpty(), "a request was smuggled: %v", replies)
	},
		Entry("bare line feeds", strings.ReplaceAll(head+"Content-Length: 0\r\n\r\n", "\r\n", "\n")+canary),
		Entry("a bare line feed at the end of the head", head+"Content-Length: 0\r\n\n"+canary),
		Entry("a bare line feed before TE", head+"X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+canary),
		Entry("TE with a bare CR", head+"X: y\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"+canary),
		Entry("a folded header", head+"X: y\r\n z\r\nContent-Length: 0\r\n\r\n"+canary),
		Entry("a chunk extension", head+"Transfer-Encoding: chunked\r\n\r\n0;x=y\r\n\r\n"+canary),
		Entry("a chunk extension with a line feed", head+"Transfer-Encoding: chunked\r\n\r\n2;\nxx\r\n4c\r\n0\r\n\r\n"+canary),
		Entry("a chunk that is longer than it says", head+"Transfer-Encoding: chunked\r\n\r\n1\r\nhello\r\n0\r\n\r\n"+canary),
		Entry("a chunk size with a space", head+"Transfer-Encoding: chunked\r\n\r\n0 \r\n\r\n"+canary),
		Entry("a chunk that ends in a bare line feed", head+"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n"+canary),
		Entry("trailers that are framing", head+"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 60\r\nHost: other\r\n\r\n"+canary),
		Entry("CL named by Connection", head+"Content-Length: 5\r\nConnection: content-length\r\n\r\nhello"+canary),
		Entry("TE named by Connection", head+"Transfer-Encoding: chunked\r\nConnection: transfer-encoding\r\n\r\n0\r\n\r\n"+canary),
		Entry("the token named by Connection", head+"Content-Length: 0\r\nConnection: authorization, x-breakglass-scope, host\r\n\r\n"+canary),
		Entry("Expect", head+"Expect: 100-continue\r\nContent-Length: 70\r\n\r\n"+canary),
		Entry("a GET with a body", strings.Replace(head, "POST", "GET", 1)+"Content-Length: 60\r\n\r\n"+canary),
		Entry("an upgrade that the backend does not take", strings.Replace(head, "POST", "GET", 1)+"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"+canary),
		Entry("an upgrade with a body", head+"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello"+canary),
		Entry("an upgrade, chunked", head+"Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+canary),
		Entry("an upgrade to something else", strings.Replace(head, "POST", "GET", 1)+"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"+canary),
	)

	// request is one that is fine, over HTTP/2.
	request := func(name string) []testbed.Field {
		return []testbed.Field{
			{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: host}, {Name: ":path", Value: "/api/x"},
			{Name: "authorization", Value: "Bearer " + good}, {Name: "x-case", Value: name},
		}
	}
	with := func(changed ...testbed.Field) func([]testbed.Field) []testbed.Field {
		return func(fields []testbed.Field) []testbed.Field {
			for _, c := range changed {
				if i := slices.IndexFunc(fields, func(f testbed.Field) bool { return f.Name == c.Name && c.Name[0] == ':' }); i >= 0 {
					fields[i] = c
					continue
				}
				fields = append(fields, c)
			}
			return fields
		}
	}
	field := func(name, value string) testbed.Field { return testbed.Field{Name: name, Value: value} }

	DescribeTable("takes nothing of HTTP/2 that would be something else in HTTP/1", func(served bool, change func([]testbed.Field) []testbed.Field) {
		name := shared.Unique()
		f := shared.H2Frames()
		Expect(f.Request(1, true, change(request(name))...)).To(Succeed())
		status, seen := f.Status(1, 2*time.Second), wire.Seen(name)
		Expect(wire.Strange()).To(BeEmpty())
		if !served {
			Expect(status).To(Or(BeZero(), BeElementOf(400, 403, 404)))
			Expect(seen).To(BeEmpty())
			return
		}
		Expect(status).To(Equal(200))
		Expect(seen).To(HaveLen(1))
		Expect(strings.TrimSuffix(seen[0].Host, ":443")).To(Equal(host)) // a backend sees the port that the client wrote
		Expect(seen[0].Body).To(BeEmpty())
		Expect(seen[0].Header).NotTo(Or(HaveKey("Transfer-Encoding"), HaveKey("Keep-Alive"), HaveKey("Proxy-Connection")))
		for reading := range readings(seen[0].Target) {
			Expect(inside(reading)).To(BeTrue(), "%q can be read as %q", seen[0].Target, reading)
		}
	},
		Entry("one that is fine", true, with()),
		Entry("a line break in a value", false, with(field("x", "y\r\nGET /api/canary HTTP/1.1"))),
		Entry("a line feed in a value", false, with(field("x", "y\nTransfer-Encoding: chunked"))),
		Entry("a null byte in a value", false, with(field("x", "y\x00z"))),
		Entry("a line break in a name", false, with(field("x: y\r\nz", "1"))),
		Entry("a colon in a name", false, with(field("transfer-encoding:", "chunked"))),
		Entry("a space in a name", false, with(field("transfer-encoding ", "chunked"))),
		Entry("an upper-case name", false, with(field("X-Upper", "1"))),
		Entry("an empty name", false, with(field("", "1"))),
		Entry("an underscore in a name", false, with(field("content_length", "5"))),
		Entry("a line break in the path", false, with(field(":path", "/api/x HTTP/1.1\r\nX: y"))),
		Entry("a space in the path", false, with(field(":path", "/api/x HTTP/1.1"))),
		Entry("a tab in the path", false, with(field(":path", "/api/x\ty"))),
		Entry("a fragment in the path", false, with(field(":path", "/api/x#y"))),
		Entry("an empty path", false, with(field(":path", ""))),
		Entry("a path without a slash", false, with(field(":path", "api/x"))),
		Entry("the star", false, with(field(":path", "*"))),
		Entry("an absolute path", false, with(field(":path", "https://"+host+"/api/x"))),
		Entry("two paths", false, func(f []testbed.Field) []testbed.Field { return slices.Insert(f, 4, field(":path", "/admin")) }),
		Entry("two authorities", false, func(f []testbed.Field) []testbed.Field {
			return slices.Insert(f, 4, field(":authority", "other.example.test"))
		}),
		Entry("a host that differs", true, with(field("host", "other.example.test"))),
		Entry("an authority with user information", false, with(field(":authority", "a@"+host))),
		Entry("an authority with a path", false, with(field(":authority", host+"/api"))),
		Entry("an authority with a space", false, with(field(":authority", host+" x"))),
		Entry("an authority that is empty", false, with(field(":authority", ""))),
		Entry("an IPv6 authority", false, with(field(":authority", "[::1]:443"))),
		Entry("a port and a dot", true, with(field(":authority", host+".:443"))),
		Entry("a method with a space", false, with(field(":method", "GET /api/canary HTTP/1.1"))),
		Entry("a method with a line break", false, with(field(":method", "GET\r\n"))),
		Entry("another scheme, which is not believed", true, with(field(":scheme", "ftp"))),
		Entry("a pseudo-header that is none", false, with(field(":canary", "1"))),
		Entry("a pseudo-header at the end", false, func(f []testbed.Field) []testbed.Field { return append(f[1:], f[0]) }),
		Entry("Connection", false, with(field("connection", "close"))),
		Entry("Transfer-Encoding", false, with(field("transfer-encoding", "chunked"))),
		Entry("Keep-Alive", false, with(field("keep-alive", "1"))),
		Entry("Proxy-Connection", false, with(field("proxy-connection", "close"))),
		Entry("Upgrade", false, with(field("upgrade", "h2c"))),
		Entry("TE of something else", false, with(field("te", "gzip"))),
		Entry("Content-Length without a body", false, with(field("content-length", "60"))),
		Entry("two Content-Lengths", false, with(field("content-length", "0"), field("content-length", "5"))),
		Entry("CONNECT", false, with(field(":method", "CONNECT"))),
		Entry("an escaped slash", false, with(field(":path", "/api/..%2fadmin"))),
		Entry("an overlong slash", false, with(field(":path", "/api/..%e0%80%afadmin"))),
		Entry("an overlong slash, not escaped", false, with(field(":path", "/api/..\xe0\x80\xafadmin"))),
		Entry("an overlong slash, partly escaped", false, with(field(":path", "/api/..%e0\x80\xafadmin"))),
		Entry("two dots", false, with(field(":path", "/api/../admin"))),
	)

	It("takes no more of a body than its length says, over HTTP/2", func() {
		for _, body := range []string{"hell", "hello!", "hello" + strings.ReplaceAll(canary, "HOST", host)} {
			name := shared.Unique()
			f := shared.H2Frames()
			Expect(f.Request(1, false, with(field(":method", "POST"), field("content-length", "5"))(request(name))...)).To(Succeed())
			Expect(f.WriteData(1, true, []byte(body))).To(Succeed())
			Expect(f.Status(1, 2*time.Second)).NotTo(Equal(200), body)
			Expect(wire.Strange()).To(BeEmpty())
		}
	})

	It("ends a connection that floods it with frames, and others go on", func() {
		for what, flood := range map[string]func(f *testbed.Frames, i int) error{
			"rapid reset": func(f *testbed.Frames, i int) error {
				return errors.Join(f.Request(uint32(2*i+1), true, request("")[:4]...), f.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel))
			},
			"PING":          func(f *testbed.Frames, _ int) error { return f.WritePing(false, [8]byte{}) },
			"SETTINGS":      func(f *testbed.Frames, _ int) error { return f.WriteSettings() },
			"empty DATA":    emptyData(with(field(":method", "POST"))(request("empty"))),
			"CONTINUATION":  continuation,
			"WINDOW_UPDATE": func(f *testbed.Frames, _ int) error { return f.WriteWindowUpdate(0, 1) },
			"PRIORITY":      func(f *testbed.Frames, _ int) error { return f.WritePriority(1, http2.PriorityParam{StreamDep: 3}) },
			"too long a head": func(f *testbed.Frames, _ int) error {
				return f.Request(1, true, append(request(""), field("x", strings.Repeat("y", 40<<10)))...)
			},
		} {
			f := shared.H2Frames()
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				if what != "PING" && what != "SETTINGS" { // of which answers that nobody reads pile up
					f.Drain()
				}
			}()
			var err error
			n := 0
			for ; n < 200_000 && err == nil; n++ { // so many that no buffer takes them all
				err = flood(f, n)
			}
			Expect(err).To(HaveOccurred(), "%s: %d frames, and the connection is still there", what, n)
			after := testbed.Request{Host: host, Path: "/api/x", Token: good, Header: http.Header{"X-Case": {"after " + what}}}
			Expect(shared.TLS2().Do(after)).To(haveStatus(200))
			f.Close()
			<-closed
		}
	})
})

// emptyData opens a stream that is let through, so that it stays open, and then sends nothing on it, in many frames.
func emptyData(head []testbed.Field) func(*testbed.Frames, int) error {
	return func(f *testbed.Frames, i int) error {
		if i == 0 {
			return f.Request(1, false, head...)
		}
		return f.WriteData(1, false, nil)
	}
}

// continuation never comes to the end of its headers.
func continuation(f *testbed.Frames, i int) error {
	if i == 0 {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true})
	}
	return f.WriteContinuation(1, false, nil)
}
