//go:build envoy

package serve

import (
	"encoding/json"
	"net/http"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// strict is a world whose policy has requests wait for their intent.
func strict() *testbed.World {
	GinkgoHelper()
	w := testbed.New()
	w.Policy.Mode = "Strict"
	w.WritePolicy()
	return w
}

// requestsOf a path prefix in the log, by type.
func requestsOf(w *testbed.World, prefix string) map[string]map[string][]audit.RequestEntry {
	GinkgoHelper()
	return map[string]map[string][]audit.RequestEntry{
		audit.TypeIntent: w.Logged(audit.TypeIntent, prefix), audit.TypeEnd: w.Logged(audit.TypeEnd, prefix),
	}
}

// refusedSoon checks that requests are refused, each within the time that Envoy
// waits, and that none of them reaches the backend.
func refusedSoon(w *testbed.World, host string, most time.Duration) {
	GinkgoHelper()
	prefix := "/api/" + w.Unique()
	for range 10 {
		began := time.Now()
		Expect(w.H1().Get(host, prefix, w.Token())).To(haveStatus(503))
		notAfter(time.Now(), began, bound(most), "a request without an intent")
	}
	Expect(w.Backend.Hits(prefix)).To(BeZero())
}

var _ = Describe("Strict", func() {
	It("forwards nothing whose intent is not in the log, however it comes", func() {
		w := strict()
		w.Policy.Scope = "{allowAnyMethod: true}"
		w.WritePolicy()
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML(), testbed.Route{Name: "dormant"}.YAML(), corsRoute("cors"))
		w.Start()
		x := w.Witness()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r", "cors"}, Duration: "30m", Incident: "INC-7"})
		host, prefix := testbed.Host("r"), "/api/"+w.Unique()
		answers := w.Load(host, prefix, w.Token(), 4, 400, 300).Wait()
		for path, status := range answers {
			Expect(status).To(Equal(200), path)
		}

		By("each way in")
		for i, c := range []*testbed.Client{w.H1(), w.H2C(), w.TLS1(), w.TLS2()} {
			Expect(c.Do(testbed.Request{Method: http.MethodPost, Host: host, Path: prefix + "/way/" + string(rune('a'+i)), Token: w.Token()})).To(haveStatus(200))
		}
		streams := openAll(w, host, w.Token())
		Eventually(x.Reached).Should(BeNumerically(">=", 304+len(streams)))
		Expect(x.Without()).To(BeEmpty())

		By("and what is refused leaves none")
		denied := prefix + "/denied"
		for _, token := range []string{"", "x", w.Issuer.Token("nobody"), testbed.NewIssuer("sso").Token("db-oncall"), w.Issuer.TokenWith(w.Issuer.Claims("db-oncall", testbed.Claims{"exp": time.Now().Add(-time.Minute).Unix()}))} {
			Expect(w.H1().Get(host, denied, token)).To(haveStatus(401, 403))
		}
		Expect(w.H1().Get(testbed.Host("dormant"), denied, w.Token())).To(haveStatus(404))
		Expect(preflight(w.TLS2(), testbed.Host("cors"), denied, allowed)).To(haveStatus(200))
		Eventually(func() map[string][]audit.RequestEntry { return w.Logged(audit.TypeEnd, denied) }).Should(HaveKeyWithValue(denied, HaveLen(7)))
		Expect(w.Logged(audit.TypeIntent, denied)).To(BeEmpty())

		By("with what is known by then, under the key of the end")
		Eventually(func() int { return len(w.Logged(audit.TypeEnd, prefix+"/")) }).Should(BeNumerically(">=", len(answers)+4))
		all := requestsOf(w, prefix+"/")
		for path := range answers {
			Expect(all[audit.TypeIntent][path]).To(HaveLen(1), path)
			Expect(all[audit.TypeEnd][path]).To(HaveLen(1), path)
			in, end := all[audit.TypeIntent][path][0], all[audit.TypeEnd][path][0]
			Expect(in.N).To(BeZero())
			// What only the end knows.
			end.Type, end.N, end.Connection, end.DurationMs, end.Status, end.Details, end.BytesIn, end.BytesOut = in.Type, 0, "", 0, 0, "", 0, 0
			end.UpstreamAddress, end.UpstreamCluster = "", ""
			Expect(in).To(Equal(end))
			Expect(in.Epoch).NotTo(BeEmpty())
		}
		out, err := w.Run("audit", "verify", "--data-dir", w.Data)
		Expect(err).NotTo(HaveOccurred(), out)
	})

	It("answers 503 at once while serve is dead, waits 0.25 s for one that is stopped, and serves again by itself", func() {
		w := strict()
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML())
		w.Start()
		x := w.Witness()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "30m"})
		host := testbed.Host("r")
		Expect(w.H1().Get(host, "/api/x", w.Token())).To(haveStatus(200))
		stream := w.TLS2().Events("events", host, "/api/stream", w.Token())
		Eventually(stream.Open).Should(BeTrue())

		w.SignalServe(syscall.SIGSTOP)
		refusedSoon(w, host, 300*time.Millisecond)
		w.SignalServe(syscall.SIGCONT)
		Eventually(w.H1().Status(host, "/api/x", w.Token())).Should(Equal(200))

		w.KillServe()
		refusedSoon(w, host, 100*time.Millisecond)
		w.Start()
		Eventually(w.H1().Status(host, "/api/x", w.Token())).Should(Equal(200))
		bystanders{stream}.undisturbed()
		Expect(x.Without()).To(BeEmpty())

		By("saying so in the entry of the end")
		Eventually(func() []audit.RequestEntry {
			var out []audit.RequestEntry
			for _, e := range w.Entries(audit.KindRequest) {
				var r audit.RequestEntry
				Expect(json.Unmarshal(e.Data, &r)).To(Succeed())
				if r.Type == audit.TypeEnd && r.Status == 503 {
					out = append(out, r)
				}
			}
			return out
		}).Should(And(HaveLen(20), HaveEach(HaveField("Denied", "audit: its intent is not durable"))))
	})

	It("refuses on a full disk, also where what is open stays open, and serves again by itself", func() {
		w := strict()
		w.Policy.OnFailure = "Degrade"
		w.WritePolicy()
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML())
		fill, free := smallDisk(w)
		w.Start()
		x := w.Witness()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "30m"})
		host := testbed.Host("r")
		stream := w.H1().Events("events", host, "/api/stream", w.Token())
		Eventually(stream.Open).Should(BeTrue())
		fill()
		// The log's last page may have room for some more.
		Eventually(w.H1().Status(host, "/api/x", w.Token()), "10s", "1ms").Should(Equal(503))
		refusedSoon(w, host, 300*time.Millisecond)
		Expect(stream.Open()).To(BeTrue())
		free()
		Eventually(w.H1().Status(host, "/api/x", w.Token())).Should(Equal(200))
		Expect(x.Without()).To(BeEmpty())
	})

	It("holds from the next request on when the policy changes, and cuts no stream", func() {
		w := testbed.New()
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML())
		w.Start()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "30m"})
		host := testbed.Host("r")
		streams := bystanders{w.H1().Events("events", host, "/api/stream", w.Token()), w.TLS2().Events("events", host, "/api/stream", w.Token())}
		for _, s := range streams {
			Eventually(s.Open).Should(BeTrue())
		}
		stop := probes(w, host, "/api/probe", w.Token())
		for _, mode := range []string{"Strict", "Standard", "Strict"} {
			w.Policy.Mode = mode
			w.WritePolicy()
			Eventually(func() bool {
				path := "/api/" + w.Unique()
				Expect(w.H1().Get(host, path, w.Token())).To(haveStatus(200))
				return len(w.Logged(audit.TypeIntent, path)) == 1
			}).Should(Equal(mode == "Strict"), mode)
		}
		x := w.Witness()
		for range 50 {
			Expect(w.H1().Get(host, "/api/"+w.Unique(), w.Token())).To(haveStatus(200))
		}
		Expect(x.Without()).To(BeEmpty())
		onlyStatuses(stop(), 200)
		streams.undisturbed()
	})

	It("serve and Envoy killed together, again and again: nothing had reached the backend without an intent", Label("kills"), func() {
		w := strict()
		w.Write("routes.yaml", testbed.Route{Name: "r"}.YAML())
		w.Start()
		x := w.Witness()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "30m"})
		host, prefix, moment := testbed.Host("r"), "/api/"+w.Unique(), chance()
		load := w.Load(host, prefix, w.Token(), 4, 400, 1_000_000)
		for range rounds(3) {
			Eventually(w.H1().Status(host, "/api/x", w.Token()), "20s", "5ms").Should(Equal(200))
			pause(moment, 300*time.Millisecond)
			if moment.IntN(2) == 0 {
				w.KillServe()
				w.KillEnvoy()
			} else {
				w.KillEnvoy()
				w.KillServe()
			}
			w.Start()
		}
		Eventually(w.H1().Status(host, "/api/x", w.Token()), "20s", "5ms").Should(Equal(200))
		answers := load.Stop()
		Expect(x.Without()).To(BeEmpty())
		Expect(x.Reached()).To(BeNumerically(">", 100))

		By("so the log says of each what was asked")
		intents, ok := w.Logged(audit.TypeIntent, prefix+"/"), 0
		for path, status := range answers {
			if status == 200 {
				Expect(intents).To(HaveKey(path))
				ok++
			}
		}
		AddReportEntry("requests", ok)
		out, err := w.Run("audit", "verify", "--data-dir", w.Data)
		Expect(err).NotTo(HaveOccurred(), out)
	})
})
