//go:build envoy

package pod

import (
	"fmt"
	"io"
	"net"
	"sync/atomic"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// balancer is a Service: each new connection goes to the pod that is its endpoint
// now, and stays there.
type balancer struct {
	port int
	to   atomic.Int64 // a port
}

func newBalancer(to int) *balancer {
	GinkgoHelper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(l.Close)
	b := &balancer{port: l.Addr().(*net.TCPAddr).Port}
	b.to.Store(int64(to))
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // closed
			}
			go b.serve(client)
		}
	}()
	return b
}

func (b *balancer) serve(client net.Conn) {
	defer client.Close()
	pod, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", b.to.Load()))
	if err != nil {
		return // the client will see it
	}
	defer pod.Close()
	// Each direction ends by itself, as on the wire: a half-closed connection lives.
	pipe := func(to, from net.Conn) <-chan struct{} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(to, from)           // to its end, however it ends
			_ = to.(*net.TCPConn).CloseWrite() // gone already is fine
		}()
		return done
	}
	up, down := pipe(pod, client), pipe(client, pod)
	<-down
	_ = client.Close() // nobody is left to answer
	<-up
}
