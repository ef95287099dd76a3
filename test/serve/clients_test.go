//go:build envoy

package serve

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// mutual is a Gateway that asks its clients for certificates, on one port or more.
type mutual struct {
	name, host string
	// ports: of the default, of another authority, of nobody's.
	port, other, open  int
	ca, otherCA        *testbed.Authority
	good, foreign, old tls.Certificate
}

func newMutual() *mutual {
	GinkgoHelper()
	m := &mutual{name: shared.Unique(), port: testbed.FreePort(), other: testbed.FreePort(), open: testbed.FreePort(), ca: testbed.NewAuthority("clients"), otherCA: testbed.NewAuthority("others")}
	m.host = m.name + ".example.test"
	end := time.Now().Add(time.Hour)
	m.good, m.foreign, m.old = m.ca.Sign(end, "sre"), m.otherCA.Sign(end, "sre"), m.ca.Sign(time.Now().Add(-time.Minute), "sre")
	return m
}

// gateway asks as frontend says, in flow style; "" for nothing.
func (m *mutual) gateway(frontend string) string {
	g := testbed.Gateway(m.name, "emergency", secureListener("https", m.port, ""), secureListener("other", m.other, ""), secureListener("open", m.open, ""))
	if frontend == "" {
		return g
	}
	return strings.Replace(g, "  listeners:\n", "  tls: {frontend: "+frontend+"}\n  listeners:\n", 1)
}

// frontend wants certificates of a mode.
func (m *mutual) frontend(mode string) string {
	v := func(name string) string {
		return fmt.Sprintf("{validation: {mode: %s, caCertificateRefs: [{group: '', kind: ConfigMap, name: %s}]}}", mode, name)
	}
	return fmt.Sprintf("{default: %s, perPort: [{port: %d, tls: %s}, {port: %d, tls: {}}]}", v(m.name), m.other, v(m.name+"-other"), m.open)
}

// write has the authorities in files of their own, so that they change alone.
func (m *mutual) write(frontend string) {
	GinkgoHelper()
	own(m.name+"-ca", m.ca.ConfigMap(m.name))
	own(m.name+"-other-ca", m.otherCA.ConfigMap(m.name+"-other"))
	own(m.name, m.gateway(frontend), testbed.Route{Name: m.name, Gateway: m.name, Hosts: []string{m.host}}.YAML(), testbed.Activation{Name: m.name, Routes: []string{m.name}, Duration: "30m"}.YAML())
	shared.AwaitPhase(m.name, "Live")
}

// get asks on a connection of its own, with a good token.
func (m *mutual) get(port int, certificates ...tls.Certificate) testbed.Reply {
	c := shared.TLS2On(port).Fresh()
	if len(certificates) > 0 {
		c.Showing(certificates[0])
	}
	return c.Get(m.host, "/api/"+m.name, shared.Token())
}

func (m *mutual) status(port int, certificates ...tls.Certificate) func() int {
	return func() int { return m.get(port, certificates...).Status }
}

// refused checks that a client does not get past the handshake.
func (m *mutual) refused(what string, port int, certificates ...tls.Certificate) {
	GinkgoHelper()
	r := m.get(port, certificates...)
	Expect(r.Status).To(BeZero(), what)
	Expect(r.Err).To(HaveOccurred(), what)
}

// logged checks which certificate the audit log has with an answer.
func (m *mutual) logged(r testbed.Reply, certificate string) {
	GinkgoHelper()
	var entry audit.RequestEntry
	Eventually(func() bool {
		entry = loggedAs(r.Header.Get("X-Request-Id"))
		return entry.Key != ""
	}).Should(BeTrue(), "no entry")
	Expect(entry.ClientCertificate).To(Equal(certificate))
}

var _ = Describe("A Gateway that asks its clients for certificates", func() {
	It("lets in those of the port's authority, and ends the handshake of all others", func() {
		m := newMutual()
		m.write(m.frontend("AllowValidOnly"))
		Eventually(m.status(m.port, m.good)).Should(Equal(200))
		Eventually(m.status(m.other, m.foreign)).Should(Equal(200))
		hits := shared.Backend.Hits("/api/" + m.name)

		m.refused("no certificate", m.port)
		m.refused("another authority's", m.port, m.foreign)
		m.refused("an old one", m.port, m.old)
		m.refused("one that it signed itself", m.port, selfSigned())
		m.refused("the default's on the other port", m.other, m.good)
		m.refused("none on the other port", m.other)
		Expect(shared.Backend.Hits("/api/" + m.name)).To(Equal(hits))

		unasked := m.get(m.open)
		Expect(unasked).To(haveStatus(200), "a port that asks for none")
		m.logged(unasked, "")
		m.logged(m.get(m.port, m.good), fmt.Sprintf("%x", sha256.Sum256(m.good.Certificate[0])))
		Expect(shared.TLS2On(m.port).Showing(m.good).Get(m.host, "/api/x", "")).To(haveStatus(401), "a certificate is no token")
	})

	It("takes no session up again, so that a certificate counts each time", func() {
		m := newMutual()
		m.write(m.frontend("AllowValidOnly"))
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			var resumed bool
			c := shared.TLS1On(m.port).Showing(m.good).Resuming(&resumed).Version(version).Fresh()
			for range 3 {
				Eventually(c.Status(m.host, "/api/"+m.name, shared.Token())).Should(Equal(200))
				Expect(resumed).To(BeFalse())
			}
			d := shared.TLS1On(m.open).Resuming(&resumed).Version(version).Fresh() // the test can see it
			Expect(d.Get(m.host, "/api/"+m.name, shared.Token())).To(haveStatus(200))
			Expect(d.Get(m.host, "/api/"+m.name, shared.Token())).To(haveStatus(200))
			Expect(resumed).To(BeTrue())
		}
	})

	It("follows its authorities: a new one, none, and one again", func() {
		m := newMutual()
		m.write(m.frontend("AllowValidOnly"))
		Eventually(m.status(m.port, m.good)).Should(Equal(200))
		stream := shared.TLS2On(m.port).Showing(m.good).Events("events", m.host, "/api/stream", shared.Token())

		shared.Write(m.name+"-ca-own.yaml", m.otherCA.ConfigMap(m.name))
		Eventually(m.status(m.port, m.foreign)).Should(Equal(200))
		m.refused("the authority of before", m.port, m.good)
		Expect(stream.Open()).To(BeTrue(), "a connection of before goes on")

		shared.Remove(m.name + "-ca-own.yaml")
		Eventually(told(shared)).Should(line("listener https", m.name, "ConfigMap pay/"+m.name+" does not exist"))
		Eventually(stream.Done()).Should(BeClosed(), "a connection that nobody vouches for")
		m.refused("without authorities, a certificate", m.port, m.foreign)
		m.refused("without authorities, none", m.port)
		Expect(m.get(m.other, m.foreign)).To(haveStatus(200), "the other port")
		Expect(m.get(m.open)).To(haveStatus(200), "the open port")

		shared.Write(m.name+"-ca-own.yaml", testbed.CAConfigMap(m.name, ""))
		Eventually(told(shared)).Should(line("listener https", m.name, "there is no certificate"))
		m.refused("with empty authorities", m.port)

		shared.Write(m.name+"-ca-own.yaml", m.ca.ConfigMap(m.name))
		Eventually(m.status(m.port, m.good)).Should(Equal(200))
		m.refused("another authority's", m.port, m.foreign)
	})

	It("ends the connections that were made before it asked", func() {
		m := newMutual()
		m.write("")
		Eventually(m.status(m.port)).Should(Equal(200))
		stream := shared.TLS2On(m.port).Events("events", m.host, "/api/stream", shared.Token())

		shared.Write(m.name+"-own.yaml", m.gateway(m.frontend("AllowValidOnly")), testbed.Route{Name: m.name, Gateway: m.name, Hosts: []string{m.host}}.YAML(),
			testbed.Activation{Name: m.name, Routes: []string{m.name}, Duration: "30m"}.YAML())
		Eventually(stream.Done()).Should(BeClosed())
		Eventually(m.status(m.port, m.good)).Should(Equal(200))
		m.refused("no certificate", m.port)
	})

	It("with AllowInsecureFallback asks, and takes any and none", func() {
		m := newMutual()
		m.write(m.frontend("AllowInsecureFallback"))
		Eventually(m.status(m.port, m.good)).Should(Equal(200))
		m.logged(m.get(m.port, m.good), "") // it proves nothing here
		for what, certificates := range map[string][]tls.Certificate{"another authority's": {m.foreign}, "none": nil, "an old one": {m.old}} {
			Expect(m.get(m.port, certificates...)).To(haveStatus(200), what)
		}
		Expect(shared.TLS2On(m.port).Get(m.host, "/api/x", "")).To(haveStatus(401), "without a token")

		shared.Write(m.name+"-own.yaml", m.gateway(m.frontend("AllowValidOnly")), testbed.Route{Name: m.name, Gateway: m.name, Hosts: []string{m.host}}.YAML(),
			testbed.Activation{Name: m.name, Routes: []string{m.name}, Duration: "30m"}.YAML())
		Eventually(m.status(m.port)).Should(BeZero())
		Eventually(m.status(m.port, m.good)).Should(Equal(200))
		m.refused("another authority's, once it is strict", m.port, m.foreign)
	})
})

// selfSigned is a certificate of nobody's.
func selfSigned() tls.Certificate {
	GinkgoHelper()
	cert, key, _ := testbed.NewCertificate()
	pair, err := tls.X509KeyPair(cert, key)
	Expect(err).NotTo(HaveOccurred())
	return pair
}
