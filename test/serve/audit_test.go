//go:build envoy

package serve

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// rounds is how often something is killed: BREAKGLASS_ROUNDS, else a few.
func rounds(few int) int {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("BREAKGLASS_ROUNDS"), fmt.Sprint(few)))
	Expect(err).NotTo(HaveOccurred())
	return n
}

// opened is a world with the route r open.
func opened() *testbed.World {
	GinkgoHelper()
	w := testbed.New()
	w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML())
	w.Start()
	w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "30m"})
	return w
}

// sound has the log verified by its own command.
func sound(w *testbed.World) {
	GinkgoHelper()
	out, err := w.Run("audit", "verify")
	Expect(err).NotTo(HaveOccurred(), out)
}

// exactlyOnce compares what clients got with what the log has. It returns how
// many answered requests the log lacks.
func exactlyOnce(w *testbed.World, prefix string, answers map[string]int) (lost int) {
	GinkgoHelper()
	logged := w.Logged(audit.TypeEnd, prefix)
	for path, entries := range logged {
		Expect(entries).To(HaveLen(1), "%s is in the log more than once", path)
		_, asked := answers[path] // HaveKey looks at every key
		Expect(asked).To(BeTrue(), "%s is in the log, and nobody asked for it", path)
	}
	for path, status := range answers {
		if status == 0 {
			continue // no answer: it may have reached Envoy or not
		}
		if logged[path] == nil {
			lost++
			continue
		}
		Expect(logged[path][0].Status).To(BeEquivalentTo(status), path)
	}
	return lost
}

// accounted waits until every answered request is in the log, or said to be
// missing there.
func accounted(w *testbed.World, prefix string, answers map[string]int) {
	GinkgoHelper()
	Eventually(func() int {
		lost := exactlyOnce(w, prefix, answers)
		for _, g := range w.Gaps() {
			lost -= int(g.Lost)
		}
		return lost
	}, "30s", "100ms").Should(BeNumerically("<=", 0), "requests that the log neither has nor misses")
}

// settles waits until every answered request is in the log.
func settles(w *testbed.World, prefix string, answers map[string]int) {
	GinkgoHelper()
	Eventually(func() int { return exactlyOnce(w, prefix, answers) }, "30s", "100ms").Should(BeZero(), "requests that the log lacks")
}

var _ = Describe("The audit log", func() {
	It("tells of each request who, what and why, refused ones with the reason", func() {
		w := opened()
		host, good := testbed.Host("r"), w.Token()
		Expect(w.H1().Get(host, "/api/yes?secret=1", good)).To(haveStatus(200))
		Expect(w.H1().Get(host, "/api/anonymous", "")).To(haveStatus(401))
		Expect(w.H1().Get(host, "/api/role", w.Issuer.Token("web"))).To(haveStatus(403))
		Expect(w.H1().Get(host, "/other", good)).To(haveStatus(404))
		Eventually(func() int { return len(w.Logged(audit.TypeEnd, "/")) }).Should(Equal(4))
		logged := w.Logged(audit.TypeEnd, "/")
		yes := logged["/api/yes?secret=redacted"]
		Expect(yes).To(HaveLen(1), "got %v", logged)
		Expect(yes[0].Subject).NotTo(BeEmpty())
		Expect(yes[0].Issuer).To(Equal(w.Issuer.URL))
		Expect(yes[0].Route).To(Equal("pay/r"))
		Expect(yes[0].Role).To(Equal("db"))
		Expect(yes[0].Activations).To(Equal([]string{"pay/a"}))
		Expect(yes[0].Incident).NotTo(BeEmpty())
		Expect(yes[0].Denied).To(BeEmpty())
		Expect(yes[0].N).NotTo(BeZero())
		Expect(logged["/api/anonymous"][0].Denied).To(HavePrefix("token"))
		Expect(logged["/api/role"][0].Denied).To(HavePrefix("rbac"))
		Expect(logged["/other"][0].Denied).To(Equal("not open"))
		for _, e := range w.Entries("") {
			Expect(string(e.Data)).NotTo(ContainSubstring(good))
			Expect(string(e.Data)).NotTo(ContainSubstring("secret=1"))
		}
		w.StopServe()
		sound(w)
		Expect(w.Gaps()).To(BeEmpty())
		kinds := map[string]int{}
		for _, e := range w.Entries("") {
			kinds[e.Kind]++
		}
		Expect(kinds).To(And(HaveKey("start"), HaveKey("stop"), HaveKey("policy"), HaveKey("config"), HaveKey("activation")))
	})

	It("tells of a stream when it is a second old, and at its end", func() {
		w := opened()
		s := w.H1().Events("events", testbed.Host("r"), "/api/stream", w.Token())
		Expect(s.Status()).To(Equal(200))
		Eventually(func() int { return len(w.Logged(audit.TypeOpen, "/api/stream")["/api/stream"]) }).Should(Equal(1))
		Expect(w.Logged(audit.TypeOpen, "/api/stream")["/api/stream"][0].Subject).NotTo(BeEmpty())
		Expect(w.Logged(audit.TypeEnd, "/api/stream")).To(BeEmpty())
		w.Revoke("a")
		Eventually(s.Done()).Should(BeClosed())
		Eventually(func() int { return len(w.Logged(audit.TypeEnd, "/api/stream")["/api/stream"]) }).Should(Equal(1))
		Expect(w.Logged(audit.TypeOpen, "/api/stream")["/api/stream"]).To(HaveLen(1))
	})

	It("tells of a connection that never became a request", func() {
		w := opened()
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", w.HTTP))
		Expect(err).NotTo(HaveOccurred())
		Expect(conn.Close()).To(Succeed())
		Eventually(func() int { return len(w.Entries(audit.KindConnection)) }).ShouldNot(BeZero())
	})

	It("that was edited lets nothing through until it is mended, and keeps nothing from closing", func() {
		w := opened()
		w.Activate(testbed.Activation{Name: "b", Routes: []string{"r"}, Duration: "30m"})
		Expect(w.H1().Get(testbed.Host("r"), "/api/x", w.Token())).To(haveStatus(200))
		w.StopServe()
		segments, err := filepath.Glob(filepath.Join(w.LogDir(), "segment-*"))
		Expect(err).NotTo(HaveOccurred())
		Expect(segments).To(HaveLen(1))
		whole, err := os.ReadFile(segments[0])
		Expect(err).NotTo(HaveOccurred())
		edit(segments[0], func(b []byte) []byte { return bytes.Replace(b, []byte(`"status":200`), []byte(`"status":403`), 1) })

		w.Spawn() // not to be ready
		Eventually(w.Phase("a")).Should(Equal("Pending AuditFailing"), told(w))
		Eventually(w.Accepts).Should(Succeed())
		staysClosed(w, "r")
		Expect(told(w)()).To(line("nothing can be opened", "not those that the checkpoint vouches for"))
		w.Revoke("b")
		Expect(w.Phase("b")()).To(HavePrefix("Revoked"))
		w.Write("c.yaml", testbed.Activation{Name: "c", Routes: []string{"r"}, Duration: "10m"}.YAML())
		Eventually(w.Phase("c")).Should(Equal("Pending AuditFailing"), told(w))
		deadline := w.Activation("c").Status.Deadline.Time
		out, err := w.Run("audit", "verify")
		Expect(err).To(HaveOccurred())
		Expect(out).To(ContainSubstring(filepath.Base(segments[0])))

		Expect(os.WriteFile(segments[0], whole, 0o600)).To(Succeed())
		w.AwaitPhase("a", "Live")
		w.AwaitPhase("c", "Live")
		Expect(w.Activation("c").Status.Deadline.Time).To(Equal(deadline), "the time spent waiting counts")
		Expect(w.Phase("b")()).To(HavePrefix("Revoked"))
		Eventually(func() int {
			return len(slices.DeleteFunc(w.Entries(audit.KindActivation), func(e merkle.Entry) bool { return !bytes.Contains(e.Data, []byte(`"revoked"`)) }))
		}).ShouldNot(BeZero())
		sound(w)
	})

	It("loses and doubles nothing while its writer stands still", func() {
		w := opened()
		load := w.Load(testbed.Host("r"), "/api/"+w.Unique(), w.Token(), 16, 2500, 5000)
		Eventually(func() int { return len(w.Logged(audit.TypeEnd, "/api/")) }).Should(BeNumerically(">", 100))
		w.SignalServe(syscall.SIGSTOP)
		<-time.After(time.Second) // the outage
		w.SignalServe(syscall.SIGCONT)
		answers := load.Wait()
		settles(w, "/api/", answers)
		Expect(answers).To(HaveLen(5000))
		Expect(w.Logged(audit.TypeEnd, "/api/")).To(HaveLen(5000))
		Expect(w.Gaps()).To(BeEmpty())
		sound(w)
	})

	It("loses and doubles nothing when the control plane is killed again and again", Label("kills"), func() {
		w := opened()
		prefix := "/api/" + w.Unique()
		load := w.Load(testbed.Host("r"), prefix, w.Token(), 8, 1000, 1_000_000)
		moment := chance()
		for range rounds(4) {
			pause(moment, 700*time.Millisecond)
			w.KillServe()
			w.Start()
		}
		answers := load.Stop()
		settles(w, prefix, answers)
		for path, status := range answers {
			Expect(status).To(Equal(200), path)
		}
		Expect(w.Gaps()).To(BeEmpty())
		sound(w)
		AddReportEntry("requests", len(answers))
	})

	It("says so when Envoy is killed, and lacks next to nothing", Label("kills"), func() {
		w := opened()
		prefix := "/api/" + w.Unique()
		load := w.Load(testbed.Host("r"), prefix, w.Token(), 8, 1000, 1_000_000)
		moment, n := chance(), rounds(4)
		for range n {
			<-time.After(300 * time.Millisecond) // there is something to lose
			pause(moment, 300*time.Millisecond)
			gaps := len(w.Gaps())
			w.KillEnvoy()
			Eventually(func() int { return len(w.Gaps()) }).Should(BeNumerically(">", gaps))
			Eventually(w.H1().Status(testbed.Host("r"), "/api/back", w.Token())).Should(Equal(200))
		}
		answers := load.Stop()
		// A client may have its answer a moment before Envoy logs it: more than one a
		// kill would be something else. make bench-audit counts on an idle machine.
		lost := 0
		Eventually(func() int { lost = exactlyOnce(w, prefix, answers); return lost }, "5s", "200ms").Should(BeNumerically("<=", n))
		Expect(w.Gaps()).To(HaveLen(n))
		for _, g := range w.Gaps() {
			Expect(g.AtLeast).To(BeTrue())
		}
		AddReportEntry("requests", len(answers))
		AddReportEntry("lost", lost)
		sound(w)
	})
})
