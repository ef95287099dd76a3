package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

const (
	// authorityLife is how long a CA lives, spread how long a successor is only
	// trusted before it signs.
	authorityLife = 365 * 24 * time.Hour
	spread        = 48 * time.Hour
	// LeafLife is how long the other certificates live.
	LeafLife = 24 * time.Hour
	// backdate is how far the clock of a node may be behind the controller's.
	backdate = 10 * time.Minute
)

// Keys in the data of a Secret.
const (
	KeyCertificate = "tls.crt" // PEM
	KeyPrivate     = "tls.key" // PEM, PKCS #8
	KeyTrusted     = "ca.crt"  // PEM, all that may sign
	keyNext        = "next.crt"
	keyNextPrivate = "next.key"
)

// signer is a certificate and its key.
type signer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// Authority is the CA: who signs, who will, and who is trusted.
type Authority struct {
	current *signer
	next    *signer // nil: none yet
	trusted []*x509.Certificate
}

// Rotate returns the authority as it should be now: a new one if a is nil or has
// ended. It reports whether that is another than a, which is left as it is; then it
// must be stored before anything is signed by it.
func (a *Authority) Rotate(now time.Time) (*Authority, bool, error) {
	if a == nil || !now.Before(a.current.cert.NotAfter) {
		ca, err := newAuthority(now)
		if err != nil {
			return nil, false, err
		}
		return &Authority{current: ca, trusted: []*x509.Certificate{ca.cert}}, true, nil
	}
	out := &Authority{current: a.current, next: a.next}
	changed := false
	switch {
	case a.next == nil && !now.Before(renewAt(a.current.cert)):
		next, err := newAuthority(now)
		if err != nil {
			return nil, false, err
		}
		out.next, changed = next, true
	case a.next != nil && !now.Before(a.next.cert.NotBefore.Add(backdate+spread)):
		out.current, out.next, changed = a.next, nil, true
	}
	out.trusted = trust(now, append([]*x509.Certificate{out.current.cert}, certificatesOf(out.next, a.trusted)...))
	return out, changed || len(out.trusted) != len(a.trusted), nil
}

func certificatesOf(s *signer, rest []*x509.Certificate) []*x509.Certificate {
	if s == nil {
		return rest
	}
	return append([]*x509.Certificate{s.cert}, rest...)
}

// trust is certs without what has ended and what is there twice.
func trust(now time.Time, certs []*x509.Certificate) (out []*x509.Certificate) {
	seen := map[string]bool{}
	for _, c := range certs {
		if now.Before(c.NotAfter) && !seen[string(c.Raw)] {
			seen[string(c.Raw)] = true
			out = append(out, c)
		}
	}
	return out
}

// renewAt is after two thirds of a certificate's life.
func renewAt(c *x509.Certificate) time.Time {
	begin := c.NotBefore.Add(backdate)
	return begin.Add(c.NotAfter.Sub(begin) * 2 / 3)
}

func newAuthority(now time.Time) (*signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of a CA: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "breakglass CA " + now.UTC().Format("2006-01-02")},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // no CA below it
	}
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a CA: %w", err)
	}
	return &signer{cert, key}, nil
}

// serial is random, as RFC 5280 section 4.1.2.2 wants them: positive, at most 20
// bytes.
func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails, and ends the process if it would
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:])
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Trusted are the certificates to verify others by, in PEM.
func (a *Authority) Trusted() []byte {
	var out bytes.Buffer
	for _, c := range a.trusted {
		out.Write(encodeCertificate(c))
	}
	return out.Bytes()
}

// Pool is Trusted as package tls takes it.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range a.trusted {
		pool.AddCert(c)
	}
	return pool
}

// Data is the authority as the data of a Secret.
func (a *Authority) Data() (map[string][]byte, error) {
	key, err := encodeKey(a.current.key)
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{KeyCertificate: encodeCertificate(a.current.cert), KeyPrivate: key, KeyTrusted: a.Trusted()}
	if a.next == nil {
		return out, nil
	}
	if out[keyNextPrivate], err = encodeKey(a.next.key); err != nil {
		return nil, err
	}
	out[keyNext] = encodeCertificate(a.next.cert)
	return out, nil
}

// ParseAuthority reads what Data has written. Errors name the key of the data and
// hold nothing of its value.
func ParseAuthority(data map[string][]byte) (*Authority, error) {
	current, err := parseSigner(data, KeyCertificate, KeyPrivate)
	if err != nil {
		return nil, err
	}
	a := &Authority{current: current}
	if len(data[keyNext]) > 0 || len(data[keyNextPrivate]) > 0 {
		if a.next, err = parseSigner(data, keyNext, keyNextPrivate); err != nil {
			return nil, err
		}
	}
	if a.trusted, err = parseCertificates(data[KeyTrusted]); err != nil {
		return nil, fmt.Errorf("%s: %w", KeyTrusted, err)
	}
	for _, s := range []*signer{a.current, a.next} {
		if s != nil && !s.cert.IsCA {
			return nil, errors.New("the certificate is not a CA's")
		}
	}
	return a, nil
}

func parseSigner(data map[string][]byte, certificate, private string) (*signer, error) {
	certs, err := parseCertificates(data[certificate])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certificate, err)
	}
	key, err := parseKey(data[private])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", private, err)
	}
	public, ok := certs[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || !public.Equal(key.Public()) {
		return nil, fmt.Errorf("%s is not the key of %s", private, certificate)
	}
	return &signer{certs[0], key}, nil
}

func parseCertificates(text []byte) (out []*x509.Certificate, err error) {
	block, rest := pem.Decode(text)
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a PEM block of type %.40q where a certificate should be", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("not certificates in PEM, or not only")
	}
	return out, nil
}

func encodeCertificate(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("no private key in PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("not a key in PKCS #8") // and nothing of it
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("not an ECDSA key")
	}
	return ec, nil
}
