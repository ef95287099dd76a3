//go:build envoy

package pod

import (
	"math/rand/v2"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

var _ = Describe("A pod under a Strict policy", func() {
	var p *pod
	BeforeEach(func() {
		p = newPod(func(policy *testbed.Policy) { policy.Mode = "Strict" })
		p.start()
	})

	status := func() int { return p.H1().Get(testbed.Host(route), "/api/x", p.Token()).Status }

	It("forwards nothing of which its own log has no intent", func() {
		x, prefix := p.Witness(), p.path()
		answers := p.Load(testbed.Host(route), prefix, p.Token(), 4, 400, 400).Wait()
		onlyOK(answers)
		Expect(p.H1().Get(testbed.Host(route), prefix+"/none", "").Status).To(Equal(401))
		answers[prefix+"/none"] = 401
		p.settled(prefix, len(answers))
		p.expectExactlyOnce(prefix, answers)
		Expect(x.Without()).To(BeEmpty())
		Expect(x.Reached()).To(Equal(400))
		intents := p.Logged(audit.TypeIntent, prefix)
		Expect(intents).To(HaveLen(400))
		for path, of := range intents {
			Expect(of).To(HaveLen(1), path)
			Expect(of[0].Gateway).To(Equal("pay/door"))
			Expect(of[0].Epoch).To(Equal(p.Logged(audit.TypeEnd, path)[path][0].Epoch))
		}
		p.envoy.end()
		p.agent.end()
		p.verify()
	})

	It("refuses while its agent is stopped or dead, also with the controller there, and serves again by itself", func() {
		x := p.Witness()
		Expect(status()).To(Equal(200))
		Expect(p.agent.cmd.Process.Signal(syscall.SIGSTOP)).To(Succeed())
		began, hits := time.Now(), p.Backend.Hits("/api/x")
		Expect(status()).To(Equal(503))
		Expect(time.Since(began)).To(BeNumerically("<", 300*time.Millisecond+busy))
		Expect(p.agent.cmd.Process.Signal(syscall.SIGCONT)).To(Succeed())
		Eventually(status).Should(Equal(200))
		p.agent.kill()
		Expect(status()).To(Equal(503))
		Expect(p.Backend.Hits("/api/x")).To(BeNumerically("<", hits+50))
		p.startAgent()
		Eventually(status).Should(Equal(200))
		Expect(x.Without()).To(BeEmpty())
	})

	It("has an intent of whatever reached the backend, agent and Envoy killed together under load", func() {
		x, prefix := p.Witness(), p.path()
		load := p.Load(testbed.Host(route), prefix, p.Token(), 4, 400, 1_000_000)
		for range 5 {
			Eventually(status, "20s", "5ms").Should(Equal(200))
			<-time.After(time.Duration(100+rand.IntN(300)) * time.Millisecond)
			p.agent.kill()
			p.envoy.kill()
			p.startAgent()
			p.startEnvoy()
		}
		Eventually(status, "20s", "5ms").Should(Equal(200))
		answers, intents, served := load.Stop(), p.Logged(audit.TypeIntent, prefix), 0
		Expect(x.Without()).To(BeEmpty())
		for path, status := range answers {
			if status == 200 {
				Expect(intents).To(HaveKey(path))
				served++
			}
		}
		Expect(served).To(BeNumerically(">", 100))
		AddReportEntry("requests", served)
		p.verify()
	})
})
