package token

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawn is a random token with what was drawn, so that the expectation can be
// worked out from that and not from the token.
type drawn struct {
	alg, kid, signer string
	claims           object
	exp, iat, nbf    int64 // offsets from now; iat, nbf: none is absent
	groups           []string
	mfa              bool
	iss, aud         string
}

const absent = -1 << 40

func draw(t *rapid.T) (drawn, string) {
	d := drawn{
		alg:    rapid.SampledFrom([]string{"ES256", "RS256", "PS256", "HS256", "none"}).Draw(t, "alg"),
		kid:    rapid.SampledFrom([]string{"", "a", "b", "r", "z"}).Draw(t, "kid"),
		signer: rapid.SampledFrom([]string{"a", "a", "b", "r", "offline", "stranger"}).Draw(t, "signer"),
		iss:    rapid.SampledFrom([]string{ssoURL, ssoURL, offlineURL, "https://evil.example.com"}).Draw(t, "iss"),
		aud:    rapid.SampledFrom([]string{"breakglass", "breakglass", "offline", ""}).Draw(t, "aud"),
		exp:    rapid.SampledFrom([]int64{600, 600, 1, 0, -1, -2, -600, 3600, 7200, absent}).Draw(t, "exp"),
		iat:    rapid.SampledFrom([]int64{0, 0, 1, 2, -3000, -86400, absent}).Draw(t, "iat"),
		nbf:    rapid.SampledFrom([]int64{absent, 0, 1, 2}).Draw(t, "nbf"),
		groups: rapid.SliceOfN(rapid.SampledFrom([]string{"staff", "db-oncall", "sre", "DB-ONCALL"}), 0, 3).Draw(t, "groups"),
		mfa:    rapid.Bool().Draw(t, "mfa"),
	}
	if rapid.Bool().Draw(t, "coherent") {
		c := rapid.SampledFrom([]drawn{
			{alg: "ES256", kid: "a", signer: "a", iss: ssoURL, aud: "breakglass"},
			{alg: "RS256", kid: "", signer: "r", iss: ssoURL, aud: "breakglass"},
			{alg: "ES256", kid: "a", signer: "offline", iss: offlineURL, aud: "offline"},
		}).Draw(t, "like")
		d.alg, d.kid, d.signer, d.iss, d.aud = c.alg, c.kid, c.signer, c.iss, c.aud
	}
	d.claims = object{"iss": d.iss, "aud": d.aud, "groups": d.groups}
	if d.mfa {
		d.claims["acr"] = object{"level": "mfa"}
	}
	for name, offset := range map[string]int64{"exp": d.exp, "iat": d.iat, "nbf": d.nbf} {
		if offset != absent {
			d.claims[name] = now.Unix() + offset
		}
	}
	payload, err := json.Marshal(d.claims)
	if err != nil {
		t.Fatal(err)
	}
	return d, sign(object{"alg": d.alg, "kid": d.kid}, payload, d.sign())
}

// sign as the header says if the signer can, else as the signer can.
func (d drawn) sign() func([]byte) []byte {
	w := theWorld()
	if d.alg == "HS256" {
		return hs256(w.rsa.N.Bytes())
	}
	switch d.signer {
	case "a":
		return es256(w.ec)
	case "b":
		return es256(w.ec2)
	case "r":
		if d.alg == "PS256" {
			return ps256(w.rsa)
		}
		return rs256(w.rsa)
	case "offline":
		return es256(w.offline)
	}
	return es256(w.stranger)
}

// allowed by the words of the issue, on what was drawn.
func (d drawn) allowed() bool {
	signed := false
	switch d.iss {
	case ssoURL:
		signed = d.alg == "ES256" && (d.signer == "a" || d.signer == "b") && (d.kid == "" || d.kid == d.signer) ||
			d.alg == "RS256" && d.signer == "r" && (d.kid == "" || d.kid == "r")
	case offlineURL:
		signed = d.alg == "ES256" && d.signer == "offline" && (d.kid == "" || d.kid == "a")
	}
	timely := d.exp != absent && d.exp > 0 && d.iat != absent && d.iat <= 1 && d.nbf <= 1 && d.exp-d.iat <= 3600
	audience := d.iss == ssoURL && d.aud == "breakglass" || d.iss == offlineURL && d.aud == "offline"
	oncall := slices.Contains(d.groups, "db-oncall")
	role := d.iss == offlineURL && oncall || d.iss == ssoURL && d.mfa && (oncall || slices.Contains(d.groups, "sre"))
	return signed && timely && audience && role
}

func TestCheckAllowsExactlyWhatTheRulesAllow(t *testing.T) {
	w := theWorld()
	rapid.Check(t, func(t *rapid.T) {
		d, token := draw(t)
		v := Check(w.policy, w.keys, "db", token, now)
		if v.Allowed != d.allowed() {
			t.Fatalf("%+v: got %+v", d, v)
		}
		if v.Allowed != (v.Status == 200) || v.Status != 200 && v.Status != 401 && v.Status != 403 || v.Reason == "" || v.Message == "" {
			t.Fatalf("not a verdict: %+v", v)
		}
	})
}

func TestWhatIsRefusedForItsAgeStaysRefused(t *testing.T) {
	w := theWorld()
	token := sign(object{"alg": "ES256", "kid": "a"}, text(t, goodClaims(now)), es256(w.ec))
	rapid.Check(t, func(t *rapid.T) {
		later := time.Duration(rapid.Int64Range(0, int64(2*time.Hour)).Draw(t, "later"))
		v := Check(w.policy, w.keys, "db", token, now.Truncate(time.Second).Add(later))
		if v.Allowed != (later < 600*time.Second) {
			t.Fatalf("after %s: %+v", later, v)
		}
	})
}

func TestAnyChangeOfASignedTokenIsRefused(t *testing.T) {
	w := theWorld()
	token := sign(object{"alg": "RS256", "kid": "r"}, text(t, goodClaims(now)), rs256(w.rsa))
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=~ \n"
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(0, len(token)-1).Draw(t, "at")
		c := alphabet[rapid.IntRange(0, len(alphabet)-1).Draw(t, "char")]
		changed := token[:i] + string(c) + token[i+1:]
		if changed != token && Check(w.policy, w.keys, "db", changed, now).Allowed {
			t.Fatalf("allowed with %q at %d", c, i)
		}
	})
}

// FuzzCheck: nothing is allowed whose signed part was not signed here by a
// listed key. The fuzzer gets the parts, and either nobody's signature, a
// stranger's, or a listed key's on what it made.
func FuzzCheck(f *testing.F) {
	w := theWorld()
	for _, forged := range forgedTokens(f) {
		part := strings.SplitN(forged.token+"..", ".", 3)
		f.Add([]byte(forged.token), uint8(0))
		if h, err := decode(part[0]); err == nil {
			if p, err := decode(part[1]); err == nil {
				f.Add([]byte(string(h)+"\x00"+string(p)), uint8(1))
				f.Add([]byte(string(h)+"\x00"+string(p)), uint8(2))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, how uint8) {
		token, listed := string(data), false
		if how%3 != 0 {
			header, payload, ok := strings.Cut(string(data), "\x00")
			if !ok {
				return
			}
			signer := es256(w.stranger)
			if listed = how%3 == 2; listed {
				signer = es256(w.ec)
			}
			token = signRaw([]byte(header), []byte(payload), signer)
		}
		v := Check(w.policy, w.keys, "db", token, now)
		if !v.Allowed {
			if v.Status != 401 && v.Status != 403 {
				t.Fatalf("refused with %d", v.Status)
			}
			return
		}
		if !listed {
			t.Fatal("allowed without the signature of a listed key")
		}
		// What is allowed is allowed for reasons that another reader sees, too.
		var claims struct {
			Iss      string
			Exp, Iat float64
			Groups   any
		}
		_, payload, _ := strings.Cut(string(data), "\x00")
		if err := json.Unmarshal([]byte(payload), &claims); err != nil {
			t.Fatalf("allowed a payload that is not read by others: %v", err)
		}
		if claims.Iss != ssoURL || int64(claims.Exp) <= now.Unix() || int64(claims.Exp)-int64(claims.Iat) > 3600 ||
			!strings.Contains(fmt.Sprint(claims.Groups), "sre") && !strings.Contains(fmt.Sprint(claims.Groups), "db-oncall") {
			t.Fatalf("allowed %+v", claims)
		}
	})
}
