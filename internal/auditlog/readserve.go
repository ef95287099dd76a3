package auditlog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/internal/pki"
)

// Serve readers at a listener until ctx ends. Its certificate is in dir.
func (s *Reading) Serve(ctx context.Context, l net.Listener, dir string) error {
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug), // of handshakes
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // whoever follows asks again
	defer stop()
	if err := server.Serve(tls.NewListener(l, readTLS(dir))); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("the listener for readers failed: %w", err)
	}
	return nil
}

// readTLS is for the listener for readers. The certificate is read anew for each
// connection; a client need not show one, and which are good the judge says.
func readTLS(dir string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			data := map[string][]byte{}
			var errs []error
			for _, name := range []string{pki.KeyCertificate, pki.KeyPrivate} {
				text, err := os.ReadFile(filepath.Join(dir, name))
				data[name] = text
				errs = append(errs, err)
			}
			if err := errors.Join(errs...); err != nil {
				return nil, err
			}
			return pki.KeyPair(data)
		},
	}
}
