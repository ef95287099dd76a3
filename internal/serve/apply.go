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

// sweep ends, once, the Envoys that an earlier serve left for Gateways that are
// gone.
func (l *loop) sweep(ctx context.Context) {
	if l.swept {
		return
	}
	l.swept = true
	var keep []string
	for key := range l.result.Gateways {
		keep = append(keep, key.String())
	}
	go func() {
		swept, err := dataplane.Sweep(ctx, l.envoyDir(), keep, l.recorder.Exited, l.log)
		if err != nil {
			l.log.Error("cannot clear what an earlier serve left", "error", err)
		}
		for _, dir := range swept {
			l.log.Info("ended an orphaned Envoy", "dir", dir)
		}
	}()
}

// apply hands the last translation to the Envoys. It waits for nothing.
func (l *loop) apply(ctx context.Context) {
	for key, g := range l.result.Gateways {
		l.xds.Set(key.String(), g.Snapshot)
		e := l.envoys[key]
		if e == nil {
			e = l.startEnvoy(ctx, key)
			l.envoys[key] = e
		}
		e.setLife(dataplane.Life{Until: g.LastDeadline, Unrecorded: g.Unrecorded})
	}
	for key, e := range l.envoys {
		if l.result.Gateways[key] == nil {
			l.xds.Set(key.String(), &snapshot.Snapshot{})
			e.stop()
			delete(l.envoys, key)
		}
	}
}

// startEnvoy keeps one Envoy running until its stop is called.
func (l *loop) startEnvoy(parent context.Context, key types.NamespacedName) *envoy {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	e := &envoy{stop: cancel, done: make(chan struct{}), due: make(chan struct{}, 1)}
	l.attach(key.String(), e)
	go func() {
		defer close(e.done)
		for {
			p, err := dataplane.Start(ctx, l.envoyConfig(key))
			e.set(p, err)
			l.poke()
			if err == nil {
				e.watch(ctx, p, l.poke)
				return
			}
			if ctx.Err() != nil {
				return // told to stop before it had begun
			}
			l.log.Error("cannot start Envoy", "gateway", key.String(), "error", err)
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

func (l *loop) envoyConfig(key types.NamespacedName) dataplane.Config {
	return dataplane.Config{
		Name: key.String(), NodeID: key.String(),
		XDSSocket: l.xdsSocket(), ALSSocket: l.alsSocket(),
		EnvoyPath: l.opts.EnvoyPath, Dir: l.envoyDir(),
		Concurrency: l.opts.Concurrency, MaxConnections: l.opts.MaxConnections, MaxHeapBytes: l.opts.MaxHeapBytes,
		DeadmanArgs: l.opts.DeadmanArgs, Log: l.log,
		OnExit: func(epoch string, clean bool) { l.recorder.Exited(key.String(), epoch, clean) },
	}
}

// deliveries are what each Envoy has acknowledged.
func (l *loop) deliveries() map[types.NamespacedName]snapshot.Delivery {
	out := map[types.NamespacedName]snapshot.Delivery{}
	for key, e := range l.envoys {
		state, _ := e.state()
		out[key] = delivery{l.xds.Delivery(key.String()), state.Ready}
	}
	return out
}

// delivery counts an Envoy as connected once it is ready: it acknowledges a
// listener a little before it listens.
type delivery struct {
	snapshot.Delivery
	ready bool
}

func (d delivery) Connected() bool { return d.ready && d.Delivery.Connected() }

// stopEnvoys ends all of them and waits.
func (l *loop) stopEnvoys() {
	for _, e := range l.envoys {
		e.stop()
	}
	for _, e := range l.envoys {
		<-e.done
	}
}
