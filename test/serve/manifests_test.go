//go:build envoy

package serve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// suspect is a Gateway with a class and a policy of its own beside a good one,
// for manifests that others have let in with.
type suspect struct {
	w      *testbed.World
	name   string
	port   int
	policy testbed.Policy
	// probes without a token, with a good one, with an unsigned one, with one of
	// another key.
	probes []*testbed.Probe
}

const good = 1 // the probe with the good token

// newSuspect watches its port from now on. Nothing is written yet. Its Envoy goes
// with the spec.
func newSuspect(w *testbed.World) *suspect {
	s := &suspect{w: w, name: w.Unique(), port: testbed.FreePort(), policy: w.Policy}
	s.policy.Name = s.name
	for _, token := range []string{"", w.Token(), testbed.Unsigned("none", w.Issuer.Claims("db-oncall", nil)), testbed.NewKey("x").Sign(w.Issuer.Claims("db-oncall", nil).JSON(), nil)} {
		s.probes = append(s.probes, w.H1On(s.port).Probe(testbed.Request{Host: s.host(), Path: "/api/" + s.name, Token: token}, 2*time.Millisecond))
	}
	DeferCleanup(func() {
		for _, p := range s.probes {
			p.Stop()
		}
		if err := os.Remove(filepath.Join(w.Config, s.name+"-gateway.yaml")); !errors.Is(err, os.ErrNotExist) {
			Expect(err).NotTo(HaveOccurred())
		}
	})
	return s
}

func (s *suspect) host() string { return testbed.Host(s.name) }

func (s *suspect) writePolicy() { s.w.Write(s.name+"-policy.yaml", s.policy.YAML()) }

func (s *suspect) writeClass() { s.w.Write(s.name+"-class.yaml", testbed.Class(s.name, s.name)) }

func (s *suspect) writeGateway() {
	s.w.Write(s.name+"-gateway.yaml", testbed.Gateway(s.name, s.name, testbed.Listener("http", s.port, "*.example.test")))
}

func (s *suspect) writeRoute() {
	s.w.Write(s.name+"-route.yaml", testbed.Route{Name: s.name, Gateway: s.name}.YAML())
}

func (s *suspect) writeActivation() {
	s.w.Write(s.name+"-activation.yaml", testbed.Activation{Name: s.name, Routes: []string{s.name}, Duration: "10m"}.YAML())
}

func (s *suspect) writeAll() {
	s.writePolicy()
	s.writeClass()
	s.writeGateway()
	s.writeRoute()
	s.writeActivation()
}

// listens waits until its Envoy is up, so that a refusal is one.
func (s *suspect) listens() {
	GinkgoHelper()
	Eventually(s.probes[0].LastStatus).ShouldNot(BeZero())
}

// neverOpen checks that up to now nobody was let in but, if a good token may be,
// its holder.
func (s *suspect) neverOpen(goodToo bool) {
	GinkgoHelper()
	for i, p := range s.probes {
		if i == good && !goodToo {
			continue
		}
		for _, r := range p.Samples() {
			Expect(r.Status).To(Or(BeZero(), BeNumerically(">=", 400)), "probe %d: %s", i, testbed.Runs(p.Samples()))
		}
	}
	if goodToo {
		Expect(s.w.Backend.Hits("/api/" + s.name)).To(BeZero())
	}
}

// told is everything that status says about what is wrong.
func told(w *testbed.World) func() string {
	return func() string {
		st, err := w.TryStatus()
		if err != nil {
			return err.Error()
		}
		text := strings.Join(st.NotReady, "\n")
		for _, p := range st.Policies {
			text += fmt.Sprintf("\npolicy %s: accepted %t: %s", p.Name, p.Accepted, p.Message)
			for _, i := range p.Issuers {
				text += fmt.Sprintf("\nissuer %s of %s: %d keys, stale %t: %s", i.Name, p.Name, i.Keys, i.Stale, i.Error)
			}
		}
		for _, g := range st.Gateways {
			for _, l := range g.Listeners {
				text += fmt.Sprintf("\nlistener %s of %s: programmed %t: %s", l.Name, g.Name, l.Programmed, l.Message)
			}
		}
		for _, r := range st.Routes {
			text += fmt.Sprintf("\nroute %s: accepted %t live %t: %s: %s", r.Name, r.Accepted, r.Live, r.Reason, r.Message)
		}
		for _, a := range st.Activations {
			for _, c := range a.Status.Conditions {
				text += fmt.Sprintf("\nactivation %s: %s: %s: %s", a.Name, a.Status.Phase, c.Reason, c.Message)
			}
		}
		for _, p := range st.Problems {
			text += fmt.Sprintf("\nproblem %s:%d: %s: %s: %s: %s", p.File, p.Line, p.Object, p.Field, p.Message, p.Remedy)
		}
		return text
	}
}

// line fits a text with a line that has all the words.
func line(words ...string) OmegaMatcher {
	return WithTransform(func(text string) bool {
		for l := range strings.Lines(text) {
			all := true
			for _, w := range words {
				all = all && strings.Contains(l, w)
			}
			if all {
				return true
			}
		}
		return false
	}, BeTrue())
}

// The holes of facts/peers.md: what let people in elsewhere, or shut everybody
// out. A good route beside it must not notice.
var _ = Describe("Manifests with", Ordered, ContinueOnFailure, func() {
	var w *testbed.World
	var guard *testbed.Probe
	var stream *testbed.Stream

	BeforeAll(func() {
		w = testbed.New()
		w.Write("good-route.yaml", testbed.Route{Name: "good"}.YAML())
		w.Start()
		w.Activate(testbed.Activation{Name: "good", Routes: []string{"good"}, Duration: "1h"})
		stream = w.H1().Events("events", testbed.Host("good"), "/api/stream", w.Token())
	})
	BeforeEach(func() {
		guard = w.H1().Probe(testbed.Request{Host: testbed.Host("good"), Path: "/api/x", Token: w.Token()}, 5*time.Millisecond)
	})
	AfterEach(func() {
		onlyStatuses(guard.Stop(), 200)
		Expect(stream.Open()).To(BeTrue(), stream.String())
	})

	DescribeTable("a key set that is garbage let nobody in, and say so", func(keys string) {
		s := newSuspect(w)
		s.policy.Issuers = []testbed.PolicyIssuer{{Name: "sso", URL: w.Issuer.URL, JWKS: testbed.Inline(keys)}}
		s.writeAll()
		Eventually(told(w)).Should(line("sso", s.name, "0 keys"))
		s.listens()
		Eventually(told(w)).Should(line("activation "+s.name, "Pending", "NoUsableKeys"))
		s.neverOpen(true)
	},
		Entry("that is no JSON", "garbage"),
		Entry("without keys", `{"keys":[]}`),
		Entry("that is an error page", "<html>503</html>"),
		Entry("whose key is none", `{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"AA","y":"AA"}]}`),
		Entry("whose key is symmetric", `{"keys":[{"kty":"oct","kid":"a","alg":"HS256","k":"c2VjcmV0"}]}`),
	)

	It("a key set that becomes garbage while its route is open let nobody in without a token", func() {
		s := newSuspect(w)
		s.writeAll()
		w.AwaitPhase(s.name, "Live")
		s.policy.Issuers = []testbed.PolicyIssuer{{Name: "sso", URL: w.Issuer.URL, JWKS: testbed.Inline("garbage")}}
		s.writePolicy()
		Eventually(told(w)).Should(line("issuer sso of "+s.name, "0 keys"))
		// Nobody can be told from anybody any more, so not even the good token counts.
		Eventually(s.probes[good].LastStatus).Should(BeElementOf(401, 403, 404))
		s.neverOpen(false)
	})

	It("a key set that is garbage beside a good one let in the holders of the good one only", func() {
		s := newSuspect(w)
		s.policy.Issuers = append(s.policy.Issuers, testbed.PolicyIssuer{Name: "bad", URL: "https://bad.example.test", JWKS: testbed.Inline("garbage")})
		s.writeAll()
		Eventually(s.probes[good].LastStatus).Should(Equal(200))
		Eventually(told(w)).Should(line("issuer bad of "+s.name, "0 keys"))
		s.neverOpen(false)
	})

	It("a route before its class, and a class before its policy, open once all is there and to nobody else meanwhile", func() {
		for range 3 {
			s := newSuspect(w)
			s.writeRoute()
			s.writeActivation()
			s.writeGateway()
			Eventually(told(w)).Should(line("activation "+s.name, "Pending"))
			s.writeClass()
			Eventually(told(w)).Should(line("GatewayClass "+s.name, "EmergencyPolicy "+s.name+" does not exist"))
			s.neverOpen(true)
			s.writePolicy()
			Eventually(s.probes[good].LastStatus).Should(Equal(200))
			s.neverOpen(false)
		}
	})

	It("a policy that is deleted while its route is open close it, and let nobody in on the way", func() {
		for range 3 {
			s := newSuspect(w)
			s.writeAll()
			Eventually(s.probes[good].LastStatus).Should(Equal(200))
			w.Remove(s.name + "-policy.yaml")
			Eventually(s.probes[good].LastStatus).Should(BeElementOf(0, 401, 403, 404))
			Eventually(told(w)).Should(line("GatewayClass "+s.name, "does not exist"))
			Eventually(told(w)).Should(line("activation "+s.name, "EmergencyPolicy"))
			s.neverOpen(false)
		}
	})

	DescribeTable("a class that names its policy wrongly let nobody in, and name the class", func(from, to string) {
		s := newSuspect(w)
		s.writeAll()
		w.Write(s.name+"-class.yaml", strings.Replace(testbed.Class(s.name, s.name), strings.ReplaceAll(from, "NAME", s.name), to, 1))
		Eventually(told(w)).Should(line(s.name, "parametersRef"))
		w.Write(s.name+"-2.yaml", testbed.Activation{Name: s.name + "-2", Routes: []string{s.name}, Duration: "10m"}.YAML())
		Eventually(w.Phase(s.name + "-2")).Should(Or(HavePrefix("Pending"), HavePrefix("Refused")))
		Eventually(s.probes[good].LastStatus).Should(BeElementOf(0, 401, 403, 404))
		s.neverOpen(false)
		w.Remove(s.name + "-class.yaml")
	},
		Entry("a typo in the name", "EmergencyPolicy, name: NAME", "EmergencyPolicy, name: emergancy"),
		Entry("a typo in the kind", "kind: EmergencyPolicy", "kind: EmergencyPolice"),
		Entry("a typo in the group", "group: breakglass.dev", "group: breakglass.io"),
		Entry("no policy at all", "\n  parametersRef: {group: breakglass.dev, kind: EmergencyPolicy, name: NAME}", ""),
	)

	It("a route whose Service is missing reach nothing, and name it", func() {
		name := w.Unique()
		w.Write(name+".yaml", testbed.Route{Name: name, Rules: []testbed.Rule{{Service: "missing", Matches: []string{testbed.Match("GET", "PathPrefix", "/api", "")}}}}.YAML(),
			testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"}.YAML())
		Eventually(told(w)).Should(line("route "+name, "pay/missing"))
		before := w.Backend.Hits("/api/" + name)
		Consistently(w.H1().Status(testbed.Host(name), "/api/"+name, w.Token()), "100ms").Should(BeElementOf(404, 500))
		Expect(w.H1().Get(testbed.Host(name), "/api/"+name, "")).To(haveStatus(401, 404))
		Expect(w.Backend.Hits("/api/" + name)).To(Equal(before))
		By("its Service opens the way")
		w.Write(name+"-service.yaml", testbed.Service("missing", w.Backend.Port()))
		w.AwaitPhase(name, "Live")
		Eventually(w.H1().Status(testbed.Host(name), "/api/x", w.Token())).Should(Equal(200))
		Eventually(told(w)).ShouldNot(line("route "+name, "pay/missing"))
		w.Remove(name + "-service.yaml")
		Eventually(w.H1().Status(testbed.Host(name), "/api/x", w.Token())).Should(BeElementOf(404, 500))
	})

	It("one Service of two missing answer 500 to its share, and name it", func() {
		name := w.Unique()
		route := strings.Replace(testbed.Route{Name: name}.YAML(), "[{name: echo, port: 80}]", "[{name: echo, port: 80, weight: 1}, {name: absent, port: 80, weight: 1}]", 1)
		w.Write(name+".yaml", route, testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"}.YAML())
		w.AwaitPhase(name, "Live")
		Eventually(told(w)).Should(line("route "+name, "pay/absent"))
		seen := map[int]int{}
		for range 200 {
			seen[w.H1().Get(testbed.Host(name), "/api/x", w.Token()).Status]++
		}
		Expect(seen).To(And(HaveLen(2), HaveKeyWithValue(200, BeNumerically(">", 0)), HaveKeyWithValue(500, BeNumerically(">", 0))), "%v", seen)
		Expect(w.H1().Get(testbed.Host(name), "/api/x", "")).To(haveStatus(401))
	})

	It("a Gateway and a route that name nothing that is there are told", func() {
		name := w.Unique()
		w.Write(name+".yaml", testbed.Gateway(name, "emergancy", testbed.Listener("http", testbed.FreePort(), "")), testbed.Route{Name: name, Gateway: "nowhere"}.YAML())
		Eventually(told(w)).Should(line("problem", name+".yaml", "spec.gatewayClassName", "emergancy"))
		Eventually(told(w)).Should(line("problem", name+".yaml", "spec.parentRefs"))
		w.Remove(name + ".yaml")
		Eventually(told(w)).ShouldNot(line("problem", name+".yaml"))
	})

	It("a Service without endpoints reach nothing, and say so", func() {
		name := w.Unique()
		w.Write(name+".yaml", testbed.Service("empty"), testbed.Route{Name: name, Rules: []testbed.Rule{{Service: "empty", Matches: []string{testbed.Match("GET", "PathPrefix", "/api", "")}}}}.YAML(),
			testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"}.YAML())
		w.AwaitPhase(name, "Live")
		Expect(w.H1().Get(testbed.Host(name), "/api/x", w.Token())).To(haveStatus(503))
		Expect(w.H1().Get(testbed.Host(name), "/api/x", "")).To(haveStatus(401))
		Eventually(told(w)).Should(line(name, "pay/empty", "endpoint"))
		By("an endpoint opens the way, without another activation")
		w.Write(name+"-endpoints.yaml", testbed.Endpoints("empty", "empty-2", w.Backend.Port()))
		Eventually(w.H1().Status(testbed.Host(name), "/api/x", w.Token())).Should(Equal(200))
	})

	It("two routes for one host and path serve the first, and tell the second", func() {
		name := w.Unique()
		host := []string{testbed.Host(name)}
		w.Write(name+".yaml",
			testbed.Route{Name: name + "-a", Hosts: host}.YAML(), testbed.Route{Name: name + "-b", Role: "web", Hosts: host}.YAML(),
			testbed.Activation{Name: name + "-b", Role: "web", Routes: []string{name + "-b"}, Duration: "10m"}.YAML())
		Eventually(told(w)).Should(line(name+"-b", name+"-a"), "nobody tells that both want the same requests")
		Consistently(w.H1().Status(testbed.Host(name), "/api/x", w.Issuer.Token("web")), "100ms").Should(Equal(404))
		w.Activate(testbed.Activation{Name: name + "-a-open", Routes: []string{name + "-a"}, Duration: "10m"})
		Expect(w.H1().Get(testbed.Host(name), "/api/x", w.Token())).To(haveStatus(200))
		Expect(w.H1().Get(testbed.Host(name), "/api/x", w.Issuer.Token("web"))).To(haveStatus(403))
	})
})
