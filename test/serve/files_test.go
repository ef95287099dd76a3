//go:build envoy

package serve

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// Files as people, editors and git leave them.
var _ = Describe("A manifest directory with", Ordered, ContinueOnFailure, func() {
	var w *testbed.World
	var guard *testbed.Probe
	var stream *testbed.Stream

	// watch has a good route asked all the time.
	watch := func() {
		guard = w.H1().Probe(testbed.Request{Host: testbed.Host("good"), Path: "/api/x", Token: w.Token()}, 2*time.Millisecond)
	}
	path := func(name string) string { return filepath.Join(w.Config, name) }
	// reload checks that changes are still taken up: a new route opens.
	reloads := func() {
		GinkgoHelper()
		name := w.Unique()
		w.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
		w.Activate(testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"})
		Expect(w.H1().Get(testbed.Host(name), "/api/x", w.Token())).To(haveStatus(200))
	}

	BeforeAll(func() {
		w = testbed.New()
		w.Write("good-route.yaml", testbed.Route{Name: "good"}.YAML())
		w.Start()
		w.Activate(testbed.Activation{Name: "good", Routes: []string{"good"}, Duration: "1h"})
		stream = w.H1().Events("events", testbed.Host("good"), "/api/stream", w.Token())
	})
	BeforeEach(watch)
	AfterEach(func() {
		onlyStatuses(guard.Stop(), 200)
		Expect(stream.Open()).To(BeTrue(), stream.String())
	})

	DescribeTable("what is none is told of by file, and nothing else stops", func(content string, words ...string) {
		file := w.Unique() + ".yaml"
		w.Write(file, content)
		Eventually(told(w)).Should(line(append([]string{"problem", file + ":"}, words...)...), "got %s", told(w)())
		reloads()
		w.Remove(file)
		Eventually(told(w)).ShouldNot(line("problem", file))
	},
		Entry("text", "to do: [buy milk\n", "YAML"),
		Entry("a merge conflict", "<<<<<<< HEAD\nkind: HTTPRoute\n=======\nkind: HTTPRoute\n>>>>>>> x\n"),
		Entry("null bytes", "kind: \x00HTTPRoute\n"),
		Entry("another encoding", "kind: \xff\xfeHTTPRoute\n"),
		Entry("an unknown kind", "apiVersion: v1\nkind: Surprise\nmetadata: {name: x}\n", "Surprise"),
		Entry("an unknown version", "apiVersion: gateway.networking.k8s.io/v9\nkind: HTTPRoute\nmetadata: {name: x, namespace: pay}\n", "v9"),
		Entry("a misspelt field", strings.Replace(testbed.Route{Name: "typo"}.YAML(), "hostnames:", "hostname:", 1), "HTTPRoute pay/typo", "hostname"),
		Entry("a key that comes twice", "apiVersion: v1\nkind: Service\nkind: Service\nmetadata: {name: x, namespace: pay}\n", "kind"),
		Entry("aliases that unfold to millions of nodes", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"+
			"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n"),
		Entry("a name that would leave its line", "apiVersion: v1\nkind: Service\nmetadata: {name: \"x\\nlevel=ERROR forged\", namespace: pay}\n", "x"),
	)

	It("files that are no manifests is none the worse for them", func() {
		for _, name := range []string{"README.txt", "README.md", ".good-route.yaml.swp", "good-route.yaml~", "#good-route.yaml#", "good-route.yaml.bak", ".git", "4913"} {
			Expect(os.WriteFile(path(name), []byte("see: [the wiki\n"), 0o600)).To(Succeed())
			DeferCleanup(func() { Expect(os.Remove(path(name))).To(Succeed()) })
		}
		reloads()
		Consistently(w.Problems, "100ms").Should(BeEmpty())
		Expect(w.Status().Ready).To(BeTrue())
	})

	DescribeTable("what cannot be read is told of", func(create func(path string) error) {
		file := w.Unique() + ".yaml"
		Expect(create(path(file))).To(Succeed())
		Eventually(told(w)).Should(line("problem", file+":"))
		reloads()
		Expect(os.RemoveAll(path(file))).To(Succeed())
		Eventually(told(w)).ShouldNot(line("problem", file))
	},
		Entry("a link to nowhere", func(p string) error { return os.Symlink("/nowhere.yaml", p) }),
		Entry("a link to itself", func(p string) error { return os.Symlink(p, p) }),
		Entry("a pipe", func(p string) error { return syscall.Mkfifo(p, 0o600) }),
		Entry("a device", func(p string) error { return syscall.Mknod(p, syscall.S_IFCHR|0o600, 1<<8|5) }), // /dev/zero
		Entry("a file of 5 MB", func(p string) error { return os.WriteFile(p, make([]byte, 5<<20), 0o600) }),
		Entry("a sparse file of a terabyte", func(p string) error {
			if err := os.WriteFile(p, nil, 0o600); err != nil {
				return err
			}
			return os.Truncate(p, 1<<40)
		}),
	)

	It("the same object in two files uses neither and names both", func() {
		name := w.Unique()
		w.Write(name+"-1.yaml", testbed.Route{Name: name}.YAML())
		w.Activate(testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"})
		w.Write(name+"-2.yaml", testbed.Route{Name: name, Role: "web"}.YAML())
		for _, file := range []string{name + "-1.yaml", name + "-2.yaml"} {
			Eventually(told(w)).Should(line("problem", file+":", "HTTPRoute pay/"+name, "is also at"))
		}
		w.AwaitPhase(name, "Revoked RouteDeleted")
		staysClosed(w, name)
		By("an activation, too")
		w.Write(name+"-3.yaml", testbed.Activation{Name: name + "-b", Routes: []string{"good"}, Duration: "10m"}.YAML())
		w.Write(name+"-4.yaml", testbed.Activation{Name: name + "-b", Routes: []string{"good"}, Duration: "4h"}.YAML())
		Eventually(told(w)).Should(line("problem", name+"-3.yaml:", "is also at"))
		for i := range 4 {
			w.Remove(fmt.Sprintf("%s-%d.yaml", name, i+1))
		}
		Eventually(w.Problems).Should(BeEmpty())
	})

	It("a file that an editor writes in two halves takes neither half for the whole", func() {
		name := w.Unique()
		file := name + "-all.yaml"
		whole := testbed.Docs(testbed.Route{Name: name}.YAML(), testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"}.YAML())
		w.Write(file, whole)
		w.AwaitPhase(name, "Live")
		p := w.H1().Probe(testbed.Request{Host: testbed.Host(name), Path: "/api/x", Token: w.Token()}, time.Millisecond)
		Eventually(p.LastStatus).Should(Equal(200))
		// Cut between two documents, within one, and before the first.
		for _, cut := range []int{strings.Index(whole, "---"), len(whole) / 3, 0} {
			f, err := os.OpenFile(path(file), os.O_WRONLY|os.O_TRUNC, 0)
			Expect(err).NotTo(HaveOccurred())
			_, err = f.WriteString(whole[:cut])
			Expect(err).NotTo(HaveOccurred())
			testbed.WaitUntil(time.Now().Add(80 * time.Millisecond)) // the editor is slow
			_, err = f.WriteString(whole[cut:])
			Expect(err).NotTo(HaveOccurred())
			Expect(f.Close()).To(Succeed())
			testbed.WaitUntil(time.Now().Add(50 * time.Millisecond))
		}
		onlyStatuses(p.Stop(), 200)
		Expect(w.Phase(name)()).To(Equal("Live"))
	})

	It("a file that git replaces by unlinking it first keeps what is open", func() {
		name := w.Unique()
		file := name + "-all.yaml"
		whole := testbed.Docs(testbed.Route{Name: name}.YAML(), testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"}.YAML())
		w.Write(file, whole)
		w.AwaitPhase(name, "Live")
		p := w.H1().Probe(testbed.Request{Host: testbed.Host(name), Path: "/api/x", Token: w.Token()}, time.Millisecond)
		Eventually(p.LastStatus).Should(Equal(200))
		for range 5 {
			Expect(os.Remove(path(file))).To(Succeed())
			Expect(os.WriteFile(path(file), []byte(whole), 0o600)).To(Succeed())
		}
		testbed.WaitUntil(time.Now().Add(100 * time.Millisecond))
		onlyStatuses(p.Stop(), 200)
		Expect(w.Phase(name)()).To(Equal("Live"))
	})

	It("an object that becomes invalid keeps its last good version, but never past its deadline", func() {
		name := w.Unique()
		route := testbed.Route{Name: name}.YAML()
		w.Write(name+"-route.yaml", route)
		deadline := w.Activate(testbed.Activation{Name: name, Routes: []string{name}, Duration: "2s"})
		stop := probes(w, testbed.Host(name), "/api/x", w.Token())
		w.Write(name+"-route.yaml", strings.Replace(route, "hostnames:", "hostname:", 1))
		w.Write(name+".yaml", "kind: [\n")
		Eventually(told(w)).Should(And(line("problem", name+"-route.yaml:"), line("problem", name+".yaml:")))
		testbed.WaitUntil(deadline.Add(100 * time.Millisecond))
		closesAt("deadline, manifests broken", stop(deadline), deadline)
		w.Remove(name + "-route.yaml")
		w.Remove(name + ".yaml")
	})

	It("an object that is invalid closes all the same if it says revoked: true", func() {
		name := w.Unique()
		w.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
		a := testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"}
		w.Activate(a)
		a.Revoked, a.Duration = true, "20m" // the second is not allowed
		w.Write(name+".yaml", a.YAML())
		Eventually(w.Phase(name)).Should(HavePrefix("Revoked"))
		staysClosed(w, name)
		w.Remove(name + ".yaml")
	})

	It("links as a mounted ConfigMap has them follows the swap of one link", func() {
		name := w.Unique()
		version := func(n int, docs ...string) string {
			dir := path(fmt.Sprintf("..v%d-%s", n, name))
			Expect(os.Mkdir(dir, 0o700)).To(Succeed())
			Expect(os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(testbed.Docs(docs...)), 0o600)).To(Succeed())
			return filepath.Base(dir)
		}
		swap := func(to string) {
			Expect(os.Symlink(to, path("..tmp-"+name))).To(Succeed())
			Expect(os.Rename(path("..tmp-"+name), path("..data-"+name))).To(Succeed())
		}
		swap(version(1, testbed.Route{Name: name}.YAML()))
		Expect(os.Symlink("..data-"+name+"/"+name+".yaml", path(name+".yaml"))).To(Succeed())
		Eventually(func() bool { return w.RouteStatus(name) != nil }).Should(BeTrue())
		a := testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"}
		swap(version(2, testbed.Route{Name: name}.YAML(), a.YAML()))
		w.AwaitPhase(name, "Live")
		swap(version(3, testbed.Route{Name: name}.YAML()))
		w.AwaitPhase(name, "Revoked Deleted")
		for _, f := range []string{name + ".yaml", "..data-" + name, "..v1-" + name, "..v2-" + name, "..v3-" + name} {
			Expect(os.RemoveAll(path(f))).To(Succeed())
		}
	})

	It("an unparsable file beside good ones serves the good ones after a restart, and keeps what is open", func() {
		w.Write("broken.yaml", "kind: HTTPRoute\nmetadata: [\n")
		Eventually(told(w)).Should(line("problem", "broken.yaml:"))
		w.KillServe()
		w.Spawn()
		Eventually(told(w)).Should(line("problem", "broken.yaml:"))
		reloads()
		By("and after one with a fresh Envoy")
		stream.Close()
		guard.Stop()
		w.StopServe()
		w.Spawn()
		Eventually(w.H1().Status(testbed.Host("good"), "/api/x", w.Token())).Should(Equal(200))
		reloads()
		w.Remove("broken.yaml")
		stream = w.H1().Events("events", testbed.Host("good"), "/api/stream", w.Token())
	})

	It("nothing in it any more closes everything", func() {
		onlyStatuses(guard.Stop(), 200)
		entries, err := os.ReadDir(w.Config)
		Expect(err).NotTo(HaveOccurred())
		for _, e := range entries {
			Expect(os.RemoveAll(path(e.Name()))).To(Succeed())
		}
		Eventually(w.H1().Status(testbed.Host("good"), "/api/x", w.Token())).Should(BeElementOf(0, 404))
		Eventually(stream.Done()).Should(BeClosed())
		stream = testbed.AlwaysOpen()
	})
})
