package testbed

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// Authority signs certificates of backends and of Gateways.
type Authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	// PEM of its certificate.
	PEM string
}

// NewAuthority of this name.
func NewAuthority(name string) *Authority {
	GinkgoHelper()
	a := &Authority{cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	a.key = newKey()
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	Expect(err).NotTo(HaveOccurred())
	a.PEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

func newKey() *ecdsa.PrivateKey {
	GinkgoHelper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	return k
}

// Sign makes a certificate for names, which are DNS names or URIs; the first is its
// common name too. It is valid until end.
func (a *Authority) Sign(end time.Time, names ...string) tls.Certificate {
	GinkgoHelper()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, n := range names {
		if !strings.Contains(n, "://") {
			t.DNSNames = append(t.DNSNames, n)
			continue
		}
		u, err := url.Parse(n)
		Expect(err).NotTo(HaveOccurred())
		t.URIs = append(t.URIs, u)
	}
	key := newKey()
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	Expect(err).NotTo(HaveOccurred())
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Pool of those that it signed.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(a.PEM))
	return pool
}

// ConfigMap with its certificate.
func (a *Authority) ConfigMap(name string) string { return CAConfigMap(name, a.PEM) }

// CAConfigMap is a ConfigMap with a text where authorities are looked for.
func CAConfigMap(name, text string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: %s}\ndata: {ca.crt: %q}\n", name, Namespace, text)
}

// TLSSecret of a certificate with its key.
func TLSSecret(name string, c tls.Certificate) string {
	GinkgoHelper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	Expect(err).NotTo(HaveOccurred())
	encode := func(kind string, b []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\ntype: kubernetes.io/tls\ndata: {tls.crt: %s, tls.key: %s}\n",
		name, Namespace, encode("CERTIFICATE", c.Certificate[0]), encode("PRIVATE KEY", der))
}

// BackendTLS is a BackendTLSPolicy of a Service, whose authorities are in ConfigMap ca.
// more is YAML in flow style for spec.validation.
func BackendTLS(name, service, ca, hostname, more string) string {
	return fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: %s, namespace: %s}
spec:
  targetRefs: [{group: "", kind: Service, name: %s}]
  validation: {caCertificateRefs: [{group: "", kind: ConfigMap, name: %s}], hostname: %s%s}
`, name, Namespace, service, ca, hostname, more)
}
