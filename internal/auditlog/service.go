// Package auditlog is the audit log service: it has the log of a cluster, into which
// the agents beside the Envoys and the controllers bring theirs (audit/ship).
//
// One process has the log, and everything that follows it runs in it as a part (see
// parts.go): while the log is open, and without ever keeping anybody from bringing
// entries. A log that cannot be opened, and a full disk, are told and tried again;
// meanwhile nothing is confirmed, so that whoever brings entries keeps them.
package auditlog

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/ship"
	"github.com/breakglass-gateway/breakglass-gateway/audit/sink"
	"github.com/breakglass-gateway/breakglass-gateway/internal/clock"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/pki"
	"github.com/breakglass-gateway/breakglass-gateway/internal/tlsdir"
)

// Options of Run.
type Options struct {
	// DataDir holds everything durable: the log is in its directory log.
	DataDir string
	// Listen is where logs are brought to, with certificates on both sides.
	Listen string
	// TLSDir has tls.crt, tls.key and ca.crt, which are read anew for each connection.
	TLSDir string
	// MetricsAddress serves /metrics, /healthz and /readyz; "" for none.
	MetricsAddress string
	// Retention is how long entries are kept, Origin the first line of a new log's
	// checkpoints; zero for the defaults.
	Retention time.Duration
	Origin    string
	// CheckpointTo are files and URLs that get each checkpoint.
	CheckpointTo []string
	// Lost is how long a source may be silent; zero for the default.
	Lost time.Duration
	// Sinks follow the log. nil: none.
	Sinks *sink.Config
	// Reading says who may read the log, and where.
	Reading ReadingOptions
	Log     *slog.Logger
}

// Service is one run.
type Service struct {
	opts  Options
	log   *slog.Logger
	clock *clock.Clock

	mu      sync.Mutex
	ledger  *merkle.Log  // nil: it is not open
	taker   *ship.Server // nil: likewise
	follows *evidence    // nil: likewise
	sinks   *sink.Sinks  // nil: none are at work
	why     string       // the log is not open
}

// Run serves until ctx ends, or something fails for good.
func Run(ctx context.Context, o Options) (err error) {
	s := &Service{opts: o, log: o.Log, why: "the audit log is being opened"}
	if err := control.PrepareDataDir(o.DataDir); err != nil {
		return err
	}
	if s.clock, err = clock.Open(filepath.Join(o.DataDir, "clock"), clock.Options{Log: o.Log}); err != nil {
		return fmt.Errorf("open the clock: %w", err)
	}
	defer func() { err = errors.Join(err, s.clock.Close()) }()
	options, err := s.logOptions()
	if err != nil {
		return err
	}
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	shut, err := s.listen(cancel)
	if err != nil {
		return err
	}
	if s.open(ctx, options) {
		s.follow(ctx)
	} else if ctx.Err() == nil {
		cancel(fmt.Errorf("%w: %s", merkle.ErrLocked, s.LogDir()))
	}
	shut()
	if l := s.Ledger(); l != nil {
		err = l.Close()
	}
	if outer.Err() == nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return err
}

// LogDir is where the log is.
func (s *Service) LogDir() string { return filepath.Join(s.opts.DataDir, "log") }

// Ledger is the log; nil until it is open.
func (s *Service) Ledger() *merkle.Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ledger
}

// Now is the time by which everything is judged.
func (s *Service) Now() time.Time { return s.clock.Now().Round(0).UTC() }

// Note records an entry of the service's own, and returns when it is durable. Parts
// call it; the log is open.
func (s *Service) Note(ctx context.Context, kind string, v any, cursors map[string]string) error {
	data, err := merkle.EncodeData(v)
	if err != nil {
		return fmt.Errorf("entry of kind %s: %w", kind, err)
	}
	return s.evidence().Append(ctx, merkle.Draft{Kind: kind, Data: data, Cursors: cursors})
}

func (s *Service) logOptions() (merkle.Options, error) {
	o := merkle.Options{Log: s.log, Now: s.Now, Retention: s.opts.Retention, Origin: s.opts.Origin}
	for _, to := range s.opts.CheckpointTo {
		sink, err := merkle.SinkTo(to)
		if err != nil {
			return o, fmt.Errorf("--checkpoint-to: %w", err)
		}
		o.Witnesses = append(o.Witnesses, sink)
	}
	return o, nil
}

// reopen is the time between the first attempts to open the log, reopenMost between
// later ones.
const reopen, reopenMost = time.Second, 30 * time.Second

// open opens the log, trying until ctx ends. It is false then, and when another
// process has the log.
func (s *Service) open(ctx context.Context, o merkle.Options) bool {
	for patience := reopen; ; patience = min(2*patience, reopenMost) {
		err := s.tryOpen(o)
		if err == nil {
			return true
		}
		if errors.Is(err, merkle.ErrLocked) {
			return false
		}
		s.log.Error("the audit log cannot be opened; nothing is taken until this is mended", "error", err)
		s.mu.Lock()
		s.why = "the audit log cannot be opened: " + err.Error()
		s.mu.Unlock()
		select {
		case <-time.After(patience):
		case <-ctx.Done():
			return false
		}
	}
}

func (s *Service) tryOpen(o merkle.Options) error {
	l, err := merkle.Open(s.LogDir(), o)
	if err != nil {
		return err
	}
	name, err := ship.Name(l.Origin(), l.Keys())
	if err != nil {
		return errors.Join(err, l.Close())
	}
	follows, err := s.newEvidence(l)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	taker := ship.NewServer(ship.ServerOptions{
		Ledger: follows, Dir: s.LogDir(), Name: name, Identify: identify, Refuse: s.refuse, Lost: s.opts.Lost, Now: s.Now, Log: s.log,
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger, s.taker, s.follows, s.why = l, taker, follows, ""
	return nil
}

// identify says who brings a log: the fleet of a Gateway, or a controller.
func identify(c *tls.ConnectionState) (ship.Identity, error) {
	if namespace, name, err := pki.Identity(c); err == nil {
		return ship.Identity{Name: "gateway " + namespace + "/" + name, Gateway: namespace + "/" + name}, nil
	}
	namespace, pod, err := pki.ControllerIdentity(c)
	if err != nil {
		return ship.Identity{}, errors.New("the client certificate is neither that of a Gateway's fleet nor that of a controller")
	}
	return ship.Identity{Name: "controller " + namespace + "/" + pod}, nil
}

// ServeHTTP takes logs, once there is one to take them into.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	taker, why := s.taker, s.why
	s.mu.Unlock()
	if taker == nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": why}) // who is gone asks again
		return
	}
	taker.ServeHTTP(w, r)
}

// tlsConfig is for the listener. Files are read at each handshake.
func (s *Service) tlsConfig() *tls.Config {
	config := pki.ServerConfig(func() (*tls.Certificate, *x509.CertPool) {
		data, err := tlsdir.Read(s.opts.TLSDir)
		if err == nil {
			var c *tls.Config
			if c, err = pki.ClientConfig(data, ""); err == nil {
				return &c.Certificates[0], c.RootCAs
			}
		}
		s.log.Error("the certificate of the audit log service cannot be read", "dir", s.opts.TLSDir, "error", err)
		return nil, nil
	})
	inner := config.GetConfigForClient
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c, err := inner(hello)
		if c != nil {
			c.NextProtos = []string{"http/1.1"}
		}
		return c, err
	}
	return config
}
