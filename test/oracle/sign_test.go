//go:build envoy

package oracle

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"sync"

	"github.com/go-jose/go-jose/v4"
)

// signer is a private key with its name and algorithm. It signs anything.
type signer struct {
	kid, alg string
	key      crypto.Signer
}

// RSA keys take long to make: one for each issuer of a world, and one of nobody.
var rsaKeys = sync.OnceValue(func() (out [4]*rsa.PrivateKey) {
	for i := range out {
		out[i] = must(rsa.GenerateKey(rand.Reader, 2048))
	}
	return out
})

const nobody = 3

func newSigner(kid, alg string) *signer {
	s := &signer{kid: kid, alg: alg}
	switch alg {
	case "RS256":
		s.key = must(rsa.GenerateKey(rand.Reader, 2048))
	case "ES256":
		s.key = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	case "EdDSA":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		s.key = must(key, err)
	}
	return s
}

// madeSigner is newSigner with one of the RSA keys that are there already.
func madeSigner(kid, alg string, i int) *signer {
	if alg == "RS256" {
		return &signer{kid, alg, rsaKeys()[i]}
	}
	return newSigner(kid, alg)
}

// stranger has a key of the same kind that nobody knows.
func (s *signer) stranger() *signer { return madeSigner(s.kid, s.alg, nobody) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (s *signer) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: s.key.Public(), KeyID: s.kid, Algorithm: s.alg, Use: "sig"}
}

// compact is a JWS of these, RFC 7515 section 7.1.
func (s *signer) compact(header, claims any) string {
	input := part(header) + "." + part(claims)
	sum := sha256.Sum256([]byte(input))
	var signature []byte
	switch key := s.key.(type) {
	case *rsa.PrivateKey:
		signature = must(rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:]))
	case *ecdsa.PrivateKey:
		r, v, err := ecdsa.Sign(rand.Reader, key, sum[:])
		signature = append(must(r, err).FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
	case ed25519.PrivateKey:
		signature = ed25519.Sign(key, []byte(input))
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// symmetric takes the public key for a secret (RFC 8725 section 2.1).
func (s *signer) symmetric(header, claims any) string {
	der := must(x509.MarshalPKIXPublicKey(s.key.Public()))
	mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	input := part(header) + "." + part(claims)
	mac.Write([]byte(input))
	return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func part(v any) string {
	return base64.RawURLEncoding.EncodeToString(must(json.Marshal(v)))
}
