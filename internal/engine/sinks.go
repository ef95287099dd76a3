package engine

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/alarm"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/sink"
)

// startSinks has the sinks follow the audit log, by themselves: the loop and the
// recorder know nothing of them.
func (l *Engine) startSinks() (err error) {
	if l.opts.Sinks == nil {
		return nil
	}
	o := sink.Options{
		Dir: l.logDir(), StateDir: filepath.Join(l.opts.DataDir, "sinks"), Config: *l.opts.Sinks, Log: l.log, Now: l.now,
		OnDelivered: l.alarms.receipts.Delivered, OnState: l.alarms.receipts.State,
	}
	if l.opts.Ship != nil {
		o.Skip = l.deliveredElsewhere
	}
	if l.sinks, err = sink.Start(context.Background(), o); err != nil {
		return fmt.Errorf("start the sinks: %w", err)
	}
	l.alarms.sinks.Store(l.sinks)
	return nil
}

// elsewhere is how long the audit log service may take to confirm an alarm until it
// is delivered from here.
const elsewhere = 300 * time.Millisecond

// deliveredElsewhere reports whether the audit log service delivers an entry: it does
// what it has, and alone what nobody waits for. An alarm that it has not, for it is
// away or slow, is delivered from here, and should it come there after all, there as
// well, under the same id. The sink that asks waits for the answer.
func (l *Engine) deliveredElsewhere(e merkle.Entry) bool {
	if _, raises := alarm.Raises(e); !raises {
		return true
	}
	if !confirmed(e.Seq, elsewhere-l.now().Sub(e.Time), l.opts.Ship.Confirmed) {
		return false
	}
	l.alarms.receipts.Elsewhere(e)
	return true
}

// confirmed waits until an entry is, but not longer than that.
func confirmed(seq uint64, most time.Duration, upTo func() (next uint64, changed <-chan struct{})) bool {
	late := time.NewTimer(most)
	defer late.Stop()
	for {
		next, changed := upTo()
		if next > seq {
			return true
		}
		select {
		case <-changed:
		case <-late.C:
			return false
		}
	}
}

// alarmSinks are those by which people are told.
func (l *Engine) alarmSinks() []string {
	if l.opts.Sinks == nil {
		return nil
	}
	return l.opts.Sinks.AlarmSinks()
}

// closeSinks ends the sinks, after a moment for what was recorded last: that a window
// has ended with serve, above all.
func (l *Engine) closeSinks() error {
	if l.sinks == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = l.recorder.Drain(ctx) // what is not in the log yet is delivered after the next start
	return l.sinks.Close()
}
