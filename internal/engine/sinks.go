package engine

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/breakglass-gateway/breakglass-gateway/audit/sink"
)

// startSinks has the sinks follow the audit log, by themselves: the loop and the
// recorder know nothing of them.
func (l *Engine) startSinks() (err error) {
	if l.opts.Sinks == nil {
		return nil
	}
	l.sinks, err = sink.Start(context.Background(), sink.Options{
		Dir: l.logDir(), StateDir: filepath.Join(l.opts.DataDir, "sinks"), Config: *l.opts.Sinks, Log: l.log, Now: l.now,
		OnDelivered: l.alarms.receipts.Delivered, OnState: l.alarms.receipts.State,
	})
	if err != nil {
		return fmt.Errorf("start the sinks: %w", err)
	}
	return nil
}

// alarmSinks are those by which people are told.
func (l *Engine) alarmSinks() []string {
	if l.opts.Sinks == nil {
		return nil
	}
	return l.opts.Sinks.AlarmSinks()
}

func (l *Engine) closeSinks() error {
	if l.sinks == nil {
		return nil
	}
	return l.sinks.Close()
}
