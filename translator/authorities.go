package translator

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
)

// AuthoritiesKey is where a ConfigMap has the certificates.
const AuthoritiesKey = "ca.crt"

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
