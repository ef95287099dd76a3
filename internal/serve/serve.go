// Package serve runs the gateway without a cluster: a directory of manifests, a
// data directory, one Envoy per Gateway.
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

	"github.com/breakglass-gateway/breakglass-gateway/audit/sink"
	"github.com/breakglass-gateway/breakglass-gateway/internal/engine"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
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
	// Sinks follow the audit log. nil: none.
	Sinks *sink.Config
	Log   *slog.Logger
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
	e, err := engine.Open(engine.Options{
		ConfigDir: o.ConfigDir, DataDir: o.DataDir, MetricsAddress: o.MetricsAddress, AuditRetention: o.AuditRetention,
		AuditOrigin: o.AuditOrigin, CheckpointTo: o.CheckpointTo, Sinks: o.Sinks, Log: o.Log,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	f := newFleet(o, e)
	defer f.close()
	if err := f.listen(); err != nil {
		return err
	}
	w, err := source.Watch(ctx, source.Options{Dir: o.ConfigDir, Log: o.Log, Proven: filepath.Join(o.DataDir, "proven")})
	if err != nil {
		return fmt.Errorf("watch the manifests: %w", err)
	}
	return e.Run(ctx, f, w.Updates())
}
