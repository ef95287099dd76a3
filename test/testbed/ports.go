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

// The ports that are given: below the range from which the kernel takes ports of
// clients, so that none of them gets one before Envoy does.
const firstPort, lastPort = 10000, 32000

// FreePort is a loopback port on which nobody listens. It is never given twice:
// the processes of a parallel suite have a share of the range each.
func FreePort() int {
	GinkgoHelper()
	given.Lock()
	defer given.Unlock()
	if given.ports == nil {
		given.ports = map[int]bool{}
	}
	suite, _ := GinkgoConfiguration()
	share := (lastPort - firstPort) / max(1, suite.ParallelTotal)
	first := firstPort + share*(GinkgoParallelProcess()-1)
	for range 1000 {
		port := first + rand.IntN(share)
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
	Fail(fmt.Sprintf("no free port between %d and %d", first, first+share))
	return 0
}
