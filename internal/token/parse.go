package token

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
)

// MaxBytes of a token. Envoy's listener takes 32 KiB of request headers in all.
const MaxBytes = 32 << 10

// parsed is a token that was read and not yet believed.
type parsed struct {
	alg, kid string
	// extension is "crit" or "b64" if the header has it.
	extension string
	iss       string
	// audiences as they are written.
	audiences []string
	// Whole seconds since 1970; nil if the token has no such claim.
	exp, nbf, iat *int64
	claims        map[string]any
}

var errParts = errors.New("a compact JWS is three parts in base64url with a dot between: header.payload.signature")

// parse reads a compact JWS (RFC 7515 section 7.1) with JWT claims. Its errors
// never quote the token.
func parse(token string) (*parsed, error) {
	if len(token) > MaxBytes {
		return nil, fmt.Errorf("it has %d bytes, more than %d: have the issuer put less into it", len(token), MaxBytes)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("it has %d parts: %w", len(parts), errParts)
	}
	raw := make([][]byte, 3)
	for i, part := range parts {
		b, err := decode(part)
		if err != nil {
			return nil, fmt.Errorf("its %s %w", []string{"header", "payload", "signature"}[i], err)
		}
		raw[i] = b
	}
	p := &parsed{}
	header, err := jwks.DecodeObject(raw[0])
	if err != nil {
		return nil, fmt.Errorf("its header is unusable: %w", err)
	}
	if err := p.readHeader(header); err != nil {
		return nil, err
	}
	if p.claims, err = jwks.DecodeObject(raw[1]); err != nil {
		return nil, fmt.Errorf("its payload is unusable: %w", err)
	}
	return p, p.readClaims()
}

// decode is base64url in its one canonical form, and not empty.
func decode(part string) ([]byte, error) {
	if part == "" {
		return nil, fmt.Errorf("is empty: %w", errParts)
	}
	// encoding/base64 skips line breaks.
	b, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil || strings.ContainsAny(part, "\r\n") {
		return nil, fmt.Errorf("is not base64url: %w", errParts)
	}
	return b, nil
}

func (p *parsed) readHeader(header map[string]any) (err error) {
	// jwk, jku, x5u and x5c are the sender's word on who he is, and not read.
	for _, name := range []string{"crit", "b64"} {
		if _, there := header[name]; there {
			p.extension = name
		}
	}
	if p.kid, err = stringOf(header, "kid"); err != nil {
		return err
	}
	if p.alg, err = stringOf(header, "alg"); err != nil {
		return err
	}
	if p.alg == "" {
		return errors.New(`its header has no "alg"`)
	}
	return nil
}

// readClaims reads the registered claims (RFC 7519 section 4.1). Envoy refuses a
// token in which one of them has the wrong type, even those it does not use.
func (p *parsed) readClaims() (err error) {
	if p.iss, err = stringOf(p.claims, "iss"); err != nil {
		return err
	}
	for _, name := range []string{"sub", "jti"} {
		if _, err := stringOf(p.claims, name); err != nil {
			return err
		}
	}
	for name, to := range map[string]**int64{"exp": &p.exp, "nbf": &p.nbf, "iat": &p.iat} {
		if *to, err = secondsOf(p.claims, name); err != nil {
			return err
		}
	}
	switch aud := p.claims["aud"].(type) {
	case string:
		p.audiences = []string{aud}
	case []any:
		for _, v := range aud {
			s, ok := v.(string)
			if !ok {
				return errors.New(`its claim "aud" must be a string or a list of strings`)
			}
			p.audiences = append(p.audiences, s)
		}
	default:
		if _, there := p.claims["aud"]; there {
			return errors.New(`its claim "aud" must be a string or a list of strings`)
		}
	}
	return nil
}

func stringOf(object map[string]any, name string) (string, error) {
	v, there := object[name]
	s, ok := v.(string)
	if there && !ok {
		return "", fmt.Errorf("its member %q must be a string", name)
	}
	return s, nil
}

// secondsOf is a NumericDate (RFC 7519 section 2) without its fraction.
func secondsOf(claims map[string]any, name string) (*int64, error) {
	v, there := claims[name]
	if !there {
		return nil, nil
	}
	n, ok := v.(json.Number)
	if !ok {
		return nil, fmt.Errorf("its claim %q must be a number of seconds", name)
	}
	// Envoy holds numbers as float64, too.
	f, err := n.Float64()
	if err != nil || f < 0 || f >= math.MaxUint64 {
		return nil, fmt.Errorf("its claim %q is out of range: it must be seconds since 1970", name)
	}
	s := int64(math.MaxInt64)
	if f < math.MaxInt64 {
		s = int64(f)
	}
	return &s, nil
}
