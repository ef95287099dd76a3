package testbed

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

var given struct {
	sync.Mutex
	ports map[int]bool
}

// FreePort is a loopback port on which nobody listens. It is below the range
// from which the kernel takes ports of clients, so that none of them gets it
// before Envoy does, and it is never given twice.
func FreePort() int {
	GinkgoHelper()
	given.Lock()
	defer given.Unlock()
	if given.ports == nil {
		given.ports = map[int]bool{}
	}
	for range 1000 {
		port := 10000 + rand.IntN(22000)
		if given.ports[port] {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		Expect(l.Close()).To(Succeed())
		given.ports[port] = true
		return port
	}
	Fail("no free port between 10000 and 32000")
	return 0
}
