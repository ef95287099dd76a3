//go:build envoy

package serve

import (
	"crypto/tls"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

const backendName = "db.internal.test"

// tomorrow is until when certificates of backends are valid.
func tomorrow() time.Time { return time.Now().Add(24 * time.Hour) }

// behindTLS opens a route of its own to a backend of this configuration. Its Service,
// its BackendTLSPolicy and the ConfigMap with the authority have the route's name.
func behindTLS(backend *testbed.Backend, ca *testbed.Authority, hostname, more string) (name string) {
	GinkgoHelper()
	name = shared.Unique()
	shared.Write(name+"-backend.yaml", testbed.Service(name, backend.Port()))
	shared.Write(name+"-ca.yaml", ca.ConfigMap(name))
	shared.Write(name+"-tls.yaml", testbed.BackendTLS(name, name, name, hostname, more))
	shared.Write(name+"-route.yaml", routeTo(name, name))
	shared.Activate(testbed.Activation{Name: name, Routes: []string{name}, Duration: "30m"})
	return name
}

func routeTo(name, service string) string {
	return testbed.Route{Name: name, Rules: []testbed.Rule{{Service: service, Matches: []string{
		testbed.Match("GET", "PathPrefix", "/api", ""), testbed.Match("POST", "PathPrefix", "/api", "")}}}}.YAML()
}

var _ = Describe("A backend with a BackendTLSPolicy", func() {
	ca := func() *testbed.Authority { return testbed.NewAuthority("backends") }
	serving := func(c tls.Certificate) *testbed.Backend {
		return testbed.StartTLSBackend("secure", &tls.Config{Certificates: []tls.Certificate{c}})
	}
	get := func(name string) testbed.Reply { return shared.H1().Get(testbed.Host(name), "/api/x", shared.Token()) }

	It("is reached over TLS, by the name of the policy, and only by who may come in", func() {
		a := ca()
		b := serving(a.Sign(tomorrow(), backendName))
		name := behindTLS(b, a, backendName, "")
		Expect(get(name)).To(haveStatus(200))
		Expect(b.LastTLS().ServerName).To(Equal(backendName))
		Expect(b.LastTLS().Version).To(BeEquivalentTo(tls.VersionTLS13))
		Expect(b.LastTLS().NegotiatedProtocol).To(Equal("http/1.1"))
		Expect(shared.H1().Get(testbed.Host(name), "/api/x", "")).To(haveStatus(401))
		Expect(shared.H1().Get(testbed.Host(name), "/api/x", shared.Issuer.Token("web"))).To(haveStatus(403))
	})

	DescribeTable("is who its certificate says", func(certificate []string, hostname, more string, status int) {
		a := ca()
		b := serving(a.Sign(tomorrow(), certificate...))
		Expect(get(behindTLS(b, a, hostname, more))).To(haveStatus(status))
		if status != 200 {
			Expect(b.Hits("/")).To(BeZero())
		}
	},
		Entry("the name", []string{backendName}, backendName, "", 200),
		Entry("the name, in a wildcard", []string{"*.internal.test"}, backendName, "", 200),
		Entry("another name", []string{"other.internal.test"}, backendName, "", 503),
		Entry("one of several names", []string{"x.test", backendName}, backendName, "", 200),
		Entry("a URI", []string{"x.test", "spiffe://internal/db"}, backendName, `, subjectAltNames: [{type: URI, uri: "spiffe://internal/db"}]`, 200),
		Entry("another URI", []string{backendName, "spiffe://internal/web"}, backendName, `, subjectAltNames: [{type: URI, uri: "spiffe://internal/db"}]`, 503),
		Entry("another DNS name than the SNI", []string{"x.test"}, backendName, `, subjectAltNames: [{type: Hostname, hostname: x.test}]`, 200),
		Entry("the SNI, but not the name that counts", []string{backendName}, backendName, `, subjectAltNames: [{type: Hostname, hostname: x.test}]`, 503),
		Entry("one of two", []string{"x.test"}, backendName, `, subjectAltNames: [{type: URI, uri: "spiffe://internal/db"}, {type: Hostname, hostname: x.test}]`, 200),
		Entry("none of two", []string{backendName}, backendName, `, subjectAltNames: [{type: URI, uri: "spiffe://internal/db"}, {type: Hostname, hostname: x.test}]`, 503),
	)

	It("whose certificate another authority signed is not reached, and the log says why", func() {
		b := serving(ca().Sign(tomorrow(), backendName))
		name := behindTLS(b, ca(), backendName, "")
		path := "/api/" + name
		Expect(shared.H1().Get(testbed.Host(name), path, shared.Token())).To(haveStatus(503))
		Expect(b.Hits("/")).To(BeZero())
		Eventually(func() string {
			for _, e := range shared.Logged(audit.TypeEnd, path)[path] {
				return e.Details
			}
			return ""
		}).Should(ContainSubstring("CERTIFICATE_VERIFY_FAILED"))
	})

	It("whose certificate has expired is not reached", func() {
		a := ca()
		b := serving(a.Sign(time.Now().Add(-time.Minute), backendName))
		Expect(get(behindTLS(b, a, backendName, ""))).To(haveStatus(503))
		Expect(b.Hits("/")).To(BeZero())
	})

	It("that speaks plain text is not reached", func() {
		b := testbed.StartBackend("plain")
		Expect(get(behindTLS(b, ca(), backendName, ""))).To(haveStatus(503))
		Expect(b.Hits("/")).To(BeZero())
	})

	It("is spoken to in HTTP/2 if it says so", func() {
		a := ca()
		b := serving(a.Sign(tomorrow(), backendName))
		name := behindTLS(b, a, backendName, "")
		shared.Write(name+"-backend.yaml", strings.Replace(testbed.Service(name, b.Port()), "port: 80}", "port: 80, appProtocol: kubernetes.io/h2c}", 1))
		Eventually(func() string { get(name); return b.LastTLS().NegotiatedProtocol }).Should(Equal("h2"))
		Expect(get(name)).To(haveStatus(200))
	})

	It("answers 500 while its authority is missing, and nobody else notices", func() {
		a := ca()
		b := serving(a.Sign(tomorrow(), backendName))
		name, other := behindTLS(b, a, backendName, ""), behindTLS(b, a, backendName, "")
		all := bystanders{shared.TLS2().Events("another route to that backend", testbed.Host(other), "/api/stream", shared.Token())}
		Expect(get(name)).To(haveStatus(200))
		for _, text := range []string{"", "trust me"} {
			shared.Write(name+"-ca.yaml", testbed.CAConfigMap(name, text))
			Eventually(get).WithArguments(name).Should(haveStatus(500))
			shared.Write(name+"-ca.yaml", a.ConfigMap(name))
			Eventually(get).WithArguments(name).Should(haveStatus(200))
		}
		shared.Write(name+"-ca.yaml", ca().ConfigMap(name))
		Eventually(get).WithArguments(name).Should(haveStatus(503))
		all.undisturbed()
	})

	It("is reached in plain text no more once the policy is there", func() {
		b := testbed.StartBackend("plain")
		name := shared.Unique()
		shared.Write(name+"-backend.yaml", testbed.Service(name, b.Port()))
		shared.Write(name+"-route.yaml", routeTo(name, name))
		shared.Activate(testbed.Activation{Name: name, Routes: []string{name}, Duration: "30m"})
		p := shared.H1().Probe(testbed.Request{Host: testbed.Host(name), Path: "/api/x", Token: shared.Token()}, time.Millisecond)
		shared.Write(name+"-tls.yaml", testbed.BackendTLS(name, name, "nope", backendName, "")) // which cannot be met
		Eventually(get).WithArguments(name).Should(haveStatus(500))
		shared.Write(name+"-ca.yaml", testbed.NewAuthority("x").ConfigMap("nope-"+name))
		shared.Write(name+"-tls.yaml", testbed.BackendTLS(name, name, "nope-"+name, backendName, "")) // which can, and not by this backend
		Eventually(get).WithArguments(name).Should(haveStatus(503))
		hits := b.Hits("/")
		Consistently(get, "300ms").WithArguments(name).Should(haveStatus(503))
		Expect(b.Hits("/")).To(Equal(hits))
		onlyStatuses(p.Stop(), 200, 500, 503)
	})
})

var _ = Describe("A Gateway with a client certificate", func() {
	var w *testbed.World
	var ca *testbed.Authority
	var secure *testbed.Backend
	answer := func(route string) testbed.Reply { return w.H1().Get(testbed.Host(route), "/api/x", w.Token()) }
	writeClient := func(name string) { w.Write("client.yaml", testbed.TLSSecret("client", ca.Sign(tomorrow(), name))) }
	BeforeEach(func() {
		ca, w = testbed.NewAuthority("backends"), testbed.New()
		secure = testbed.StartTLSBackend("secure", &tls.Config{
			Certificates: []tls.Certificate{ca.Sign(tomorrow(), backendName)}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.Pool(),
		})
		secure.CloseAfterAnswer() // so that each request is a handshake
		w.Write("secure.yaml", testbed.Service("secure", secure.Port()), ca.ConfigMap("ca"), testbed.BackendTLS("secure", "secure", "ca", backendName, ""))
		w.Write("routes.yaml", routeTo("r", "secure"), routeTo("plain", "echo"))
		w.Write("gateway.yaml", testbed.Class("emergency", "emergency"), w.Gateway()+"  tls: {backend: {clientCertificateRef: {name: client}}}\n",
			w.Certificate(), testbed.Service("echo", w.Backend.Port()))
	})

	It("shows it to backends with a BackendTLSPolicy, also after it was renewed", func() {
		writeClient("door")
		w.Start()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r", "plain"}, Duration: "30m"})
		Expect(answer("r")).To(haveStatus(200))
		Expect(answer("plain")).To(haveStatus(200))
		shown := func() string {
			if answer("r"); len(secure.LastTLS().PeerCertificates) == 0 {
				return "nothing"
			}
			return secure.LastTLS().PeerCertificates[0].Subject.CommonName
		}
		Expect(shown()).To(Equal("door"))
		writeClient("renewed")
		Eventually(shown).Should(Equal("renewed"))
	})

	It("reaches none of them without it, and all others", func() {
		w.Start()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r", "plain"}, Duration: "30m"})
		Expect(answer("r")).To(haveStatus(503))
		Expect(answer("plain")).To(haveStatus(200))
		Expect(secure.Hits("/")).To(BeZero())
		writeClient("door")
		Eventually(answer).WithArguments("r").Should(haveStatus(200))
		w.Remove("client.yaml")
		Eventually(answer).WithArguments("r").Should(haveStatus(503))
		Expect(answer("plain")).To(haveStatus(200))
	})
})

// secureWorld is a world whose backend is behind TLS, with a route r.
func secureWorld() *testbed.World {
	GinkgoHelper()
	ca, w := testbed.NewAuthority("backends"), testbed.New()
	w.Backend = testbed.StartTLSBackend("secure", &tls.Config{Certificates: []tls.Certificate{ca.Sign(tomorrow(), backendName)}})
	w.Write("gateway.yaml", testbed.Class("emergency", "emergency"), w.Gateway(), w.Certificate(), testbed.Service("echo", w.Backend.Port()))
	w.Write("r.yaml", testbed.Route{Name: "r"}.YAML(), ca.ConfigMap("ca"), testbed.BackendTLS("echo", "echo", "ca", backendName, ""))
	w.Start()
	return w
}

var _ = Describe("A stream to a backend behind TLS, at the deadline with serve killed a second before", Ordered, ContinueOnFailure, func() {
	var streams []*testbed.Stream
	var deadline time.Time
	BeforeAll(func() {
		w := secureWorld()
		deadline = w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "3s"})
		streams = openAll(w, testbed.Host("r"), w.Token())
		Expect(w.Backend.LastTLS()).NotTo(BeNil())
		testbed.WaitUntil(deadline.Add(-time.Second))
		w.KillServe()
	})
	eachKind(func(i int) {
		cutAt("stream to a backend behind TLS at the deadline, serve killed", streams[i], deadline, late)
	})
})

var _ = Describe("A stream to a backend behind TLS, at a revocation", Ordered, ContinueOnFailure, func() {
	var streams []*testbed.Stream
	var asked time.Time
	BeforeAll(func() {
		w := secureWorld()
		w.Activate(testbed.Activation{Name: "a", Routes: []string{"r"}, Duration: "10m"})
		streams = openAll(w, testbed.Host("r"), w.Token())
		asked = w.Revoke("a")
	})
	eachKind(func(i int) { cutAt("stream to a backend behind TLS at a revocation", streams[i], asked, revocation) })
})
