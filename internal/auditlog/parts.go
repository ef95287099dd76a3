package auditlog

import (
	"context"
	"sync"
	"time"
)

// part is something that goes on while the log is open. run returns when ctx ends; an
// error before that is logged, and it is begun anew.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// parts are all of them. None holds up another, nor those who bring entries.
func (s *Service) parts() []part {
	return []part{
		{"sources", func(ctx context.Context) error { s.taker.Watch(ctx); return nil }},
		{"readers", s.readers},
		{"alarms", s.runAlarms},
		{"sinks", s.runSinks},
	}
}

// partAgain is the time after which a part that failed is begun anew.
const partAgain = 5 * time.Second

// follow runs the parts until ctx ends.
func (s *Service) follow(ctx context.Context) {
	var all sync.WaitGroup
	for _, p := range s.parts() {
		all.Go(func() {
			for ctx.Err() == nil {
				err := p.run(ctx)
				if ctx.Err() != nil {
					return
				}
				s.log.Error("a part of the audit log service has ended; it is begun anew", "part", p.name, "error", err)
				select {
				case <-time.After(partAgain):
				case <-ctx.Done():
				}
			}
		})
	}
	all.Wait()
	<-ctx.Done()
}
