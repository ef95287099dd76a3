package engine

import (
	"fmt"
	"path/filepath"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
)

func (l *Engine) logDir() string { return filepath.Join(l.opts.DataDir, "log") }

// openAudit opens the audit log, and begins to move into it what was and what is
// being recorded.
func (l *Engine) openAudit() (err error) {
	o := merkle.Options{Log: l.log, Now: l.clock.Now, Retention: l.opts.AuditRetention, Origin: l.opts.AuditOrigin}
	for _, to := range l.opts.CheckpointTo {
		sink, err := merkle.SinkTo(to)
		if err != nil {
			return fmt.Errorf("--checkpoint-to: %w", err)
		}
		o.Witnesses = append(o.Witnesses, sink)
	}
	if l.opts.Ship != nil {
		o.Hold = l.opts.Ship.Hold
	}
	open := recorder.OpenLog(l.logDir(), o)
	if l.opts.Ship != nil {
		open = open.Told(l.opts.Ship.Opened)
	}
	// A log that cannot be opened does not keep serve from starting: closing waits
	// for nothing.
	l.alarms = newAlarms(l)
	open = l.alarms.over(open)
	l.recorder, err = recorder.New(open, l.journal, recorder.Options{Log: l.log, Now: l.now, DataDir: l.opts.DataDir, OnChange: l.recorderChanged})
	if err != nil {
		return err
	}
	l.replayed = l.seq
	return nil
}

// recorderChanged is told when it may be another matter whether entries can be kept.
// It waits for nothing.
func (l *Engine) recorderChanged() {
	l.Poke()
	l.alarms.changed()
}

// compareJournal looks, once the audit log is open, whether it knows more of the
// journal than the journal does.
func (l *Engine) compareJournal() {
	was := l.recorder.JournalWas()
	if l.compared || !was.Known {
		return
	}
	l.compared = true
	if was.Another && l.replayed > 0 || was.Seq > l.replayed {
		l.forget("inAuditLog", was.Seq, "ofAnotherJournal", was.Another, "journal", l.replayed)
	}
}
