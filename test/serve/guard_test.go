//go:build envoy

package serve

import (
	"math/rand/v2"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// guard asks, a thousand times a second, what nobody may be let in with during a
// fault, and what everybody else goes on doing.
type guard struct {
	w *testbed.World
	// dormant is asked with a good token, tokenless without one.
	dormant, tokenless *testbed.Probe
	// other is an open window.
	other  *testbed.Probe
	stream *testbed.Stream
}

// watch guards a world of faulty.
func watch(w *testbed.World) *guard {
	GinkgoHelper()
	open, path := testbed.Host("open"), "/api/guard"
	g := &guard{
		w:         w,
		dormant:   w.H1().Probe(testbed.Request{Host: testbed.Host("dormant"), Path: path, Token: w.Token()}, time.Millisecond),
		tokenless: w.TLS2().Probe(testbed.Request{Host: open, Path: path}, time.Millisecond),
		other:     w.TLS2().Probe(testbed.Request{Host: open, Path: path, Token: w.Token()}, time.Millisecond),
		stream:    w.H1().Events("events", open, "/api/stream", w.Token()),
	}
	Eventually(g.other.LastStatus, "20s", "1ms").Should(Equal(200))
	return g
}

// neverOpen ends the guard: nobody was let in. With disturbed, nobody could be
// sure of an answer.
func (g *guard) neverOpen(disturbed bool) {
	GinkgoHelper()
	dormant, tokenless := []int{404}, []int{401}
	if disturbed {
		// 404 without a token: Envoy is back, and does not have the route yet. 403: the
		// routes are gone and the listener not yet.
		dormant, tokenless = []int{0, 403, 404, 503}, []int{0, 401, 403, 404, 503}
	}
	onlyAmong(g.dormant.Stop(), dormant...)
	onlyAmong(g.tokenless.Stop(), tokenless...)
	if g.w.Backend.Hits("/api/guard") == 0 {
		Fail("the open window was never used")
	}
}

// undisturbed ends the guard: nobody was let in, and the open window was served
// all the time.
func (g *guard) undisturbed() {
	GinkgoHelper()
	g.neverOpen(false)
	onlyStatuses(g.other.Stop(), 200)
	bystanders{g.stream}.undisturbed()
}

// chance is reproducible: by ginkgo's --seed, which a failure prints.
func chance() *rand.Rand { return rand.New(rand.NewPCG(uint64(GinkgoRandomSeed()), 0)) }

// pause for a random time.
func pause(r *rand.Rand, most time.Duration) {
	testbed.WaitUntil(time.Now().Add(time.Duration(r.Int64N(int64(most)))))
}
