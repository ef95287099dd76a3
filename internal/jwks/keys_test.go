package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

var everyAlgorithm = []v1alpha1.Algorithm{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// Private keys of one test run, by name; RSA keys are slow to make.
var (
	keysMu sync.Mutex
	keys   = map[string]crypto.Signer{}
)

// private makes a key once. name is "rsa...", "p256...", "p384...", "p521..." or "ed...".
func private(t testing.TB, name string) crypto.Signer {
	t.Helper()
	keysMu.Lock()
	defer keysMu.Unlock()
	if k, ok := keys[name]; ok {
		return k
	}
	var k crypto.Signer
	var err error
	switch {
	case strings.HasPrefix(name, "rsa1024"):
		t.Setenv("GODEBUG", "rsa1024min=0")
		k, err = rsa.GenerateKey(rand.Reader, 1024)
	case strings.HasPrefix(name, "rsa"):
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	case strings.HasPrefix(name, "p256"):
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case strings.HasPrefix(name, "p384"):
		k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case strings.HasPrefix(name, "p521"):
		k, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	default:
		_, k, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	keys[name] = k
	return k
}

// member makes a public JWK of a key with more members; nil removes one.
func member(t testing.TB, name string, more map[string]any) map[string]any {
	t.Helper()
	return asMap(t, jose.JSONWebKey{Key: private(t, name).Public(), KeyID: name}, more)
}

func asMap(t testing.TB, k jose.JSONWebKey, more map[string]any) map[string]any {
	t.Helper()
	text, err := k.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	for name, v := range more {
		if m[name] = v; v == nil {
			delete(m, name)
		}
	}
	return m
}

// document is a JWKS of these members.
func document(t testing.TB, members ...any) []byte {
	t.Helper()
	if members == nil {
		members = []any{}
	}
	text, err := json.Marshal(map[string]any{"keys": members})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// sign makes a compact JWS with these header members besides alg.
func sign(t testing.TB, key any, alg v1alpha1.Algorithm, header map[string]any, payload []byte) string {
	t.Helper()
	opts := &jose.SignerOptions{}
	for name, v := range header {
		opts.WithHeader(jose.HeaderKey(name), v)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}
