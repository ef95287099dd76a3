//go:build envoy

package oracle

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

func TestOracle(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "oracle")
}

var _ = AfterSuite(func() { Expect(testbed.RemoveBinary()).To(Succeed()) })

// number of an environment variable.
func number(name string, unset uint64) uint64 {
	GinkgoHelper()
	text := os.Getenv(name)
	if text == "" {
		return unset
	}
	n, err := strconv.ParseUint(text, 10, 64)
	Expect(err).NotTo(HaveOccurred(), "%s is not a number", name)
	return n
}

var _ = Describe("A gateway", func() {
	It("answers random requests in random worlds as the documentation says", func() {
		testbed.Binary()
		testbed.Prefer()
		probes, seed := int(number("PROBES", 300)), number("SEED", 0)
		began := time.Now()
		r := newRunner()
		if seed != 0 {
			r.run(seed)
		}
		for seed == 0 && r.tally.Probes < probes {
			r.run(rand.Uint64N(1 << 32))
		}
		fmt.Fprintf(os.Stdout, "\n%s; %s\n", r.tally, time.Since(began).Round(time.Second))
		Expect(r.tally.undecided()).To(BeNumerically("<", r.tally.Probes/30+10), "too much is undecided to prove anything")
		if seed == 0 {
			Expect(r.tally.In).To(BeNumerically(">", r.tally.Probes/10), "hardly anybody is let in: this proves nothing")
		}
	})
})
