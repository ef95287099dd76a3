//go:build envoy

package serve

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
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
	It("Envoy killed under load is back within a second, closed where it was closed", Label("kills"), func() {
		w, _ := faulty("30m")
		g, moment, n := watch(w), chance(), rounds(2)
		for range n {
			pause(moment, 300*time.Millisecond)
			before := w.Envoys()
			Expect(before).To(HaveLen(1))
			killed := time.Now()
			w.KillEnvoy()
			Eventually(func() []int { return w.Envoys() }).ShouldNot(Or(BeEmpty(), Equal(before)))
			Eventually(w.H1().Status(testbed.Host("open"), "/api/x", w.Token()), "20s", "1ms").Should(Equal(200))
			back := time.Now()
			testbed.Figure("Envoy killed: served again", back.Sub(killed))
			notAfter(back, killed, bound(time.Second), "Envoy was killed then")
			Eventually(g.other.LastStatus, "20s", "1ms").Should(Equal(200))
		}
		samples := g.other.Stop()
		for n, s := range samples {
			if !testbed.Cut(samples, n) {
				Expect(s).To(haveStatus(0, 200, 404), testbed.Runs(samples))
			}
		}
		g.neverOpen(true)
		Eventually(func() int { return w.Status().Gateways[0].Envoy.Restarts }).Should(Equal(n))
		w.AwaitPhase("a", "Live")
		Eventually(func() bool { return w.Status().Ready }).Should(BeTrue(), told(w))
	})

	It("Envoy killed while its window ends stays closed", func() {
		w, deadline := faulty("2s500ms")
		testbed.WaitUntil(deadline.Add(-150 * time.Millisecond))
		w.KillEnvoy()
		Eventually(func() int { return w.H1().Get(testbed.Host("open"), "/api/x", "").Status }, "20s", "1ms").ShouldNot(BeZero())
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

	It("serve killed at any moment of an opening knows afterwards what it had promised, and others notice nothing", Label("kills"), func() {
		w := testbed.New()
		w.Write("routes.yaml", testbed.Route{Name: "open"}.YAML(), testbed.Route{Name: "dormant"}.YAML(), testbed.Route{Name: "r"}.YAML())
		w.Start()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"open"}, Duration: "1h"})
		g, moment := watch(w), chance()
		for i := range rounds(4) {
			name := fmt.Sprintf("a%d", i)
			w.Write(name+".yaml", testbed.Activation{Name: name, Routes: []string{"r"}, Duration: "1h"}.YAML())
			pause(moment, 15*time.Millisecond)
			seen := w.Activation(name)
			w.KillServe()
			w.Start()
			w.AwaitPhase(name, "Live")
			if seen != nil && seen.Status.Phase != v1alpha1.PhasePending { // pending, nothing is promised
				Expect(w.Deadline(name)).To(BeTemporally("<=", seen.Status.Deadline.Time), "the deadline moved")
			}
			w.Remove(name + ".yaml")
			if i%2 == 1 {
				pause(moment, 15*time.Millisecond)
				w.KillServe()
				w.Start()
			}
			w.AwaitPhase(name, "Revoked Deleted")
			staysClosed(w, "r")
		}
		g.undisturbed()
	})

	It("serve whose audit log takes long to open disturbs nobody, and opens nothing until it is open", func() {
		w, deadline := faulty("10m")
		w.Activate(testbed.Activation{Name: "c", Routes: []string{"dormant"}, Duration: "10m"})
		w.Revoke("c")
		g := watch(w)
		w.KillServe()
		checkpoint := filepath.Join(w.LogDir(), "checkpoint")
		signed, err := os.ReadFile(checkpoint)
		Expect(err).NotTo(HaveOccurred())
		Expect(os.Remove(checkpoint)).To(Succeed())
		Expect(syscall.Mkfifo(checkpoint, 0o600)).To(Succeed()) // who opens it to read waits for a writer
		w.Spawn()
		w.Write("b.yaml", testbed.Activation{Name: "b", Routes: []string{"dormant"}, Duration: "10m"}.YAML())
		Eventually(w.Phase("b"), "20s").Should(Equal("Pending AuditPending"), told(w))
		w.AwaitPhase("a", "Live")
		Expect(told(w)()).To(line("nothing can be opened yet", "the audit log is being opened"))
		Consistently(w.H1().Status(testbed.Host("open"), "/api/x", w.Token()), "2s", "5ms").Should(Equal(200))
		g.undisturbed()

		By("what it waits for comes")
		Expect(os.WriteFile(checkpoint, signed, 0)).To(Succeed())
		w.AwaitPhase("b", "Live")
		Expect(w.Deadline("a")).To(BeTemporally("==", deadline))
		Expect(w.Gaps()).To(BeEmpty())
		sound(w)
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

	It("Envoy that hangs over a deadline lets nobody in when it goes on", func() {
		w, deadline := faulty("3s")
		w.Write("dormant.yaml", testbed.Activation{Name: "b", Routes: []string{"dormant"}, Duration: "10m"}.YAML())
		w.AwaitPhase("b", "Live")
		stop := probes(w, testbed.Host("open"), "/api/x", w.Token())
		stream := w.H1().Events("events", testbed.Host("open"), "/api/stream", w.Token())
		other := w.H1().Events("another window's", testbed.Host("dormant"), "/api/stream", w.Token())
		pid := w.Envoys()[0]
		testbed.WaitUntil(deadline.Add(-300 * time.Millisecond))
		Expect(syscall.Kill(pid, syscall.SIGSTOP)).To(Succeed())
		DeferCleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) // it may be gone
		testbed.WaitUntil(deadline.Add(time.Second))
		woken := time.Now()
		Expect(syscall.Kill(pid, syscall.SIGCONT)).To(Succeed())
		samples := stop(woken)
		for n, s := range samples {
			if s.Start.After(deadline) && !testbed.Cut(samples, n) {
				Expect(s).To(haveStatus(0, 403, 404), testbed.Runs(samples))
			}
		}
		Eventually(stream.Done()).Should(BeClosed(), stream.String)
		notAfter(stream.End(), woken, bound(50*time.Millisecond), "Envoy went on then")
		Expect(other.Open()).To(BeTrue(), other.String())
		Expect(w.Envoys()).To(Equal([]int{pid}), "it was replaced")
		w.AwaitPhase("a", "Expired DeadlinePassed")
		Expect(w.H1().Get(testbed.Host("dormant"), "/api/x", w.Token())).To(haveStatus(200))
	})

	It("somebody else has the port of an Envoy that died: status says so, and it is served again once it is free", func() {
		w, _ := faulty("10m")
		w.KillEnvoy()
		var thief net.Listener
		Eventually(func() (err error) {
			thief, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", w.HTTP))
			return err
		}, "5s", "1ms").Should(Succeed())
		DeferCleanup(func() { _ = thief.Close() }) // it may be closed already
		Eventually(told(w)).Should(line("listener http of door", "programmed false", fmt.Sprint(w.HTTP)), w.Log)
		Expect(w.Status().Ready).To(BeFalse())
		By("its other port is served meanwhile")
		Eventually(w.TLS1().Status(testbed.Host("open"), "/api/x", w.Token())).Should(Equal(200))
		Expect(thief.Close()).To(Succeed())
		Eventually(w.H1().Status(testbed.Host("open"), "/api/x", w.Token())).Should(Equal(200))
		Eventually(func() bool { return w.Status().Ready }).Should(BeTrue(), told(w))
		w.AwaitPhase("a", "Live")
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
		Eventually(told(second)).Should(line("listener http of door", "programmed true"))
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
