//go:build envoy

package pod

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/internal/pki"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

func onlyOK(answers map[string]int) {
	GinkgoHelper()
	for path, status := range answers {
		Expect(status).To(Equal(200), path)
	}
}

var _ = Describe("A pod", func() {
	var p *pod
	BeforeEach(func() { p = newPod() })

	It("serves what the controller says, and has each request in its log once", func() {
		p.start()
		prefix := p.path()
		answers := p.Load(testbed.Host(route), prefix, p.Token(), 4, 400, 400).Wait()
		onlyOK(answers)
		Expect(p.H1().Get(testbed.Host(route), prefix+"/none", "").Status).To(Equal(401))
		answers[prefix+"/none"] = 401
		p.settled(prefix, len(answers))
		p.expectExactlyOnce(prefix, answers)

		By("telling the controller who it is by its certificate, and how it is before all else")
		h := p.plane.last()
		Expect(h.identity).To(Equal("pay/door"))
		Expect(h.first).To(Equal(reportType))
		for id := range h.nodes {
			Expect(id).To(BeElementOf(node, "")) // Envoy's own word is never heard
		}
		told := p.plane.told()
		Expect(slices.Sorted(maps.Keys(told))).To(Equal([]string{"epoch", "failing", "ready", "time"}))
		Expect(told).To(And(HaveKeyWithValue("failing", ""), HaveKeyWithValue("ready", true), HaveKeyWithValue("epoch", Not(BeEmpty()))))
		at, err := time.Parse(time.RFC3339Nano, told["time"].(string))
		Expect(err).NotTo(HaveOccurred())
		Expect(at).To(BeTemporally("~", time.Now(), 6*time.Second))
		Eventually(func() any { return p.plane.told()["time"] }, "7s").ShouldNot(Equal(told["time"]), "a report that comes by itself")

		By("ending in order, Envoy first")
		p.envoy.end()
		p.agent.end()
		p.expectExactlyOnce(prefix, answers)
		Expect(p.Gaps()).To(BeEmpty())
		Expect(p.Entries("epoch")).To(HaveLen(1))
		p.verify()
	})

	It("loses and doubles nothing when its agent is killed again and again, and its streams live on", func() {
		p.start()
		stream := p.H1().Events("events", testbed.Host(route), "/api/stream", p.Token())
		Eventually(stream.Open).Should(BeTrue())
		prefix := p.path()
		load := p.Load(testbed.Host(route), prefix, p.Token(), 4, 300, 1_000_000)
		for range 10 {
			<-time.After(time.Duration(rand.IntN(400)) * time.Millisecond)
			p.agent.kill()
			<-time.After(time.Duration(rand.IntN(400)) * time.Millisecond)
			p.startAgent()
		}
		p.awaitReady()
		Expect(p.plane.failures()).To(BeEmpty(), "an agent that starts closes nothing")
		answers := load.Stop()
		onlyOK(answers)
		Expect(len(answers)).To(BeNumerically(">", 500))
		p.settled(prefix, len(answers))
		Expect(stream.Open()).To(BeTrue())
		gap, _ := stream.LongestGap()
		Expect(gap).To(BeNumerically("<", 2*time.Second))
		stream.Close()
		p.envoy.end()
		p.agent.end()
		p.expectExactlyOnce(prefix, answers)
		Expect(p.Gaps()).To(BeEmpty())
		Expect(p.Entries("epoch")).To(HaveLen(1))
		p.verify()
	})

	It("serves on while the controller is away, and is back within a second", func() {
		p.start()
		prefix := p.path()
		load := p.Load(testbed.Host(route), prefix, p.Token(), 2, 100, 1_000_000)
		p.plane.stop()
		before := p.plane.connections()
		<-time.After(2 * time.Second)
		Expect(p.ready()).To(Equal("ok\n"))
		began := time.Now()
		p.plane.start(p.plane.address)
		Eventually(p.plane.connections).Should(BeNumerically(">", before))
		testbed.Figure("back after a controller that was away", time.Since(began))
		Expect(time.Since(began)).To(BeNumerically("<", time.Second+busy))
		onlyOK(load.Stop())
		Eventually(p.plane.told).Should(HaveKeyWithValue("ready", true))
	})

	It("holds one stream for as long as nothing changes", func() {
		p.start()
		connections := p.plane.connections()
		Consistently(p.plane.connections, "22s", "100ms").Should(Equal(connections), "pings are not taken for an attack")
		text, err := os.ReadFile(filepath.Join(p.Dir, "agent.log"))
		Expect(err).NotTo(HaveOccurred())
		Expect(string(text)).NotTo(ContainSubstring("ended"))
	})

	It("takes a renewed certificate, and none of the controller that is not the controller's", func() {
		other, _, err := (*pki.Authority)(nil).Rotate(time.Now())
		Expect(err).NotTo(HaveOccurred())
		for what, certify := range map[string]func(){
			"of another CA":     func() { p.certify(other, pki.Client("pay", "door")) },
			"of the controller": func() { p.certify(p.plane.authority, pki.Server(serverName)) },
		} {
			By("being refused with a certificate " + what)
			certify()
			p.startAgent()
			p.startEnvoy()
			Eventually(p.ready).Should(ContainSubstring("the controller cannot be reached"))
			Consistently(p.plane.connections, "500ms").Should(BeZero())
			p.envoy.kill()
			p.agent.kill()
		}
		By("being let in once kubelet has brought the right one")
		p.startAgent()
		p.startEnvoy()
		Eventually(p.ready).Should(ContainSubstring("the controller cannot be reached"))
		p.certify(p.plane.authority, pki.Client("pay", "door"))
		p.awaitReady()
		Expect(p.plane.last().identity).To(Equal("pay/door"))
		ours := p.plane.signer
		for _, wrong := range []struct {
			what, name string
			signer     *pki.Authority
		}{{"of another CA", serverName, other}, {"of another name", "elsewhere.svc", ours}} {
			By("not connecting to a controller " + wrong.what)
			p.plane.stop()
			before := p.plane.connections()
			p.plane.signer, p.plane.name = wrong.signer, wrong.name
			p.plane.start(p.plane.address)
			Consistently(p.plane.connections, "1500ms").Should(Equal(before))
		}
		p.plane.stop()
		before := p.plane.connections()
		p.plane.signer, p.plane.name = ours, serverName
		p.plane.start(p.plane.address)
		Eventually(p.plane.connections).Should(BeNumerically(">", before))
	})

	It("goes on for a while after it was asked to end, though nobody is there", func() {
		p.startAgent()
		p.startEnvoy("--drain-least", "2s")
		p.awaitReady()
		p.signalEnvoy()
		Eventually(p.ready).ShouldNot(HavePrefix("ok"))
		Consistently(p.envoy.done, "1s").ShouldNot(BeClosed())
		Expect(p.H1().Get(testbed.Host(route), "/api/late", p.Token()).Status).To(Equal(200))
		Eventually(p.envoy.done).Should(BeClosed())
	})

	It("has no gap in its log when Envoy is restarted in order", func() {
		p.start()
		prefix := p.path()
		answers := p.Load(testbed.Host(route), prefix, p.Token(), 2, 200, 100).Wait()
		p.envoy.end()
		p.startEnvoy()
		p.awaitReady()
		Eventually(func() int { return len(p.Entries("epoch")) }).Should(Equal(1))
		onlyOK(p.Load(testbed.Host(route), p.path(), p.Token(), 2, 200, 100).Wait())
		p.envoy.end()
		p.agent.end()
		p.expectExactlyOnce(prefix, answers)
		Expect(p.Gaps()).To(BeEmpty())
		Expect(p.Entries("epoch")).To(HaveLen(2))
	})

	It("reports a full disk, and that there is room again", func() {
		Expect(os.Mkdir(p.Data, 0o700)).To(Succeed())
		Expect(syscall.Mount("tmpfs", p.Data, "tmpfs", 0, "size=32m,mode=0700")).To(Succeed(), "this takes root, to mount a small disk")
		DeferCleanup(func() { Expect(syscall.Unmount(p.Data, syscall.MNT_DETACH)).To(Succeed()) })
		p.start()
		Eventually(p.plane.told).Should(HaveKeyWithValue("failing", ""))
		ballast, err := os.Create(filepath.Join(p.Data, "ballast"))
		Expect(err).NotTo(HaveOccurred())
		for size := 1 << 20; size > 0; size /= 2 {
			for err = nil; err == nil; _, err = ballast.Write(make([]byte, size)) {
			}
			Expect(err).To(MatchError(syscall.ENOSPC))
		}
		Expect(ballast.Close()).To(Succeed())
		began := time.Now()
		Eventually(p.plane.told).Should(HaveKeyWithValue("failing", ContainSubstring("free some space")))
		testbed.Figure("a full disk is told of after", time.Since(began))
		Expect(p.ready()).To(And(HavePrefix("ok\n"), ContainSubstring("free some space")))
		Expect(os.Remove(ballast.Name())).To(Succeed())
		Eventually(p.plane.told).Should(HaveKeyWithValue("failing", ""))
	})

	It("drains: who comes is served, who was served is asked to go, what is under way ends", func() {
		p.start()
		c := p.H1()
		Expect(c.Get(testbed.Host(route), "/api/before", p.Token()).Status).To(Equal(200))
		stream := p.H1().Events("events", testbed.Host(route), "/api/stream", p.Token())
		Eventually(stream.Open).Should(BeTrue())
		p.signalEnvoy()
		Eventually(p.ready).ShouldNot(HavePrefix("ok"))
		Eventually(p.plane.told).Should(HaveKeyWithValue("ready", false))
		reply := p.H1().Get(testbed.Host(route), "/api/after", p.Token())
		Expect(reply.Status).To(Equal(200))
		Expect(p.answerHead("/api/raw")).To(And(HavePrefix("HTTP/1.1 200"), ContainSubstring("connection: close\r\n")))
		Consistently(p.envoy.done, "2s").ShouldNot(BeClosed())
		stream.Close()
		Eventually(p.envoy.done).Should(BeClosed())
		Expect(p.envoy.cmd.ProcessState.ExitCode()).To(BeZero())
		p.agent.end()
		Expect(p.Gaps()).To(BeEmpty())
		Expect(p.Logged(audit.TypeEnd, "/api/stream")).To(HaveLen(1))
	})

	It("says of an Envoy that was killed that something may be missing, once, and goes on with the next", func() {
		p.start()
		epoch := p.plane.told()["epoch"]
		prefix := p.path()
		answers := p.Load(testbed.Host(route), prefix, p.Token(), 2, 200, 100).Wait()
		p.settled(prefix, len(answers))
		p.envoy.kill()
		Eventually(p.ready).Should(ContainSubstring("Envoy does not run"), "an Envoy does not outlive its container")
		p.startEnvoy()
		p.awaitReady()
		Expect(p.plane.told()["epoch"]).NotTo(BeElementOf(epoch, ""))
		Eventually(func() int { return len(p.Gaps()) }).Should(Equal(1))
		p.agent.kill()
		p.startAgent()
		p.awaitReady()
		onlyOK(p.Load(testbed.Host(route), p.path(), p.Token(), 2, 200, 100).Wait())
		p.envoy.end()
		p.agent.end()
		Expect(p.Gaps()).To(HaveLen(1))
		Expect(p.Entries("epoch")).To(HaveLen(2))
		p.expectExactlyOnce(prefix, answers)
		p.verify()
	})
})
