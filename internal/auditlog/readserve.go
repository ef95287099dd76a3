package auditlog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/breakglass-gateway/breakglass-gateway/internal/pki"
	"github.com/breakglass-gateway/breakglass-gateway/internal/tlsdir"
)

// ReadingOptions say who may read the log, and where.
type ReadingOptions struct {
	// Address where readers come to: the loopback of the pod, which a port-forward
	// reaches and nobody else does. "": nobody reads.
	Address string
	// REST is how to reach the API server that judges them.
	REST *rest.Config
	// Namespace of the release, in which they must be allowed to get auditlogs.
	Namespace string
}

// readers is the part of the service that answers readers.
func (s *Service) readers(ctx context.Context) error {
	o := s.opts.Reading
	if o.Address == "" {
		<-ctx.Done()
		return nil
	}
	config := rest.CopyConfig(o.REST)
	config.Timeout = judgeTimeout
	config.UserAgent = "breakglass-audit"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("reach the API server: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Address)
	if err != nil {
		return fmt.Errorf("listen for readers (--read-address): %w", err)
	}
	s.log.Info("listening for readers", "address", l.Addr().String())
	return NewReading(ReadOptions{
		Dir: s.LogDir(), Append: s.Ledger().Append, Judge: NewAPIServer(client, o.Namespace), Log: s.log, Now: s.Now,
	}).Serve(ctx, l, s.opts.TLSDir)
}

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
			data, err := tlsdir.Read(dir)
			if err != nil {
				return nil, err
			}
			return pki.KeyPair(data)
		},
	}
}
