//go:build envoy

package serve

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

var _ = Describe("A flood of", func() {
	It("two thousand new routes leaves an open window alone, and another opens and closes in the midst of it", func() {
		w, _ := faulty("10m")
		g := watch(w)
		const routes, files = 2000, 4
		for f := range files {
			var docs []string
			for i := range routes / files {
				docs = append(docs, testbed.Route{Name: fmt.Sprintf("flood-%d-%d", f, i)}.YAML())
			}
			w.Write(fmt.Sprintf("flood-%d.yaml", f), docs...)
		}
		began := time.Now()
		g.dormant.Stop()
		w.Write("b.yaml", testbed.Activation{Name: "b", Routes: []string{"dormant"}, Duration: "10m"}.YAML())
		Eventually(w.H1().Status(testbed.Host("dormant"), "/api/x", w.Token()), "60s").Should(Equal(200))
		testbed.Figure("route flood: opened in the midst of it", time.Since(began))
		asked := w.Revoke("b")
		Eventually(w.H1().Status(testbed.Host("dormant"), "/api/x", w.Token())).Should(Equal(404))
		testbed.Figure("route flood: refused after a revocation", time.Since(asked))
		last := fmt.Sprintf("flood-%d-%d", files-1, routes/files-1)
		Eventually(func() bool { return w.RouteStatus(last) != nil }, "60s", "100ms").Should(BeTrue())
		Expect(w.H1().Get(testbed.Host(last), "/api/x", w.Token())).To(haveStatus(404))
		for f := range files {
			w.Remove(fmt.Sprintf("flood-%d.yaml", f))
		}
		Eventually(func() bool { return w.RouteStatus(last) == nil }, "60s", "100ms").Should(BeTrue())
		g.undisturbed()
	})

	It("callers on the control socket keeps nobody from revoking", func() {
		w, _ := faulty("10m")
		g := watch(w)
		w.Activate(testbed.Activation{Name: "b", Routes: []string{"open"}, Duration: "20m"})
		var silent []net.Conn
		for i := range 300 {
			c, err := net.Dial("unix", control.SocketPath(w.Data))
			Expect(err).NotTo(HaveOccurred())
			silent = append(silent, c)
			switch i % 3 {
			case 1:
				_, err = io.WriteString(c, "GET /")
			case 2:
				_, err = io.WriteString(c, "\x16\x03\x01\x00\xff\x00")
			}
			Expect(err).NotTo(HaveOccurred())
		}
		stop := make(chan struct{})
		var busy sync.WaitGroup
		for range 20 {
			busy.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						_, _ = w.TryStatus() // it may be too busy for an answer
					}
				}
			})
		}
		began := time.Now()
		w.Revoke("b")
		testbed.Figure("control socket flood: revoked", time.Since(began))
		Expect(time.Since(began)).To(BeNumerically("<", 5*time.Second))
		close(stop)
		busy.Wait()
		for _, c := range silent {
			Expect(c.Close()).To(Succeed())
		}
		Eventually(w.Phase("b")).Should(HavePrefix("Revoked"))
		g.undisturbed()
	})

	It("connections that never finish their request keeps nobody from coming in, nor a window from closing", func() {
		w, _ := faulty("10m")
		g := watch(w)
		var half []net.Conn
		for i := range 400 {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", []int{w.HTTP, w.HTTPS}[i%2]))
			Expect(err).NotTo(HaveOccurred())
			half = append(half, c)
			if i%4 < 2 {
				_, err = io.WriteString(c, "GET /api/x HTTP/1.1\r\nHost: "+testbed.Host("open")+"\r\nX-A: ")
				Expect(err).NotTo(HaveOccurred())
			}
		}
		Expect(w.H1().Fresh().Get(testbed.Host("open"), "/api/x", w.Token())).To(haveStatus(200))
		Expect(w.TLS2().Get(testbed.Host("open"), "/api/x", w.Token())).To(haveStatus(200))
		onlyAmong(g.dormant.Stop(), 404)
		w.Activate(testbed.Activation{Name: "b", Routes: []string{"dormant"}, Duration: "10m"})
		w.Revoke("b")
		staysClosed(w, "dormant")
		for _, c := range half {
			Expect(c.Close()).To(Succeed())
		}
		g.undisturbed()
	})
})
