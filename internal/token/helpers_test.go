package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 500e6, time.UTC)

const (
	ssoURL     = "https://sso.example.com"
	offlineURL = "https://offline.example.com"
)

// world is a policy with two issuers, their private keys, and a stranger's.
type world struct {
	policy            *v1alpha1.EmergencyPolicy
	keys              map[string]*jwks.Set
	ec, ec2, stranger *ecdsa.PrivateKey // ec, ec2: kids a, b of sso; stranger: of nobody
	rsa               *rsa.PrivateKey   // kid r of sso, RS256 only
	offline           *ecdsa.PrivateKey // kid a of offline, the same kid as of sso
}

// theWorld is made once: tests do not change it.
var theWorld = sync.OnceValue(func() *world {
	ec := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		return k
	}
	w := &world{ec: ec(), ec2: ec(), stranger: ec(), offline: ec()}
	var err error
	if w.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		panic(err)
	}
	algs := []v1alpha1.Algorithm{"RS256", "ES256"}
	w.policy = &v1alpha1.EmergencyPolicy{Spec: v1alpha1.EmergencyPolicySpec{
		Issuers: []v1alpha1.Issuer{
			{Name: "sso", Issuer: ssoURL, Audiences: []string{"breakglass", "https://bg.example.com/"}, Algorithms: algs},
			{Name: "offline", Issuer: offlineURL, Audiences: []string{"offline"}, Algorithms: algs},
			{Name: "keyless", Issuer: "https://keyless.example.com", Audiences: []string{"breakglass"}},
		},
		Roles: []v1alpha1.Role{{Name: "db", Grants: []v1alpha1.Grant{
			{Issuer: "sso", Claims: []v1alpha1.ClaimMatch{
				{Path: []string{"groups"}, AnyOf: []string{"db-oncall", "sre"}},
				{Path: []string{"acr", "level"}, AnyOf: []string{"mfa"}},
			}},
			{Issuer: "offline", Claims: []v1alpha1.ClaimMatch{{Path: []string{"groups"}, AnyOf: []string{"db-oncall"}}}},
		}}},
	}}
	w.keys = map[string]*jwks.Set{
		"sso": keySet(algs, jose.JSONWebKey{Key: w.ec.Public(), KeyID: "a"}, jose.JSONWebKey{Key: w.ec2.Public(), KeyID: "b"},
			jose.JSONWebKey{Key: w.rsa.Public(), KeyID: "r"}),
		"offline": keySet(algs, jose.JSONWebKey{Key: w.offline.Public(), KeyID: "a"}),
	}
	return w
})

func keySet(algs []v1alpha1.Algorithm, keys ...jose.JSONWebKey) *jwks.Set {
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		panic(err)
	}
	set, err := jwks.Parse(text, algs)
	if err != nil {
		panic(err)
	}
	return set
}

type object = map[string]any

// with is a copy of o with changes; nil removes.
func with(o object, changes object) object {
	out := object{}
	for k, v := range o {
		out[k] = v
	}
	for k, v := range changes {
		if out[k] = v; v == nil {
			delete(out, k)
		}
	}
	return out
}

// goodClaims hold role db at time t.
func goodClaims(t time.Time) object {
	return object{
		"iss": ssoURL, "sub": "alice", "aud": "breakglass", "iat": t.Unix(), "exp": t.Unix() + 600,
		"groups": []string{"staff", "db-oncall"}, "acr": object{"level": "mfa"},
	}
}

// sign makes a token of any header and payload. signer is nil for no signature.
func sign(header object, payload []byte, signer func(input []byte) []byte) string {
	h, err := json.Marshal(header)
	if err != nil {
		panic(err)
	}
	return signRaw(h, payload, signer)
}

func signRaw(header, payload []byte, signer func([]byte) []byte) string {
	input := b64(header) + "." + b64(payload)
	if signer == nil {
		return input + "."
	}
	return input + "." + b64(signer([]byte(input)))
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func text(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func gwDuration(s string) *gwv1.Duration {
	d := gwv1.Duration(s)
	return &d
}
