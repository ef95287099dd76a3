//go:build envoy

// Package serve tests a running gateway from the outside: the breakglass binary,
// a real Envoy, manifests in a directory, and clients that want in.
//
// One World is shared by the specs that break nothing: each brings a route and
// activations of its own. Whatever kills, corrupts or suspends has its own.
//
// Most of the time a spec waits, so that several processes run them side by side:
// see test-envoy in the Makefile. As `go test` alone they run one by one.
package serve

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

func TestMain(m *testing.M) {
	testbed.RunCanary()
	os.Exit(m.Run())
}

func TestServe(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(20 * time.Second)
	SetDefaultEventuallyPollingInterval(10 * time.Millisecond)
	RunSpecs(t, "serve")
}

// shared by the specs of one process.
var shared *testbed.World

var (
	// late is how long after a deadline something may still go through.
	late = bound(10 * time.Millisecond)
	// revocation is how long a revocation may take to be complete.
	revocation = bound(50 * time.Millisecond)
)

// bound is a figure to reach, with BREAKGLASS_STRICT set. Without it, a machine
// that is busy with other things may add to it: the suite says whether something
// closes, and reports when. make bench measures.
func bound(d time.Duration) time.Duration {
	if os.Getenv("BREAKGLASS_STRICT") != "" {
		return d
	}
	return d + time.Second
}

var _ = SynchronizedBeforeSuite(func() []byte {
	return []byte(testbed.Binary()) // before Prefer: a build need not be preferred
}, func(binary []byte) {
	testbed.UseBinary(string(binary))
	testbed.Prefer()
	testbed.StartCanary()
	shared = testbed.New()
	shared.Start()
})

var _ = SynchronizedAfterSuite(testbed.StopCanary, func() {
	Expect(testbed.RemoveBinary()).To(Succeed())
})

var _ = ReportAfterSuite("figures", func(r Report) {
	fmt.Fprint(os.Stdout, "\n", testbed.Figures(r))
})

// notAfter checks that something that began or came at t was not later than
// tolerance after an instant. While there was no CPU to be had nobody could have
// been in time; how much was allowed for that is reported.
func notAfter(t, instant time.Time, tolerance time.Duration, what ...any) {
	GinkgoHelper()
	if !t.After(instant.Add(tolerance)) {
		return
	}
	stalled := testbed.Stalled(instant.Add(-late), t)
	Expect(t).To(BeTemporally("<=", instant.Add(tolerance+stalled)),
		"%s after the instant, of which a busy machine took %s: %s", t.Sub(instant), stalled, fmt.Sprint(what...))
	testbed.Figure("too late, put down to a busy machine", t.Sub(instant)-tolerance)
}

// status is the first thing that a reader of a failure wants.
func status(r testbed.Reply) int { return r.Status }

// haveStatus fits a reply.
func haveStatus(codes ...int) OmegaMatcher {
	return WithTransform(status, BeElementOf(codes))
}

// beRefused fits a reply that let nobody in: an answer of 4xx, or none at all.
func beRefused() OmegaMatcher {
	return WithTransform(status, Or(BeZero(), And(BeNumerically(">=", 400), BeNumerically("<", 500))))
}

// onlyStatuses checks that samples went through these statuses, in this order,
// each any number of times, and through no other.
func onlyStatuses(samples []testbed.Reply, order ...int) {
	GinkgoHelper()
	at := 0
	for _, s := range samples {
		i := slices.Index(order[at:], s.Status)
		if i < 0 {
			Fail(fmt.Sprintf("status %d (%v), want only %v in this order: %s", s.Status, s.Err, order, testbed.Runs(samples)))
		}
		at += i
	}
}
