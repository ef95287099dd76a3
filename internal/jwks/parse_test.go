package jwks

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

func TestParseRefuses(t *testing.T) {
	off := member(t, "p256-off", nil)
	off["x"] = base64.RawURLEncoding.EncodeToString(append(make([]byte, 31), 5))
	secret := asMap(t, jose.JSONWebKey{Key: private(t, "p256"), KeyID: "signing"}, nil)
	many := make([]any, MaxKeys+1)
	for i := range many {
		many[i] = map[string]any{"kty": "X"}
	}
	ed := func(h string) map[string]any {
		b, err := hex.DecodeString(h)
		if err != nil {
			t.Fatal(err)
		}
		return member(t, "ed", map[string]any{"x": base64.RawURLEncoding.EncodeToString(b)})
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"not JSON":               {[]byte("<html>"), "not JSON, at byte 1"},
		"nothing":                {nil, "not JSON"},
		"two documents":          {[]byte(`{"keys":[]}{}`), "not JSON"},
		"a list":                 {[]byte(`[]`), "not a JSON object"},
		"not UTF-8":              {[]byte("{\"keys\":[{\"kty\":\"\xff\"}]}"), "UTF-8"},
		"no keys member":         {[]byte(`{}`), `no list "keys"`},
		"keys is null":           {[]byte(`{"keys":null}`), `no list "keys"`},
		"a single key":           {mustJSON(t, member(t, "p256", nil)), "wrap it"},
		"a key is a string":      {document(t, "x"), "keys[0] is not a JSON object"},
		"too large":              {append(document(t, member(t, "p256", nil)), make([]byte, MaxBytes)...), "larger than 64 KiB"},
		"too many":               {document(t, many...), "65 keys"},
		"deep":                   {[]byte(`{"keys":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`), "nested"},
		"private":                {document(t, member(t, "p384", nil), secret), `keys[1] (kid "signing") is a private key (it has member "d"): publish only the public half`},
		"private, of no use":     {document(t, member(t, "p256", map[string]any{"kty": "AKP", "priv": "AA"})), "private key"},
		"private, for enc":       {document(t, member(t, "p256", map[string]any{"use": "enc", "d": "AA"})), "private key"},
		"symmetric":              {document(t, map[string]any{"kty": "oct", "k": "c2VjcmV0"}), "symmetric"},
		"symmetric without k":    {document(t, map[string]any{"kty": "oct", "use": "enc"}), "symmetric"},
		"RSA 1024":               {document(t, member(t, "rsa1024", nil)), "1024 bits: use at least 2048"},
		"RSA exponent 1":         {document(t, member(t, "rsa", map[string]any{"e": "AQ"})), "exponent"},
		"RSA even modulus":       {document(t, member(t, "rsa", map[string]any{"n": base64.RawURLEncoding.EncodeToString(slices.Repeat([]byte{0xfe}, 256))})), "even"},
		"RSA without n":          {document(t, member(t, "rsa", map[string]any{"n": nil})), "no member n"},
		"RSA n not base64url":    {document(t, member(t, "rsa", map[string]any{"n": "+/+/"})), "not base64url"},
		"off curve":              {document(t, off), "not a point on P-256"},
		"point at infinity":      {document(t, member(t, "p256", map[string]any{"x": "AA", "y": "AA"})), "not a point on P-256"},
		"coordinate too long":    {document(t, member(t, "p384", map[string]any{"crv": "P-256"})), "too long for P-256"},
		"Ed25519 short":          {document(t, member(t, "ed", map[string]any{"x": "AAAA"})), "3 bytes"},
		"Ed25519 neutral":        {document(t, ed("01"+strings.Repeat("00", 31))), "small order"},
		"Ed25519 order 2":        {document(t, ed("ec"+strings.Repeat("ff", 30)+"7f")), "small order"},
		"Ed25519 order 4":        {document(t, ed(strings.Repeat("00", 32))), "small order"},
		"Ed25519 order 8":        {document(t, ed("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")), "small order"},
		"Ed25519 off curve":      {document(t, ed("02"+strings.Repeat("00", 31))), "not a point"},
		"Ed25519 not canonical":  {document(t, ed("ee"+strings.Repeat("ff", 30)+"7f")), "canonical"},
		"kid is a number":        {document(t, member(t, "p256", map[string]any{"kid": 1})), "kid that is not a string"},
		"alg is a list":          {document(t, member(t, "p256", map[string]any{"alg": []string{"ES256"}})), "alg that is not a string"},
		"one kid, two keys":      {document(t, member(t, "p256-a", map[string]any{"kid": "x"}), member(t, "p256-b", map[string]any{"kid": "x"})), `two different keys have kid "x" and algorithm ES256`},
		"nothing usable":         {document(t, map[string]any{"kty": "new"}), "none of the 1 keys"},
		"a member twice":         {[]byte(`{"keys":[{"kty":"EC","kty":"RSA"}]}`), `"kty" is there twice`},
		"an escaped member, too": {[]byte(`{"keys":[],"k\u0065ys":[]}`), `"keys" is there twice`},
		"half a surrogate pair":  {[]byte(`{"keys":[{"kid":"\ud800x"}]}`), "surrogate"},
		"the other half":         {[]byte(`{"keys":[{"kid":"\udc00"}]}`), "surrogate"},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := Parse(c.data, everyAlgorithm)
			if err == nil || set != nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error with %q", err, c.want)
			}
			if errors.Is(err, ErrEmpty) {
				t.Error("this is not an empty key set")
			}
			if d, _ := secret["d"].(string); strings.Contains(err.Error(), d) {
				t.Error("the error holds the private key")
			}
		})
	}
}

func TestParseTellsAnEmptyKeySetApart(t *testing.T) {
	if _, err := Parse([]byte(`{"keys":[]}`), everyAlgorithm); !errors.Is(err, ErrEmpty) {
		t.Fatalf("got %v, want ErrEmpty", err)
	}
}

func TestParseKeepsWhatTheAlgorithmsPermit(t *testing.T) {
	for name, c := range map[string]struct {
		member map[string]any
		algs   []v1alpha1.Algorithm
		want   string
	}{
		"RSA, one of many":            {member(t, "rsa", nil), []v1alpha1.Algorithm{"ES256", "RS256"}, "[RS256]"},
		"RSA, all":                    {member(t, "rsa", nil), everyAlgorithm, "[PS256 PS384 PS512 RS256 RS384 RS512]"},
		"RSA with alg":                {member(t, "rsa", map[string]any{"alg": "PS384"}), everyAlgorithm, "[PS384]"},
		"alg is not permitted":        {member(t, "rsa", map[string]any{"alg": "PS384"}), []v1alpha1.Algorithm{"RS256"}, "[]"},
		"alg of another type":         {member(t, "rsa", map[string]any{"alg": "ES256"}), everyAlgorithm, "[]"},
		"alg none":                    {member(t, "rsa", map[string]any{"alg": "none"}), append(slices.Clone(everyAlgorithm), "none"), "[]"},
		"alg HS256 on a public key":   {member(t, "rsa", map[string]any{"alg": "HS256"}), append(slices.Clone(everyAlgorithm), "HS256"), "[]"},
		"no algorithms: the defaults": {member(t, "rsa", nil), nil, "[RS256]"},
		"P-521":                       {member(t, "p521", nil), everyAlgorithm, "[ES512]"},
		"Ed25519":                     {member(t, "ed", nil), everyAlgorithm, "[EdDSA]"},
		"for encryption":              {member(t, "rsa", map[string]any{"use": "enc"}), everyAlgorithm, "[]"},
		"for signatures":              {member(t, "rsa", map[string]any{"use": "sig", "key_ops": []string{"verify"}, "x5c": []string{"no"}}), []v1alpha1.Algorithm{"RS256"}, "[RS256]"},
		"not to verify with":          {member(t, "rsa", map[string]any{"key_ops": []string{"encrypt"}}), everyAlgorithm, "[]"},
		"X25519":                      {map[string]any{"kty": "OKP", "crv": "X25519", "x": "AA"}, everyAlgorithm, "[]"},
		"secp256k1":                   {map[string]any{"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}, everyAlgorithm, "[]"},
		"no type":                     {map[string]any{}, everyAlgorithm, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			// Beside a key that is always of use, so that nothing is an error.
			always := member(t, "p256-always", nil)
			set, err := Parse(document(t, c.member, always), append(slices.Clone(c.algs), "ES256"))
			if c.algs == nil {
				set, err = Parse(document(t, c.member, always), nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			algs := []string{}
			for _, k := range set.Keys() {
				if k.KeyID != "p256-always" {
					algs = append(algs, k.Algorithm)
				}
				if !k.Valid() || !k.IsPublic() {
					t.Errorf("%s %s is not a valid public key", k.KeyID, k.Algorithm)
				}
			}
			if got := fmt.Sprint(algs); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestEnvoyGetsTheSameTextHoweverTheSourceWritesIt(t *testing.T) {
	a, b := member(t, "rsa", nil), member(t, "p256", map[string]any{"kid": nil})
	one, err := Parse(document(t, a, b), everyAlgorithm)
	if err != nil {
		t.Fatal(err)
	}
	padded := member(t, "p256", map[string]any{"kid": nil, "use": "sig", "x5t": "x"})
	padded["x"] = padded["x"].(string) + "="
	indented, err := json.MarshalIndent(map[string]any{"other": 1, "keys": []any{padded, a, a}}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	two, err := Parse(indented, everyAlgorithm)
	if err != nil {
		t.Fatal(err)
	}
	if one.Envoy() != two.Envoy() {
		t.Errorf("got\n%s\n%s", one.Envoy(), two.Envoy())
	}
	if !strings.HasPrefix(one.Envoy(), `{"keys":[{"kty":"EC","alg":"ES256","crv":"P-256","x":"`) {
		t.Errorf("a key without kid got one: %s", one.Envoy())
	}
	again, err := Parse([]byte(one.Envoy()), everyAlgorithm)
	if err != nil || again.Envoy() != one.Envoy() {
		t.Errorf("what Envoy gets does not parse to itself: %v", err)
	}
}

func TestEnvoyRestoresLeadingZeros(t *testing.T) {
	m := member(t, "p256", nil)
	x, err := base64.RawURLEncoding.DecodeString(m["x"].(string))
	if err != nil {
		t.Fatal(err)
	}
	want, err := Parse(document(t, m), nil)
	if err != nil {
		t.Fatal(err)
	}
	m["x"] = base64.RawURLEncoding.EncodeToString(append(make([]byte, 0), x...))
	for len(x) > 0 && x[0] == 0 {
		x = x[1:]
	}
	m["x"] = base64.RawURLEncoding.EncodeToString(x)
	got, err := Parse(document(t, m), nil)
	if err != nil || got.Envoy() != want.Envoy() {
		t.Errorf("got %v", err)
	}
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// FuzzParse: whatever is accepted is public, permitted, asymmetric and stable.
func FuzzParse(f *testing.F) {
	f.Add(document(f, member(f, "rsa", nil), member(f, "p256", nil)), uint16(0xffff))
	f.Add(document(f, member(f, "ed", nil), member(f, "p521", map[string]any{"kid": nil})), uint16(0x300))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AA"}]}`), uint16(1))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":"\ud800"}]}`), uint16(64))
	f.Fuzz(func(t *testing.T, data []byte, mask uint16) {
		var algs []v1alpha1.Algorithm
		for i, a := range everyAlgorithm {
			if mask&(1<<i) != 0 {
				algs = append(algs, a)
			}
		}
		set, err := Parse(data, algs)
		if err != nil {
			if set != nil {
				t.Fatal("a set and an error")
			}
			return
		}
		if len(algs) == 0 {
			algs = DefaultAlgorithms
		}
		for _, k := range set.Keys() {
			if !k.IsPublic() || !k.Valid() || !slices.Contains(algs, v1alpha1.Algorithm(k.Algorithm)) {
				t.Fatalf("kept a key for %s", k.Algorithm)
			}
		}
		for _, secret := range privateMembers {
			if strings.Contains(set.Envoy(), `"`+secret+`":`) {
				t.Fatalf("Envoy gets member %s", secret)
			}
		}
		again, err := Parse([]byte(set.Envoy()), algs)
		if err != nil || again.Envoy() != set.Envoy() {
			t.Fatalf("not stable: %v", err)
		}
	})
}
