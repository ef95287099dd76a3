//go:build envoy

package serve

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// copyOf is a copy of a directory of manifests, beside it.
func copyOf(dir, name string) string {
	GinkgoHelper()
	to := filepath.Join(filepath.Dir(dir), name)
	Expect(os.CopyFS(to, os.DirFS(dir))).To(Succeed())
	return to
}

var _ = Describe("A manifest directory that", func() {
	It("is replaced by a copy, again and again, disturbs nothing, and what the copy has anew is taken up", func() {
		w, _ := faulty("10m")
		g := watch(w)
		for i := range 5 {
			next := copyOf(w.Config, fmt.Sprintf("next-%d", i))
			name := fmt.Sprintf("new-%d", i)
			Expect(os.WriteFile(filepath.Join(next, name+".yaml"), []byte(testbed.Route{Name: name}.YAML()), 0o600)).To(Succeed())
			Expect(os.Rename(w.Config, w.Config+fmt.Sprintf("-old-%d", i))).To(Succeed())
			Expect(os.Rename(next, w.Config)).To(Succeed())
			Eventually(func() bool { return w.RouteStatus(name) != nil }).Should(BeTrue())
		}
		g.undisturbed()
	})

	It("is a link is followed to where it points anew", func() {
		w := testbed.New()
		w.Write("routes.yaml", testbed.Route{Name: "open"}.YAML(), testbed.Route{Name: "dormant"}.YAML(), testbed.Route{Name: "r"}.YAML())
		releases := w.Config + "-releases"
		Expect(os.Mkdir(releases, 0o700)).To(Succeed())
		first := filepath.Join(releases, "1")
		Expect(os.Rename(w.Config, first)).To(Succeed())
		point := func(to string) {
			GinkgoHelper()
			Expect(os.Symlink(to, w.Config+".new")).To(Succeed())
			Expect(os.Rename(w.Config+".new", w.Config)).To(Succeed())
		}
		point(first)
		w.Start()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"open"}, Duration: "10m"})
		g := watch(w)
		second := copyOf(first, "2")
		Expect(os.WriteFile(filepath.Join(second, "b.yaml"), []byte(testbed.Activation{Name: "b", Routes: []string{"r"}, Duration: "10m"}.YAML()), 0o600)).To(Succeed())
		point(second)
		w.AwaitPhase("b", "Live")
		point(first)
		w.AwaitPhase("b", "Revoked Deleted")
		staysClosed(w, "r")
		g.undisturbed()
	})

	It("is gone closes everything, says so, and when it is back nothing opens by itself", func() {
		w, _ := faulty("10m")
		g := watch(w)
		Expect(os.Rename(w.Config, w.Config+"-away")).To(Succeed())
		w.AwaitPhase("a", "Revoked Deleted")
		Eventually(g.stream.Done()).Should(BeClosed())
		Eventually(told(w)).Should(line("problem", w.Config, "no such file or directory"))
		Expect(os.Rename(w.Config+"-away", w.Config)).To(Succeed())
		Eventually(w.Problems).Should(BeEmpty())
		Eventually(w.Phase("a")).Should(HavePrefix("Refused NameSpent"), told(w))
		Eventually(w.Accepts).Should(Succeed()) // its Gateway was gone, too
		staysClosed(w, "open")
		g.neverOpen(true)
		w.Activate(testbed.Activation{Name: "b", Routes: []string{"open"}, Duration: "10m"})
		Expect(w.H1().Get(testbed.Host("open"), "/api/x", w.Token())).To(haveStatus(200))
		Eventually(func() bool { return w.Status().Ready }).Should(BeTrue(), told(w))
	})

	It("cannot be read, whatever the reason, keeps what is open, until its deadline and no longer", func() {
		w, deadline := faulty("4s")
		w.Activate(testbed.Activation{Name: "b", Routes: []string{"dormant"}, Duration: "10m"})
		stop := probes(w, testbed.Host("open"), "/api/x", w.Token())
		// A link to itself: root may read all that has a permission.
		Expect(os.Rename(w.Config, w.Config+"-away")).To(Succeed())
		Expect(os.Symlink(w.Config, w.Config)).To(Succeed())
		Eventually(told(w)).Should(line("problem", w.Config, "symbolic links"), told(w))
		testbed.WaitUntil(deadline.Add(150 * time.Millisecond))
		closesAt("deadline, manifests unreadable", stop(deadline), deadline)
		Expect(w.Phase("b")()).To(Equal("Live"))
		w.Revoke("b")
		staysClosed(w, "dormant")
		Expect(os.Remove(w.Config)).To(Succeed())
		Expect(os.Rename(w.Config+"-away", w.Config)).To(Succeed())
		Eventually(w.Problems).Should(BeEmpty())
		w.Activate(testbed.Activation{Name: "c", Routes: []string{"open"}, Duration: "10m"})
	})

	It("gets a thousand bad files serves the good ones, and tells of the others by file", func() {
		w, _ := faulty("10m")
		g := watch(w)
		bad := filepath.Join(w.Config, "bad")
		Expect(os.Mkdir(bad, 0o700)).To(Succeed())
		bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
		for c := 'b'; c < 'k'; c++ {
			bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
		}
		kinds := []struct{ suffix, text string }{
			{".yaml", "kind: [\n"},
			{".txt", "see: [the wiki\n"},
			{".yaml", "\x7fELF\x02\x01\x01\x00\x00\xff\xfe"},
			{".json", "{"},
			{".yaml", bomb},
			{".yaml", strings.Repeat("[", 20_000)},
			{".json", strings.Repeat(`{"a":`, 20_000)},
			{".yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: twice, namespace: pay}\n"},
			{".yaml", "apiVersion: v9\nkind: Surprise\nmetadata: {name: x}\n"},
			{".yaml", strings.Replace(testbed.Route{Name: "typo"}.YAML(), "hostnames:", "hostname:", 1)},
		}
		for i := range 1000 {
			k := kinds[i%len(kinds)]
			Expect(os.WriteFile(filepath.Join(bad, fmt.Sprintf("%04d%s", i, k.suffix)), []byte(k.text), 0o600)).To(Succeed())
		}
		Expect(os.Truncate(filepath.Join(bad, "0000.yaml"), 1<<40)).To(Succeed())
		// All but the text files.
		Eventually(func() int { return len(w.Problems()) }, "20s", "50ms").Should(BeNumerically(">=", 900))
		By("what is good opens and closes")
		onlyAmong(g.dormant.Stop(), 404)
		w.Activate(testbed.Activation{Name: "b", Routes: []string{"dormant"}, Duration: "10m"})
		Expect(w.H1().Get(testbed.Host("dormant"), "/api/x", w.Token())).To(haveStatus(200))
		w.Revoke("b")
		staysClosed(w, "dormant")
		Expect(os.RemoveAll(bad)).To(Succeed())
		Eventually(w.Problems).Should(BeEmpty())
		Eventually(func() bool { return w.Status().Ready }).Should(BeTrue(), told(w))
		bystanders{g.stream}.undisturbed()
		onlyStatuses(g.other.Stop(), 200)
		onlyAmong(g.tokenless.Stop(), 401)
	})
})
