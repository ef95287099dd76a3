package translator

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// AuthoritiesKey is where a ConfigMap has the certificates.
const AuthoritiesKey = "ca.crt"

// authorities are the certificates of a ConfigMap.
func (s *state) authorities(key types.NamespacedName) (string, error) {
	if why := s.unread("ConfigMaps", key.Namespace); why != nil {
		return "", why
	}
	obj := s.in.ConfigMaps[key]
	if obj == nil {
		return "", fmt.Errorf("ConfigMap %s does not exist", key)
	}
	ca, err := readAuthorities(obj.Data[AuthoritiesKey])
	if err != nil {
		return "", fmt.Errorf("ConfigMap %s, key %s: %w", key, AuthoritiesKey, err)
	}
	return ca, nil
}

// noAuthorities is the word on a reference to anything but a ConfigMap.
func noAuthorities(kind gwv1.Kind) error {
	return fmt.Errorf("kind %s is not supported: name a ConfigMap (of group \"\") with the certificates under %s", kind, AuthoritiesKey)
}

// readAuthorities takes certificates and nothing else, and writes them anew: what
// Envoy trusts is what was read here.
func readAuthorities(text string) (string, error) {
	var out strings.Builder
	rest, blocks := []byte(text), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		blocks++
		if block.Type != "CERTIFICATE" {
			return "", fmt.Errorf("there is a %s among the certificates: remove it", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", fmt.Errorf("a certificate cannot be read: %w", err)
		}
		if err := pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes}); err != nil {
			return "", err
		}
	}
	switch {
	case out.Len() == 0:
		return "", fmt.Errorf("there is no certificate: put those of the authorities there, in PEM")
	case blocks != strings.Count(text, "-----BEGIN "):
		return "", fmt.Errorf("one of the certificates is damaged: copy it again")
	}
	return out.String(), nil
}
