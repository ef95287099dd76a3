package agent

import (
	"context"
	"encoding/json"
	"path/filepath"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
	"github.com/breakglass-gateway/breakglass-gateway/audit/spool"
	"github.com/breakglass-gateway/breakglass-gateway/internal/dataplane"
)

// record begins to move what Envoy logs into the audit log.
func (a *agent) record() (err error) {
	now := func() time.Time { return a.clock.Now().Round(0).UTC() }
	options := merkle.Options{Log: a.log, Now: now, Retention: a.opts.AuditRetention, Origin: "breakglass.dev/log/" + a.node}
	if a.ship != nil {
		options.Hold, options.Short, options.SegmentBytes = a.ship.Hold, a.short, shippedSegment
	}
	open := recorder.OpenLog(filepath.Join(a.opts.AuditDir, "log"), options)
	if a.ship != nil {
		open = open.Told(a.ship.Opened)
	}
	a.recorder, err = recorder.New(func() (recorder.Ledger, []merkle.Entry, error) {
		ledger, recent, err := open()
		a.remember(recent)
		return ledger, recent, err
	}, nil, recorder.Options{Log: a.log, Now: now, DataDir: a.opts.AuditDir, OnChange: a.poke})
	if err != nil {
		return err
	}
	a.recorder.Attach(recorder.Source{
		Gateway: a.opts.Gateway,
		Open: func(position string) (recorder.Tail, error) {
			return spool.Open(spool.Options{Dir: filepath.Join(a.opts.AuditDir, dataplane.SpoolDir), Reopen: a.reopenLogs, Log: a.log}, position)
		},
		Counters: a.counters,
	})
	return nil
}

func (a *agent) poke() {
	select {
	case a.pokes <- struct{}{}:
	default:
	}
}

func (a *agent) reopenLogs(ctx context.Context) error {
	if alive, err := a.opts.RunDir.Alive(); err != nil || !alive {
		return err // the next Envoy opens the new file
	}
	return a.admin.ReopenLogs(ctx)
}

func (a *agent) counters(ctx context.Context) (recorder.Counters, error) {
	alive, err := a.opts.RunDir.Alive()
	if err != nil {
		return recorder.Counters{}, err
	}
	if !alive {
		a.tellEnds()
		return recorder.Counters{}, recorder.ErrNoProcess
	}
	c, err := a.admin.Counters(ctx)
	// After the answer: that an Envoy ended is noted before the next begins, so the
	// end of each before the one that answered is there.
	a.tellEnds()
	if err != nil {
		return recorder.Counters{}, err
	}
	out := recorder.Counters{
		Epoch: c.Epoch, Chains: map[string]recorder.Requests{}, Limited: c.Limited,
		WriteFailed: c.FileWriteFailed + c.FileReopenFailed, Buffered: c.FileBuffered,
	}
	for chain, n := range c.Chains {
		out.Chains[chain] = recorder.Requests(n)
	}
	return out, nil
}

// keepEnd is how long the end of an Envoy stays noted after the recorder was told:
// by then it is in the log.
const keepEnd = 10 * time.Second

// tellEnds tells the recorder which Envoys have ended.
func (a *agent) tellEnds() {
	ends, err := a.opts.RunDir.Ends()
	if err != nil {
		a.log.Error("cannot read how an Envoy ended", "error", err)
		return
	}
	a.endsMu.Lock()
	defer a.endsMu.Unlock()
	for _, e := range ends {
		at, told := a.told[e.Epoch]
		switch {
		case !told && !a.buried[e.Epoch]:
			a.recorder.Exited(a.opts.Gateway, e.Epoch, e.Clean)
			a.told[e.Epoch] = time.Now()
		case !told || time.Since(at) > keepEnd:
			delete(a.told, e.Epoch)
			if err := a.opts.RunDir.Forget(e); err != nil {
				a.log.Error("cannot forget how an Envoy ended", "error", err)
			}
		}
	}
}

// remember which Envoys' ends the agent before has seen to.
func (a *agent) remember(recent []merkle.Entry) {
	a.endsMu.Lock()
	defer a.endsMu.Unlock()
	for _, e := range recent {
		var epoch recorder.Epoch
		if e.Kind == recorder.KindEpoch && json.Unmarshal(e.Data, &epoch) == nil {
			a.buried[epoch.Epoch] = true
		}
	}
}
