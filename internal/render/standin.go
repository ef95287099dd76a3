package render

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// standIns are what a reviewed repository rightly does not hold, keys and
// certificates, put there so that a reviewer sees the rest. They never leave
// here: in what is rendered each is shown as a stand-in, without a value.
type standIns struct {
	objects translator.Objects
	notes   []string
	// secrets that are stand-ins, by the name of their xDS resource.
	secrets map[string]bool
	keys    map[string]bool // key sets, as Envoy would get them
}

func complete(objects translator.Objects) (*standIns, error) {
	s := &standIns{objects: objects, secrets: map[string]bool{}, keys: map[string]bool{}}
	if err := s.issuers(); err != nil {
		return nil, err
	}
	return s, s.certificates()
}

// issuers gives one whose keys are not in the manifests a key set of its own.
func (s *standIns) issuers() error {
	s.objects.Policies = maps.Clone(s.objects.Policies)
	for _, name := range slices.Sorted(maps.Keys(s.objects.Policies)) {
		policy := s.objects.Policies[name].DeepCopy()
		for i := range policy.Spec.Issuers {
			iss := &policy.Spec.Issuers[i]
			why := s.keysElsewhere(iss.JWKS)
			if why == "" {
				continue
			}
			text, err := publicKeys(iss.Algorithms)
			if err != nil {
				return fmt.Errorf("EmergencyPolicy %s, issuer %s: a stand-in for its keys: %w", name, iss.Name, err)
			}
			iss.JWKS = v1alpha1.JWKSSource{Inline: &text}
			set, err := jwks.Parse([]byte(text), iss.Algorithms)
			if err != nil {
				return fmt.Errorf("EmergencyPolicy %s, issuer %s: a stand-in for its keys: %w", name, iss.Name, err)
			}
			s.keys[set.Envoy()] = true
			s.notes = append(s.notes, fmt.Sprintf("keys of issuer %s of EmergencyPolicy %s: %s", iss.Name, name, why))
		}
		s.objects.Policies[name] = policy
	}
	return nil
}

// keysElsewhere says why an issuer's keys are not in the manifests; "": they are.
func (s *standIns) keysElsewhere(src v1alpha1.JWKSSource) string {
	switch {
	case src.Remote != nil:
		return "fetched from " + src.Remote.URI
	case src.SecretRef != nil:
		r := src.SecretRef
		if obj := s.objects.Secrets[types.NamespacedName{Namespace: r.Namespace, Name: r.Name}]; obj == nil || len(obj.Data[r.Key]) == 0 {
			return fmt.Sprintf("key %s of Secret %s/%s is not in the manifests", r.Key, r.Namespace, r.Name)
		}
	case src.ConfigMapRef != nil:
		r := src.ConfigMapRef
		if obj := s.objects.ConfigMaps[types.NamespacedName{Namespace: r.Namespace, Name: r.Name}]; obj == nil || obj.Data[r.Key] == "" {
			return fmt.Sprintf("key %s of ConfigMap %s/%s is not in the manifests", r.Key, r.Namespace, r.Name)
		}
	}
	return ""
}

// publicKeys is a key set that fits one of the algorithms. Its key is the base
// point of a curve, or a number that nobody can sign with: it proves nothing to
// anybody.
func publicKeys(algorithms []v1alpha1.Algorithm) (string, error) {
	if len(algorithms) == 0 {
		algorithms = jwks.DefaultAlgorithms
	}
	b64 := base64.RawURLEncoding.EncodeToString
	point := func(name string, c elliptic.Curve) map[string]string {
		size := (c.Params().BitSize + 7) / 8
		return map[string]string{"kty": "EC", "crv": name, "x": b64(c.Params().Gx.FillBytes(make([]byte, size))), "y": b64(c.Params().Gy.FillBytes(make([]byte, size)))}
	}
	var key map[string]string
	switch alg := algorithms[0]; alg {
	case "ES256":
		key = point("P-256", elliptic.P256())
	case "ES384":
		key = point("P-384", elliptic.P384())
	case "ES512":
		key = point("P-521", elliptic.P521())
	case "EdDSA":
		base := bytes.Repeat([]byte{0x66}, 32)
		base[0] = 0x58
		key = map[string]string{"kty": "OKP", "crv": "Ed25519", "x": b64(base)}
	default:
		n := new(big.Int).Lsh(big.NewInt(1), 2048)
		n.Sub(n, big.NewInt(1))
		key = map[string]string{"kty": "RSA", "alg": string(alg), "n": b64(n.Bytes()), "e": "AQAB"}
	}
	key["kid"] = "stand-in"
	text, err := json.Marshal(map[string]any{"keys": []any{key}})
	return string(text), err
}

// certificates gives HTTPS listeners and Gateways what they name and the manifests lack.
func (s *standIns) certificates() error {
	s.objects.Secrets = maps.Clone(s.objects.Secrets)
	if s.objects.Secrets == nil {
		s.objects.Secrets = map[types.NamespacedName]*corev1.Secret{}
	}
	var missing []types.NamespacedName
	shows := func(namespace string, refs ...gwv1.SecretObjectReference) {
		for _, ref := range refs {
			name := translator.Named(namespace, ref.Namespace, ref.Name)
			if obj := s.objects.Secrets[name]; obj == nil || len(obj.Data[corev1.TLSPrivateKeyKey]) == 0 {
				missing = append(missing, name)
			}
		}
	}
	for key, g := range s.objects.Gateways {
		shows(key.Namespace, certificateRefs(g)...)
	}
	for key, set := range s.objects.ListenerSets {
		for _, l := range set.Spec.Listeners {
			if l.TLS != nil {
				shows(key.Namespace, l.TLS.CertificateRefs...)
			}
		}
	}
	slices.SortFunc(missing, func(a, b types.NamespacedName) int { return bytes.Compare([]byte(a.String()), []byte(b.String())) })
	for _, name := range slices.Compact(missing) {
		cert, key, err := certificate()
		if err != nil {
			return fmt.Errorf("Secret %s: a stand-in for it: %w", name, err)
		}
		s.objects.Secrets[name] = &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}, Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key},
		}
		s.secrets["tls/"+name.String()] = true
		s.notes = append(s.notes, fmt.Sprintf("certificate of Secret %s: its private key is not in the manifests", name))
	}
	return nil
}

// certificateRefs of a Gateway: those of its listeners, and of what it shows to
// backends.
func certificateRefs(g *gwv1.Gateway) (refs []gwv1.SecretObjectReference) {
	for _, l := range g.Spec.Listeners {
		if l.TLS != nil {
			refs = append(refs, l.TLS.CertificateRefs...)
		}
	}
	if t := g.Spec.TLS; t != nil && t.Backend != nil && t.Backend.ClientCertificateRef != nil {
		refs = append(refs, *t.Backend.ClientCertificateRef)
	}
	return refs
}

// certificate of a key that everybody knows: the number 1.
func certificate() (cert, key []byte, err error) {
	scalar := make([]byte, 32)
	scalar[31] = 1
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stand-in"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(0, 0),
	}
	der, err := x509.CreateCertificate(nil, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}

// WithStandIns are the objects with a stand-in for every key and certificate that
// they name and lack.
func WithStandIns(objects translator.Objects) (translator.Objects, error) {
	s, err := complete(objects)
	if err != nil {
		return objects, err
	}
	return s.objects, nil
}
