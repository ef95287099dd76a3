package token

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Bounds of a token's lifetime.
const (
	DefaultTTL = 15 * time.Minute
	MinTTL     = time.Second
	MaxTTL     = 24 * time.Hour
)

// registered claims that Issue sets itself.
var registered = []string{"iss", "sub", "aud", "iat", "nbf", "exp", "jti"}

// Claims of a token to issue.
type Claims struct {
	Issuer, Subject string
	// Audience, at least one.
	Audience []string
	// TTL is exp - iat, cut to whole seconds: 0 means DefaultTTL, else from MinTTL
	// to MaxTTL.
	TTL time.Duration
	// Extra claims, such as groups. They cannot replace one of the above.
	Extra map[string]any
}

// Issue signs a token that is valid from now.
func Issue(key *Key, c Claims, now time.Time) (string, error) {
	claims, err := c.claims(now)
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("write the claims: %w", err)
	}
	signer, err := key.signer()
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign the token: %w", err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("write the token: %w", err)
	}
	if len(text) > MaxBytes {
		return "", fmt.Errorf("the token would have %d bytes, more than the %d that a request can carry: leave claims out", len(text), MaxBytes)
	}
	return text, nil
}

func (k *Key) signer() (jose.Signer, error) {
	opts := (&jose.SignerOptions{}).WithType("JWT")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.jwk.Algorithm), Key: k.jwk}, opts)
	if err != nil {
		return nil, errors.New("the key cannot sign: make a new one with `breakglass token keygen --key FILE`")
	}
	return signer, nil
}

func (c Claims) claims(now time.Time) (map[string]any, error) {
	switch {
	case c.Issuer == "":
		return nil, errors.New("the token needs an issuer: the value of spec.issuers[].issuer")
	case c.Subject == "":
		return nil, errors.New("the token needs a subject: who is it for?")
	case len(c.Audience) == 0 || slices.Contains(c.Audience, ""):
		return nil, errors.New("the token needs an audience: one of spec.issuers[].audiences")
	}
	ttl := c.TTL
	if ttl == 0 {
		ttl = DefaultTTL
	}
	if ttl < MinTTL || ttl > MaxTTL {
		return nil, fmt.Errorf("the token would live %s: it must be from %s to %s", ttl, MinTTL, MaxTTL)
	}
	claims := maps.Clone(c.Extra)
	if claims == nil {
		claims = map[string]any{}
	}
	for _, name := range registered {
		if _, there := claims[name]; there {
			return nil, fmt.Errorf("claim %q cannot be set as an extra claim: it has a setting of its own", name)
		}
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return nil, fmt.Errorf("make a token id: %w", err)
	}
	iat := now.Unix()
	claims["iss"], claims["sub"] = c.Issuer, c.Subject
	claims["aud"] = c.Audience
	if len(c.Audience) == 1 {
		claims["aud"] = c.Audience[0]
	}
	claims["iat"], claims["nbf"], claims["exp"] = iat, iat, iat+int64(ttl/time.Second)
	claims["jti"] = base64.RawURLEncoding.EncodeToString(id)
	return claims, nil
}
