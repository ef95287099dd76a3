//go:build envoy

package jwks

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// What the real Envoy does with the text of Set.Envoy. Nothing here trusts the
// Go side: the tokens are signed by hand and Envoy alone answers.

type envoy struct{ client *http.Client }

// startEnvoy serves 200 on /NAME/ to whoever has a token that keySets[NAME]
// verifies.
func startEnvoy(t *testing.T, keySets map[string]string) envoy {
	t.Helper()
	dir, err := os.MkdirTemp("", "jwks") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, file := filepath.Join(dir, "s"), filepath.Join(dir, "envoy.json")
	if err := os.WriteFile(file, mustJSON(t, bootstrap(socket, keySets)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary(t), "-c", file, "--disable-hot-restart", "--concurrency", "1", "-l", "warning", "--use-dynamic-base-id")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out strings.Builder
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		select {
		case <-ended:
			t.Fatalf("envoy ended: %s", out.String())
		default:
		}
		if c, err := dial(t.Context(), "", ""); err == nil {
			c.Close()
			return envoy{&http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: dial}}}
		}
	}
	t.Fatal("envoy does not listen after 30 s")
	return envoy{}
}

func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("BREAKGLASS_ENVOY")
	if path == "" {
		t.Fatal("BREAKGLASS_ENVOY is not set: it must be the path of an Envoy 1.40 (make envoy)")
	}
	return path
}

type obj = map[string]any

func bootstrap(socket string, keySets map[string]string) obj {
	providers, rules := obj{}, []any{}
	for name, text := range keySets {
		providers[name] = obj{
			"issuer": "https://issuer.example", "audiences": []string{"breakglass"},
			"local_jwks": obj{"inline_string": text}, "require_expiration": true, "clock_skew_seconds": 1,
			"from_headers": []any{obj{"name": "authorization", "value_prefix": "Bearer "}},
		}
		rules = append(rules, obj{"match": obj{"prefix": "/" + name + "/"}, "requires": obj{"provider_name": name}})
	}
	filter := func(name, kind string, more obj) obj {
		conf := obj{"@type": "type.googleapis.com/" + kind}
		for k, v := range more {
			conf[k] = v
		}
		return obj{"name": name, "typed_config": conf}
	}
	const http3 = "envoy.extensions.filters.http."
	hcm := filter("hcm", "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", obj{
		"stat_prefix": "test",
		"route_config": obj{"virtual_hosts": []any{obj{"name": "all", "domains": []string{"*"}, "routes": []any{
			obj{"match": obj{"prefix": "/"}, "direct_response": obj{"status": 200}},
		}}}},
		"http_filters": []any{
			filter("jwt", http3+"jwt_authn.v3.JwtAuthentication", obj{"providers": providers, "rules": rules}),
			filter("router", http3+"router.v3.Router", nil),
		},
	})
	return obj{"static_resources": obj{"listeners": []any{obj{
		"name": "test", "address": obj{"pipe": obj{"path": socket}}, "filter_chains": []any{obj{"filters": []any{hcm}}},
	}}}}
}

func (e envoy) ask(t *testing.T, keySet, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://envoy/"+keySet+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

var keyFor = map[v1alpha1.Algorithm]string{
	"RS256": "rsa", "RS384": "rsa", "RS512": "rsa", "PS256": "rsa", "PS384": "rsa", "PS512": "rsa",
	"ES256": "p256", "ES384": "p384", "ES512": "p521", "EdDSA": "ed",
}

func parsed(t *testing.T, algs []v1alpha1.Algorithm, members ...any) string {
	t.Helper()
	set, err := Parse(document(t, members...), algs)
	if err != nil {
		t.Fatal(err)
	}
	return set.Envoy()
}

func TestEnvoyVerifiesWithTheKeySet(t *testing.T) {
	sets := map[string]string{}
	for _, alg := range everyAlgorithm {
		sets["only-"+string(alg)] = parsed(t, []v1alpha1.Algorithm{alg}, member(t, keyFor[alg], nil))
		sets["nokid-"+string(alg)] = parsed(t, []v1alpha1.Algorithm{alg}, member(t, keyFor[alg], map[string]any{"kid": nil}))
	}
	everything := []any{member(t, "rsa", nil), member(t, "p256", nil), member(t, "p384", nil), member(t, "p521", nil), member(t, "ed", nil), member(t, "p256-b", nil)}
	sets["all"] = parsed(t, everyAlgorithm, everything...)
	e := startEnvoy(t, sets)

	payload := mustJSON(t, obj{"iss": "https://issuer.example", "aud": "breakglass", "exp": time.Now().Unix() + 600})
	expect := func(what, set, token string, status int) {
		t.Helper()
		if got, body := e.ask(t, set, token); got != status {
			t.Errorf("%s, keys %s: Envoy answers %d %q, want %d", what, set, got, body, status)
		}
	}
	expect("no token", "all", "", 401)
	for _, alg := range everyAlgorithm {
		key := private(t, keyFor[alg])
		for _, header := range []map[string]any{nil, {"kid": keyFor[alg]}} {
			token := sign(t, key, alg, header, payload)
			expect("good "+string(alg), "all", token, 200)
			expect("good "+string(alg), "only-"+string(alg), token, 200)
			expect("good "+string(alg), "nokid-"+string(alg), token, 200)
			expect("tampered "+string(alg), "all", tamper(token), 401)
			for _, other := range everyAlgorithm {
				if other != alg {
					expect(string(alg)+" where only "+string(other)+" is permitted", "only-"+string(other), token, 401)
					expect(string(alg)+" where only "+string(other)+" is permitted", "nokid-"+string(other), token, 401)
				}
			}
		}
		expect("unknown kid", "all", sign(t, key, alg, obj{"kid": "other"}, payload), 401)
		expect("not a listed key", "all", sign(t, private(t, keyFor[alg]+"-stranger"), alg, obj{"kid": keyFor[alg]}, payload), 401)
	}
	expect("kid of another key of the same type", "all", sign(t, private(t, "p256"), "ES256", obj{"kid": "p256-b"}, payload), 401)
	expect("kid of another key of another type", "all", sign(t, private(t, "p256"), "ES256", obj{"kid": "rsa"}, payload), 401)

	for name, secret := range publicSecrets(t) {
		for _, alg := range []v1alpha1.Algorithm{"HS256", "HS384", "HS512"} {
			for _, set := range []string{"all", "only-RS256", "nokid-RS256"} {
				expect(string(alg)+" with "+name, set, sign(t, secret, alg, nil, payload), 401)
				expect(string(alg)+" with "+name, set, sign(t, secret, alg, obj{"kid": "rsa"}, payload), 401)
			}
		}
	}
	for _, alg := range []string{"none", "None", "NONE", "", "rs256", "HS1"} {
		header := base64.RawURLEncoding.EncodeToString(mustJSON(t, obj{"alg": alg, "kid": "rsa"}))
		body := base64.RawURLEncoding.EncodeToString(payload)
		signature := strings.Split(sign(t, private(t, "rsa"), "RS256", nil, payload), ".")[2]
		expect("alg "+alg, "all", header+"."+body+".", 401)
		expect("alg "+alg+" with a signature", "all", header+"."+body+"."+signature, 401)
	}
}

// TestWhatEnvoyMakesOfOtherKeySets is why Parse is strict and Set.Envoy writes
// every alg: this is Envoy, not us, and if it changes so may they.
func TestWhatEnvoyMakesOfOtherKeySets(t *testing.T) {
	good := member(t, "p256", nil)
	odd, three, large := rsaKeyOf(t, 2048, 35), rsaKeyOf(t, 2048, 3), rsaKeyOf(t, 4096, 65537)
	asJWK := func(k *rsa.PrivateKey) obj { return asMap(t, jose.JSONWebKey{Key: k.Public()}, nil) }
	e := startEnvoy(t, map[string]string{
		"bad":   string(document(t, obj{"kty": "AKP"}, obj{"kty": "RSA", "n": "!"}, asJWK(odd), good)),
		"three": string(document(t, asJWK(three))),
		"large": parsed(t, nil, asJWK(large)),
		"noalg": string(document(t, member(t, "rsa", nil))),
	})
	payload := mustJSON(t, obj{"iss": "https://issuer.example", "aud": "breakglass", "exp": time.Now().Unix() + 600})
	for _, c := range []struct {
		why, set string
		key      any
		alg      v1alpha1.Algorithm
		want     int
	}{
		{"a key that it cannot read is passed over in silence", "bad", private(t, "p256"), "ES256", 200},
		{"exponent 3 is read", "three", three, "RS256", 200},
		{"another exponent is not, though the key is sound", "bad", odd, "RS256", 401},
		{"4096 bits are read", "large", large, "RS256", 200},
		// A key without alg verifies every algorithm of its type.
		{"no alg", "noalg", private(t, "rsa"), "RS256", 200},
		{"no alg", "noalg", private(t, "rsa"), "RS512", 200},
		{"no alg", "noalg", private(t, "rsa"), "PS384", 200},
	} {
		if got, body := e.ask(t, c.set, sign(t, c.key, c.alg, nil, payload)); got != c.want {
			t.Errorf("%s: Envoy answers %d %q, want %d", c.why, got, body, c.want)
		}
	}
}

// TestEnvoyRejectsItsConfigurationOverAKeySetWithoutKeys: such a text must never
// be sent, for the issuers beside it would not be served either.
func TestEnvoyRejectsItsConfigurationOverAKeySetWithoutKeys(t *testing.T) {
	for _, text := range []string{`{"keys":[]}`, `{"keys":[{"kty":"AKP"}]}`, `{}`} {
		file := filepath.Join(t.TempDir(), "envoy.json")
		conf := bootstrap("/tmp/none", map[string]string{"empty": text})
		if err := os.WriteFile(file, mustJSON(t, conf), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(binary(t), "-c", file, "--mode", "validate").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "invalid local jwks") {
			t.Errorf("Envoy takes %s: %v %s", text, err, out)
		}
	}
}

// rsaKeyOf makes an RSA key with an exponent that crypto/rsa would not choose.
func rsaKeyOf(t *testing.T, bits, exponent int) *rsa.PrivateKey {
	t.Helper()
	e := big.NewInt(int64(exponent))
	for {
		p, err := rand.Prime(rand.Reader, bits/2)
		if err != nil {
			t.Fatal(err)
		}
		q, err := rand.Prime(rand.Reader, bits/2)
		if err != nil {
			t.Fatal(err)
		}
		one := big.NewInt(1)
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(e, phi)
		n := new(big.Int).Mul(p, q)
		if d == nil || n.BitLen() != bits {
			continue
		}
		key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: exponent}, D: d, Primes: []*big.Int{p, q}}
		key.Precompute()
		return key
	}
}

func tamper(token string) string {
	parts := strings.Split(token, ".")
	sig, _ := base64.RawURLEncoding.DecodeString(parts[2])
	sig[len(sig)/3] ^= 1
	return parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// publicSecrets are what an attacker has who tries the public key as an HMAC key.
func publicSecrets(t *testing.T) map[string][]byte {
	t.Helper()
	public := private(t, "rsa").Public()
	der, err := x509.MarshalPKIXPublicKey(crypto.PublicKey(public))
	if err != nil {
		t.Fatal(err)
	}
	var m struct{ N string }
	if err := json.Unmarshal(mustJSON(t, member(t, "rsa", nil)), &m); err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"its DER":     der,
		"its PEM":     pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		"its modulus": public.(*rsa.PublicKey).N.Bytes(),
		"its n":       []byte(m.N),
		"its JWK":     mustJSON(t, member(t, "rsa", nil)),
		"its kid":     []byte(fmt.Sprintf("%064s", "rsa")),
	}
}
