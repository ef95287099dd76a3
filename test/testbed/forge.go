package testbed

import (
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func segment(v any) string {
	GinkgoHelper()
	b, err := json.Marshal(v)
	Expect(err).NotTo(HaveOccurred())
	return b64(b)
}

// Unsigned is a token of an algorithm that signs nothing (RFC 7519 section 6).
func Unsigned(alg string, c Claims) string {
	GinkgoHelper()
	return segment(map[string]string{"alg": alg, "typ": "JWT"}) + "." + segment(c) + "."
}

// HMAC is a token of an algorithm that takes a secret, made with something
// public as the secret (RFC 8725 section 2.1).
func HMAC(kid string, secret []byte, c Claims) string {
	GinkgoHelper()
	text := segment(map[string]string{"alg": "HS256", "typ": "JWT", "kid": kid}) + "." + segment(c)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return text + "." + b64(mac.Sum(nil))
}

// PEM of the public key.
func (k *Key) PEM() []byte {
	GinkgoHelper()
	der, err := x509.MarshalPKIXPublicKey(&k.Private.PublicKey)
	Expect(err).NotTo(HaveOccurred())
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// Thumbprint of the public key (RFC 7638).
func (k *Key) Thumbprint() []byte {
	GinkgoHelper()
	public := k.Public()
	t, err := public.Thumbprint(crypto.SHA256)
	Expect(err).NotTo(HaveOccurred())
	return t
}

// WithClaims keeps a token's header and signature and replaces what was signed.
func WithClaims(token string, c Claims) string {
	GinkgoHelper()
	parts := strings.Split(token, ".")
	Expect(parts).To(HaveLen(3))
	return parts[0] + "." + segment(c) + "." + parts[2]
}

// WithHeader keeps what was signed and the signature, and replaces the header.
func WithHeader(token string, header map[string]any) string {
	GinkgoHelper()
	parts := strings.Split(token, ".")
	Expect(parts).To(HaveLen(3))
	return segment(header) + "." + parts[1] + "." + parts[2]
}

// WithSignature replaces the signature.
func WithSignature(token string, signature []byte) string {
	GinkgoHelper()
	parts := strings.Split(token, ".")
	Expect(parts).To(HaveLen(3))
	return parts[0] + "." + parts[1] + "." + b64(signature)
}
