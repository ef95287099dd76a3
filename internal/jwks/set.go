package jwks

import (
	"cmp"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// Bounds of a key set.
const (
	// MaxBytes of its JSON text.
	MaxBytes = 64 << 10
	// MaxKeys in it, those that are passed over included.
	MaxKeys = 64
)

// ErrEmpty says that a key set is well-formed and holds no key at all: its
// issuer has none yet.
var ErrEmpty = errors.New("the key set is empty: add the issuer's public keys to it")

// DefaultAlgorithms are accepted where an issuer names none, as the CRD has it.
var DefaultAlgorithms = []v1alpha1.Algorithm{"RS256", "ES256", "EdDSA"}

// Set is a usable key set. It is not changed once it is made.
type Set struct {
	entries []entry
	envoy   string
}

// entry is one key with one algorithm that it may verify.
type entry struct {
	public jwk
	key    crypto.PublicKey
}

// jwk is a public key as Envoy reads it: members in this order, no others.
type jwk struct {
	Kty string             `json:"kty"`
	Alg v1alpha1.Algorithm `json:"alg"`
	Kid string             `json:"kid,omitempty"`
	Crv string             `json:"crv,omitempty"`
	N   string             `json:"n,omitempty"`
	E   string             `json:"e,omitempty"`
	X   string             `json:"x,omitempty"`
	Y   string             `json:"y,omitempty"`
}

// Envoy is the key set for the local_jwks of Envoy's jwt_authn, as JSON. It
// depends on the keys and algorithms alone, not on how the source wrote or
// ordered them.
func (s *Set) Envoy() string {
	if s == nil {
		return ""
	}
	return s.envoy
}

// Keys are the same entries for verification in Go: each has its Algorithm, and
// must be used for no other. A key whose KeyID is empty fits any kid.
func (s *Set) Keys() []jose.JSONWebKey {
	if s == nil {
		return nil
	}
	keys := make([]jose.JSONWebKey, len(s.entries))
	for i, e := range s.entries {
		keys[i] = jose.JSONWebKey{Key: e.key, KeyID: e.public.Kid, Algorithm: string(e.public.Alg), Use: "sig"}
	}
	return keys
}

// Parse reads a JSON Web Key Set (RFC 7517 section 5) and keeps what algs
// permit; no algs means DefaultAlgorithms. See the package comment for what it
// refuses and what it passes over. Errors never quote key material.
func Parse(data []byte, algs []v1alpha1.Algorithm) (*Set, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("the key set is larger than %d KiB: publish only the keys in use", MaxBytes>>10)
	}
	object, err := DecodeObject(data)
	if err != nil {
		return nil, fmt.Errorf("the key set cannot be read: %w: it must be a JSON Web Key Set such as {\"keys\":[...]}", err)
	}
	list, ok := object["keys"].([]any)
	switch {
	case !ok && object["kty"] != nil:
		return nil, errors.New(`this is a single key, not a key set: wrap it as {"keys":[...]}, public half only`)
	case !ok:
		return nil, errors.New(`the key set has no list "keys": it must be a JSON Web Key Set such as {"keys":[...]}`)
	case len(list) == 0:
		return nil, ErrEmpty
	case len(list) > MaxKeys:
		return nil, fmt.Errorf("the key set holds %d keys, more than %d: publish only the keys in use", len(list), MaxKeys)
	}
	if len(algs) == 0 {
		algs = DefaultAlgorithms
	}
	var entries []entry
	for i, v := range list {
		members, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("keys[%d] is not a JSON object", i)
		}
		found, err := parseKey(members, algs)
		if err != nil {
			return nil, fmt.Errorf("%s %w", keyName(i, members), err)
		}
		entries = append(entries, found...)
	}
	return newSet(entries, len(list), algs)
}

func newSet(entries []entry, total int, algs []v1alpha1.Algorithm) (*Set, error) {
	if len(entries) == 0 {
		return nil, fmt.Errorf("none of the %d keys is a public signature key for %v: publish one, or correct the issuer's algorithms", total, algs)
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.public.Kid, b.public.Kid), cmp.Compare(a.public.Alg, b.public.Alg),
			cmp.Compare(a.public.N+a.public.E+a.public.X+a.public.Y, b.public.N+b.public.E+b.public.X+b.public.Y))
	})
	entries = slices.CompactFunc(entries, func(a, b entry) bool { return a.public == b.public })
	for i := 1; i < len(entries); i++ {
		a, b := entries[i-1].public, entries[i].public
		if a.Kid != "" && a.Kid == b.Kid && a.Alg == b.Alg {
			return nil, fmt.Errorf("two different keys have kid %s and algorithm %s: give each key a kid of its own", quote(a.Kid), a.Alg)
		}
	}
	var doc struct {
		Keys []jwk `json:"keys"`
	}
	for _, e := range entries {
		doc.Keys = append(doc.Keys, e.public)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write the key set for Envoy: %w", err)
	}
	return &Set{entries: entries, envoy: string(text)}, nil
}

func keyName(i int, members map[string]any) string {
	if kid, ok := members["kid"].(string); ok && kid != "" {
		return fmt.Sprintf("keys[%d] (kid %s)", i, quote(kid))
	}
	return fmt.Sprintf("keys[%d]", i)
}

// Thumbprint of a public key (RFC 7638, SHA-256), short enough to be read.
func Thumbprint(k jose.JSONWebKey) string {
	sum, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return "" // only keys of types that Parse does not yield
	}
	return hex.EncodeToString(sum[:8])
}
