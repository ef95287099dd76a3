//go:build envoy

package serve

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// faulty is a world with an open route and a dormant one.
func faulty(duration string) (w *testbed.World, deadline time.Time) {
	GinkgoHelper()
	w = testbed.New()
	w.Write("routes.yaml", testbed.Route{Name: "open"}.YAML(), testbed.Route{Name: "dormant"}.YAML())
	w.Start()
	return w, w.Activate(testbed.Activation{Name: "a", Routes: []string{"open"}, Duration: duration})
}

// gone reports that a process is no more.
func gone(pid int) func() bool {
	return func() bool { return syscall.Kill(pid, 0) != nil }
}

var _ = Describe("A fault:", func() {
	It("Envoy killed under load is back within a second, closed where it was closed", func() {
		w, _ := faulty("10m")
		open := probes(w, testbed.Host("open"), "/api/x", w.Token())
		dormant := w.H1().Probe(testbed.Request{Host: testbed.Host("dormant"), Path: "/api/x", Token: w.Token()}, time.Millisecond)
		tokenless := w.H1().Probe(testbed.Request{Host: testbed.Host("open"), Path: "/api/x"}, time.Millisecond)
		for range 2 {
			before := w.Envoys()
			Expect(before).To(HaveLen(1))
			killed := time.Now()
			w.KillEnvoy()
			Eventually(func() []int { return w.Envoys() }).ShouldNot(Or(BeEmpty(), Equal(before)))
			Eventually(w.H1().Status(testbed.Host("open"), "/api/x", w.Token()), "10s", "1ms").Should(Equal(200))
			back := time.Now()
			testbed.Figure("Envoy killed: served again", back.Sub(killed))
			notAfter(back, killed, bound(time.Second), "Envoy was killed then")
		}
		for _, s := range open() {
			Expect(s).To(Or(haveStatus(0, 200), WithTransform(testbed.Reply.Cut, BeTrue())), s.Body)
		}
		onlyAmong(dormant.Stop(), 0, 404)
		onlyAmong(tokenless.Stop(), 0, 401)
		Eventually(func() int { return w.Status().Gateways[0].Envoy.Restarts }).Should(Equal(2))
		w.AwaitPhase("a", "Live")
	})

	It("Envoy killed while its window ends stays closed", func() {
		w, deadline := faulty("2s500ms")
		testbed.WaitUntil(deadline.Add(-150 * time.Millisecond))
		w.KillEnvoy()
		Eventually(func() int { return w.H1().Get(testbed.Host("open"), "/api/x", "").Status }, "10s", "1ms").ShouldNot(BeZero())
		testbed.WaitUntil(deadline.Add(10 * time.Millisecond))
		staysClosed(w, "open")
	})

	It("serve killed leaves Envoy serving, and the next one adopts it without a failed request", func() {
		w, _ := faulty("10m")
		pid := w.Envoys()
		stop := probes(w, testbed.Host("open"), "/api/x", w.Token())
		stream := w.TLS2().Events("events", testbed.Host("open"), "/api/stream", w.Token())
		for range 3 {
			w.KillServe()
			Consistently(w.H1().Status(testbed.Host("open"), "/api/x", w.Token()), "100ms", "5ms").Should(Equal(200))
			w.Start()
			w.AwaitPhase("a", "Live")
			Expect(w.Envoys()).To(Equal(pid))
			Expect(w.Status().Gateways[0].Envoy.PID).To(Equal(pid[0]))
		}
		w.Activate(testbed.Activation{Name: "b", Routes: []string{"dormant"}, Duration: "10m"})
		onlyStatuses(stop(), 200)
		bystanders{stream}.undisturbed()
	})

	It("what was revoked while serve was dead is closed by the next one", func() {
		w, _ := faulty("10m")
		w.Activate(testbed.Activation{Name: "b", Routes: []string{"dormant"}, Duration: "10m"})
		stream := w.H1().Events("events", testbed.Host("open"), "/api/stream", w.Token())
		other := w.H1().Events("events", testbed.Host("dormant"), "/api/stream", w.Token())
		w.KillServe()
		w.Remove("a.yaml")
		w.Start()
		w.AwaitPhase("a", "Revoked Deleted")
		Eventually(stream.Done()).Should(BeClosed())
		staysClosed(w, "open")
		bystanders{other}.undisturbed()
	})

	It("serve and Envoy killed together come back with what was open, until the same deadline", func() {
		w, deadline := faulty("8s")
		w.KillServe()
		w.KillEnvoy()
		w.Start()
		Eventually(w.H1().Status(testbed.Host("open"), "/api/x", w.Token())).Should(Equal(200))
		Expect(w.H1().Get(testbed.Host("dormant"), "/api/x", w.Token())).To(haveStatus(404))
		Expect(w.Deadline("a")).To(BeTemporally("==", deadline))
		stop := probes(w, testbed.Host("open"), "/api/x", w.Token())
		testbed.WaitUntil(deadline.Add(100 * time.Millisecond))
		closesAt("deadline, both killed before", stop(deadline), deadline)
	})

	It("serve killed at any moment of an opening knows afterwards what it had promised", func() {
		w := testbed.New()
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML())
		w.Start()
		for i := range 6 {
			name := fmt.Sprintf("a%d", i)
			w.Write(name+".yaml", testbed.Activation{Name: name, Routes: []string{"r"}, Duration: "1h"}.YAML())
			testbed.WaitUntil(time.Now().Add(rand.N(15 * time.Millisecond)))
			seen := w.Activation(name)
			w.KillServe()
			w.Start()
			w.AwaitPhase(name, "Live")
			if seen != nil {
				Expect(w.Deadline(name)).To(BeTemporally("<=", seen.Status.Deadline.Time), "the deadline moved")
			}
			w.Remove(name + ".yaml")
			w.AwaitPhase(name, "Revoked Deleted")
			staysClosed(w, "r")
		}
	})

	It("serve that hangs keeps no window open", func() {
		w, deadline := faulty("3s")
		stop := probes(w, testbed.Host("open"), "/api/x", w.Token())
		streams := openAll(w, testbed.Host("open"), w.Token())
		testbed.WaitUntil(deadline.Add(-time.Second))
		w.SignalServe(syscall.SIGSTOP)
		DeferCleanup(func() { w.SignalServe(syscall.SIGCONT) })
		testbed.WaitUntil(deadline.Add(150 * time.Millisecond))
		closesAt("deadline, serve stopped", stop(deadline), deadline)
		for _, s := range streams {
			cutAt("stream at the deadline, serve stopped", s, deadline, late)
		}
		w.SignalServe(syscall.SIGCONT)
		w.AwaitPhase("a", "Expired DeadlinePassed")
	})

	It("a second serve on one data directory gives up and disturbs nothing", func() {
		w, _ := faulty("10m")
		pid, serve := w.Envoys(), w.PID()
		stop := probes(w, testbed.Host("open"), "/api/x", w.Token())
		said := w.SecondServe()
		Expect(said).To(And(ContainSubstring(w.Data), MatchRegexp("another|already|in use|locked")))
		onlyStatuses(stop(), 200)
		Expect(w.Envoys()).To(Equal(pid))
		Expect(w.PID()).To(Equal(serve))
		Expect(w.Status().Ready).To(BeTrue())
	})

	It("two Envoys never share a port: the second Gateway says why it does not listen", func() {
		first, _ := faulty("10m")
		second := testbed.New()
		second.HTTP = first.HTTP
		second.Write("gateway.yaml", testbed.Class("emergency", "emergency"),
			testbed.Gateway("door", "emergency", testbed.Listener("http", first.HTTP, "*.example.test")), testbed.Service("echo", second.Backend.Port()))
		second.Write("routes.yaml", testbed.Route{Name: "open"}.YAML())
		second.Spawn()
		Eventually(told(second)).Should(line("listener http of door", "programmed false", fmt.Sprint(first.HTTP)), "got %s", second.Log())
		Expect(second.Status().Ready).To(BeFalse())
		Consistently(first.H1().Status(testbed.Host("open"), "/api/x", first.Token()), "300ms", "1ms").Should(Equal(200))
		Expect(first.H1().Get(testbed.Host("open"), "/api/x", second.Token())).To(haveStatus(401))
		By("it listens once the port is free")
		first.StopServe()
		Eventually(told(second), "10s").Should(line("listener http of door", "programmed true"))
	})

	It("an orphaned Envoy ends after its last deadline, and its deadman with it", func() {
		w, deadline := faulty("2s500ms")
		pid := w.Envoys()[0]
		Eventually(w.Deadmen).Should(HaveLen(1))
		deadman := w.Deadmen()[0]
		w.KillServe()
		testbed.WaitUntil(deadline.Add(100 * time.Millisecond))
		Expect(gone(pid)()).To(BeFalse(), "it ended before it could refuse anybody")
		Eventually(gone(pid)).Should(BeTrue())
		testbed.Figure("orphan: ended after the last deadline", time.Since(deadline))
		Eventually(gone(deadman)).Should(BeTrue())
		By("the port is free, and the next serve starts anew")
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", w.HTTP))
		Expect(err).NotTo(HaveOccurred())
		Expect(l.Close()).To(Succeed())
		w.Start()
		w.AwaitPhase("a", "Expired DeadlinePassed")
		staysClosed(w, "open")
	})

	It("a deadman that is killed is replaced", func() {
		w, deadline := faulty("5s")
		Eventually(w.Deadmen).Should(HaveLen(1))
		first := w.Deadmen()[0]
		Expect(syscall.Kill(first, syscall.SIGKILL)).To(Succeed())
		Eventually(w.Deadmen).Should(And(HaveLen(1), Not(ContainElement(first))))
		pid := w.Envoys()[0]
		w.KillServe()
		Eventually(gone(pid), time.Until(deadline)+5*time.Second).Should(BeTrue())
	})

	It("serve that is told to end closes everything in order", func() {
		w, _ := faulty("10m")
		stream := w.H1().Events("events", testbed.Host("open"), "/api/stream", w.Token())
		w.StopServe()
		Eventually(stream.Done()).Should(BeClosed())
		Expect(w.Envoys()).To(BeEmpty())
		Eventually(w.Deadmen).Should(BeEmpty())
		Expect(w.Log()).NotTo(ContainSubstring("level=ERROR"))
	})

	It("the Envoy of a Gateway that was removed while serve was dead is ended", func() {
		w, _ := faulty("10m")
		pid := w.Envoys()[0]
		w.KillServe()
		w.Remove("gateway.yaml")
		w.Spawn()
		Eventually(gone(pid)).Should(BeTrue())
	})
})

// onlyAmong checks that samples have no other status.
func onlyAmong(samples []testbed.Reply, codes ...int) {
	GinkgoHelper()
	Expect(samples).NotTo(BeEmpty())
	i := slices.IndexFunc(samples, func(s testbed.Reply) bool { return !slices.Contains(codes, s.Status) })
	if i >= 0 {
		Fail(fmt.Sprintf("status %d %s, want one of %v: %s", samples[i].Status, strings.TrimSpace(samples[i].Body), codes, testbed.Runs(samples)))
	}
}
