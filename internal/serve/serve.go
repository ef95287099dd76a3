// Package serve runs the gateway without a cluster: a directory of manifests, a
// data directory, one Envoy per Gateway.
//
// One goroutine, the loop, owns all state. It sleeps until something happens:
// the manifests changed, a key set arrived, an Envoy acknowledged, somebody
// asked for something over the control socket, or the instant came at which the
// last translation said that its answer changes. Then it translates, which costs
// what has changed since. See docs/architecture.md.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/internal/clock"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/xds"
)

// Options of Run.
type Options struct {
	// ConfigDir holds the manifests, DataDir everything durable.
	ConfigDir, DataDir string
	// EnvoyPath is the Envoy binary; "" looks for one.
	EnvoyPath string
	// Concurrency is Envoy's number of workers; 0 for the default.
	Concurrency int
	// MaxConnections of clients and MaxHeapBytes of one Envoy; 0 for the defaults.
	MaxConnections int
	MaxHeapBytes   uint64
	// MetricsAddress serves /metrics, /healthz and /readyz; "" for none. It must
	// be loopback.
	MetricsAddress string
	// DeadmanArgs start the process that ends an orphaned Envoy.
	DeadmanArgs []string
	// AuditRetention is how long entries of the audit log are kept, AuditOrigin
	// the first line of a new log's checkpoints; zero for the defaults.
	AuditRetention time.Duration
	AuditOrigin    string
	// CheckpointTo are files and URLs that get each checkpoint of the audit log.
	CheckpointTo []string
	Log          *slog.Logger
}

// Run serves until ctx ends, then stops every Envoy. An error before the first
// configuration was loaded is returned; later ones are reported by status.
func Run(ctx context.Context, o Options) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if os.Getenv("GOGC") == "" {
		// Next to nothing is allocated in quiet times: a smaller heap costs little.
		debug.SetGCPercent(60)
	}
	l := &loop{opts: o, log: o.Log, cancel: cancel, pokes: make(chan struct{}, 1)}
	if err := l.openDataDir(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	if err := l.listen(); err != nil {
		return err
	}
	w, err := source.Watch(ctx, source.Options{Dir: o.ConfigDir, Log: o.Log, Proven: filepath.Join(o.DataDir, "proven")})
	if err != nil {
		return fmt.Errorf("watch the manifests: %w", err)
	}
	return l.run(ctx, w.Updates())
}

// openDataDir opens what is durable and replays it.
func (l *loop) openDataDir() error {
	dir := l.opts.DataDir
	if err := control.PrepareDataDir(dir); err != nil {
		return err
	}
	var err error
	if l.clock, err = clock.Open(filepath.Join(dir, "clock"), clock.Options{Log: l.log}); err != nil {
		return fmt.Errorf("open the clock: %w", err)
	}
	l.journal, err = audit.Open(filepath.Join(dir, "journal"), audit.Options{Log: l.log, Now: l.clock.Now})
	if err != nil {
		return errors.Join(err, l.clock.Close())
	}
	if err := l.replay(); err != nil {
		return errors.Join(fmt.Errorf("replay the journal: %w", err), l.journal.Close(), l.clock.Close())
	}
	l.reserve = reserve{filepath.Join(dir, "reserve")}
	if err := l.openAudit(); err != nil {
		return errors.Join(err, l.journal.Close(), l.clock.Close())
	}
	l.fetcher = jwks.NewFetcher(filepath.Join(dir, "jwks"), l.clock.Now, l.log)
	return nil
}

// close ends what openDataDir and listen began.
func (l *loop) close() error {
	l.shutServers()
	l.fetcher.Close()
	return errors.Join(l.recorder.Close(), l.journal.Close(), l.clock.Close())
}

// runDir is where sockets and Envoys live.
func (l *loop) runDir() (string, error) {
	dir, err := filepath.Abs(filepath.Join(l.opts.DataDir, "run"))
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o700)
}

// xdsOptions make Envoy's acknowledgements wake the loop.
func (l *loop) xdsOptions() xds.Options {
	return xds.Options{Now: l.clock.Now, Log: l.log, OnChange: func(string) { l.poke() }}
}

// now is the time by which everything is judged.
func (l *loop) now() time.Time { return l.clock.Now().Round(0).UTC() }
