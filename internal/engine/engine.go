// Package engine is the loop that everything goes through: objects in; resources
// for Envoy, statuses and facts out. What is different without and with a cluster
// is its World.
//
// One goroutine, the loop, owns all state. It sleeps until something happens:
// the objects changed, a key set arrived, an Envoy acknowledged, somebody
// asked for something over the control socket, or the instant came at which the
// last translation said that its answer changes. Then it translates, which costs
// what has changed since. See docs/architecture.md.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
	"github.com/breakglass-gateway/breakglass-gateway/audit/ship"
	"github.com/breakglass-gateway/breakglass-gateway/audit/sink"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/clock"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// Options of Open.
type Options struct {
	// ConfigDir is where the objects come from, a directory or the name of a
	// cluster. DataDir holds everything durable.
	ConfigDir, DataDir string
	// ReadOnly says, for people, why nothing can be activated or revoked over the
	// control socket. "": it can.
	ReadOnly string
	// ReadyAlone: readiness is that of this process alone. Gateways and Activations say
	// for themselves how they are, to whoever looks at their status.
	ReadyAlone bool
	// MetricsAddress serves /metrics, /healthz and /readyz; "" for none. Unless
	// MetricsAnywhere it must be loopback.
	MetricsAddress  string
	MetricsAnywhere bool
	// AuditRetention is how long entries of the audit log are kept, AuditOrigin
	// the first line of a new log's checkpoints; zero for the defaults.
	AuditRetention time.Duration
	AuditOrigin    string
	// CheckpointTo are files and URLs that get each checkpoint of the audit log.
	CheckpointTo []string
	// Sinks follow the audit log. nil: none.
	Sinks *sink.Config
	// Ship brings the audit log to that of the cluster, once it is open, and nothing is
	// removed from it that is not there; nil: there is none. Who gives it runs it.
	Ship *ship.Client
	Log  *slog.Logger
}

// World is what the loop works for. Amend and Apply are called by the loop and
// wait for nothing; the others by any goroutine.
type World interface {
	// Requester says who made the Activation under key, as this world knows.
	Requester(set *source.Set, key types.NamespacedName) string
	// Amend adds to what is translated next what only this world knows.
	Amend(in *translator.Input)
	// Apply makes the Envoys, and whoever else wants to know, those of a
	// translation.
	Apply(ctx context.Context, set *source.Set, r *translator.Result)
	// Deliveries are what the Envoys of each Gateway have acknowledged.
	Deliveries() map[types.NamespacedName]snapshot.Delivery
	// Envoy tells of the Envoys of a Gateway, and what is wrong with them; "": nothing.
	Envoy(gateway types.NamespacedName) (control.EnvoyStatus, string)
	// NotReady lists what else should work and does not.
	NotReady() []string
	// Collect metrics.
	Collect(ch chan<- prometheus.Metric)
	// Stop ends what must not outlive the loop, and returns when it has ended.
	Stop()
}

// Open opens what is durable, replays it, and begins to record. Run must follow,
// or Close.
func Open(o Options) (_ *Engine, err error) {
	l := &Engine{opts: o, log: o.Log, pokes: make(chan struct{}, 1), failed: make(chan error, 1)}
	if err := l.openDataDir(); err != nil {
		return nil, err
	}
	l.commands = make(chan func())
	l.written = make(chan *write, 1)
	l.viewed = make(chan struct{})
	l.candidates = map[types.NamespacedName]*candidate{}
	l.reviewing = map[types.NamespacedName]activation.ReviewRequest{}
	return l, nil
}

// Run serves what comes by updates until ctx ends, then stops its world.
func (l *Engine) Run(ctx context.Context, world World, updates <-chan *source.Set) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.world = world
	if err := l.listen(); err != nil {
		return err
	}
	go func() {
		select {
		case err := <-l.failed:
			cancel(err)
		case <-ctx.Done():
		}
	}()
	return l.run(ctx, updates)
}

// Fail ends the loop in order: err is of something without which it is better
// to start anew.
func (l *Engine) Fail(err error) {
	select {
	case l.failed <- err:
	default:
	}
}

// Recorder takes what goes through Envoys into the audit log.
func (l *Engine) Recorder() *recorder.Recorder { return l.recorder }

// Clock is the time by which everything is judged.
func (l *Engine) Clock() *clock.Clock { return l.clock }

// openDataDir opens what is durable and replays it.
func (l *Engine) openDataDir() error {
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
	if err := l.startSinks(); err != nil {
		return errors.Join(err, l.recorder.Close(), l.journal.Close(), l.clock.Close())
	}
	l.alarms.start()
	l.fetcher = jwks.NewFetcher(filepath.Join(dir, "jwks"), l.clock.Now, l.log)
	return nil
}

// Close ends what Open and Run began.
func (l *Engine) Close() error {
	l.shutServers()
	l.fetcher.Close()
	sinks := l.closeSinks() // first: what they say is recorded
	l.alarms.close()
	return errors.Join(sinks, l.recorder.Close(), l.journal.Close(), l.clock.Close())
}

// now is the time by which everything is judged.
func (l *Engine) now() time.Time { return l.clock.Now().Round(0).UTC() }
