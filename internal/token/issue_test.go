package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
)

func TestAKeyIsMadePrivateAndItsTokensAreAccepted(t *testing.T) {
	for _, alg := range []v1alpha1.Algorithm{"", "ES256", "EdDSA"} {
		path := filepath.Join(t.TempDir(), "key.jwk")
		public, err := Keygen(path, alg)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: the key file has mode %v", alg, info.Mode())
		}
		set, err := jwks.Parse(public, nil)
		if err != nil {
			t.Fatalf("%s: the public half is not a key set: %v", alg, err)
		}
		key, err := LoadKey(path)
		if err != nil {
			t.Fatal(err)
		}
		if set.Keys()[0].KeyID != key.ID() || len(key.ID()) != 43 {
			t.Errorf("%s: kid %q is not the thumbprint %q", alg, set.Keys()[0].KeyID, key.ID())
		}
		token, err := Issue(key, Claims{Issuer: offlineURL, Subject: "alice", Audience: []string{"offline"}, Extra: object{"groups": []string{"db-oncall"}}}, now)
		if err != nil {
			t.Fatal(err)
		}
		policy := theWorld().policy.DeepCopy()
		policy.Spec.Issuers[1].Algorithms = nil
		v := Check(policy, map[string]*jwks.Set{"offline": set}, "db", token, now)
		if !v.Allowed || v.Expires.Unix() != now.Unix()+900 {
			t.Errorf("%s: got %+v", alg, v)
		}
	}
}

func TestAKeyFileIsNotOverwritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.jwk")
	if _, err := Keygen(path, ""); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	link := path + ".link"
	if err := os.Symlink(path+".nowhere", link); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, link} {
		if _, err := Keygen(p, ""); err == nil || !strings.Contains(err.Error(), "not overwritten") {
			t.Errorf("got %v", err)
		}
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the key was changed")
	}
	if _, err := Keygen(path+"2", "RS256"); err == nil || !strings.Contains(err.Error(), "use ES256 or EdDSA") {
		t.Errorf("got %v", err)
	}
}

func TestLoadKeyRefuses(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	public, err := Keygen(good, "")
	if err != nil {
		t.Fatal(err)
	}
	private, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other")
	if _, err := Keygen(other, ""); err != nil {
		t.Fatal(err)
	}
	var a, b object
	otherText, _ := os.ReadFile(other)
	if json.Unmarshal(private, &a) != nil || json.Unmarshal(otherText, &b) != nil {
		t.Fatal("not JSON")
	}
	rsaKey, err := jose.JSONWebKey{Key: theWorld().rsa, KeyID: "r"}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	half, err := jose.JSONWebKey{Key: theWorld().ec.Public()}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"readable by the group": {string(private), 0o640, "chmod 600"},
		"readable by all":       {string(private), 0o644, "chmod 600"},
		"writable by others":    {string(private), 0o602, "chmod 600"},
		"a public key set":      {string(public), 0o600, "not a private key"},
		"a public key":          {string(half), 0o600, "not a private key"},
		"an RSA key":            {string(rsaKey), 0o600, "ES256 or EdDSA"},
		"not JSON":              {"SECRET", 0o600, "not a private key"},
		"halves of two keys":    {string(text(t, with(a, object{"d": b["d"]}))), 0o600, ""},
		"the wrong algorithm":   {string(text(t, with(a, object{"alg": "ES384"}))), 0o600, "ES256 or EdDSA"},
		"large":                 {strings.Repeat(" ", maxKeyFile) + string(private), 0o600, "too large"},
	} {
		path := filepath.Join(dir, "bad")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadKey(path)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), a["d"].(string)) || strings.Contains(err.Error(), "SECRET")) {
			t.Errorf("%s: the error holds the key", name)
		}
	}
	if _, err := LoadKey(dir); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("got %v", err)
	}
	if _, err := LoadKey(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func testKey(t *testing.T) (*Key, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if _, err := Keygen(path, ""); err != nil {
		t.Fatal(err)
	}
	key, err := LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	private, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m object
	if err := json.Unmarshal(private, &m); err != nil {
		t.Fatal(err)
	}
	return key, m["d"].(string)
}

func TestAPrintedKeyShowsNothing(t *testing.T) {
	key, secret := testKey(t)
	var out strings.Builder
	slog.New(slog.NewTextHandler(&out, nil)).Info("key", "key", key)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		fmt.Fprintf(&out, format+"\n", key)
	}
	if strings.Contains(out.String(), secret) || strings.Contains(out.String(), "D:") || !strings.Contains(out.String(), key.ID()) {
		t.Errorf("got %s", out.String())
	}
}

func TestIssueRefuses(t *testing.T) {
	key, _ := testKey(t)
	good := Claims{Issuer: "i", Subject: "s", Audience: []string{"a"}}
	for name, c := range map[string]struct {
		change func(*Claims)
		want   string
	}{
		"no issuer":      {func(c *Claims) { c.Issuer = "" }, "issuer"},
		"no subject":     {func(c *Claims) { c.Subject = "" }, "subject"},
		"no audience":    {func(c *Claims) { c.Audience = nil }, "audience"},
		"empty audience": {func(c *Claims) { c.Audience = []string{""} }, "audience"},
		"negative TTL":   {func(c *Claims) { c.TTL = -time.Second }, "from 1s to 24h"},
		"short TTL":      {func(c *Claims) { c.TTL = time.Millisecond }, "from 1s to 24h"},
		"long TTL":       {func(c *Claims) { c.TTL = 24*time.Hour + 1 }, "from 1s to 24h"},
		"extra exp":      {func(c *Claims) { c.Extra = object{"exp": 1} }, `claim "exp"`},
		"extra jti":      {func(c *Claims) { c.Extra = object{"jti": "x"} }, `claim "jti"`},
		"too large":      {func(c *Claims) { c.Extra = object{"x": strings.Repeat("x", MaxBytes)} }, "more than the 32768"},
	} {
		claims := good
		c.change(&claims)
		if token, err := Issue(key, claims, now); err == nil || token != "" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestIssuedTokensDifferAndAreTimed(t *testing.T) {
	key, _ := testKey(t)
	seen := map[any]bool{}
	extra := object{"groups": "x"}
	for range 10 {
		token, err := Issue(key, Claims{Issuer: "i", Subject: "s", Audience: []string{"a", "b"}, TTL: 90*time.Second + time.Millisecond, Extra: extra}, now)
		if err != nil {
			t.Fatal(err)
		}
		p, err := parse(token)
		if err != nil {
			t.Fatal(err)
		}
		if *p.iat != now.Unix() || *p.nbf != now.Unix() || *p.exp != now.Unix()+90 || len(p.audiences) != 2 || p.kid != key.ID() {
			t.Errorf("got %+v", p)
		}
		id := p.claims["jti"].(string)
		if seen[id] || len(id) != 22 {
			t.Errorf("jti %q", id)
		}
		seen[id] = true
	}
	if len(extra) != 1 {
		t.Error("the caller's claims were changed")
	}
}
