package serve

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/internal/dataplane"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// envoy is the Envoy of one Gateway. Starting one takes a moment, so that it
// happens beside the loop.
type envoy struct {
	stop context.CancelFunc
	done chan struct{}
	due  chan struct{} // capacity 1: life changed

	mu      sync.Mutex
	process *dataplane.Envoy // nil until it has started
	err     error            // of the last attempt to start
	life    dataplane.Life
}

// startRetry is how long to wait after a failed start.
const startRetry = time.Second

// startEnvoy keeps one Envoy running until its stop is called.
func (f *fleet) startEnvoy(parent context.Context, key types.NamespacedName) *envoy {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	e := &envoy{stop: cancel, done: make(chan struct{}), due: make(chan struct{}, 1)}
	f.attach(key.String(), e)
	go func() {
		defer close(e.done)
		for {
			p, err := dataplane.Start(ctx, f.envoyConfig(key))
			e.set(p, err)
			f.engine.Poke()
			if err == nil {
				e.watch(ctx, p, f.engine.Poke)
				return
			}
			if ctx.Err() != nil {
				return // told to stop before it had begun
			}
			f.log.Error("cannot start Envoy", "gateway", key.String(), "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(startRetry):
			}
		}
	}()
	return e
}

// watch tells the loop of changes, and ends the process when it is told to.
func (e *envoy) watch(ctx context.Context, p *dataplane.Envoy, poke func()) {
	for {
		select {
		case <-p.Changed():
			poke()
		case <-e.due:
			e.mu.Lock()
			life := e.life
			e.mu.Unlock()
			p.SetLife(life) // to disk, so not on the loop
		case <-ctx.Done():
			stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			e.set(nil, p.Stop(stopCtx))
			return
		}
	}
}

func (e *envoy) set(p *dataplane.Envoy, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.process, e.err = p, err
}

// setLife says until when an orphan of this Envoy may live.
func (e *envoy) setLife(life dataplane.Life) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if life == e.life {
		return
	}
	e.life = life
	select {
	case e.due <- struct{}{}:
	default:
	}
}

// state is what the process says of itself, and why it does not run.
func (e *envoy) state() (dataplane.State, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process == nil {
		return dataplane.State{}, e.err
	}
	return e.process.State(), nil
}

func (f *fleet) envoyConfig(key types.NamespacedName) dataplane.Config {
	return dataplane.Config{
		Name: key.String(), NodeID: key.String(),
		XDSSocket: f.xdsSocket(), ALSSocket: f.alsSocket(), IntentSocket: f.intentSocket(),
		EnvoyPath: f.opts.EnvoyPath, Dir: f.envoyDir(),
		Concurrency: f.opts.Concurrency, MaxConnections: f.opts.MaxConnections, MaxHeapBytes: f.opts.MaxHeapBytes,
		DeadmanArgs: f.opts.DeadmanArgs, Log: f.log,
		OnExit: func(epoch string, clean bool) { f.engine.Recorder().Exited(key.String(), epoch, clean) },
	}
}

// delivery counts an Envoy as connected once it is ready: it acknowledges a
// listener a little before it listens.
type delivery struct {
	snapshot.Delivery
	ready bool
}

func (d delivery) Connected() bool { return d.ready && d.Delivery.Connected() }
