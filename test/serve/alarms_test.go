//go:build envoy

package serve

import (
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// alarming is a world with a real Alertmanager, and more sinks if there are any.
func alarming(more ...string) (*testbed.World, *testbed.Alertmanager) {
	GinkgoHelper()
	w, am := testbed.New(), testbed.StartAlertmanager()
	w.WriteSinks(append([]string{am.Sink()}, more...)...)
	w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML())
	w.Start()
	return w, am
}

// about an activation.
func about(alerts []testbed.Alert, name string) *testbed.Alert {
	for i := range alerts {
		if alerts[i].Labels["activation"] == testbed.Namespace+"/"+name {
			return &alerts[i]
		}
	}
	return nil
}

// told waits for an alert of a name and returns it, and when it was seen.
func toldBy(am *testbed.Alertmanager, name, activation string) (testbed.Alert, time.Time) {
	GinkgoHelper()
	var found *testbed.Alert
	Eventually(func() *testbed.Alert {
		all := am.Alerts(name)
		if activation != "" {
			found = about(all, activation)
		} else if len(all) > 0 {
			found = &all[0]
		}
		return found
	}, "20s", "5ms").ShouldNot(BeNil(), "no alert %s", name)
	return *found, time.Now()
}

var _ = Describe("Alarms", func() {
	It("of an activation are at a real Alertmanager within a second, and the log says when", func() {
		w, am := alarming()
		n := 20
		for i := range n {
			name := fmt.Sprint("a", i)
			w.Write(name+".yaml", testbed.Activation{Name: name, Routes: []string{"r"}, Duration: "10m", Drill: i%2 == 1}.YAML())
			a, seen := toldBy(am, audit.AlarmOpened, name)
			testbed.Figure("activation opened: alarm in Alertmanager", seen.Sub(a.StartsAt))
			Expect(seen.Sub(a.StartsAt)).To(BeNumerically("<", bound(time.Second)))
			if i%2 == 1 {
				Expect(a.Labels).To(And(HaveKeyWithValue("drill", "true"), HaveKeyWithValue("severity", "critical")))
			} else {
				Expect(a.Labels).To(HaveKeyWithValue("severity", "critical"))
			}
			Expect(a.Annotations["summary"]).To(And(ContainSubstring("as db until"), ContainSubstring("a test")))
			Eventually(func() int { return len(w.Delivered(a.Labels["id"])) }).Should(Equal(1))
			receipt := w.Delivered(a.Labels["id"])[0]
			Expect(receipt.Sink).To(Equal("alertmanager"))
			testbed.Figure("activation opened: receipt says", receipt.At.Sub(receipt.Time))
		}
		Expect(w.Raised(audit.AlarmOpened)).To(HaveLen(n))
		st := w.Status().Alarms
		Expect(st.Problem).To(BeEmpty())
		Expect(st.Undelivered).To(BeZero())
		sound(w)
	})

	It("of each kind are raised by what causes them, once", func() {
		w, am := alarming()
		vault := testbed.NewIssuer("vault")
		w.Policy.Issuers = append(w.Policy.Issuers, testbed.PolicyIssuer{Name: "vault", URL: vault.URL, JWKS: testbed.Inline(testbed.JWKS(vault.Key)), Offline: true})
		w.Policy.Roles[0].Grants = "[{issuer: sso, claims: [{path: [groups], anyOf: [db-oncall]}]}, {issuer: vault, claims: [{path: [groups], anyOf: [db-oncall]}]}]"
		figure := func(kind string, since time.Time) { testbed.Figure("alarm in Alertmanager: "+kind, time.Since(since)) }

		at := w.WritePolicy()
		Eventually(func() []testbed.Alert { return am.Alerts(audit.AlarmPolicy) }, "20s", "5ms").Should(ContainElement(
			HaveField("Annotations", HaveKeyWithValue("summary", ContainSubstring("was changed")))))
		figure("policy changed", at)

		at = w.Write("more.yaml", testbed.Route{Name: "more"}.YAML())
		a, _ := toldBy(am, audit.AlarmConfig, "")
		figure("a route was added", at)
		Expect(a.Annotations["summary"]).To(ContainSubstring("HTTPRoute pay/more added"))

		at = w.Write("b.yaml", testbed.Activation{Name: "b", Role: "web", Routes: []string{"r"}, Duration: "10m"}.YAML())
		a, _ = toldBy(am, audit.AlarmRefused, "b")
		figure("refused", at)
		Expect(a.Labels).To(HaveKeyWithValue("severity", "warning"))

		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "10m"})
		at = time.Now()
		Eventually(w.H1().Status(testbed.Host("r"), "/api/x", vault.Token("db-oncall"))).Should(Equal(200))
		a, _ = toldBy(am, audit.AlarmOffline, "a")
		figure("offline issuer", at)
		Expect(a.Labels).To(And(HaveKeyWithValue("subject", "alice@example.test"), HaveKeyWithValue("issuer", vault.URL), HaveKeyWithValue("severity", "critical")))
		Expect(w.H1().Get(testbed.Host("r"), "/api/x", vault.Token("db-oncall"))).To(haveStatus(200))

		forger := testbed.NewIssuer("sso") // the right name, and another key
		for range 30 {
			at = time.Now()
			Expect(w.H1().Get(testbed.Host("r"), "/api/x", forger.Token("db-oncall"))).To(haveStatus(401))
			Expect(w.H1().Get(testbed.Host("r"), "/api/x", "")).To(haveStatus(401)) // no token is no forgery
		}
		a, _ = toldBy(am, audit.AlarmForged, "")
		figure("forged tokens", at)
		Expect(a.Labels).To(HaveKeyWithValue("gateway", testbed.Namespace+"/door"))
		Expect(a.Annotations["summary"]).To(ContainSubstring("10 requests with forged tokens"))

		at = w.Revoke("a")
		a, _ = toldBy(am, audit.AlarmRevoked, "a")
		figure("revoked", at)

		ends := w.Activate(testbed.Activation{Name: "c", Routes: []string{"r"}, Duration: "2s"})
		_, _ = toldBy(am, audit.AlarmEnded, "c")
		figure("ended", ends)

		w.Activate(testbed.Activation{Name: "d", Routes: []string{"r"}, Duration: "10m"})
		load := w.Load(testbed.Host("r"), "/api/load", w.Token(), 8, 1000, 1_000_000)
		Eventually(func() int { return len(w.Logged(audit.TypeEnd, "/api/load")) }).Should(BeNumerically(">", 100))
		w.KillEnvoy()
		Eventually(func() int { return len(w.Gaps()) }, "20s", "5ms").Should(BeNumerically(">", 0))
		at = time.Now()
		_, _ = toldBy(am, audit.AlarmGap, "")
		figure("a gap", at)
		load.Stop()

		w.Policy.Suspended = true
		at = w.WritePolicy()
		Eventually(func() []testbed.Alert { return am.Alerts(audit.AlarmPolicy) }, "20s", "5ms").Should(ContainElement(And(
			HaveField("Labels", HaveKeyWithValue("severity", "critical")), HaveField("Annotations", HaveKeyWithValue("summary", ContainSubstring("panic button"))))))
		figure("the panic button", at)
		_, _ = toldBy(am, audit.AlarmRevoked, "d")

		By("each being there once, with a receipt, and without a token")
		seen := map[string]bool{}
		for _, r := range w.Raised("") {
			Expect(seen).NotTo(HaveKey(r.ID))
			seen[r.ID] = true
			Eventually(func() int { return len(w.Delivered(r.ID)) }).Should(Equal(1), r.ID)
			Expect(fmt.Sprint(r)).NotTo(ContainSubstring("eyJ"))
		}
		Expect(w.Raised(audit.AlarmOffline)).To(HaveLen(1))
		Expect(w.Raised(audit.AlarmForged)).To(HaveLen(1))
		sound(w)
	})

	It("are delivered after a kill between the two, as one, and another sink says that the first does not take them", func() {
		hook := testbed.StartWebhook()
		w, am := alarming(hook.Sink())
		am.Hang()
		began := time.Now()
		w.Write("a.yaml", testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "10m"}.YAML())
		Eventually(func() []testbed.Received { return hook.Alarms(audit.AlarmOpened) }, "20s", "5ms").Should(HaveLen(1), "one that hangs holds up no other")
		opened := hook.Alarms(audit.AlarmOpened)[0]
		testbed.Figure("one sink hangs: alarm at the other", opened.At.Sub(opened.Time))
		Eventually(func() []testbed.Received { return hook.Alarms(audit.AlarmSink) }, "20s", "5ms").Should(HaveLen(1))
		failing := hook.Alarms(audit.AlarmSink)[0]
		testbed.Figure("one sink hangs: alarm of that at the other", failing.At.Sub(opened.Time))
		Expect(failing.Severity).To(Equal("critical"))
		Expect(failing.Labels).To(HaveKeyWithValue("sink", "alertmanager"))
		Expect(w.Status().Alarms.Problem).To(BeEmpty(), "the other works")

		By("closing meanwhile as fast as ever")
		Eventually(w.H1().Status(testbed.Host("r"), "/api/x", w.Token())).Should(Equal(200))
		asked := w.Revoke("a")
		Eventually(w.H1().Status(testbed.Host("r"), "/api/x", w.Token()), "20s", "1ms").Should(Equal(404))
		testbed.Figure("a sink hangs: revoked", time.Since(asked))
		notAfter(time.Now(), asked, revocation, "revoked while a sink hangs")
		w.KillServe()
		am.Resume()
		w.Start()
		a, _ := toldBy(am, audit.AlarmOpened, "a")
		_, _ = toldBy(am, audit.AlarmRevoked, "a")
		Expect(am.Alerts(audit.AlarmOpened)).To(HaveLen(1))
		Eventually(func() int { return len(w.Delivered(a.Labels["id"])) }).Should(BeNumerically(">=", 2), "a receipt of each sink")
		Expect(w.Raised(audit.AlarmOpened)).To(HaveLen(1))
		Expect(w.Raised(audit.AlarmRevoked)).To(HaveLen(1))
		Expect(time.Since(began)).To(BeNumerically("<", time.Minute))
		Eventually(func() int { return w.Status().Alarms.Undelivered }).Should(BeZero())
		sound(w)
	})

	It("that the log cannot take reach people all the same, and are in it once it can", func() {
		w, am := degrading(), testbed.StartAlertmanager()
		w.WriteSinks(am.Sink())
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML())
		fill, free := smallDisk(w)
		w.Start()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "10m"})
		fill()
		at := time.Now()
		a, _ := toldBy(am, audit.AlarmFailing, "")
		testbed.Figure("the disk is full: alarm in Alertmanager", time.Since(at))
		Expect(a.Labels).To(HaveKeyWithValue("severity", "critical"))
		Expect(a.Annotations["summary"]).To(ContainSubstring("cannot be kept"))
		free()
		Eventually(func() []audit.Alarm { return w.Raised(audit.AlarmFailing) }).ShouldNot(BeEmpty())
		Eventually(func() int { return len(w.Delivered(a.Labels["id"])) }).Should(Equal(1))
		sound(w)
	})

	It("that nobody gets are said where people look", func() {
		route := dormantRoute()
		Expect(shared.Status().Alarms.Problem).To(ContainSubstring("no alarm sink is configured"))
		out, err := activate(route)
		Expect(err).NotTo(HaveOccurred(), out)
		Expect(out).To(ContainSubstring("Warning: nobody is told that this door is open: no alarm sink is configured"))
		out, err = shared.Run("status")
		Expect(err).NotTo(HaveOccurred(), out)
		Expect(out).To(ContainSubstring("\n  NOBODY IS TOLD")) // below what is not served of other specs

		By("and when the only sink is dead")
		w, am := alarming()
		am.Kill()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "10m"})
		Eventually(func() string { return w.Status().Alarms.Problem }).Should(ContainSubstring("the alarm sink takes nothing: alertmanager since"))
		Expect(w.Status().Alarms.Undelivered).To(BeNumerically(">", 0))
		Expect(w.Log()).To(ContainSubstring("nobody is told of alarms"))
		am.Start()
		Eventually(func() string { return w.Status().Alarms.Problem }).Should(BeEmpty())
		_, _ = toldBy(am, audit.AlarmOpened, "a")
		_, _ = toldBy(am, audit.AlarmSink, "")
	})
})
