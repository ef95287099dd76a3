//go:build envoy

package serve

import (
	"fmt"
	"regexp"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// What the gateway says by itself tells a client an id to ask about, and
// somebody without a token nothing else.
var _ = Describe("The gateway's own answers", Ordered, func() {
	const host = "answers.example.test"
	var wire *testbed.Wire

	BeforeAll(func() {
		wire = testbed.StartWire()
		get := []string{testbed.Match("GET", "PathPrefix", "/api", ""), testbed.Match("POST", "PathPrefix", "/api", "")}
		shared.Write("answers.yaml", testbed.Service("answers", wire.Port()), testbed.Service("nobody", testbed.FreePort()),
			testbed.Route{Name: "answers", Hosts: []string{host}, Rules: []testbed.Rule{
				{Service: "answers", Matches: get},
				{Service: "nobody", Matches: []string{testbed.Match("GET", "PathPrefix", "/down", "")}},
			}}.YAML(),
			testbed.Route{Name: "answers-dormant"}.YAML(),
			testbed.Activation{Name: "answers", Routes: []string{"answers"}, Duration: "30m"}.YAML())
		shared.AwaitPhase("answers", "Live")
	})

	id := regexp.MustCompile(`^(\d{3} [a-z ]+), request ([0-9a-f-]{36})\n$`)

	It("are one line with the request's id, by which the audit log has the reason", func() {
		good := shared.Token()
		for name, c := range map[string]*testbed.Client{"h1": shared.H1(), "h2": shared.TLS2()} {
			for _, ask := range []struct {
				host, path, token, says, reason string
			}{
				{host, "/api/no-token", "", "401 unauthorized", "token: Jwt is missing"},
				{host, "/api/bad-token", "x.y.z", "401 unauthorized", "token: "},
				{host, "/api/no-role", shared.Issuer.Token("nobody"), "403 forbidden", "rbac: "},
				{host, "/nothing", good, "404 not found", "not open"},
				{testbed.Host("answers-dormant"), "/api/x", good, "404 not found", "not open"},
				{"nobody.example.test", "/api/x", "", "404 not found", "not open"},
				{host, "/api/x;y", good, "400 bad request", ""},
				{host, "/down", good, "503 unavailable", ""},
			} {
				r := c.Get(ask.host, ask.path+"?"+name, ask.token)
				parts := id.FindStringSubmatch(r.Body)
				Expect(parts).NotTo(BeNil(), "%s answers %d %q", ask.path, r.Status, r.Body)
				Expect(parts[1]).To(Equal(ask.says))
				Expect(fmt.Sprint(r.Status)).To(Equal(ask.says[:3]))
				Expect(r.Header.Get("X-Request-Id")).To(Equal(parts[2]))
				Expect(r.Header.Get("Content-Type")).To(Equal("text/plain"))
				if r.Status == 401 {
					Expect(r.Header.Values("Www-Authenticate")).To(Equal([]string{"Bearer"}))
				}
				for h := range r.Header {
					Expect(h).To(BeElementOf("Content-Length", "Content-Type", "Date", "X-Request-Id", "Www-Authenticate", "Connection"))
				}
				var entry audit.RequestEntry
				Eventually(func() bool {
					entry = loggedAs(parts[2])
					return entry.Key != ""
				}).Should(BeTrue(), "no entry of request %s", parts[2])
				Expect(entry.Status).To(BeEquivalentTo(r.Status))
				Expect(entry.Denied).To(HavePrefix(ask.reason))
				Expect(entry.Denied == "").To(Equal(ask.reason == ""))
				Expect(entry.Details).NotTo(BeEmpty())
			}
		}
	})

	It("are found by the id that the client was told", func() {
		r := shared.H1().Get(host, "/api/asked-about", "")
		parts := id.FindStringSubmatch(r.Body)
		Expect(parts).NotTo(BeNil())
		Eventually(func() string {
			out, err := shared.Run("audit", "list", "--request", parts[2], "-o", "json")
			Expect(err).NotTo(HaveOccurred(), out)
			return out
		}).Should(And(ContainSubstring("/api/asked-about"), ContainSubstring("Jwt is missing")))
	})

	It("do not take the client's word for the id", func() {
		for _, token := range []string{"", shared.Token()} {
			r := shared.H1().Do(testbed.Request{Host: host, Path: "/api/id", Token: token, Header: map[string][]string{"X-Request-Id": {"mine"}}})
			Expect(r.Header.Get("X-Request-Id")).NotTo(Equal("mine"))
			Expect(r.Body).NotTo(ContainSubstring("mine"))
		}
	})

	It("are the same for a host that exists and one that does not", func() {
		blank := func(r testbed.Reply) string { return id.ReplaceAllString(r.Body, "$1") }
		for _, token := range []string{"", shared.Token()} {
			there := shared.H1().Get(testbed.Host("answers-dormant"), "/api/x", token)
			gone := shared.H1().Get("nobody.example.test", "/api/x", token)
			Expect(there).To(haveStatus(404))
			Expect(gone).To(haveStatus(404))
			Expect(blank(there)).To(Equal(blank(gone)))
			Expect(len(there.Header)).To(Equal(len(gone.Header)))
		}
	})

	It("come as a grpc-status to a client of gRPC", func() {
		grpc := map[string][]string{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
		for token, want := range map[string]string{"": "16", shared.Issuer.Token("nobody"): "7"} { // UNAUTHENTICATED, PERMISSION_DENIED
			r := shared.TLS2().Do(testbed.Request{Method: "POST", Host: host, Path: "/api/Service/Call", Token: token, Header: grpc})
			Expect(r).To(haveStatus(200))
			Expect(r.Header.Get("Grpc-Status")).To(Equal(want))
			Expect(r.Header.Get("Content-Type")).To(Equal("application/grpc"))
			Expect(r.Header.Get("Grpc-Message")).To(MatchRegexp(`request [0-9a-f-]{36}`))
		}
	})

	It("and a backend's name neither its software nor ours", func() {
		for _, c := range []*testbed.Client{shared.H1(), shared.TLS2()} {
			r := c.Get(host, "/api/hidden", shared.Token())
			Expect(r).To(haveStatus(200))
			for name := range r.Header {
				Expect(strings.ToLower(name)).NotTo(Or(HavePrefix("x-envoy-"), Equal("server"), Equal("x-powered-by"), Equal("via")))
			}
		}
	})
})

// loggedAs is the entry of the request with an id.
func loggedAs(id string) audit.RequestEntry {
	GinkgoHelper()
	for _, of := range shared.Logged(audit.TypeEnd, "") {
		for _, r := range of {
			if r.Key == id {
				return r
			}
		}
	}
	return audit.RequestEntry{}
}
