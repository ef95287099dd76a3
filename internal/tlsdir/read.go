// Package tlsdir reads a Secret of type kubernetes.io/tls that is mounted as files.
package tlsdir

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/breakglass-gateway/breakglass-gateway/internal/pki"
)

// Read a mounted Secret, all of it of one version: kubelet replaces a link to the
// directory that the files are in.
func Read(dir string) (map[string][]byte, error) {
	path, err := filepath.EvalSymlinks(filepath.Join(dir, pki.KeyCertificate))
	if err != nil {
		return nil, fmt.Errorf("certificate (--tls-dir): %w", err)
	}
	out := map[string][]byte{}
	for _, name := range []string{pki.KeyCertificate, pki.KeyPrivate, pki.KeyTrusted} {
		if out[name], err = os.ReadFile(filepath.Join(filepath.Dir(path), name)); err != nil {
			return nil, fmt.Errorf("certificate (--tls-dir): %w", err)
		}
	}
	return out, nil
}
