//go:build envoy

// Package pod tests what runs in a pod of a fleet, as processes on this machine:
// `breakglass envoy` with the real Envoy, `breakglass agent`, and in place of the
// controller an xDS server behind mutual TLS.
package pod

import (
	"fmt"
	"os"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

func TestPod(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(20 * time.Second)
	SetDefaultEventuallyPollingInterval(10 * time.Millisecond)
	RunSpecs(t, "pod")
}

// busy is what a machine that does other things may take besides. Without it,
// milliseconds are judged.
var busy = func() time.Duration {
	if os.Getenv("BREAKGLASS_STRICT") != "" {
		return 0
	}
	return 2 * time.Second
}()

var _ = ReportAfterSuite("figures", func(r Report) { fmt.Fprint(os.Stdout, "\n", testbed.Figures(r)) })

var _ = AfterSuite(func() { Expect(testbed.RemoveBinary()).To(Succeed()) })
