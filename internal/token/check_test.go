package token

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

type forged struct {
	name, token, reason string
	status              int
}

// forgedTokens are ways in that were thought of. Each is refused.
func forgedTokens(t testing.TB) []forged {
	w := theWorld()
	good := goodClaims(now)
	es := es256(w.ec)
	kid := object{"alg": "ES256", "kid": "a"}
	valid := sign(kid, text(t, good), es)
	claims := func(changes object) string { return sign(kid, text(t, with(good, changes)), es) }
	header := func(changes object) string { return sign(with(kid, changes), text(t, good), es) }
	raw := func(payload string) string { return signRaw(text(t, kid), []byte(payload), es) }
	part := strings.Split(valid, ".")
	der, err := x509.MarshalPKIXPublicKey(w.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	attacker, err := jose.JSONWebKey{Key: w.stranger.Public(), KeyID: "a"}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	goodText := strings.TrimSuffix(string(text(t, good)), "}")
	return []forged{
		{"nothing", "", ReasonMalformed, 401},
		{"one part", "a", ReasonMalformed, 401},
		{"four parts", valid + ".x", ReasonMalformed, 401},
		{"five parts, a JWE", "a.b.c.d.e", ReasonMalformed, 401},
		{"JSON serialization", `{"payload":"` + part[1] + `","protected":"` + part[0] + `","signature":"` + part[2] + `"}`, ReasonMalformed, 401},
		{"empty signature", part[0] + "." + part[1] + ".", ReasonMalformed, 401},
		{"empty header", "." + part[1] + "." + part[2], ReasonMalformed, 401},
		{"padding", valid + "==", ReasonMalformed, 401},
		{"a line break", part[0] + "." + part[1] + "." + part[2][:10] + "\n" + part[2][10:], ReasonMalformed, 401},
		{"huge", sign(kid, text(t, with(good, object{"x": strings.Repeat("x", MaxBytes)})), es), ReasonMalformed, 401},
		{"header is no object", signRaw([]byte(`"ES256"`), text(t, good), es), ReasonMalformed, 401},
		{"alg twice", signRaw([]byte(`{"alg":"none","alg":"ES256"}`), text(t, good), es), ReasonMalformed, 401},
		{"no alg", sign(object{"kid": "a"}, text(t, good), es), ReasonMalformed, 401},
		{"alg is a list", sign(object{"alg": []string{"ES256"}}, text(t, good), es), ReasonMalformed, 401},
		{"kid is a number", header(object{"kid": 1}), ReasonMalformed, 401},
		{"crit", header(object{"crit": []string{"exp"}, "exp": 1}), ReasonMalformed, 403},
		{"crit empty", header(object{"crit": []string{}}), ReasonMalformed, 403},
		{"b64 false", header(object{"b64": false, "crit": []string{"b64"}}), ReasonMalformed, 403},
		{"b64 without crit", header(object{"b64": false}), ReasonMalformed, 403},

		{"alg none, no signature", sign(object{"alg": "none"}, text(t, good), nil), ReasonMalformed, 401},
		{"alg none, a signature", sign(object{"alg": "none", "kid": "a"}, text(t, good), es), ReasonAlgorithmNotAllowed, 401},
		{"alg NONE", sign(object{"alg": "NONE"}, text(t, good), es), ReasonAlgorithmNotAllowed, 401},
		{"HS256 with the public key", sign(object{"alg": "HS256", "kid": "r"}, text(t, good), hs256(public)), ReasonAlgorithmNotAllowed, 401},
		{"HS256 with its DER", sign(object{"alg": "HS256"}, text(t, good), hs256(der)), ReasonAlgorithmNotAllowed, 401},
		{"PS256 where RS256 is permitted", sign(object{"alg": "PS256", "kid": "r"}, text(t, good), ps256(w.rsa)), ReasonAlgorithmNotAllowed, 401},
		{"RS256 said, PS256 made", sign(object{"alg": "RS256", "kid": "r"}, text(t, good), ps256(w.rsa)), ReasonSignatureInvalid, 401},
		{"an algorithm of the future", sign(object{"alg": "ML-DSA-44"}, text(t, good), es), ReasonAlgorithmNotAllowed, 401},

		{"no iss", claims(object{"iss": nil}), ReasonIssuerUnknown, 401},
		{"empty iss", claims(object{"iss": ""}), ReasonIssuerUnknown, 401},
		{"iss with a slash", claims(object{"iss": ssoURL + "/"}), ReasonIssuerUnknown, 401},
		{"iss in capitals", claims(object{"iss": strings.ToUpper(ssoURL)}), ReasonIssuerUnknown, 401},
		{"iss is a list", claims(object{"iss": []string{ssoURL}}), ReasonMalformed, 401},
		{"iss is a name", claims(object{"iss": "sso"}), ReasonIssuerUnknown, 401},
		{"iss twice", raw(goodText + `,"iss":"` + offlineURL + `"}`), ReasonMalformed, 401},
		{"iss twice, escaped", raw(goodText + `,"\u0069ss":"` + ssoURL + `"}`), ReasonMalformed, 401},
		{"an issuer without keys", claims(object{"iss": "https://keyless.example.com"}), ReasonIssuerHasNoKeys, 401},

		{"signed by a stranger", sign(kid, text(t, good), es256(w.stranger)), ReasonSignatureInvalid, 401},
		{"swapped kid", header(object{"kid": "b"}), ReasonSignatureInvalid, 401},
		{"kid of another type", header(object{"kid": "r"}), ReasonKeyUnknown, 401},
		{"unknown kid", header(object{"kid": "z"}), ReasonKeyUnknown, 401},
		{"another issuer's key of the same kid", sign(kid, text(t, good), es256(w.offline)), ReasonSignatureInvalid, 401},
		{"embedded jwk", sign(with(kid, object{"jwk": jsonRaw(attacker)}), text(t, good), es256(w.stranger)), ReasonSignatureInvalid, 401},
		{"jku", sign(with(kid, object{"jku": "https://evil.example.com/keys"}), text(t, good), es256(w.stranger)), ReasonSignatureInvalid, 401},
		{"x5u", sign(with(kid, object{"x5u": "https://evil.example.com/cert"}), text(t, good), es256(w.stranger)), ReasonSignatureInvalid, 401},
		{"payload changed", part[0] + "." + b64(text(t, with(good, object{"exp": now.Unix() + 601}))) + "." + part[2], ReasonSignatureInvalid, 401},
		{"signature of zeros", part[0] + "." + part[1] + "." + b64(make([]byte, 64)), ReasonSignatureInvalid, 401},
		{"half a signature", part[0] + "." + part[1] + "." + part[2][:40], ReasonSignatureInvalid, 401},

		{"no exp", claims(object{"exp": nil}), ReasonExpirationMissing, 401},
		{"exp 0", claims(object{"exp": 0}), ReasonExpirationMissing, 401},
		{"exp is a string", claims(object{"exp": fmt.Sprint(now.Unix() + 600)}), ReasonMalformed, 401},
		{"exp is null", claims(object{"exp": jsonRaw("null")}), ReasonMalformed, 401},
		{"exp is negative", claims(object{"exp": -1}), ReasonMalformed, 401},
		{"exp is infinite", raw(strings.Replace(goodText, fmt.Sprint(now.Unix()+600), "1e999", 1) + "}"), ReasonMalformed, 401},
		{"exp beyond time", claims(object{"exp": jsonRaw("1e18")}), ReasonLifetimeTooLong, 403},
		{"exp twice", raw(goodText + `,"exp":1}`), ReasonMalformed, 401},
		{"expired at this second", claims(object{"exp": now.Unix()}), ReasonExpired, 403},
		{"expired a second ago", claims(object{"exp": now.Unix() - 1}), ReasonExpired, 403},
		{"expired two seconds ago", claims(object{"exp": now.Unix() - 2}), ReasonExpired, 401},
		{"a fraction does not help", claims(object{"exp": float64(now.Unix()) + 0.9}), ReasonExpired, 403},
		{"nbf in 2 s", claims(object{"nbf": now.Unix() + 2}), ReasonNotYetValid, 401},
		{"nbf is a string", claims(object{"nbf": "1"}), ReasonMalformed, 401},

		{"wrong aud", claims(object{"aud": "other"}), ReasonAudienceNotAllowed, 403},
		{"no aud", claims(object{"aud": nil}), ReasonAudienceNotAllowed, 403},
		{"aud of another issuer", claims(object{"aud": "offline"}), ReasonAudienceNotAllowed, 403},
		{"empty aud list", claims(object{"aud": []string{}}), ReasonAudienceNotAllowed, 403},
		{"aud with a number", claims(object{"aud": []any{"breakglass", 1}}), ReasonMalformed, 401},
		{"aud is an object", claims(object{"aud": object{"breakglass": true}}), ReasonMalformed, 401},
		{"wrong aud and wrong signature", sign(kid, text(t, with(good, object{"aud": "x"})), es256(w.stranger)), ReasonSignatureInvalid, 403},

		{"no iat", claims(object{"iat": nil}), ReasonIssuedAtMissing, 403},
		{"iat in 2 s", claims(object{"iat": now.Unix() + 2}), ReasonIssuedInFuture, 403},
		{"iat at exp", claims(object{"iat": now.Unix() + 600}), ReasonIssuedInFuture, 403},
		{"10 years old, exp in 5 min", claims(object{"iat": now.AddDate(-10, 0, 0).Unix(), "exp": now.Unix() + 300}), ReasonLifetimeTooLong, 403},
		{"a second too long", claims(object{"exp": now.Unix() + 3601}), ReasonLifetimeTooLong, 403},
		{"iat is a string", claims(object{"iat": "1"}), ReasonMalformed, 401},

		{"wrong group", claims(object{"groups": []string{"dba"}}), ReasonRoleNotGranted, 403},
		{"group in capitals", claims(object{"groups": "DB-ONCALL"}), ReasonRoleNotGranted, 403},
		{"group as part of a word", claims(object{"groups": "db-oncall,sre"}), ReasonRoleNotGranted, 403},
		{"groups is an object", claims(object{"groups": object{"sre": true}}), ReasonRoleNotGranted, 403},
		{"groups is true", claims(object{"groups": true}), ReasonRoleNotGranted, 403},
		{"a list in the list", claims(object{"groups": []any{[]string{"sre"}}}), ReasonRoleNotGranted, 403},
		{"one claim of two", claims(object{"acr": nil}), ReasonRoleNotGranted, 403},
		{"the path is one name", claims(object{"acr": nil, "acr.level": "mfa"}), ReasonRoleNotGranted, 403},
		{"the path ends early", claims(object{"acr": "mfa"}), ReasonRoleNotGranted, 403},
		{"the path through a list", claims(object{"acr": []object{{"level": "mfa"}}}), ReasonRoleNotGranted, 403},
		{"the claims of another issuer's grant", claims(object{"acr": nil, "groups": "db-oncall"}), ReasonRoleNotGranted, 403},
	}
}

type jsonRaw string

func (r jsonRaw) MarshalJSON() ([]byte, error) { return []byte(r), nil }

func TestCheckRefusesForgedTokens(t *testing.T) {
	w := theWorld()
	for _, f := range forgedTokens(t) {
		t.Run(f.name, func(t *testing.T) {
			v := Check(w.policy, w.keys, "db", f.token, now)
			if v.Allowed || v.Reason != f.reason || v.Status != f.status {
				t.Errorf("got %+v, want %d %s", v, f.status, f.reason)
			}
			for _, part := range strings.Split(f.token, ".") {
				if len(part) > 8 && strings.Contains(v.Message, part) {
					t.Errorf("the message holds a part of the token: %s", v.Message)
				}
			}
			if strings.ContainsAny(v.Message, "\n\r\x1b") || !strings.Contains(v.Message, " ") || len(v.Message) > 1000 {
				t.Errorf("the message is not a line: %q", v.Message)
			}
		})
	}
}

func TestCheckAllowsWhatKeepsTheRules(t *testing.T) {
	w := theWorld()
	good := goodClaims(now)
	kid := object{"alg": "ES256", "kid": "a"}
	for name, token := range map[string]string{
		"plain":                    sign(kid, text(t, good), es256(w.ec)),
		"no kid":                   sign(object{"alg": "ES256"}, text(t, good), es256(w.ec2)),
		"empty kid":                sign(object{"alg": "ES256", "kid": ""}, text(t, good), es256(w.ec2)),
		"RS256":                    sign(object{"alg": "RS256", "kid": "r"}, text(t, good), rs256(w.rsa)),
		"headers that are ignored": sign(with(kid, object{"typ": "x", "jku": "https://evil", "x5u": "https://evil", "cty": "JWT"}), text(t, good), es256(w.ec)),
		"aud in a list":            sign(kid, text(t, with(good, object{"aud": []string{"x", "https://bg.example.com/"}})), es256(w.ec)),
		"group as a string":        sign(kid, text(t, with(good, object{"groups": "sre"})), es256(w.ec)),
		"a mixed list":             sign(kid, text(t, with(good, object{"groups": []any{1, nil, object{}, "sre"}})), es256(w.ec)),
		"nbf and iat in 1 s":       sign(kid, text(t, with(good, object{"nbf": now.Unix() + 1, "iat": now.Unix() + 1})), es256(w.ec)),
		"the last second":          sign(kid, text(t, with(good, object{"exp": now.Unix() + 1})), es256(w.ec)),
		"as long as permitted":     sign(kid, text(t, with(good, object{"exp": now.Unix() + 3600})), es256(w.ec)),
		"a fraction is cut":        sign(kid, text(t, with(good, object{"exp": float64(now.Unix()) + 3600.9})), es256(w.ec)),
		"an offline token": sign(kid, text(t, object{"iss": offlineURL, "aud": "offline", "iat": now.Unix(), "exp": now.Unix() + 60,
			"groups": "db-oncall"}), es256(w.offline)),
	} {
		v := Check(w.policy, w.keys, "db", token, now)
		if !v.Allowed || v.Status != 200 || v.Reason != ReasonAllowed || v.Issuer == "" || !v.Expires.After(now) {
			t.Errorf("%s: got %+v", name, v)
		}
	}
}

func TestCheckJudgesByThePolicy(t *testing.T) {
	w := theWorld()
	token := sign(object{"alg": "ES256", "kid": "a"}, text(t, goodClaims(now)), es256(w.ec))
	second := v1alpha1.Issuer{Name: "again", Issuer: ssoURL}
	shorter := *w.policy.Spec.Issuers[0].DeepCopy()
	shorter.MaxTokenLifetime = gwDuration("599s999ms")
	for name, c := range map[string]struct {
		change func(*v1alpha1.EmergencyPolicy)
		role   string
		reason string
	}{
		"unknown role":        {func(*v1alpha1.EmergencyPolicy) {}, "other", ReasonRoleUnknown},
		"no grants":           {func(p *v1alpha1.EmergencyPolicy) { p.Spec.Roles[0].Grants = nil }, "db", ReasonRoleNotGranted},
		"a grant of anybody":  {func(p *v1alpha1.EmergencyPolicy) { p.Spec.Roles[0].Grants[0].Claims = nil }, "db", ReasonRoleNotGranted},
		"two issuers, one":    {func(p *v1alpha1.EmergencyPolicy) { p.Spec.Issuers = append(p.Spec.Issuers, second) }, "db", ReasonIssuerAmbiguous},
		"lifetime in seconds": {func(p *v1alpha1.EmergencyPolicy) { p.Spec.Issuers[0] = shorter }, "db", ReasonLifetimeTooLong},
		"keys of none":        {func(p *v1alpha1.EmergencyPolicy) { p.Spec.Issuers[0].Name = "renamed" }, "db", ReasonIssuerHasNoKeys},
	} {
		policy := w.policy.DeepCopy()
		c.change(policy)
		if v := Check(policy, w.keys, c.role, token, now); v.Allowed || v.Reason != c.reason {
			t.Errorf("%s: got %+v, want %s", name, v, c.reason)
		}
	}
	if v := Check(nil, nil, "db", token, now); v.Allowed {
		t.Error("no policy lets in")
	}
	if v := Check(w.policy, w.keys, "db", token, now.Add(10*time.Minute)); v.Reason != ReasonExpired {
		t.Errorf("got %+v", v)
	}
}
