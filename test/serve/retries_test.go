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

var _ = Describe("A request that is tried again", Ordered, func() {
	var w *testbed.World
	BeforeAll(func() {
		w = testbed.New()
		retried := func(name, extra string) string {
			return testbed.Route{Name: name, Rules: []testbed.Rule{{
				Matches: []string{testbed.Match("GET", "PathPrefix", "/api", ""), testbed.Match("POST", "PathPrefix", "/api", "")}, Extra: extra,
			}}}.YAML()
		}
		w.Write("routes.yaml", retried("some", "retry: {codes: [503], attempts: 2}"),
			retried("many", "retry: {codes: [503], attempts: 1000, backoff: 50ms}"),
			retried("slow", "retry: {codes: [503], attempts: 1}, timeouts: {backendRequest: 200ms}"))
		w.Start()
		w.Activate(testbed.Activation{Name: "some", Routes: []string{"some", "slow"}, Duration: "10m"})
	})

	It("is in the audit log once, with how often it was tried", func() {
		Expect(w.H1().Get(testbed.Host("some"), "/api/status/503", w.Token())).To(haveStatus(503))
		Expect(w.Backend.Hits("/api/status/503")).To(Equal(3))
		Expect(w.H1().Get(testbed.Host("some"), "/api/once", w.Token())).To(haveStatus(200))
		Eventually(func() int { return len(w.Logged(audit.TypeEnd, "/api/")) }).Should(Equal(2))
		logged := w.Logged(audit.TypeEnd, "/api/")
		Expect(logged["/api/status/503"]).To(HaveLen(1))
		Expect(logged["/api/status/503"][0].Attempts).To(BeEquivalentTo(3))
		Expect(logged["/api/once"][0].Attempts).To(BeZero())
	})

	It("is not, if it is refused", func() {
		Expect(w.H1().Get(testbed.Host("some"), "/api/status/503/refused", w.Issuer.Token("web"))).To(haveStatus(403))
		Expect(w.Backend.Hits("/api/status/503/refused")).To(BeZero())
	})

	It("may take the time of each try for each", func() {
		began := time.Now()
		Expect(w.H1().Get(testbed.Host("slow"), "/api/hang", w.Token())).To(haveStatus(504))
		Expect(time.Since(began)).To(BeNumerically(">=", 400*time.Millisecond))
		Expect(w.Backend.Hits("/api/hang")).To(Equal(2))
	})

	It("reaches no backend after the deadline, although serve was killed a second before", func() {
		w.Activate(testbed.Activation{Name: "many", Routes: []string{"many"}, Duration: "3s"})
		deadline := w.Deadline("many")
		done := make(chan testbed.Reply, 1)
		go func() {
			done <- w.H1().Do(testbed.Request{Method: http.MethodPost, Host: testbed.Host("many"), Path: "/api/status/503?many", Token: w.Token(), Body: strings.NewReader("body")})
		}()
		Eventually(func() int { return w.Backend.Hits("/api/status/503") }).Should(BeNumerically(">", 5))
		testbed.WaitUntil(deadline.Add(-time.Second))
		w.KillServe()
		testbed.WaitUntil(deadline.Add(late))
		hits := w.Backend.Hits("/api/status/503")
		Consistently(func() int { return w.Backend.Hits("/api/status/503") }, "1s", "50ms").Should(Equal(hits))
		Eventually(done, "10s").Should(Receive(beRefused()))
	})
})
