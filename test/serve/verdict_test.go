//go:build envoy

package serve

import (
	"os"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// activateAs has somebody of another uid make an activation, by a file of his.
func activateAs(w *testbed.World, name string, uid int) {
	GinkgoHelper()
	w.Write("new.tmp", testbed.Activation{Name: name, Routes: []string{"r"}, Duration: "10m"}.YAML())
	file := filepath.Join(w.Config, "new.tmp")
	Expect(os.Chown(file, uid, uid)).To(Succeed())
	Expect(os.Rename(file, filepath.Join(w.Config, name+".yaml"))).To(Succeed())
}

var _ = Describe("The verdict on what was opened", func() {
	It("is asked for, refuses the role once it is overdue, and unlocks it, also over a SIGKILL", func() {
		w := testbed.New()
		w.Policy.Review = "{within: 2s, onOverdue: Refuse}"
		w.WritePolicy()
		w.Write("route.yaml", testbed.Route{Name: "r"}.YAML())
		w.Start()
		state := func(name string) func() string {
			return func() string {
				if a := w.Activation(name); a != nil && a.Status.Review != nil {
					return string(a.Status.Review.State) + " " + a.Status.Review.By
				}
				return ""
			}
		}
		review := func(name string, more ...string) (string, error) {
			return w.Run(append([]string{"review", "pay/" + name, "--verdict", "justified", "--note", "read the log"}, more...)...)
		}
		activateAs(w, "one", 65534)
		w.AwaitPhase("one", "Live")
		out, err := review("one")
		Expect(err).To(HaveOccurred())
		Expect(out).To(ContainSubstring("NotEnded"))
		w.Revoke("one")
		Expect(state("one")()).To(Equal("Pending "))
		// One that this very user made stays open over all that follows.
		out, err = w.Run("activate", "pay/r", "--name", "two", "--role", "db", "--incident", "I", "--reason", "why", "--duration", "10m")
		Expect(err).NotTo(HaveOccurred(), out)

		Eventually(state("one"), "5s", "20ms").Should(Equal("Overdue "))
		activateAs(w, "three", 65534)
		w.AwaitPhase("three", "Refused ReviewOverdue")
		Expect(w.Message("three")).To(And(ContainSubstring("pay/one"), ContainSubstring("breakglass review pay/one")))
		Expect(w.Phase("two")()).To(Equal("Live"))
		w.KillServe()
		w.Start()
		Expect(state("one")()).To(Equal("Overdue "))
		activateAs(w, "four", 65534)
		w.AwaitPhase("four", "Refused ReviewOverdue")
		Expect(w.Phase("two")()).To(Equal("Live"))

		asked := time.Now()
		out, err = review("one", "--follow-up", "OPS-12")
		Expect(err).NotTo(HaveOccurred(), out)
		testbed.Figure("breakglass review: the command returns", time.Since(asked))
		activateAs(w, "five", 65534)
		w.AwaitPhase("five", "Live")
		testbed.Figure("from the review to the next activation, live", time.Since(asked))
		w.KillServe()
		w.Start()
		Expect(state("one")()).To(HavePrefix("Justified unix:user=root"))
		out, err = review("one")
		Expect(err).To(HaveOccurred())
		Expect(out).To(ContainSubstring("AlreadyReviewed"))

		// Nobody reviews himself. A removed file does not help.
		w.Revoke("two", "five")
		out, err = review("two")
		Expect(err).To(HaveOccurred())
		Expect(out).To(ContainSubstring("ReviewerIsActivator"))
		w.Remove("five.yaml")
		out, err = review("five", "-o", "json")
		Expect(err).NotTo(HaveOccurred(), out)

		out, err = w.Run("audit", "list", "--activation", "pay/one", "--kind", "activation")
		Expect(err).NotTo(HaveOccurred(), out)
		Expect(out).To(MatchRegexp(`(?s)revoked.* overdue .*no review until.* reviewed +unix:user=root,uid=0.*justified: read the log; to do: OPS-12`))
	})
})
