package disclose

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"

	jose "github.com/go-jose/go-jose/v4"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// keys of a test: a certificate and its private key, both PEM, and a key set with
// the public half, and with both halves; d is the secret one.
type keys struct{ cert, private, publicSet, privateSet, d string }

func newKeys(t *testing.T) keys {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	set := func(k any) string {
		text, err := json.MarshalIndent(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: k, KeyID: "a", Algorithm: "ES256"}}}, "", "  ")
		must(t, err)
		return string(text)
	}
	d, err := key.Bytes()
	must(t, err)
	return keys{
		cert:      string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})),
		private:   string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		publicSet: set(key.Public()), privateSet: set(key),
		d: base64.RawURLEncoding.EncodeToString(d),
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func told(t *testing.T, o runtime.Object, policies ...*v1alpha1.EmergencyPolicy) Told {
	t.Helper()
	all := map[string]*v1alpha1.EmergencyPolicy{}
	for _, p := range policies {
		all[p.Name] = p
	}
	out, err := Object(o, all)
	must(t, err)
	return out
}

func back(t *testing.T, manifest []byte) runtime.Object {
	t.Helper()
	_, o, err := source.FromManifest(manifest)
	must(t, err)
	return o
}

func secret(data map[string]string) *corev1.Secret {
	sec := &corev1.Secret{Type: corev1.SecretTypeTLS, Data: map[string][]byte{}}
	sec.Namespace, sec.Name = "door", "tls"
	for k, v := range data {
		sec.Data[k] = []byte(v)
	}
	return sec
}

func policy(src v1alpha1.JWKSSource) *v1alpha1.EmergencyPolicy {
	p := &v1alpha1.EmergencyPolicy{}
	p.Name = "emergency"
	p.Spec.Issuers = []v1alpha1.Issuer{{Name: "sso", JWKS: src}}
	return p
}

func TestOfACertificateFileOnlyCertificatesAreTold(t *testing.T) {
	k := newKeys(t)
	data := strings.ReplaceAll(k.cert, "CERTIFICATE", "DATA")
	disguised := strings.ReplaceAll(k.private, "PRIVATE KEY", "CERTIFICATE")
	sec := secret(map[string]string{"tls.crt": "a password\n" + k.private + k.cert + disguised + data + k.cert, "tls.key": k.private})
	got := back(t, told(t, sec).Manifest).(*corev1.Secret)
	if len(got.Data) != 1 || string(got.Data["tls.crt"]) != k.cert+k.cert {
		t.Errorf("told:\n%s", got.Data)
	}
}

func TestNoPrivateKeyIsToldWhereverItWasWritten(t *testing.T) {
	k := newKeys(t)
	inline := func(s string) runtime.Object { return policy(v1alpha1.JWKSSource{Inline: &s}) }
	configMap := func(s string) runtime.Object { return &corev1.ConfigMap{Data: map[string]string{"x": s}} }
	annotated := policy(v1alpha1.JWKSSource{Inline: &k.publicSet})
	annotated.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": quoted(t, map[string]any{"spec": quoted(t, k.privateSet)})}
	pemLine := strings.Split(k.private, "\n")[1]
	for name, o := range map[string]runtime.Object{
		"inline":                inline(k.privateSet),
		"inline, not JSON":      inline(k.privateSet + ","),
		"inline, keys twice":    inline(`{"keys":` + onlyKeys(t, k.privateSet) + `,"keys":[]}`),
		"inline, escaped":       inline(strings.NewReplacer(`"keys"`, `"\u006beys"`, `"kty"`, `"\u006bty"`, `"d"`, `"\u0064"`).Replace(k.privateSet)),
		"inline, without kty":   inline(strings.Replace(k.privateSet, `"kty": "EC",`, "", 1)),
		"a list":                configMap(onlyKeys(t, k.privateSet)),
		"ConfigMap":             configMap(k.privateSet),
		"ConfigMap, PEM":        configMap(k.cert + k.private),
		"ConfigMap, half a PEM": configMap(strings.SplitAfter(k.private, pemLine)[0]),
		"ConfigMap, binary":     &corev1.ConfigMap{BinaryData: map[string][]byte{"x": []byte(k.privateSet)}},
		"annotation":            annotated,
		"trust store": policy(v1alpha1.JWKSSource{Remote: &v1alpha1.RemoteJWKS{
			URI: "https://id.invalid/", CACertificates: new(k.cert + k.private)}}),
	} {
		t.Run(name, func(t *testing.T) {
			switch o := o.(type) {
			case *corev1.ConfigMap:
				o.Namespace, o.Name = "door", "keys"
			}
			got := told(t, o)
			if !got.Withheld {
				t.Error("nothing is said to be withheld")
			}
			whole := fmt.Sprintf("%s %+v", got.Manifest, back(t, got.Manifest))
			if c, ok := back(t, got.Manifest).(*corev1.ConfigMap); ok {
				whole += string(c.BinaryData["x"])
			}
			for _, private := range []string{k.d, pemLine} {
				if strings.Contains(whole, private) {
					t.Errorf("told: %s", whole)
				}
			}
		})
	}
}

func quoted(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	must(t, err)
	return string(text)
}

func onlyKeys(t *testing.T, set string) string {
	t.Helper()
	var v map[string]json.RawMessage
	must(t, json.Unmarshal([]byte(set), &v))
	return string(v["keys"])
}

func TestWhatIsToldIsJudgedAsItIsInUse(t *testing.T) {
	k := newKeys(t)
	for _, set := range []string{k.privateSet, `{"keys":[{"kty":"oct","k":"aHVudGVyMg"}]}`} {
		_, inUse := jwks.Parse([]byte(set), nil)
		p := back(t, told(t, policy(v1alpha1.JWKSSource{Inline: &set})).Manifest).(*v1alpha1.EmergencyPolicy)
		_, err := jwks.Parse([]byte(*p.Spec.Issuers[0].JWKS.Inline), nil)
		if inUse == nil || err == nil || err.Error() != inUse.Error() {
			t.Errorf("serve says %v, whoever is told says %v", inUse, err)
		}
	}
}

func TestWhatIsPublicIsToldToTheLetter(t *testing.T) {
	k := newKeys(t)
	for _, text := range []string{k.publicSet, k.cert, "kubectl", `a "quoted" text, {"k":"v"}`, `\u00e9`, `{"d":1,"k":"\u00e9"}`, ""} {
		c := &corev1.ConfigMap{Data: map[string]string{"x": text}, BinaryData: map[string][]byte{"y": []byte(text)}}
		c.Namespace, c.Name = "door", "c"
		got := told(t, c)
		if public := back(t, got.Manifest).(*corev1.ConfigMap); got.Withheld || public.Data["x"] != text || string(public.BinaryData["y"]) != text {
			t.Errorf("of %q is told: %s", text, got.Manifest)
		}
	}
}

func TestASecretThatDiffersWhereServeUsesItIsAnother(t *testing.T) {
	k, other := newKeys(t), newKeys(t)
	ref := policy(v1alpha1.JWKSSource{SecretRef: &v1alpha1.KeySetReference{Namespace: "door", Name: "tls", Key: "jwks.json"}})
	data := func(change map[string]string) map[string]string {
		out := map[string]string{"tls.crt": k.cert, "tls.key": k.private, "jwks.json": k.publicSet}
		for name, v := range change {
			out[name] = v
		}
		return out
	}
	inUse := told(t, secret(data(nil)), ref)
	if !inUse.Withheld || !inUse.Is(told(t, secret(data(nil)), ref)) {
		t.Error("the same Secret is another")
	}
	for name, change := range map[string]map[string]string{
		"certificate": {"tls.crt": other.cert}, "beside the certificate": {"tls.crt": k.cert + "\n"}, "private key": {"tls.key": other.private},
		"key set": {"jwks.json": other.publicSet}, "one more": {"ca.crt": other.cert},
	} {
		if inUse.Is(told(t, secret(data(change)), ref)) {
			t.Errorf("%s: the same", name)
		}
	}
}

// A digest of what can be guessed would give it away.
func TestOfWhatCouldBeGuessedNoDigestIsTold(t *testing.T) {
	k := newKeys(t)
	ref := func(key string) *v1alpha1.EmergencyPolicy {
		p := policy(v1alpha1.JWKSSource{SecretRef: &v1alpha1.KeySetReference{Namespace: "door", Name: "tls", Key: key}})
		p.Name = key
		return p
	}
	sec := secret(map[string]string{
		"tls.crt": k.cert, "tls.key": "hunter2", "password": "hunter2", "referenced": "hunter2", "12345": "12345",
		"oct": `{"keys":[{"kty":"oct","k":"aHVudGVyMg"}]}`, "elsewhere": k.publicSet, "jwks": k.publicSet,
	})
	got := told(t, sec, ref("referenced"), ref("12345"), ref("oct"), ref("jwks")).Data
	for name, digest := range got {
		if (digest != "") != (name == "tls.crt" || name == "jwks") {
			t.Errorf("%s: digest %q", name, digest)
		}
	}
	for value, digested := range map[string]bool{k.cert: true, "hunter2\n" + k.cert: false, "hunter2\n" + k.cert + k.private: true} {
		if got := told(t, secret(map[string]string{"tls.crt": value})).Data["tls.crt"]; (got != "") != digested {
			t.Errorf("digest %q of\n%s", got, value)
		}
	}
	if len(got) != len(sec.Data) {
		t.Errorf("told: %v", got)
	}
}
