//go:build envoy

package pod

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

var _ = Describe("A window", func() {
	It("is withdrawn through the agent, and the log says that its streams were cut", func() {
		p := newPod()
		p.start()
		stream := p.H1().Events("events", testbed.Host(route), "/api/stream", p.Token())
		Eventually(stream.Open).Should(BeTrue())
		p.Write("route.yaml", testbed.Route{Name: route}.YAML())
		p.plane.translate(p.World)
		began := time.Now()
		p.plane.xds.Set(node, p.plane.snapshot)
		Eventually(stream.Done()).Should(BeClosed())
		testbed.Figure("a stream was cut after", stream.Last().Sub(began))
		Expect(stream.Last().Sub(began)).To(BeNumerically("<", 50*time.Millisecond+busy))
		Expect(p.H1().Get(testbed.Host(route), "/api/x", p.Token()).Status).To(Equal(404))
		p.settled("/api/stream", 1)
		Expect(p.Logged(audit.TypeEnd, "/api/stream")["/api/stream"]).To(HaveExactElements(HaveField("Cut", audit.CutClosed)))
	})

	It("ends on time with neither controller nor agent", func() {
		p := newPod()
		deadline := time.Now().Add(8 * time.Second)
		p.Write("route.yaml", testbed.Route{Name: route}.YAML(), testbed.Activation{Name: "open", Routes: []string{route}, Duration: "8s"}.YAML())
		p.plane.translate(p.World)
		p.plane.xds.Set(node, p.plane.snapshot)
		p.start()
		stream := p.H1().Events("events", testbed.Host(route), "/api/stream", p.Token())
		Eventually(stream.Open).Should(BeTrue())
		p.plane.stop()
		p.agent.kill()
		Eventually(stream.Done()).Should(BeClosed())
		Expect(stream.Last()).To(BeTemporally("~", deadline, 500*time.Millisecond+busy))
		Expect(p.H1().Get(testbed.Host(route), "/api/x", p.Token()).Status).To(BeNumerically(">=", 400))
	})
})

var _ = Describe("A rolling update", func() {
	It("fails no request and cuts no stream that ends in time", func() {
		old, fresh := newPod(), newPod()
		fresh.Issuer, fresh.Policy = old.Issuer, old.Policy
		fresh.WritePolicy()
		fresh.plane.translate(fresh.World)
		fresh.plane.xds.Set(node, fresh.plane.snapshot)
		old.start()
		service := newBalancer(old.HTTP)
		token := old.Token()

		stop := make(chan struct{})
		var clients sync.WaitGroup
		var asked atomic.Int64
		var mu sync.Mutex
		var failed []string
		for i := range 8 {
			c := old.H1On(service.port)
			if i%2 == 1 {
				c = old.H2COn(service.port)
			}
			clients.Go(func() {
				defer c.Close()
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					reply := c.Do(testbed.Request{Method: "GET", Host: testbed.Host(route), Path: fmt.Sprintf("/api/%d/%d", i, n), Token: token})
					asked.Add(1)
					if reply.Status != 200 {
						mu.Lock()
						failed = append(failed, fmt.Sprintf("client %d, request %d: %d %v", i, n, reply.Status, reply.Err))
						mu.Unlock()
					}
				}
			})
		}
		stream := old.H1On(service.port).Events("events", testbed.Host(route), "/api/stream", token)
		Eventually(stream.Open).Should(BeTrue())

		By("adding the new pod, and taking the old one away while clients go on")
		fresh.start()
		old.signalEnvoy()
		Eventually(old.ready).ShouldNot(HavePrefix("ok"))
		before := asked.Load()
		Eventually(asked.Load).Should(BeNumerically(">", before+50), "the old pod serves on before it is known that it goes")
		service.to.Store(int64(fresh.HTTP))
		<-time.After(time.Second)
		Expect(stream.Open()).To(BeTrue())
		stream.Close()
		Eventually(old.envoy.done).Should(BeClosed())
		before = asked.Load()
		Eventually(asked.Load).Should(BeNumerically(">", before+50))
		close(stop)
		clients.Wait()
		Expect(failed).To(BeEmpty())

		By("having each request in one of the two logs")
		total := int(asked.Load())
		Eventually(func() int {
			return len(old.Logged(audit.TypeEnd, "/api/")) + len(fresh.Logged(audit.TypeEnd, "/api/"))
		}).Should(Equal(total + 1)) // and the stream
		Expect(len(fresh.Logged(audit.TypeEnd, "/api/"))).To(BeNumerically(">", 50))
		old.agent.end()
		Expect(append(old.Gaps(), fresh.Gaps()...)).To(BeEmpty())
	})
})
