//go:build envoy

package serve

import (
	"fmt"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// Windows that come and go in quick succession, in numbers, and that change
// while somebody is inside.
var _ = Describe("Windows", func() {
	It("that open and close one after the other never show an error", func() {
		name := shared.Unique()
		shared.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
		Eventually(func() bool { return shared.RouteStatus(name) != nil }).Should(BeTrue())
		p := shared.H1().Probe(testbed.Request{Host: testbed.Host(name), Path: "/api/x", Token: shared.Token()}, time.Millisecond)
		q := shared.TLS2().Probe(testbed.Request{Host: testbed.Host(name), Path: "/api/x", Token: shared.Token()}, time.Millisecond)
		for i := range 8 {
			a := fmt.Sprintf("%s-%d", name, i)
			shared.Activate(testbed.Activation{Name: a, Routes: []string{name}, Duration: "10m"})
			// Both are served: a request that is cut is known by those before it.
			for _, probe := range []*testbed.Probe{p, q} {
				Eventually(probe.LastStatus, "20s", "1ms").Should(Equal(200))
			}
			shared.Revoke(a)
			for _, probe := range []*testbed.Probe{p, q} {
				Eventually(probe.LastStatus, "20s", "1ms").Should(Equal(404))
			}
		}
		for _, samples := range [][]testbed.Reply{p.Stop(), q.Stop()} {
			for n, s := range samples {
				if !testbed.Cut(samples, n) {
					Expect(s).To(haveStatus(200, 404), testbed.Runs(samples))
				}
			}
		}
	})

	It("that open and close in one instant end as the last word says", func() {
		name := shared.Unique()
		shared.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
		for i := range 5 {
			a := testbed.Activation{Name: fmt.Sprintf("%s-%d", name, i), Routes: []string{name}, Duration: "10m"}
			shared.Write(a.Name+".yaml", a.YAML())
			a.Revoked = true
			shared.Write(a.Name+".yaml", a.YAML())
			Eventually(shared.Phase(a.Name)).Should(HavePrefix("Revoked"))
		}
		staysClosed(shared, name)
	})

	It("that open thirty at a time open cleanly, all of them", func() {
		var docs, names []string
		for range 30 {
			name := shared.Unique()
			names = append(names, name)
			docs = append(docs, testbed.Route{Name: name}.YAML(), testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"}.YAML())
		}
		var all []*testbed.Probe
		for _, name := range []string{names[0], names[14], names[29]} {
			all = append(all, shared.TLS2().Probe(testbed.Request{Host: testbed.Host(name), Path: "/api/x", Token: shared.Token()}, time.Millisecond))
		}
		applied := shared.Write(shared.Unique()+".yaml", docs...)
		for _, name := range names {
			shared.AwaitPhase(name, "Live")
			Expect(shared.H1().Get(testbed.Host(name), "/api/x", shared.Token())).To(haveStatus(200))
		}
		testbed.Figure("apply thirty at once: all Live", time.Since(applied))
		for _, p := range all {
			onlyStatuses(p.Stop(), 404, 200)
		}
	})

	It("that a lower limit shortens end with their streams at the new deadline, although serve is dead by then", func() {
		w := testbed.New()
		w.Write("r.yaml", testbed.Route{Name: "r"}.YAML())
		w.Start()
		before := w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "10m"})
		streams := openAll(w, testbed.Host("r"), w.Token())
		w.Policy.Limits = "{maxDuration: 5s, defaultDuration: 5s}"
		w.WritePolicy()
		Eventually(func() time.Time { return w.Deadline("a") }).ShouldNot(Equal(before))
		deadline := w.Deadline("a")
		Expect(deadline).To(BeTemporally("<", time.Now().Add(5*time.Second)))
		// Status tells it before Envoy knows.
		stop := probes(w, testbed.Host("r"), "/api/x", w.Token())
		testbed.WaitUntil(deadline.Add(-500 * time.Millisecond))
		w.KillServe()
		testbed.WaitUntil(deadline.Add(100 * time.Millisecond))
		closesAt("deadline, shortened, serve killed", stop(deadline), deadline)
		for _, s := range streams {
			cutAt("stream at the deadline, shortened, serve killed", s, deadline, late)
		}
	})

	It("that a second activation extends end with their streams at the second deadline, although serve is dead by then", func() {
		w := testbed.New()
		w.Write("r.yaml", testbed.Route{Name: "r"}.YAML())
		w.Start()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "3s"})
		streams := openAll(w, testbed.Host("r"), w.Token())
		deadline := w.Activate(testbed.Activation{Name: "b", Routes: []string{"r"}, Duration: "5s"})
		testbed.WaitUntil(deadline.Add(-1500 * time.Millisecond))
		w.KillServe()
		for _, s := range streams {
			cutAt("stream at the deadline, extended, serve killed", s, deadline, late)
		}
	})

	It("that a second activation had extended end at the first deadline again when the second is revoked", func() {
		name := shared.Unique()
		shared.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
		first := shared.Activate(testbed.Activation{Name: name + "-1", Routes: []string{name}, Duration: "3s"})
		streams := openAll(shared, testbed.Host(name), shared.Token())
		shared.Activate(testbed.Activation{Name: name + "-2", Routes: []string{name}, Duration: "10m"})
		stop := probes(shared, testbed.Host(name), "/api/x", shared.Token())
		shared.Revoke(name + "-2")
		for _, s := range streams {
			cutAt("stream at the first deadline, the second revoked", s, first, late)
		}
		testbed.WaitUntil(first.Add(100 * time.Millisecond))
		closesAt("deadline, the second revoked", stop(first), first)
	})

	It("that follow each other leave nobody inside in between", func() {
		name := shared.Unique()
		host := testbed.Host(name)
		shared.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
		first := shared.Activate(testbed.Activation{Name: name + "-1", Routes: []string{name}, Duration: "2s"})
		stream := shared.H1().Events("events", host, "/api/stream", shared.Token())
		testbed.WaitUntil(first)
		shared.Activate(testbed.Activation{Name: name + "-2", Routes: []string{name}, Duration: "10m"})
		cutAt("stream at the deadline, another window follows", stream, first, late)
		Expect(shared.H1().Get(host, "/api/x", shared.Token())).To(haveStatus(200))
	})

	It("of one activation on two routes are each closed when their route is", func() {
		name := shared.Unique()
		shared.Write(name+"-a.yaml", testbed.Route{Name: name + "-r1"}.YAML())
		shared.Write(name+"-b.yaml", testbed.Route{Name: name + "-r2"}.YAML())
		shared.Activate(testbed.Activation{Name: name, Routes: []string{name + "-r1", name + "-r2"}, Duration: "10m"})
		stream := shared.H1().Events("events", testbed.Host(name+"-r2"), "/api/stream", shared.Token())
		shared.Remove(name + "-a.yaml")
		Eventually(func() []string {
			var phases []string
			for _, t := range shared.Activation(name).Status.Targets {
				phases = append(phases, string(t.Phase)+" "+t.Reason)
			}
			return phases
		}).Should(Equal([]string{"Revoked RouteDeleted", "Live Live"}))
		staysClosed(shared, name+"-r1")
		bystanders{stream}.undisturbed()
	})

	It("do not open for a token that is good only for a part of the second left", func() {
		name := shared.Unique()
		shared.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
		shared.Activate(testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"})
		exp, token := shortToken(shared)
		p := shared.H1().Probe(testbed.Request{Host: testbed.Host(name), Path: "/api/x", Token: token}, time.Millisecond)
		testbed.WaitUntil(exp.Add(100 * time.Millisecond))
		samples := p.Stop()
		last, ok := testbed.LastWith(samples, 200)
		Expect(ok).To(BeTrue())
		notAfter(last.Start, exp, late, "a request with a token that had ended was served")
		i := slices.IndexFunc(samples, func(s testbed.Reply) bool { return s.Status != 200 })
		Expect(samples[i].End).To(BeTemporally(">", exp.Add(-20*time.Millisecond)), "refused before its token ended: %s", testbed.Runs(samples))
		testbed.Figure("a token's exp: first refusal", samples[i].Start.Sub(exp))
	})
})
