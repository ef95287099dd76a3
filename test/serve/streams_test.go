//go:build envoy

package serve

import (
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// opening of a stream of one kind on a host with a token.
type opening func(w *testbed.World, host, token string) *testbed.Stream

// kinds of streams, each a way to stay inside.
var kinds = []struct {
	name string
	open opening
}{
	{"server-sent events over HTTP/1.1", events((*testbed.World).H1)},
	{"server-sent events over HTTP/1.1 and TLS", events((*testbed.World).TLS1)},
	{"server-sent events over HTTP/2", events((*testbed.World).H2C)},
	{"server-sent events over HTTP/2 and TLS", events((*testbed.World).TLS2)},
	{"a WebSocket", func(w *testbed.World, host, token string) *testbed.Stream { return w.WebSocket(host, "/api/ws", token) }},
	{"an upload over HTTP/1.1", upload((*testbed.World).H1)},
	{"an upload over HTTP/2 and TLS", upload((*testbed.World).TLS2)},
	{"a request that the backend never answers", hang((*testbed.World).H1)},
	{"a request over HTTP/2 that the backend never answers", hang((*testbed.World).TLS2)},
}

func events(client func(*testbed.World) *testbed.Client) opening {
	return func(w *testbed.World, host, token string) *testbed.Stream {
		return client(w).Events("events", host, "/api/stream", token)
	}
}

func upload(client func(*testbed.World) *testbed.Client) opening {
	return func(w *testbed.World, host, token string) *testbed.Stream {
		return w.Upload(client(w), host, "/api/upload", token)
	}
}

func hang(client func(*testbed.World) *testbed.Client) opening {
	return func(w *testbed.World, host, token string) *testbed.Stream {
		return client(w).Hang(host, "/api/hang", token, func() int { return w.Backend.Hits("/api/hang") })
	}
}

// openAll opens a stream of each kind.
func openAll(w *testbed.World, host, token string) []*testbed.Stream {
	GinkgoHelper()
	var out []*testbed.Stream
	for _, k := range kinds {
		s := k.open(w, host, token)
		s.Kind = k.name
		out = append(out, s)
	}
	return out
}

// cutAt checks that a stream went on until an instant and not longer than
// tolerance beyond it.
func cutAt(figure string, s *testbed.Stream, instant time.Time, tolerance time.Duration) {
	GinkgoHelper()
	Eventually(s.Done(), time.Until(instant)+2*time.Second).Should(BeClosed(), "still open: %s", s)
	if last := s.Last(); !last.IsZero() {
		notAfter(last, instant, tolerance, "the last byte of ", s)
		early := 300*time.Millisecond + testbed.Stalled(last, instant)
		Expect(last).To(BeTemporally(">", instant.Add(-early)), "it was cut %s too early: %s", instant.Sub(last), s)
		testbed.Figure(figure+": last byte", last.Sub(instant))
	}
	// A client of HTTP/1 sees the end a little later: see delayed_close_timeout.
	notAfter(s.End(), instant, tolerance+150*time.Millisecond, "the end of ", s)
	testbed.Figure(figure+": end as the client sees it", s.End().Sub(instant))
}

// shortToken ends in two to three seconds, at a whole one.
func shortToken(w *testbed.World) (exp time.Time, token string) {
	GinkgoHelper()
	exp = time.Now().Truncate(time.Second).Add(3 * time.Second)
	return exp, w.Issuer.TokenWith(w.Issuer.Claims("db-oncall", testbed.Claims{"exp": exp.Unix()}))
}

// eachKind is one spec for each kind of stream.
func eachKind(check func(i int)) {
	for i, k := range kinds {
		It("ends "+k.name, func() { check(i) })
	}
}

var _ = Describe("A stream, at the deadline", Ordered, ContinueOnFailure, func() {
	var streams []*testbed.Stream
	var deadline time.Time
	BeforeAll(func() {
		name := shared.Unique()
		shared.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
		deadline = shared.Activate(testbed.Activation{Name: name, Routes: []string{name}, Duration: "3s"})
		streams = openAll(shared, testbed.Host(name), shared.Token())
		Expect(time.Now()).To(BeTemporally("<", deadline.Add(-300*time.Millisecond)))
	})
	eachKind(func(i int) { cutAt("stream at the deadline, serve alive", streams[i], deadline, late) })
})

var _ = Describe("A stream, at the deadline with serve killed a second before", Ordered, ContinueOnFailure, func() {
	var streams []*testbed.Stream
	var deadline time.Time
	BeforeAll(func() {
		w := testbed.New()
		w.Write("r.yaml", testbed.Route{Name: "r"}.YAML())
		w.Start()
		deadline = w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "3s"})
		streams = openAll(w, testbed.Host("r"), w.Token())
		testbed.WaitUntil(deadline.Add(-time.Second))
		w.KillServe()
	})
	eachKind(func(i int) { cutAt("stream at the deadline, serve killed", streams[i], deadline, late) })
})

var _ = Describe("A stream, at a revocation over the control socket", Ordered, ContinueOnFailure, func() {
	var streams []*testbed.Stream
	var asked time.Time
	BeforeAll(func() {
		name := shared.Unique()
		shared.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
		shared.Activate(testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"})
		streams = openAll(shared, testbed.Host(name), shared.Token())
		asked = shared.Revoke(name)
	})
	eachKind(func(i int) { cutAt("stream at a revocation", streams[i], asked, revocation) })
})

var _ = Describe("A stream, when the manifest of its activation is removed", Ordered, ContinueOnFailure, func() {
	var streams []*testbed.Stream
	var removed time.Time
	BeforeAll(func() {
		name := shared.Unique()
		shared.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
		shared.Activate(testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"})
		streams = openAll(shared, testbed.Host(name), shared.Token())
		shared.Remove(name + ".yaml")
		removed = time.Now()
	})
	eachKind(func(i int) { cutAt("stream at a removal", streams[i], removed, revocation) })
})

var _ = Describe("A stream, at the end of its own token", Ordered, ContinueOnFailure, func() {
	var streams []*testbed.Stream
	var exp time.Time
	var host string
	var other *testbed.Stream
	BeforeAll(func() {
		name := shared.Unique()
		host = testbed.Host(name)
		shared.Write(name+"-route.yaml", testbed.Route{Name: name}.YAML())
		shared.Activate(testbed.Activation{Name: name, Routes: []string{name}, Duration: "10m"})
		other = shared.H1().Events("events", host, "/api/stream", shared.Token())
		var token string
		exp, token = shortToken(shared)
		streams = openAll(shared, host, token)
	})
	eachKind(func(i int) { cutAt("stream at its token's exp", streams[i], exp, late) })

	It("and no other of the same route", func() {
		testbed.WaitUntil(exp.Add(100 * time.Millisecond))
		Expect(other.Open()).To(BeTrue(), other.String())
		Expect(shared.H1().Get(host, "/api/x", shared.Token())).To(haveStatus(200))
	})
})

// bystanders are streams that must notice nothing.
type bystanders []*testbed.Stream

// undisturbed checks that all of them went on without a pause.
func (b bystanders) undisturbed() {
	GinkgoHelper()
	// What is to come may come a moment after the event.
	testbed.WaitUntil(time.Now().Add(150 * time.Millisecond))
	for _, s := range b {
		Expect(s.Open()).To(BeTrue(), "it ended: %s", s)
		flows(s)
	}
}

// flows checks that a stream made no pause that was not the machine's.
func flows(s *testbed.Stream) {
	GinkgoHelper()
	gap, until := s.LongestGap()
	notAfter(until, until.Add(-gap), bound(250*time.Millisecond), "a pause of ", s)
}

var _ = Describe("A stream lives on through", Ordered, ContinueOnFailure, func() {
	var w *testbed.World
	var all bystanders
	var client *testbed.Client
	BeforeAll(func() {
		w = testbed.New()
		w.Write("routes.yaml", testbed.Route{Name: "mine"}.YAML(), testbed.Route{Name: "other"}.YAML())
		w.Start()
		w.Activate(testbed.Activation{Name: "mine", Routes: []string{"mine"}, Duration: "1h"})
		host, token := testbed.Host("mine"), w.Token()
		client = w.TLS2()
		all = bystanders{
			client.Events("events over the shared connection", host, "/api/stream", token),
			w.H1().Events("events over HTTP/1.1", host, "/api/stream", token),
			w.H2C().Events("events over HTTP/2", host, "/api/stream", token),
			w.TLS1().Events("events over HTTP/1.1 and TLS", host, "/api/stream", token),
			w.WebSocket(host, "/api/ws", token),
		}
	})
	// companion is a stream of another route on the connection of the first.
	companion := func() *testbed.Stream {
		GinkgoHelper()
		s := client.Events("companion", testbed.Host("other"), "/api/stream", w.Token())
		Expect(s.Open()).To(BeTrue(), s.String())
		Expect(s.SharesConnection(all[0])).To(BeTrue(), "not one connection")
		return s
	}

	It("the deadline of another route on the same connection", func() {
		deadline := w.Activate(testbed.Activation{Name: "other-1", Routes: []string{"other"}, Duration: "2s"})
		s := companion()
		Eventually(s.Done()).Should(BeClosed())
		notAfter(s.Last(), deadline, late, s)
		all.undisturbed()
	})

	It("the revocation of another route on the same connection", func() {
		w.Activate(testbed.Activation{Name: "other-2", Routes: []string{"other"}, Duration: "10m"})
		s := companion()
		asked := w.Revoke("other-2")
		Eventually(s.Done()).Should(BeClosed())
		notAfter(s.Last(), asked, revocation, s)
		all.undisturbed()
	})

	It("the end of another token on the same connection", func() {
		w.Activate(testbed.Activation{Name: "other-3", Routes: []string{"other"}, Duration: "10m"})
		_, token := shortToken(w)
		s := client.Events("companion", testbed.Host("mine"), "/api/stream", token)
		Expect(s.SharesConnection(all[0])).To(BeTrue())
		Eventually(s.Done()).Should(BeClosed())
		all.undisturbed()
	})

	It("a new role in the policy", func() {
		w.Policy.Roles = append(w.Policy.Roles, testbed.Role{Name: "new", Group: "new"})
		w.WritePolicy()
		w.Write("new-route.yaml", testbed.Route{Name: "new", Role: "new"}.YAML())
		w.Activate(testbed.Activation{Name: "new", Role: "new", Routes: []string{"new"}, Duration: "10m"})
		Expect(w.H1().Get(testbed.Host("new"), "/api/x", w.Issuer.Token("new"))).To(haveStatus(200))
		all.undisturbed()
	})

	It("its own role given to more people", func() {
		w.Policy.Roles[0].Group = "db-oncall, db-interns"
		w.WritePolicy()
		Eventually(w.H1().Status(testbed.Host("mine"), "/api/x", w.Issuer.Token("db-interns"))).Should(Equal(200))
		all.undisturbed()
	})

	It("a rotation of the keys that keeps the key of its token", func() {
		next := testbed.NewKey("sso-2")
		w.Policy.Issuers[0].JWKS = testbed.Inline(testbed.JWKS(w.Issuer.Key, next))
		w.WritePolicy()
		token := next.Sign(w.Issuer.Claims("db-oncall", nil).JSON(), nil)
		Eventually(w.H1().Status(testbed.Host("mine"), "/api/x", token)).Should(Equal(200))
		all.undisturbed()
	})

	It("another issuer", func() {
		other := testbed.NewIssuer("second")
		w.Policy.Issuers = append(w.Policy.Issuers, testbed.PolicyIssuer{Name: "second", URL: other.URL, JWKS: testbed.Inline(testbed.JWKS(other.Key))})
		w.WritePolicy()
		Eventually(func() int { return len(w.Status().Policies[0].Issuers) }).Should(Equal(2))
		all.undisturbed()
	})

	It("new routes, on hosts of their own and on its own host", func() {
		for i := range 5 {
			name := fmt.Sprintf("more-%d", i)
			w.Write(name+".yaml", testbed.Route{Name: name}.YAML())
			w.Activate(testbed.Activation{Name: name + "-a", Routes: []string{name}, Duration: "10m"})
		}
		w.Write("same-route.yaml", testbed.Route{Name: "same", Hosts: []string{testbed.Host("mine")}, Rules: []testbed.Rule{{
			Matches: []string{testbed.Match("GET", "PathPrefix", "/same", "")},
		}}}.YAML())
		w.Activate(testbed.Activation{Name: "same", Routes: []string{"same"}, Duration: "10m"})
		Expect(w.H1().Get(testbed.Host("mine"), "/same", w.Token())).To(haveStatus(200))
		all.undisturbed()
	})

	It("an invalid route, on a host of its own and on its own host", func() {
		w.Write("invalid.yaml",
			testbed.Route{Name: "invalid-1", Rules: []testbed.Rule{{Matches: []string{testbed.Match("GET", "RegularExpression", "/api/(", "")}}}}.YAML(),
			testbed.Route{Name: "invalid-2", Hosts: []string{testbed.Host("mine")}, Rules: []testbed.Rule{{
				Matches: []string{testbed.Match("GET", "PathPrefix", "/invalid", "")}, Extra: "filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: Filter, name: any}}]",
			}}}.YAML(), "kind: HTTPRoute\nmetadata: [\n")
		Eventually(w.Problems).ShouldNot(BeEmpty())
		all.undisturbed()
		w.Remove("invalid.yaml")
	})

	It("another listener of its Gateway", func() {
		port := testbed.FreePort()
		w.Write("gateway.yaml", testbed.Class("emergency", "emergency"), w.Gateway(testbed.Listener("more", port, "*.example.test")),
			w.Certificate(), testbed.Service("echo", w.Backend.Port()))
		Eventually(func() int { return w.H1On(port).Get(testbed.Host("mine"), "/api/x", w.Token()).Status }).Should(Equal(200))
		all.undisturbed()
	})

	It("another endpoint of its own Service", func() {
		second := testbed.StartBackend("second")
		w.Write("second.yaml", testbed.Endpoints("echo", "echo-2", second.Port()))
		Eventually(func() int {
			w.H1().Get(testbed.Host("mine"), "/api/x", w.Token())
			return second.Hits("/api/x")
		}).Should(BeNumerically(">", 0))
		all.undisturbed()
	})

	It("a second activation of its own route, and the end of that", func() {
		w.Activate(testbed.Activation{Name: "mine-2", Routes: []string{"mine"}, Duration: "2h"})
		w.Revoke("mine-2")
		all.undisturbed()
	})
})
