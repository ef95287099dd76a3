//go:build envoy

package serve

import (
	"fmt"
	"os"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// closesAt checks what a probe saw around a deadline: everything before it is
// served, nothing after it, and nothing in between looks like a failure.
func closesAt(figure string, samples []testbed.Reply, deadline time.Time) {
	GinkgoHelper()
	const early = 5 * time.Millisecond
	var lastOK, refused time.Time
	var slowest time.Duration
	for n, s := range samples {
		slowest = max(slowest, s.End.Sub(s.Start))
		if s.Status == 200 {
			lastOK = s.Start
		}
		switch {
		case s.End.Before(deadline.Add(-early)):
			Expect(s).To(haveStatus(200), "before the deadline: %v; %s", s.Err, testbed.Runs(samples))
		case s.Status != 200 && s.Start.After(deadline) && !testbed.Cut(samples, n):
			Expect(s).To(haveStatus(403, 404), "after the deadline: %v; %s", s.Err, testbed.Runs(samples))
		}
		if s.Status != 200 && refused.IsZero() {
			refused = s.Start
		}
	}
	Expect(refused).NotTo(BeZero(), "it never closed")
	notAfter(lastOK, deadline, late, "the last request that was served began then")
	testbed.Figure(figure+": first refusal after the deadline", refused.Sub(deadline))
	testbed.Figure(figure+": last 200 began after the deadline", lastOK.Sub(deadline))
	testbed.Figure(figure+": slowest answer", slowest)
}

// probes ask often enough that one of them asks at any time. What is returned
// ends them, each when it has asked after all of these instants.
func probes(w *testbed.World, host, path, token string) func(after ...time.Time) []testbed.Reply {
	GinkgoHelper()
	var all []*testbed.Probe
	for _, c := range []*testbed.Client{w.H1(), w.TLS2()} {
		p := c.Probe(testbed.Request{Host: host, Path: path, Token: token}, 2*time.Millisecond)
		Eventually(p.LastStatus, "20s", "1ms").Should(Equal(200))
		all = append(all, p)
	}
	return func(after ...time.Time) []testbed.Reply {
		GinkgoHelper()
		var out []testbed.Reply
		for _, p := range all {
			for _, instant := range after {
				Eventually(p.LastStart).Should(BeTemporally(">", instant))
			}
			out = append(out, p.Stop()...)
		}
		slices.SortFunc(out, func(a, b testbed.Reply) int { return a.Start.Compare(b.Start) })
		return out
	}
}

// staysClosed checks that a route closes and goes on to be closed.
func staysClosed(w *testbed.World, route string) {
	GinkgoHelper()
	c, token := w.H1(), w.Token()
	// Serve decides a moment before Envoy does what it was told.
	Eventually(c.Status(testbed.Host(route), "/api/closed", token), revocation, "1ms").Should(BeElementOf(403, 404))
	Consistently(c.Status(testbed.Host(route), "/api/closed", token), "100ms", "2ms").Should(BeElementOf(403, 404))
}

var _ = Describe("A window", func() {
	It("opens without anything between 404 and 200", func() {
		for range 5 {
			name := shared.Unique()
			shared.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
			Eventually(func() bool { return shared.RouteStatus(name) != nil }).Should(BeTrue())
			p := shared.H1().Probe(testbed.Request{Host: testbed.Host(name), Path: "/api/x", Token: shared.Token()}, time.Millisecond)
			Eventually(p.Samples).ShouldNot(BeEmpty())
			applied := shared.Write(name+".yaml", testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"}.YAML())
			Eventually(p.LastStatus, "20s", "1ms").Should(Equal(200))
			samples := p.Stop()
			onlyStatuses(samples, 404, 200)
			first, _ := testbed.FirstWith(samples, 200)
			testbed.Figure("apply a manifest: first 200", first.End.Sub(applied))
		}
	})

	It("opens for every worker of Envoy at once", func() {
		for range 8 {
			name := shared.Unique()
			shared.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
			Eventually(func() bool { return shared.RouteStatus(name) != nil }).Should(BeTrue())
			var all []*testbed.Probe
			for range 3 {
				all = append(all, shared.H1().Fresh().Probe(testbed.Request{Host: testbed.Host(name), Path: "/api/x", Token: shared.Token()}, time.Millisecond))
			}
			shared.Write(name+".yaml", testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"}.YAML())
			for _, p := range all {
				Eventually(p.LastStatus, "20s", "1ms").Should(Equal(200))
			}
			testbed.WaitUntil(time.Now().Add(50 * time.Millisecond))
			for _, p := range all {
				onlyAmong(p.Stop(), 404, 200)
			}
		}
	})

	It("opens a route that comes together with its activation as cleanly", func() {
		name := shared.Unique()
		p := shared.TLS2().Probe(testbed.Request{Host: testbed.Host(name), Path: "/api/x", Token: shared.Token()}, time.Millisecond)
		shared.Write(name+".yaml", testbed.Route{Name: name}.YAML(), testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"}.YAML())
		Eventually(p.LastStatus, "20s", "1ms").Should(Equal(200))
		onlyStatuses(p.Stop(), 404, 200)
	})

	It("closes at its deadline", func() {
		name := shared.Unique()
		shared.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
		deadline := shared.Activate(testbed.Activation{Name: name, Routes: []string{name}, Duration: "2s500ms"})
		stop := probes(shared, testbed.Host(name), "/api/x", shared.Token())
		testbed.WaitUntil(deadline.Add(150 * time.Millisecond))
		closesAt("deadline, serve alive", stop(deadline), deadline)
		shared.AwaitPhase(name, "Expired DeadlinePassed")
		Expect(shared.H1().Get(testbed.Host(name), "/api/x", shared.Token())).To(haveStatus(404))
	})

	It("closes at its deadline although serve was killed a second before", func() {
		w := testbed.New()
		w.Write("r.yaml", testbed.Route{Name: "r"}.YAML())
		w.Start()
		deadline := w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "3s"})
		stop := probes(w, testbed.Host("r"), "/api/x", w.Token())
		testbed.WaitUntil(deadline.Add(-time.Second))
		w.KillServe()
		testbed.WaitUntil(deadline.Add(150 * time.Millisecond))
		closesAt("deadline, serve killed", stop(deadline), deadline)
	})

	It("keeps its deadline over a restart of serve", func() {
		w := testbed.New()
		w.Write("r.yaml", testbed.Route{Name: "r"}.YAML())
		w.Start()
		deadline := w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "5s"})
		stop := probes(w, testbed.Host("r"), "/api/x", w.Token())
		w.KillServe()
		w.Start()
		w.AwaitPhase("a", "Live")
		Expect(w.Deadline("a")).To(BeTemporally("==", deadline))
		testbed.WaitUntil(deadline.Add(150 * time.Millisecond))
		closesAt("deadline, serve restarted", stop(deadline), deadline)
		w.AwaitPhase("a", "Expired DeadlinePassed")
		w.KillServe()
		w.Start()
		Expect(w.Deadline("a")).To(BeTemporally("==", deadline))
		staysClosed(w, "r")
	})

	It("cannot be opened again under a spent name, not even after a restart", func() {
		w := testbed.New()
		w.Write("r.yaml", testbed.Route{Name: "r"}.YAML())
		w.Start()
		a := testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "10m"}
		w.Activate(a)
		w.Remove("a.yaml")
		w.AwaitPhase("a", "Revoked Deleted")
		w.Write("a.yaml", a.YAML())
		w.AwaitPhase("a", "Refused NameSpent")
		Expect(w.Message("a")).To(ContainSubstring("use a new name"))
		staysClosed(w, "r")
		w.StopServe()
		w.Start()
		w.AwaitPhase("a", "Refused NameSpent")
		staysClosed(w, "r")

		By("another name opens it")
		a.Name = "b"
		w.Activate(a)
	})

	It("is refused at a first start unless a future notAfter bounds it, and so after the data directory was lost", func() {
		w := testbed.New()
		notAfter := time.Now().Add(time.Hour).Truncate(time.Second)
		w.Write("all.yaml", testbed.Route{Name: "r"}.YAML(), testbed.Route{Name: "s"}.YAML(), testbed.Route{Name: "t"}.YAML(),
			testbed.Activation{Name: "unbounded", Routes: []string{"r"}, Duration: "10m"}.YAML(),
			testbed.Activation{Name: "bounded", Routes: []string{"s"}, Duration: "10m", NotAfter: notAfter}.YAML(),
			testbed.Activation{Name: "past", Routes: []string{"t"}, Duration: "10m", NotAfter: time.Now().Add(-time.Second)}.YAML())
		w.Start()
		w.AwaitPhase("unbounded", "Refused EmptyDataDir")
		w.AwaitPhase("bounded", "Live")
		w.AwaitPhase("past", "Refused NotAfterPassed")
		staysClosed(w, "r")
		Expect(w.H1().Get(testbed.Host("s"), "/api/x", w.Token())).To(haveStatus(200))

		By("a new one opens, once it is no first start any more")
		w.Activate(testbed.Activation{Name: "later", Routes: []string{"r"}, Duration: "10m"})
		w.StopServe()
		Expect(os.RemoveAll(w.Data)).To(Succeed())
		w.Start()
		w.AwaitPhase("later", "Refused EmptyDataDir")
		w.AwaitPhase("unbounded", "Refused EmptyDataDir")
		staysClosed(w, "r")
	})

	It("is withdrawn when its route is edited, until it is activated anew", func() {
		name := shared.Unique()
		route := testbed.Route{Name: name}
		shared.Write(name+"-route.yaml", route.YAML())
		shared.Activate(testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"})
		route.Rules = []testbed.Rule{{Matches: []string{testbed.Match("GET", "PathPrefix", "/api", ""), testbed.Match("GET", "PathPrefix", "/more", "")}}}
		shared.Write(name+"-route.yaml", route.YAML())
		shared.AwaitPhase(name, "Revoked RouteChanged")
		staysClosed(shared, name)
		Expect(shared.H1().Get(testbed.Host(name), "/more", shared.Token())).To(haveStatus(404))

		By("putting it back does not open it either")
		route.Rules = nil
		shared.Write(name+"-route.yaml", route.YAML())
		staysClosed(shared, name)
		shared.Activate(testbed.Activation{Name: name + "-2", Routes: []string{name}, Duration: "10m"})
		Expect(shared.H1().Get(testbed.Host(name), "/api/x", shared.Token())).To(haveStatus(200))
	})

	DescribeTable("is not extended by an edit of its activation", func(edit func(*testbed.Activation)) {
		name := shared.Unique()
		shared.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML(), testbed.Route{Name: name + "-2"}.YAML())
		a := testbed.Activation{Name: name, Routes: []string{name}, Duration: "1s"}
		deadline := shared.Activate(a)
		edit(&a)
		shared.Write(name+".yaml", a.YAML())
		Eventually(shared.Problems).Should(ContainElement(And(ContainSubstring(name+".yaml"), ContainSubstring("cannot be changed"))))
		Expect(shared.Deadline(name)).To(BeTemporally("==", deadline))
		testbed.WaitUntil(deadline)
		staysClosed(shared, name)
		staysClosed(shared, name+"-2")
		shared.AwaitPhase(name, "Expired DeadlinePassed")
		Expect(shared.Deadline(name)).To(BeTemporally("==", deadline))
		shared.Remove(name + ".yaml")
	},
		Entry("duration", func(a *testbed.Activation) { a.Duration = "1h" }),
		Entry("no duration", func(a *testbed.Activation) { a.Duration = "" }),
		Entry("notAfter", func(a *testbed.Activation) { a.NotAfter = time.Now().Add(time.Hour) }),
		Entry("role", func(a *testbed.Activation) { a.Role = "web" }),
		Entry("targets", func(a *testbed.Activation) { a.Routes = append(a.Routes, a.Routes[0]+"-2") }),
		Entry("drill", func(a *testbed.Activation) { a.Drill = true }),
	)

	It("is closed for good by revoked: true", func() {
		name := shared.Unique()
		shared.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
		a := testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"}
		shared.Activate(a)
		stop := probes(shared, testbed.Host(name), "/api/x", shared.Token())
		a.Revoked = true
		asked := shared.Write(name+".yaml", a.YAML())
		shared.AwaitPhase(name, "Revoked")
		staysClosed(shared, name)
		onlyRefusedAfter(stop(), asked)
		a.Revoked = false
		shared.Write(name+".yaml", a.YAML())
		staysClosed(shared, name)
		Expect(shared.Phase(name)()).To(HavePrefix("Revoked"))
	})

	It("is closed with all others by suspended: true, and stays closed afterwards", func() {
		w := testbed.New()
		w.Write("r.yaml", testbed.Route{Name: "r"}.YAML(), testbed.Route{Name: "s", Role: "web"}.YAML())
		w.Start()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "10m"})
		w.Activate(testbed.Activation{Name: "b", Role: "web", Routes: []string{"s"}, Duration: "10m"})
		stop := probes(w, testbed.Host("r"), "/api/x", w.Token())
		w.Policy.Suspended = true
		asked := w.WritePolicy()
		w.AwaitPhase("a", "Revoked PolicySuspended")
		w.AwaitPhase("b", "Revoked PolicySuspended")
		staysClosed(w, "r")
		onlyRefusedAfter(stop(), asked)
		Expect(w.H1().Get(testbed.Host("s"), "/api/x", w.Issuer.Token("web"))).To(haveStatus(404))

		By("nothing opens meanwhile")
		w.Write("c.yaml", testbed.Activation{Name: "c", Routes: []string{"r"}, Duration: "10m"}.YAML())
		w.AwaitPhase("c", "Refused PolicySuspended")
		w.Policy.Suspended = false
		w.WritePolicy()
		staysClosed(w, "r")
		Expect(w.H1().Get(testbed.Host("s"), "/api/x", w.Issuer.Token("web"))).To(haveStatus(404))
		Expect([]string{w.Phase("a")(), w.Phase("b")(), w.Phase("c")()}).To(Equal([]string{"Revoked PolicySuspended", "Revoked PolicySuspended", "Refused PolicySuspended"}))
		w.Activate(testbed.Activation{Name: "d", Routes: []string{"r"}, Duration: "10m"})
	})

	It("is extended by a second activation of the same route and role, streams and all", func() {
		name := shared.Unique()
		host := testbed.Host(name)
		shared.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
		first := shared.Activate(testbed.Activation{Name: name + "-1", Routes: []string{name}, Duration: "3s"})
		streams := []*testbed.Stream{
			shared.H1().Events("events", host, "/api/stream", shared.Token()),
			shared.WebSocket(host, "/api/ws", shared.Token()),
		}
		second := shared.Activate(testbed.Activation{Name: name + "-2", Routes: []string{name}, Duration: "5s"})
		stop := probes(shared, host, "/api/x", shared.Token())
		shared.AwaitPhase(name+"-1", "Expired DeadlinePassed")
		Expect(second).To(BeTemporally(">", first.Add(500*time.Millisecond)))
		testbed.WaitUntil(first.Add(400 * time.Millisecond))
		for _, s := range streams {
			Expect(s.Open()).To(BeTrue(), "at the first deadline ended %s", s)
			flows(s)
		}
		testbed.WaitUntil(second.Add(150 * time.Millisecond))
		closesAt("deadline, extended", stop(second), second)
		for _, s := range streams {
			Eventually(s.Done()).Should(BeClosed(), s.String)
			notAfter(s.Last(), second, late, s)
		}
	})

	It("is not shortened by the end of a shorter activation that came later", func() {
		name := shared.Unique()
		shared.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
		shared.Activate(testbed.Activation{Name: name + "-long", Routes: []string{name}, Duration: "10m"})
		shared.Activate(testbed.Activation{Name: name + "-short", Routes: []string{name}, Duration: "1s"})
		stream := shared.H1().Events("events", testbed.Host(name), "/api/stream", shared.Token())
		p := shared.H1().Probe(testbed.Request{Host: testbed.Host(name), Path: "/api/x", Token: shared.Token()}, time.Millisecond)
		shared.AwaitPhase(name+"-short", "Expired DeadlinePassed")
		Consistently(stream.Open, "100ms").Should(BeTrue())
		onlyStatuses(p.Stop(), 200)
		Expect(shared.Phase(name + "-long")()).To(Equal("Live"))
	})
})

// onlyRefusedAfter checks that a revocation that was asked for then is complete
// in time, and that nobody saw an error on the way.
func onlyRefusedAfter(samples []testbed.Reply, asked time.Time) {
	GinkgoHelper()
	last, ok := testbed.LastWith(samples, 200)
	Expect(ok).To(BeTrue())
	notAfter(last.Start, asked, revocation, "the last request that was served began then")
	refused, ok := testbed.FirstWith(samples, 404)
	Expect(ok).To(BeTrue(), fmt.Sprint(testbed.Runs(samples)))
	testbed.Figure("revocation: first refusal", refused.Start.Sub(asked))
	for n, s := range samples {
		if !testbed.Cut(samples, n) {
			Expect(s).To(haveStatus(200, 403, 404), testbed.Runs(samples))
		}
	}
}
