package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Of the URI that is an identity.
const (
	scheme         = "spiffe"
	trustDomain    = "breakglass.dev"
	gatewayPath    = "/gateway/"
	controllerPath = "/controller/"
)

func identityURI(kind, namespace, name string) *url.URL {
	return &url.URL{Scheme: scheme, Host: trustDomain, Path: kind + namespace + "/" + name}
}

// Identity of the proxy at the other end of a connection: the Gateway that its
// verified client certificate names, with exactly one URI and nothing besides.
// Whatever the proxy says of itself is not looked at.
func Identity(c *tls.ConnectionState) (namespace, name string, err error) {
	return identity(c, gatewayPath, "the fleet of a Gateway")
}

// ControllerIdentity is the same of a replica of the controller: the namespace of
// the release, and the pod.
func ControllerIdentity(c *tls.ConnectionState) (namespace, pod string, err error) {
	return identity(c, controllerPath, "a controller")
}

// identity takes what a verified client certificate names, if it is of that kind.
func identity(c *tls.ConnectionState, kind, what string) (namespace, name string, err error) {
	if c == nil || !c.HandshakeComplete || len(c.VerifiedChains) == 0 || len(c.VerifiedChains[0]) < 2 {
		return "", "", errors.New("no verified client certificate")
	}
	leaf := c.VerifiedChains[0][0]
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return "", "", errors.New("the certificate is not for clients")
	}
	if len(leaf.URIs) != 1 || len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) > 0 {
		return "", "", errors.New("the client certificate must have one URI, and no other name")
	}
	u := leaf.URIs[0]
	namespace, name, _ = strings.Cut(strings.TrimPrefix(u.Path, kind), "/")
	if *u != *identityURI(kind, namespace, name) || len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Subdomain(name)) > 0 {
		return "", "", fmt.Errorf("the client certificate is for %.200q, which is not %s", u.String(), what)
	}
	return namespace, name, nil
}

// ServerConfig is for the controller's listener: it takes clients whose
// certificate is good, which Identity then reads. state is asked at each handshake
// for the controller's own leaf and for whom to trust.
func ServerConfig(state func() (leaf *tls.Certificate, trusted *x509.CertPool)) *tls.Config {
	base := &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, SessionTicketsDisabled: true}
	out := base.Clone()
	out.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		leaf, trusted := state()
		if leaf == nil || trusted == nil {
			return nil, errors.New("there is no certificate yet")
		}
		c := base.Clone()
		c.Certificates, c.ClientCAs = []tls.Certificate{*leaf}, trusted
		c.NextProtos = []string{"h2"}
		return c, nil
	}
	return out
}

// ClientConfig is for an agent that connects to the controller by the name that
// its certificate has. data is that of the fleet's Secret.
func ClientConfig(data map[string][]byte, serverName string) (*tls.Config, error) {
	leaf, err := KeyPair(data)
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	certs, err := parseCertificates(data[KeyTrusted])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", KeyTrusted, err)
	}
	for _, c := range certs {
		trusted.AddCert(c)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, ServerName: serverName, RootCAs: trusted, Certificates: []tls.Certificate{*leaf}}, nil
}

// KeyPair is a leaf as package tls takes it.
func KeyPair(data map[string][]byte) (*tls.Certificate, error) {
	leaf, err := parseSigner(data, KeyCertificate, KeyPrivate)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key, Leaf: leaf.cert}, nil
}
