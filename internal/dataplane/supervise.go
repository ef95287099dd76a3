package dataplane

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"time"
)

const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = time.Second
	// lived is how long a process must have run for its end not to count as
	// one of a series.
	lived = 2 * time.Second
	// housekeeping is how often the log and the deadman are looked at.
	housekeeping = time.Second
)

// supervise keeps one process running until ctx ends.
func (e *Envoy) supervise(ctx context.Context) {
	defer close(e.done)
	backoff := minBackoff
	for {
		p := e.current // written by this goroutine only
		if !e.watch(ctx, p) {
			return
		}
		if time.Since(e.State().StartedAt) >= lived {
			backoff = minBackoff
		}
		e.died(p)
		for {
			if sleep(ctx, backoff) != nil {
				return
			}
			backoff = min(2*backoff, maxBackoff)
			err := e.launch()
			if err == nil {
				break
			}
			e.fail(err)
		}
		e.update(func(s *State) { s.Restarts++ })
	}
}

// watch returns true when the process has ended, false when ctx has.
func (e *Envoy) watch(ctx context.Context, p *process) bool {
	probing, stopProbing := context.WithCancel(ctx)
	defer stopProbing()
	go e.probe(probing, p)

	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-p.gone:
			return true
		case <-tick.C:
			e.ensureDeadman()
			e.readLog()
			e.rotateLog(ctx)
		}
	}
}

// probe asks until Envoy is ready: often at first, because somebody waits.
func (e *Envoy) probe(ctx context.Context, p *process) {
	wait := 10 * time.Millisecond
	for {
		ask, cancel := context.WithTimeout(ctx, time.Second)
		_, err := e.Admin(ask, http.MethodGet, "/ready")
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			// The answer may be of a successor; then its own probe tells.
			e.update(func(s *State) { s.Ready = s.Ready || s.PID == p.pid })
			return
		}
		if sleep(ctx, wait) != nil {
			return
		}
		wait = min(wait+wait/10, 250*time.Millisecond)
	}
}

// died reports the end of a process that nobody asked to end.
func (e *Envoy) died(p *process) {
	p.release()
	e.update(func(s *State) { s.PID, s.Epoch, s.Ready = 0, "", false })
	e.exited(p)
	cause := "; its log says nothing"
	if text := firstCause(e.newLog()); text != "" {
		cause = ": " + text
	}
	e.fail(fmt.Errorf("process %d ended by itself (%s)%s; see %s", p.pid, p.how, cause, e.cfg.file(fileLog)))
}

// ensureDeadman starts a deadman when none watches. It is called again and
// again, because a deadman can be killed too.
func (e *Envoy) ensureDeadman() {
	if len(e.cfg.DeadmanArgs) == 0 || time.Since(e.lastDeadmanStart) < 2*housekeeping {
		return // one that was just started may not have its lock yet
	}
	watched, err := isLocked(e.cfg.file(fileDeadmanLock))
	if err != nil {
		e.fail(err)
		return
	}
	if watched {
		return
	}
	e.lastDeadmanStart = time.Now()
	path, err := exec.LookPath(e.cfg.DeadmanArgs[0])
	if err == nil {
		args := append(append([]string(nil), e.cfg.DeadmanArgs...), e.cfg.dir())
		cmd := &exec.Cmd{Path: path, Args: args}
		if err = startDetached(cmd, e.cfg.dir(), fileDeadmanLog); err == nil {
			go func() { _ = cmd.Wait() }() // no zombie; what it has to say is in its log
		}
	}
	if err != nil {
		e.fail(fmt.Errorf("start the deadman of Envoy %q: %w: nobody would end this Envoy if the control plane died", e.cfg.Name, err))
	}
}
