package token

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
)

// FuzzKeyFile: a key that is taken signs tokens that its public half verifies, and
// nothing else is taken; no error quotes the file.
func FuzzKeyFile(f *testing.F) {
	dir := f.TempDir()
	for _, alg := range []v1alpha1.Algorithm{"ES256", "EdDSA"} {
		path := filepath.Join(dir, string(alg))
		if _, err := Keygen(path, alg); err != nil {
			f.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add([]byte(strings.Replace(string(b), `"d":"`, `"d":"A`, 1)))
		f.Add([]byte(strings.Replace(string(b), string(alg), "HS256", 1)))
	}
	f.Add([]byte(`{"kty":"oct","k":"AAAA","alg":"ES256"}`))
	f.Add([]byte(`{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":"AA"}`))
	path := filepath.Join(dir, "fuzzed")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := LoadKey(path)
		if err != nil {
			if len(b) > 80 && strings.Contains(err.Error(), string(b[40:70])) {
				t.Fatalf("the error quotes the file: %v", err)
			}
			return
		}
		public, err := k.Public()
		if err != nil || strings.Contains(string(public), `"d"`) {
			t.Fatalf("the public half of %q is %q: %v", b, public, err)
		}
		set, err := jwks.Parse(public, nil)
		if err != nil {
			return // such as a kid that is too long
		}
		token, err := Issue(k, Claims{Issuer: offlineURL, Subject: "alice", Audience: []string{"offline"}, Extra: object{"groups": []string{"db-oncall"}}}, now)
		if err != nil {
			t.Fatalf("%q cannot sign: %v", b, err)
		}
		policy := theWorld().policy.DeepCopy()
		policy.Spec.Issuers[1].Algorithms = nil
		if v := Check(policy, map[string]*jwks.Set{"offline": set}, "db", token, now); !v.Allowed {
			t.Fatalf("a token of %q: %+v", b, v)
		}
	})
}
