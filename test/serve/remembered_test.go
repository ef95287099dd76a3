//go:build envoy

package serve

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// Envoy remembers that the signature of a token was good. Nothing else about it
// may be remembered.
var _ = Describe("A token whose signature Envoy remembers", Ordered, ContinueOnFailure, func() {
	var w *testbed.World
	var other *testbed.Issuer
	host := testbed.Host("rem")

	// ask on connections of their own, so that each worker is asked more than once.
	ask := func(path, token string) []testbed.Reply {
		GinkgoHelper()
		var all []testbed.Reply
		for range 24 {
			all = append(all, w.H1().Fresh().Get(host, path, token))
		}
		return all
	}
	// remembered asks until Envoy has answered from memory.
	remembered := func(path, token string, code int) {
		GinkgoHelper()
		before := hits(w)
		Expect(ask(path, token)).To(HaveEach(haveStatus(code)))
		Expect(hits(w)-before).To(BeNumerically(">=", 10), "signatures that were not checked again")
	}

	BeforeAll(func() {
		w, other = testbed.New(), testbed.NewIssuer("other")
		w.Policy.Issuers = append(w.Policy.Issuers, testbed.PolicyIssuer{Name: "other", URL: other.URL, JWKS: testbed.Inline(testbed.JWKS(other.Key))})
		w.Policy.Roles[0] = testbed.Role{Name: "db", Grants: `[{issuer: sso, claims: [{path: [groups], anyOf: [db-oncall]}]}, {issuer: other, claims: [{path: [groups], anyOf: [others]}]}]`}
		w.WritePolicy()
		w.Write("rem-route.yaml", testbed.Route{Name: "rem"}.YAML())
		w.Start()
		w.Activate(testbed.Activation{Name: "rem", Routes: []string{"rem"}, Duration: "30m"})
		Eventually(w.H1().Status(host, "/api/first", w.Token())).Should(Equal(200))
	})

	It("has its claims judged and logged each time", func() {
		remembered("/api/good", w.Token(), 200)
		remembered("/api/nobody", w.Issuer.Token("nobody"), 403)
		var entries []audit.RequestEntry
		Eventually(func() int {
			logged := w.Logged(audit.TypeEnd, "/api/")
			entries = append(logged["/api/good"], logged["/api/nobody"]...)
			return len(entries)
		}).Should(Equal(48))
		for _, e := range entries {
			Expect([]string{e.Issuer, e.Subject}).To(Equal([]string{w.Issuer.URL, "alice@example.test"}), "entry %s", e.Key)
		}
	})

	It("lends its good name to no other token", func() {
		token := w.Token()
		remembered("/api/good", token, 200)
		Expect(ask("/api/forged", testbed.WithSignature(token, make([]byte, 64)))).To(HaveEach(haveStatus(401)))
		Expect(ask("/api/forged", testbed.WithClaims(token, w.Issuer.Claims("db-oncall", testbed.Claims{"sub": "mallory"})))).To(HaveEach(haveStatus(401)))
	})

	It("is refused for an extension in its header each time", func() {
		for _, header := range []map[string]any{{"crit": []string{"x"}, "x": 1}, {"b64": true}, {"crit": nil}} {
			remembered("/api/extension", w.Issuer.Key.Sign(w.Issuer.Claims("db-oncall", nil).JSON(), header), 403)
		}
	})

	It("is refused from its end on", func() {
		end := time.Now().Add(2 * time.Second).Truncate(time.Second)
		token := w.Issuer.TokenWith(w.Issuer.Claims("db-oncall", testbed.Claims{"exp": end.Unix()}))
		remembered("/api/ends", token, 200)
		var replies []testbed.Reply
		for c := w.H1(); time.Now().Before(end.Add(200 * time.Millisecond)); {
			replies = append(replies, c.Get(host, "/api/ends", token))
		}
		for _, r := range replies {
			if r.Status == 200 {
				notAfter(r.Start, end, late, "accepted after exp")
			}
		}
		Expect(ask("/api/ends", token)).To(HaveEach(haveStatus(401, 403)))
	})

	It("is refused once its issuer was removed", func() {
		token := other.Token("others")
		remembered("/api/other", token, 200)
		w.Policy.Issuers = w.Policy.Issuers[:1]
		w.Policy.Roles[0] = testbed.Role{Name: "db", Group: "db-oncall"}
		w.WritePolicy()
		Eventually(w.H1().Fresh().Status(host, "/api/other", token)).Should(Equal(401))
		Expect(ask("/api/other", token)).To(HaveEach(haveStatus(401)))
		Expect(ask("/api/good", w.Token())).To(HaveEach(haveStatus(200)))
	})

	It("is refused once its key was withdrawn", func() {
		token, next := w.Token(), testbed.NewKey("sso-2")
		remembered("/api/key", token, 200)
		w.Policy.Issuers[0].JWKS = testbed.Inline(testbed.JWKS(next))
		w.WritePolicy()
		Eventually(w.H1().Fresh().Status(host, "/api/key", token)).Should(Equal(401))
		Expect(ask("/api/key", token)).To(HaveEach(haveStatus(401)))
		Expect(ask("/api/key", next.Sign(w.Issuer.Claims("db-oncall", nil).JSON(), nil))).To(HaveEach(haveStatus(200)))
	})
})

var hitCount = regexp.MustCompile(`jwt_cache_hit: (\d+)`)

// hits is how often Envoy found a token that it remembered.
func hits(w *testbed.World) (sum int) {
	GinkgoHelper()
	sockets, err := filepath.Glob(filepath.Join(w.Data, "run", "envoy", "*", "admin.sock"))
	Expect(err).NotTo(HaveOccurred())
	Expect(sockets).To(HaveLen(1))
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", sockets[0])
	}}}
	res, err := c.Get("http://envoy/stats?filter=jwt_cache_hit")
	Expect(err).NotTo(HaveOccurred())
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	Expect(err).NotTo(HaveOccurred())
	for _, m := range hitCount.FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.Atoi(m[1])
		Expect(err).NotTo(HaveOccurred())
		sum += n
	}
	return sum
}
