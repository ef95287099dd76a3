package testbed

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// certificate for *.example.test, localhost and 127.0.0.1, its own authority.
type certificate struct {
	cert, key []byte // PEM
	pool      *x509.CertPool
}

// NewCertificate is one for *.example.test, its own authority: certificate and key as PEM, and who trusts it.
func NewCertificate() (cert, key []byte, pool *x509.CertPool) {
	GinkgoHelper()
	c := newCertificate()
	return c.cert, c.key, c.pool
}

func newCertificate() certificate {
	GinkgoHelper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"*.example.test", "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &k.PublicKey, k)
	Expect(err).NotTo(HaveOccurred())
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	Expect(err).NotTo(HaveOccurred())
	c := certificate{
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		pool: x509.NewCertPool(),
	}
	c.pool.AppendCertsFromPEM(c.cert)
	return c
}

// secret is the certificate as a Secret for a listener.
func (c certificate) secret(name string) string {
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\ntype: kubernetes.io/tls\ndata: {tls.crt: %s, tls.key: %s}\n",
		name, Namespace, encode(c.cert), encode(c.key))
}

func (c certificate) pair() tls.Certificate {
	GinkgoHelper()
	pair, err := tls.X509KeyPair(c.cert, c.key)
	Expect(err).NotTo(HaveOccurred())
	return pair
}

func replaceOnce(s, old, new string) string { return strings.Replace(s, old, new, 1) }
