//go:build envoy

package serve

import (
	"math/rand/v2"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

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
		replies := shared.Bytes(testbed.Lines("GET "+target+" HTTP/1.1", "Host: "+host, "Authorization: Bearer "+good, "X-Case: "+name, "Connection: close"), patience)
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
			"%252e", "%c0%af", "%0a", "%20", "%7E", "%61", "\t", "\x80", "a", "api", "/api", "/api/", "admin", "/admin", "exact", "/exact", "x", "http://" + host, ":", "@", "*", "&", "+",
		}
		seed := uint64(time.Now().UnixNano())
		random, served := rand.New(rand.NewPCG(seed, 0)), 0
		const targets = 1000
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
})
