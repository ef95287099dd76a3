package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
	"github.com/breakglass-gateway/breakglass-gateway/audit/spool"
	"github.com/breakglass-gateway/breakglass-gateway/internal/dataplane"
)

func (l *loop) logDir() string { return filepath.Join(l.opts.DataDir, "log") }

// openAudit opens the audit log, and begins to move into it what was and what is
// being recorded.
func (l *loop) openAudit() (err error) {
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
		recent, err := l.recentEntries()
		if err != nil {
			return nil, nil, errors.Join(err, ledger.Close())
		}
		return ledger, recent, nil
	}
	l.recorder, err = recorder.New(open, l.journal, recorder.Options{Log: l.log, Now: l.now, DataDir: l.opts.DataDir, OnChange: l.poke})
	if err != nil {
		return err
	}
	names, err := dataplane.Names(l.envoyDir())
	if err != nil {
		return errors.Join(err, l.recorder.Close())
	}
	l.replayed = l.seq
	l.doors = map[string]*door{}
	for _, name := range names {
		l.attach(name, &envoy{}) // what it has written, whether its Gateway is still there or not
	}
	return nil
}

// compareJournal looks, once the audit log is open, whether it knows more of the
// journal than the journal does.
func (l *loop) compareJournal() {
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
// rows do not survive this process, so only those of the last moment can come.
func (l *loop) recentEntries() ([]merkle.Entry, error) {
	const recent, most = 30 * time.Second, 200_000
	var out []merkle.Entry
	err := merkle.Read(context.Background(), l.logDir(), merkle.Filter{Since: l.now().Add(-recent)}, func(e merkle.Entry) error {
		if out = append(out, e); len(out) > most {
			out = out[most/2:]
		}
		return nil
	})
	return out, err
}

// door is the Envoy of a Gateway at present. The recorder keeps asking it, however
// often there is another.
type door struct{ envoy atomic.Pointer[envoy] }

// attach has the recorder take what the Envoy of a Gateway logs.
func (l *loop) attach(gateway string, e *envoy) {
	d := l.doors[gateway]
	if d != nil {
		d.envoy.Store(e)
		return
	}
	d = &door{}
	d.envoy.Store(e)
	l.doors[gateway] = d
	dir := filepath.Join(l.envoyDir(), dataplane.DirName(gateway), dataplane.SpoolDir)
	l.recorder.Attach(recorder.Source{
		Gateway: gateway,
		Open: func(position string) (recorder.Tail, error) {
			if err := os.MkdirAll(dir, 0o700); err != nil { // Envoy may be slower
				return nil, err
			}
			reopen := func(ctx context.Context) error { return d.envoy.Load().reopenLogs(ctx) }
			return spool.Open(spool.Options{Dir: dir, Reopen: reopen, Log: l.log}, position)
		},
		Counters: func(ctx context.Context) (recorder.Counters, error) { return d.envoy.Load().counters(ctx) },
	})
}

func (e *envoy) running() (*dataplane.Envoy, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process == nil {
		return nil, recorder.ErrNoProcess
	}
	return e.process, nil
}

func (e *envoy) reopenLogs(ctx context.Context) error {
	p, err := e.running()
	if err != nil {
		return err
	}
	return p.ReopenLogs(ctx)
}

func (e *envoy) counters(ctx context.Context) (recorder.Counters, error) {
	p, err := e.running()
	if err != nil {
		return recorder.Counters{}, err
	}
	c, err := p.Counters(ctx)
	out := recorder.Counters{Epoch: c.Epoch, Chains: map[string]recorder.Requests{}, Limited: c.Limited, WriteFailed: c.FileWriteFailed + c.FileReopenFailed, Buffered: c.FileBuffered}
	for chain, n := range c.Chains {
		out.Chains[chain] = recorder.Requests(n)
	}
	return out, err
}
