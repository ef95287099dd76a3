package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// Subject is whom a leaf is for; see Server, AuditServer, Client and ControllerClient.
type Subject struct {
	name  string // for people: nothing is decided by it
	dns   []string
	uri   string
	usage x509.ExtKeyUsage
}

// Server is the controller under these DNS names, the first of which it is shown
// by.
func Server(names ...string) Subject {
	return Subject{name: "breakglass controller", dns: names, usage: x509.ExtKeyUsageServerAuth}
}

// AuditServer is the audit log service under these DNS names.
func AuditServer(names ...string) Subject {
	return Subject{name: "breakglass audit log", dns: names, usage: x509.ExtKeyUsageServerAuth}
}

// Client is the fleet of a Gateway.
func Client(namespace, name string) Subject {
	return Subject{name: "breakglass proxy", uri: identityURI(gatewayPath, namespace, name).String(), usage: x509.ExtKeyUsageClientAuth}
}

// ControllerClient is a replica of the controller, by the release's namespace and
// the name of its pod.
func ControllerClient(namespace, pod string) Subject {
	return Subject{name: "breakglass controller", uri: identityURI(controllerPath, namespace, pod).String(), usage: x509.ExtKeyUsageClientAuth}
}

// Issue makes a key and its certificate, as the data of a Secret of type
// kubernetes.io/tls.
func (a *Authority) Issue(s Subject, now time.Time) (map[string][]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: s.name},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(LeafLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{s.usage},
		BasicConstraintsValid: true,
		DNSNames:              s.dns,
	}
	if s.uri != "" {
		u, err := url.Parse(s.uri)
		if err != nil {
			return nil, fmt.Errorf("certificate for %s: %w", s.uri, err)
		}
		template.URIs = []*url.URL{u}
	}
	cert, err := sign(template, a.current.cert, key.Public(), a.current.key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	private, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{KeyCertificate: encodeCertificate(cert), KeyPrivate: private, KeyTrusted: a.Trusted()}, nil
}

// Fresh reports whether data is a leaf for s that need not be issued anew: it is
// whole, by the CA that signs now, in the first two thirds of its life, and next
// to it is whom to trust.
func (a *Authority) Fresh(data map[string][]byte, s Subject, now time.Time) bool {
	leaf, err := parseSigner(data, KeyCertificate, KeyPrivate)
	if err != nil {
		return false
	}
	c := leaf.cert
	uris := []string{}
	for _, u := range c.URIs {
		uris = append(uris, u.String())
	}
	wanted := []string{}
	if s.uri != "" {
		wanted = append(wanted, s.uri)
	}
	return c.CheckSignatureFrom(a.current.cert) == nil &&
		!now.Before(c.NotBefore) && now.Before(renewAt(c)) &&
		slices.Equal(c.DNSNames, s.dns) && slices.Equal(uris, wanted) &&
		slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{s.usage}) &&
		bytes.Equal(data[KeyTrusted], a.Trusted())
}

// RenewAt is when a leaf is to be issued anew; the zero time if it cannot be read.
func RenewAt(data map[string][]byte) time.Time {
	leaf, err := parseSigner(data, KeyCertificate, KeyPrivate)
	if err != nil {
		return time.Time{}
	}
	return renewAt(leaf.cert)
}
