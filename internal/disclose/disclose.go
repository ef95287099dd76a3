// Package disclose says what of an object in use is told over the control socket,
// whoever asks: no private key, and of a Secret its certificates only.
//
// What is withheld is replaced, not left out, so that whoever is told judges as
// serve does: a key set that was refused for a private key is refused here as well.
package disclose

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// Withheld stands for what is not told.
const Withheld = "withheld"

// Told is what is told of an object.
type Told struct {
	Manifest []byte
	// Withheld: there is more in the object than Manifest says.
	Withheld bool
	// Data of a Secret: the names in it, and of each value that serve uses the
	// SHA-256, in hex. Whoever reads the Secret elsewhere knows by it whether it is
	// the same.
	//
	// No digest helps to guess a value: a certificate and a key set are public, a
	// private key cannot be guessed. A password could be, so that of all else there
	// is none.
	Data map[string]string
}

// Is reports whether both are of the same object, as far as serve uses it.
func (t Told) Is(other Told) bool {
	return bytes.Equal(t.Manifest, other.Manifest) && maps.Equal(t.Data, other.Data)
}

// Object as it is told, in a set of manifests with these policies.
func Object(o runtime.Object, policies map[string]*v1alpha1.EmergencyPolicy) (Told, error) {
	if sec, ok := o.(*corev1.Secret); ok {
		text, err := source.Manifest(public(sec))
		return Told{Manifest: text, Withheld: true, Data: digests(sec, policies)}, err
	}
	whole, err := source.Manifest(o)
	if err != nil || !suspicious(whole) {
		return Told{Manifest: whole}, err
	}
	public, err := withoutPrivate(whole)
	return Told{Manifest: public, Withheld: !bytes.Equal(whole, public)}, err
}

// withoutPrivate is a manifest without what is private in it.
func withoutPrivate(manifest []byte) ([]byte, error) {
	var v map[string]any
	d := json.NewDecoder(bytes.NewReader(manifest))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	withhold(v, false)
	// Nothing that is read here is binary, and a key may be in it.
	if binary, ok := v["binaryData"].(map[string]any); ok {
		for name, value := range binary {
			encoded, _ := value.(string)
			raw, err := base64.StdEncoding.DecodeString(encoded)
			if err != nil || text(string(raw)) != string(raw) {
				binary[name] = base64.StdEncoding.EncodeToString([]byte(Withheld))
			}
		}
	}
	return json.Marshal(v)
}

// public is of a Secret what every client of the Gateway is shown.
func public(sec *corev1.Secret) *corev1.Secret {
	out := &corev1.Secret{TypeMeta: sec.TypeMeta, Type: sec.Type, Immutable: sec.Immutable}
	out.Namespace, out.Name = sec.Namespace, sec.Name
	if ignored, there := sec.Annotations[v1alpha1.LintIgnoreAnnotation]; there {
		out.Annotations = map[string]string{v1alpha1.LintIgnoreAnnotation: ignored}
	}
	if chain, there := sec.Data[corev1.TLSCertKey]; there {
		out.Data = map[string][]byte{corev1.TLSCertKey: certificates(chain)}
	}
	return out
}

// certificates of a PEM file, and nothing else that is in it.
func certificates(text []byte) []byte {
	out := []byte{}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return out
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil || block.Type != "CERTIFICATE" {
			continue
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
	}
}

// digests of what serve uses of a Secret, by name; empty for the rest.
func digests(sec *corev1.Secret, policies map[string]*v1alpha1.EmergencyPolicy) map[string]string {
	out := make(map[string]string, len(sec.Data))
	for name, value := range sec.Data {
		out[name] = ""
		if isPair(name, value) || isKeySet(sec, name, policies) {
			sum := sha256.Sum256(value)
			out[name] = hex.EncodeToString(sum[:])
		}
	}
	return out
}

// isPair: certificates and nothing else, or a private key with whatever.
func isPair(name string, value []byte) bool {
	switch name {
	case corev1.TLSCertKey:
		return bytes.Equal(certificates(value), value) || hasPrivateKey(value)
	case corev1.TLSPrivateKeyKey:
		return hasPrivateKey(value)
	}
	return false
}

func hasPrivateKey(text []byte) bool {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return false
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") && len(block.Bytes) >= 32 {
			return true
		}
	}
}

// isKeySet: whether serve takes keys from there. What it refuses may be anything.
func isKeySet(sec *corev1.Secret, name string, policies map[string]*v1alpha1.EmergencyPolicy) bool {
	at := v1alpha1.KeySetReference{Namespace: sec.Namespace, Name: sec.Name, Key: name}
	for _, p := range policies {
		for _, iss := range p.Spec.Issuers {
			if ref := iss.JWKS.SecretRef; ref == nil || *ref != at {
				continue
			}
			if _, err := jwks.Parse(sec.Data[name], iss.Algorithms); err == nil {
				return true
			}
		}
	}
	return false
}
