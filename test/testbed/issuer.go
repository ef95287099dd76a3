package testbed

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/go-jose/go-jose/v4"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// Key is a signing key and the name it is known by.
type Key struct {
	ID      string
	Private *ecdsa.PrivateKey
}

// NewKey makes a P-256 key.
func NewKey(id string) *Key {
	GinkgoHelper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	return &Key{id, k}
}

// Public is the key as an entry of a JWKS.
func (k *Key) Public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: &k.Private.PublicKey, KeyID: k.ID, Algorithm: "ES256", Use: "sig"}
}

// JWKS is a key set as JSON.
func JWKS(keys ...*Key) string {
	GinkgoHelper()
	set := jose.JSONWebKeySet{}
	for _, k := range keys {
		set.Keys = append(set.Keys, k.Public())
	}
	b, err := json.Marshal(set)
	Expect(err).NotTo(HaveOccurred())
	return string(b)
}

// Sign signs any payload with any header.
func (k *Key) Sign(payload string, header map[string]any) string {
	GinkgoHelper()
	opts := (&jose.SignerOptions{}).WithType("JWT")
	for name, v := range header {
		opts.WithHeader(jose.HeaderKey(name), v)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: k.Private, KeyID: k.ID}}, opts)
	Expect(err).NotTo(HaveOccurred())
	jws, err := s.Sign([]byte(payload))
	Expect(err).NotTo(HaveOccurred())
	text, err := jws.CompactSerialize()
	Expect(err).NotTo(HaveOccurred())
	return text
}

// Claims of a token. A nil value leaves a claim out.
type Claims map[string]any

// Issuer signs tokens.
type Issuer struct {
	// Name in the policy, and URL in iss.
	Name, URL string
	Key       *Key
}

// NewIssuer has a key of its own.
func NewIssuer(name string) *Issuer {
	GinkgoHelper()
	return &Issuer{Name: name, URL: "https://" + name + ".example.test", Key: NewKey(name + "-1")}
}

// Claims that hold the group for ten minutes from now, with others put over them.
func (i *Issuer) Claims(group string, over Claims) Claims {
	now := time.Now().Unix()
	c := Claims{
		"iss": i.URL, "aud": "breakglass", "sub": "alice@example.test", "iat": now, "exp": now + 600,
		"groups": []string{group},
	}
	for name, v := range over {
		c[name] = v
	}
	for name, v := range c {
		if v == nil {
			delete(c, name)
		}
	}
	return c
}

// Token that holds the group.
func (i *Issuer) Token(group string) string {
	GinkgoHelper()
	return i.TokenWith(i.Claims(group, nil))
}

// TokenWith exactly these claims.
func (i *Issuer) TokenWith(c Claims) string {
	GinkgoHelper()
	return i.Key.Sign(c.JSON(), nil)
}

// JSON of the claims.
func (c Claims) JSON() string {
	GinkgoHelper()
	b, err := json.Marshal(c)
	Expect(err).NotTo(HaveOccurred())
	return string(b)
}
