//go:build envoy

package serve

import (
	"io"
	"net"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// clumsy is a backend that does something else than answer on its first connections.
type clumsy struct {
	port  int
	tries atomic.Int32
}

func startClumsy(failures int32, fail func(net.Conn)) *clumsy {
	GinkgoHelper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(l.Close)
	b := &clumsy{port: l.Addr().(*net.TCPAddr).Port}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if b.tries.Add(1) <= failures {
					fail(conn)
					return
				}
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			}()
		}
	}()
	return b
}

var _ = Describe("A retry", Ordered, func() {
	var w *testbed.World
	open := func(extra string, b *clumsy) (host string) {
		GinkgoHelper()
		name := w.Unique()
		w.Write(name+"-route.yaml", testbed.Service(name, b.port), testbed.Route{Name: name, Rules: []testbed.Rule{{
			Matches: []string{testbed.Match("GET", "PathPrefix", "/api", "")}, Service: name, Extra: extra,
		}}}.YAML())
		w.Activate(testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"})
		return testbed.Host(name)
	}
	BeforeAll(func() {
		w = testbed.New()
		w.Start()
	})

	It("is made of a connection that breaks before an answer, as often as the rule says", func() {
		b := startClumsy(2, func(net.Conn) {})
		Expect(w.H1().Get(open("retry: {attempts: 2, backoff: 1ms}", b), "/api/x", w.Token())).To(haveStatus(200))
		Expect(b.tries.Load()).To(BeEquivalentTo(3))
		worse := startClumsy(3, func(net.Conn) {})
		Expect(w.H1().Get(open("retry: {attempts: 2, backoff: 1ms}", worse), "/api/x", w.Token())).To(haveStatus(503))
		Expect(worse.tries.Load()).To(BeEquivalentTo(3))
	})

	It("is not made where no rule says so", func() {
		b := startClumsy(1, func(net.Conn) {})
		Expect(w.H1().Get(open("", b), "/api/x", w.Token())).To(haveStatus(503))
		Expect(b.tries.Load()).To(BeEquivalentTo(1))
	})

	It("is made of a try that takes longer than timeouts.backendRequest", func() {
		silent := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) } // until Envoy gives up
		b := startClumsy(1, silent)
		began := time.Now()
		Expect(w.H1().Get(open("timeouts: {backendRequest: 300ms}, retry: {attempts: 1, backoff: 1ms}", b), "/api/x", w.Token())).To(haveStatus(200))
		Expect(time.Since(began)).To(BeNumerically(">=", 300*time.Millisecond))
		Expect(b.tries.Load()).To(BeEquivalentTo(2))
	})
})
