package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// RSA moduli that are taken, in bits. BoringSSL, and so Envoy, reads none above
// the larger one.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// privateMembers of a JWK: RFC 7518 section 6, and "priv" of the newer types.
var privateMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}

var rsaAlgorithms = []v1alpha1.Algorithm{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}

// curves by the name of RFC 7518 section 6.2.1.1. Each has one algorithm.
var curves = map[string]struct {
	curve elliptic.Curve
	alg   v1alpha1.Algorithm
}{
	"P-256": {elliptic.P256(), "ES256"},
	"P-384": {elliptic.P384(), "ES384"},
	"P-521": {elliptic.P521(), "ES512"},
}

// parseKey is nil, nil for a key that is of no use here.
func parseKey(members map[string]any, algs []v1alpha1.Algorithm) ([]entry, error) {
	kty, err := text(members, "kty")
	if err != nil {
		return nil, err
	}
	// Danger first: a secret must not be published even if it is of no use here.
	if kty == "oct" {
		return nil, errors.New(`is a symmetric key (kty "oct"), a secret: remove it, replace it wherever it was used, and let the issuer sign with RSA, EC or Ed25519`)
	}
	for _, m := range privateMembers {
		if _, there := members[m]; there {
			return nil, fmt.Errorf("is a private key (it has member %q): publish only the public half, and replace the key, since it is no longer secret", m)
		}
	}
	fits, err := algorithmsOf(kty, members)
	if err != nil {
		return nil, err
	}
	fits = slices.DeleteFunc(fits, func(a v1alpha1.Algorithm) bool { return !slices.Contains(algs, a) })
	if len(fits) == 0 {
		return nil, nil
	}
	public, key, err := publicKey(kty, members)
	if err != nil {
		return nil, err
	}
	if public.Kid, err = text(members, "kid"); err != nil {
		return nil, err
	}
	var entries []entry
	for _, a := range fits {
		public.Alg = a
		entries = append(entries, entry{public: public, key: key})
	}
	return entries, nil
}

// algorithmsOf a key by its type, curve, alg, use and key_ops: those that it may
// verify, whatever the policy says. None for a key that is not for signatures.
func algorithmsOf(kty string, members map[string]any) ([]v1alpha1.Algorithm, error) {
	crv, err := text(members, "crv")
	if err != nil {
		return nil, err
	}
	use, err := text(members, "use")
	if err != nil {
		return nil, err
	}
	alg, err := text(members, "alg")
	if err != nil {
		return nil, err
	}
	if use != "" && use != "sig" {
		return nil, nil
	}
	if ops, there := members["key_ops"]; there {
		list, ok := ops.([]any)
		if !ok {
			return nil, errors.New("has a key_ops that is not a list (RFC 7517 section 4.3): correct or remove it")
		}
		if !slices.Contains(list, any("verify")) {
			return nil, nil
		}
	}
	var fits []v1alpha1.Algorithm
	switch {
	case kty == "RSA":
		fits = slices.Clone(rsaAlgorithms)
	case kty == "EC" && curves[crv].curve != nil:
		fits = []v1alpha1.Algorithm{curves[crv].alg}
	case kty == "OKP" && crv == "Ed25519":
		fits = []v1alpha1.Algorithm{"EdDSA"}
	}
	if alg != "" {
		fits = slices.DeleteFunc(fits, func(a v1alpha1.Algorithm) bool { return string(a) != alg })
	}
	return fits, nil
}

func publicKey(kty string, members map[string]any) (jwk, crypto.PublicKey, error) {
	switch kty {
	case "RSA":
		return rsaKey(members)
	case "EC":
		return ecKey(members)
	default:
		return edKey(members)
	}
}

func rsaKey(members map[string]any) (jwk, crypto.PublicKey, error) {
	n, err := octets(members, "n")
	if err != nil {
		return jwk{}, nil, err
	}
	e, err := octets(members, "e")
	if err != nil {
		return jwk{}, nil, err
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	switch bits := modulus.BitLen(); {
	case bits < minRSABits:
		return jwk{}, nil, fmt.Errorf("is an RSA key of %d bits: use at least %d", bits, minRSABits)
	case bits > maxRSABits:
		return jwk{}, nil, fmt.Errorf("is an RSA key of %d bits: Envoy reads at most %d", bits, maxRSABits)
	case modulus.Bit(0) == 0:
		return jwk{}, nil, errors.New("is not an RSA key: its modulus n is even")
	case !exponent.IsInt64() || exponent.Int64() != 3 && exponent.Int64() != 65537:
		return jwk{}, nil, errors.New("is an RSA key with an exponent other than 65537 or 3, which Envoy does not read: make a new key")
	}
	public := jwk{Kty: "RSA", N: encode(modulus.Bytes()), E: encode(exponent.Bytes())}
	return public, &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
}

func ecKey(members map[string]any) (jwk, crypto.PublicKey, error) {
	crv, err := text(members, "crv")
	if err != nil {
		return jwk{}, nil, err
	}
	curve := curves[crv].curve
	size := (curve.Params().BitSize + 7) / 8
	point := make([]byte, 1+2*size)
	point[0] = 4 // uncompressed, SEC 1 section 2.3.3
	for i, name := range []string{"x", "y"} {
		c, err := octets(members, name)
		if err != nil {
			return jwk{}, nil, err
		}
		// Some issuers leave out leading zeros; the number is the same.
		if len(c) > size {
			return jwk{}, nil, fmt.Errorf("has a coordinate %s of %d bytes, too long for %s", name, len(c), crv)
		}
		copy(point[1+(i+1)*size-len(c):], c)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return jwk{}, nil, fmt.Errorf("is not a point on %s: it is damaged, or made to attack; take it from its source again", crv)
	}
	return jwk{Kty: "EC", Crv: crv, X: encode(point[1 : 1+size]), Y: encode(point[1+size:])}, key, nil
}

func edKey(members map[string]any) (jwk, crypto.PublicKey, error) {
	x, err := octets(members, "x")
	if err != nil {
		return jwk{}, nil, err
	}
	if len(x) != ed25519.PublicKeySize {
		return jwk{}, nil, fmt.Errorf("has an x of %d bytes: an Ed25519 key has %d", len(x), ed25519.PublicKeySize)
	}
	if err := checkEdPoint(x); err != nil {
		return jwk{}, nil, err
	}
	return jwk{Kty: "OKP", Crv: "Ed25519", X: encode(x)}, ed25519.PublicKey(x), nil
}

// text is a member that is a string if it is there.
func text(members map[string]any, name string) (string, error) {
	v, there := members[name]
	if !there {
		return "", nil
	}
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("has a member %s that is not a string (RFC 7517 section 4)", name)
	}
	return s, nil
}

// octets is a member in base64url. Padding is against RFC 7515 section 2, but
// seen in the wild and harmless.
func octets(members map[string]any, name string) ([]byte, error) {
	s, err := text(members, name)
	if err != nil {
		return nil, err
	}
	if s == "" {
		return nil, fmt.Errorf("has no member %s", name)
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil || strings.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("has a member %s that is not base64url", name)
	}
	return b, nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
