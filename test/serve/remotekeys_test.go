//go:build envoy

package serve

import (
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

var _ = Describe("Keys from an identity provider", func() {
	// fetching is a world whose issuer publishes its keys.
	fetching := func(maxStale string) (*testbed.World, *testbed.KeyServer) {
		w := testbed.New()
		idp := w.StartKeyServer(testbed.JWKS(w.Issuer.Key))
		w.Policy.Issuers[0].JWKS = fmt.Sprintf("{remote: {uri: '%s', refreshInterval: 1s, timeout: 1s, maxStale: %s, allowLocalTargets: true, caCertificates: %q}}",
			idp.URL(), maxStale, w.Authority())
		w.WritePolicy()
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML(), testbed.Route{Name: "s"}.YAML())
		return w, idp
	}
	open := func(name, route string) testbed.Activation {
		return testbed.Activation{Name: name, Routes: []string{route}, Duration: "10m"}
	}

	It("are kept on disk, so that an outage locks nobody out, not even over a restart", func() {
		w, idp := fetching("1h")
		w.Start()
		w.Activate(open("a", "r"))
		idp.Stop()
		w.StopServe()
		w.Start()
		w.AwaitPhase("a", "Live")
		Eventually(w.H1().Status(testbed.Host("r"), "/api/x", w.Token())).Should(Equal(200))
		w.Activate(open("b", "s"))
		Eventually(told(w)).Should(line("issuer sso", "1 keys", "stale true"))
	})

	It("are used no longer than maxStale", func() {
		w, idp := fetching("3s")
		w.Start()
		w.Activate(open("a", "r"))
		idp.Stop()
		Eventually(w.H1().Status(testbed.Host("r"), "/api/x", w.Token()), "8s").Should(Equal(401))
		Eventually(told(w)).Should(line("issuer sso", "0 keys", "maxStale"))
		idp.Resume()
		Eventually(w.H1().Status(testbed.Host("r"), "/api/x", w.Token())).Should(Equal(200))
	})

	It("that never came let nobody in, and the activation waits and says why", func() {
		w, idp := fetching("1h")
		idp.Stop()
		w.Spawn()
		w.Write("a.yaml", open("a", "r").YAML())
		// At a first start: so it has to be new to it.
		Eventually(w.Phase("a")).Should(Or(Equal("Pending NoUsableKeys"), Equal("Refused EmptyDataDir")))
		w.Write("b.yaml", open("b", "s").YAML())
		w.AwaitPhase("b", "Pending NoUsableKeys")
		Expect(w.Message("b")).To(ContainSubstring("sso"))
		idp.Resume()
		w.AwaitPhase("b", "Live")
		Eventually(w.H1().Status(testbed.Host("s"), "/api/x", w.Token())).Should(Equal(200))
	})

	It("are not taken from a loopback address, by a redirect, or from garbage", func() {
		w, idp := fetching("1h")
		allowed := w.Policy.Issuers[0].JWKS
		w.Policy.Issuers[0].JWKS = strings.Replace(allowed, "allowLocalTargets: true, ", "", 1)
		w.WritePolicy()
		w.Start()
		Eventually(told(w)).Should(line("issuer sso", "0 keys", "local address"))
		Expect(idp.Asked()).To(BeZero())

		w.Policy.Issuers[0].JWKS = allowed
		idp.Answer("redirect")
		w.WritePolicy()
		Eventually(told(w)).Should(line("issuer sso", "0 keys", "redirect"))
		idp.Answer("<html>sign in</html>")
		Eventually(idp.Asked).Should(BeNumerically(">=", 2))
		Eventually(told(w)).Should(line("issuer sso", "0 keys", "JSON"))
		idp.Answer(testbed.JWKS(w.Issuer.Key))
		w.Activate(open("a", "r"))

		By("and garbage does not replace what is good")
		asked := idp.Asked()
		idp.Answer("garbage")
		Eventually(idp.Asked).Should(BeNumerically(">", asked+1))
		Expect(w.H1().Get(testbed.Host("r"), "/api/x", w.Token())).To(haveStatus(200))
	})

	DescribeTable("stay what they were while their server", func(answer, said string) {
		w, idp := fetching("1h")
		w.Start()
		w.Activate(open("a", "r"))
		stream := w.H1().Events("events", testbed.Host("r"), "/api/stream", w.Token())
		p := w.H1().Probe(testbed.Request{Host: testbed.Host("r"), Path: "/api/x", Token: w.Token()}, 2*time.Millisecond)
		idp.Answer(answer)
		Eventually(told(w)).Should(line("issuer sso", "1 keys", "stale true"), told(w))
		Eventually(w.Log).Should(line("key set not refreshed", said))
		By("windows open and close meanwhile")
		w.Activate(open("b", "s"))
		Expect(w.H1().Get(testbed.Host("s"), "/api/x", w.Token())).To(haveStatus(200))
		w.Revoke("b")
		idp.Answer(testbed.JWKS(w.Issuer.Key))
		Eventually(told(w)).Should(line("issuer sso", "1 keys", "stale false"), told(w))
		onlyStatuses(p.Stop(), 200)
		bystanders{stream}.undisturbed()
	},
		Entry("sends a byte now and then", "drip", "within 1s"),
		Entry("sends no end of bytes", "huge", "larger than"),
		Entry("has an error", "broken", "500"),
	)

	It("that are rotated in an incident shut out the old key, let in the new one, and cut nobody off", func() {
		w, idp := fetching("1h")
		kept, next := testbed.NewKey("kept"), testbed.NewKey("next")
		idp.Answer(testbed.JWKS(w.Issuer.Key, kept))
		w.Start()
		w.Activate(open("a", "r"))
		token := func(k *testbed.Key) string { return k.Sign(w.Issuer.Claims("db-oncall", nil).JSON(), nil) }
		status := func(k *testbed.Key) func() int { return w.H1().Status(testbed.Host("r"), "/api/x", token(k)) }
		p := w.H1().Probe(testbed.Request{Host: testbed.Host("r"), Path: "/api/x", Token: token(kept)}, 2*time.Millisecond)
		stream := w.TLS2().Events("events", testbed.Host("r"), "/api/stream", token(kept))
		Expect(status(next)()).To(Equal(401))
		idp.Answer(testbed.JWKS(kept, next))
		Eventually(status(next)).Should(Equal(200))
		Expect(w.H1().Get(testbed.Host("r"), "/api/x", w.Token())).To(haveStatus(401), "the old key")
		onlyStatuses(p.Stop(), 200)
		bystanders{stream}.undisturbed()
	})
})
