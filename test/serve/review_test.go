//go:build envoy

package serve

import (
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

var _ = Describe("Reviewing what serve has in use", func() {
	It("is exported as a directory that renders the same, and a change of it says what it would cut", func() {
		route := dormantRoute()
		copied := filepath.Join(GinkgoT().TempDir(), "copy")
		out, err := shared.Run("export", copied)
		Expect(err).NotTo(HaveOccurred(), out)

		at := []string{"--at", "2030-01-01T00:00:00Z", "--open", "pay/" + route + ":db:5m"}
		render := func(from ...string) string {
			out, err := shared.Run(append(append([]string{"render"}, from...), at...)...)
			Expect(err).NotTo(HaveOccurred(), out)
			Expect(out).To(And(ContainSubstring("phase: Live"), ContainSubstring("answer: locked")))
			return out
		}
		Expect(render("-c", copied)).To(ContainSubstring("pay/" + route))
		Expect(render("--live")).NotTo(ContainSubstring("PRIVATE KEY"))

		out, err = shared.Run("lint", "--live", "--fail-on", "never")
		Expect(err).NotTo(HaveOccurred(), out)
		Expect(out).To(And(ContainSubstring("BG"), ContainSubstring("pay/"+route)))

		out, err = activate(route)
		Expect(err).NotTo(HaveOccurred(), out)
		edited := filepath.Join(copied, "manifests", "httproute", "pay_"+route+".yaml")
		text, err := os.ReadFile(edited)
		Expect(err).NotTo(HaveOccurred())
		Expect(os.WriteFile(edited, []byte(strings.ReplaceAll(string(text), "/api", "/apis")), 0o600)).To(Succeed())
		out, err = shared.Run("diff", "-c", copied, "--live")
		Expect(err).To(HaveOccurred(), "exit code 1 says that there are differences")
		Expect(out).To(And(ContainSubstring("HTTPRoute pay/"+route+" changed"), ContainSubstring("WIDENS"), ContainSubstring("would be cut")))
	})
})
