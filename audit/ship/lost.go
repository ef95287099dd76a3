package ship

import (
	"context"
	"fmt"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// Watch looks for sources that are not heard of any more, until ctx ends.
func (s *Server) Watch(ctx context.Context) {
	tick := time.NewTicker(min(s.opts.Lost/10, 10*time.Second))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.Look(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// Look says in the log which sources are lost by now: a source entry, and a gap,
// for nobody knows what else they had.
func (s *Server) Look(ctx context.Context) {
	s.sweep()
	for _, src := range s.silent() {
		if err := s.lose(ctx, src); err != nil {
			s.opts.Log.Error("that a source is lost cannot be recorded; it is tried again", "log", src.name, "error", err)
		}
		s.unlock(src)
	}
}

// silent are the sources that are lost; they are locked.
func (s *Server) silent() (out []*source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.mono()
	for _, src := range s.sources {
		if src.state == stateBegun && now.Sub(src.heard) >= s.opts.Lost && src.tryLock() {
			out = append(out, src)
		}
	}
	return out
}

func (s *Server) lose(ctx context.Context, src *source) error {
	s.mu.Lock()
	now, missing := s.opts.Now(), uint64(0)
	heard := now.Add(src.heard.Sub(s.mono()))
	if src.said > src.next {
		missing = src.said - src.next
	}
	s.mu.Unlock()
	p := &plan{src: src, id: Identity{Name: src.identity}, now: now, next: src.next}
	p.source(stateLost, nil)
	p.gap(audit.Gap{
		V: 1, Lost: missing, AtLeast: true, Since: heard.UTC().Truncate(time.Microsecond), Until: now.UTC().Truncate(time.Microsecond),
		Gateway: src.gateway(), Reason: fmt.Sprintf("the log %s was not heard of for %v, and had not ended: what it had besides is not here unless it comes again", src.name, s.opts.Lost),
	})
	if p.err != nil {
		return p.err
	}
	if err := s.opts.Ledger.Append(ctx, p.drafts...); err != nil {
		return err
	}
	s.opts.Log.Warn("a source of the audit log is lost", "log", src.name, "identity", src.identity, "missing", missing)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Gaps += p.gaps
	known := src.known
	p.done()
	src.known = known
	src.session = "" // it has to ask first
	return nil
}
