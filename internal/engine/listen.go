package engine

import (
	"context"
	"fmt"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// listen opens the control socket, metrics and health.
func (l *Engine) listen() error {
	if err := l.serveControl(); err != nil {
		return err
	}
	return l.serveMetrics()
}

func (l *Engine) shutServers() {
	for _, s := range l.httpServers {
		if err := s.Close(); err != nil {
			l.log.Error("close the metrics server", "error", err)
		}
	}
	if l.controlClose != nil {
		if err := l.controlClose(); err != nil {
			l.log.Error("close the control socket", "error", err)
		}
	}
}

// shutdown stops in order: nothing is served any more, then it is recorded.
func (l *Engine) shutdown() error {
	l.world.Stop()
	if l.writing {
		l.wrote(<-l.written)
	}
	batch := append(l.unwritten, entry(audit.KindStop, struct{}{}))
	if err := l.journal.Append(context.Background(), batch...); err != nil {
		return fmt.Errorf("record the stop: %w", err)
	}
	return nil
}
