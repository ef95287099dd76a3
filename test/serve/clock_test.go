//go:build envoy

package serve

import (
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

var _ = Describe("A wall clock that is set", func() {
	It("an hour ahead ends what is over by then, and set back again opens and extends nothing, not even over a restart", func() {
		w := testbed.New()
		w.Binary = testbed.Steppable()
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML(), testbed.Route{Name: "open"}.YAML(), testbed.Route{Name: "dormant"}.YAML())
		w.Start()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "10m"})
		deadline := w.Activate(testbed.Activation{Name: "b", Routes: []string{"open"}, Duration: "20h"})
		stream := w.H1().Events("events", testbed.Host("r"), "/api/stream", w.Token())
		g := watch(w)

		w.StepClock(time.Hour)
		w.AwaitPhase("a", "Expired DeadlinePassed")
		Eventually(stream.Done()).Should(BeClosed())
		staysClosed(w, "r")

		By("set back while a window is open, which is as long as it said, by everybody's watch")
		opened := time.Now()
		w.Activate(testbed.Activation{Name: "c", Routes: []string{"r"}, Duration: "4s"})
		inside := w.H1().Events("events", testbed.Host("r"), "/api/stream", w.Token())
		w.StepClock(0)
		Expect(w.H1().Get(testbed.Host("r"), "/api/x", w.Token())).To(haveStatus(200))
		cutAt("stream at the deadline, clock set back", inside, opened.Add(4*time.Second), bound(100*time.Millisecond))
		w.AwaitPhase("c", "Expired DeadlinePassed")
		staysClosed(w, "r")
		Expect(w.Phase("a")()).To(Equal("Expired DeadlinePassed"))
		Expect(w.Deadline("b")).To(BeTemporally("==", deadline))

		By("a restart does not forget")
		w.KillServe()
		w.Start()
		Expect([]string{w.Phase("a")(), w.Phase("b")(), w.Phase("c")()}).To(Equal([]string{"Expired DeadlinePassed", "Live", "Expired DeadlinePassed"}))
		Expect(w.Deadline("b")).To(BeTemporally("==", deadline))
		staysClosed(w, "r")
		g.undisturbed()
	})
})
