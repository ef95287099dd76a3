package conformance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"
)

const (
	issuerURL = "https://people.example.test"
	audience  = "breakglass/conformance" // of the cluster's name in values.yaml
	group     = "conformance"
	// A token is for a minute: each request has a new one.
	tokenLifetime = time.Minute
)

// issuer signs the tokens of a run. Its key is nowhere but in this process.
type issuer struct {
	key    *ecdsa.PrivateKey
	signer jose.Signer
	// none: nobody has a token.
	none bool
}

func newIssuer(t *testing.T) *issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "run"}}, (&jose.SignerOptions{}).WithType("JWT"))
	require.NoError(t, err)
	return &issuer{key: key, signer: signer}
}

// keySet is what the policy knows of it.
func (i *issuer) keySet(t *testing.T) string {
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &i.key.PublicKey, KeyID: "run", Algorithm: "ES256", Use: "sig"}}})
	require.NoError(t, err)
	return string(set)
}

// token is one for a request that is made now.
func (i *issuer) token() (string, error) {
	now := time.Now()
	return jwt.Signed(i.signer).Claims(map[string]any{
		"iss": issuerURL, "aud": audience, "sub": "conformance@example.test", "groups": []string{group},
		"iat": now.Unix(), "exp": now.Add(tokenLifetime).Unix(),
	}).Serialize()
}
