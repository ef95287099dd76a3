package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
)

func (l *Engine) logDir() string { return filepath.Join(l.opts.DataDir, "log") }

// openAudit opens the audit log, and begins to move into it what was and what is
// being recorded.
func (l *Engine) openAudit() (err error) {
	o := merkle.Options{Log: l.log, Now: l.clock.Now, Retention: l.opts.AuditRetention, Origin: l.opts.AuditOrigin}
	for _, to := range l.opts.CheckpointTo {
		sink := merkle.FileSink(to)
		if strings.Contains(to, "://") {
			if sink, err = merkle.HTTPSink(to); err != nil {
				return fmt.Errorf("--checkpoint-to: %w", err)
			}
		}
		o.Witnesses = append(o.Witnesses, sink)
	}
	// A log that cannot be opened does not keep serve from starting: closing waits
	// for nothing.
	open := func() (recorder.Ledger, []merkle.Entry, error) {
		ledger, err := merkle.Open(l.logDir(), o)
		if err != nil {
			return nil, nil, err
		}
		recent, err := l.recentEntries(ledger.Size())
		if err != nil {
			return nil, nil, errors.Join(err, ledger.Close())
		}
		return ledger, recent, nil
	}
	l.recorder, err = recorder.New(open, l.journal, recorder.Options{Log: l.log, Now: l.now, DataDir: l.opts.DataDir, OnChange: l.Poke})
	if err != nil {
		return err
	}
	l.replayed = l.seq
	return nil
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

// recentEntries are those that a row of the gRPC access log may still name: such
// rows do not survive this process, and Envoy keeps one for a tenth of a second, so
// only those of the last moment can come. Of a flood most are not read at all: a
// start waits for this. size is that of the log.
func (l *Engine) recentEntries(size uint64) ([]merkle.Entry, error) {
	const recent, most = 30 * time.Second, 50_000
	filter := merkle.Filter{Since: l.now().Add(-recent)}
	if size > most {
		filter.From = size - most
	}
	var out []merkle.Entry
	err := merkle.Read(context.Background(), l.logDir(), filter, func(e merkle.Entry) error {
		out = append(out, e)
		return nil
	})
	return out, err
}
