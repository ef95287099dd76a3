package agent

import (
	"context"
	"net/http"
	"time"
)

const (
	// watchEvery is how often Envoy is looked at.
	watchEvery = 250 * time.Millisecond
	// A fresh Envoy is ready once it is live and has had nothing new for quiet, or
	// live for settleMost: it is live before it has the routes that are open.
	quiet, settleMost = 500 * time.Millisecond, 10 * time.Second
)

// watch keeps the report up to date.
func (a *agent) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		a.look(ctx)
		select {
		case <-tick.C:
		case <-a.pokes:
		case <-ctx.Done():
			return
		}
	}
}

func (a *agent) look(ctx context.Context) {
	r := report{failing: a.recorder.Problem()}
	alive, err := a.opts.RunDir.Alive()
	if alive && err == nil {
		r.epoch = a.opts.RunDir.Epoch()
	}
	var why string
	switch {
	case err != nil:
		why = "it is not known whether Envoy runs: " + err.Error()
	case !alive:
		why = "Envoy does not run"
	default:
		ask, cancel := context.WithTimeout(ctx, time.Second)
		_, err := a.admin.Ask(ask, http.MethodGet, "/ready")
		cancel()
		why = a.settle(r.epoch, err)
	}
	r.ready = why == ""
	a.set(r, why)
}

// settle says why the Envoy of that epoch is not ready, given what it says itself.
func (a *agent) settle(epoch string, err error) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.live = time.Time{}
		why := err.Error()
		if a.trouble != "" {
			why += "; the controller cannot be reached: " + a.trouble
		}
		return why
	}
	now := time.Now()
	if a.live.IsZero() {
		a.live = now
	}
	if a.settled != epoch && now.Sub(a.answered) < quiet && now.Sub(a.live) < settleMost {
		return "Envoy is being configured"
	}
	a.settled = epoch
	return ""
}
