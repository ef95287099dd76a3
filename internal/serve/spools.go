package serve

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
	"github.com/breakglass-gateway/breakglass-gateway/audit/spool"
	"github.com/breakglass-gateway/breakglass-gateway/internal/dataplane"
)

// door is the Envoy of a Gateway at present. The recorder keeps asking it, however
// often there is another.
type door struct{ envoy atomic.Pointer[envoy] }

// attach has the recorder take what the Envoy of a Gateway logs.
func (f *fleet) attach(gateway string, e *envoy) {
	d := f.doors[gateway]
	if d != nil {
		d.envoy.Store(e)
		return
	}
	d = &door{}
	d.envoy.Store(e)
	f.doors[gateway] = d
	dir := filepath.Join(f.envoyDir(), dataplane.DirName(gateway), dataplane.SpoolDir)
	f.engine.Recorder().Attach(recorder.Source{
		Gateway: gateway,
		Open: func(position string) (recorder.Tail, error) {
			if err := os.MkdirAll(dir, 0o700); err != nil { // Envoy may be slower
				return nil, err
			}
			reopen := func(ctx context.Context) error { return d.envoy.Load().reopenLogs(ctx) }
			return spool.Open(spool.Options{Dir: dir, Reopen: reopen, Log: f.log}, position)
		},
		Counters: func(ctx context.Context) (recorder.Counters, error) { return d.envoy.Load().counters(ctx) },
	})
}

func (e *envoy) running() (*dataplane.Envoy, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process == nil {
		return nil, recorder.ErrNoProcess
	}
	return e.process, nil
}

func (e *envoy) reopenLogs(ctx context.Context) error {
	p, err := e.running()
	if err != nil {
		return err
	}
	return p.ReopenLogs(ctx)
}

func (e *envoy) counters(ctx context.Context) (recorder.Counters, error) {
	p, err := e.running()
	if err != nil {
		return recorder.Counters{}, err
	}
	c, err := p.Counters(ctx)
	out := recorder.Counters{Epoch: c.Epoch, Chains: map[string]recorder.Requests{}, Limited: c.Limited, WriteFailed: c.FileWriteFailed + c.FileReopenFailed, Buffered: c.FileBuffered}
	for chain, n := range c.Chains {
		out.Chains[chain] = recorder.Requests(n)
	}
	return out, err
}
