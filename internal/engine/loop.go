package engine

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
	"github.com/breakglass-gateway/breakglass-gateway/audit/sink"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/clock"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// Engine owns the state. Only its goroutine touches the fields below "loop only".
type Engine struct {
	opts    Options
	log     *slog.Logger
	world   World
	failed  chan error // capacity 1: it cannot go on
	clock   *clock.Clock
	journal *audit.Journal
	// recorder writes the audit log. The loop never waits for it.
	recorder *recorder.Recorder
	sinks    *sink.Sinks // nil: none
	alarms   *alarms
	fetcher  *jwks.Fetcher
	reserve  reserve

	httpServers  []*http.Server
	controlClose func() error

	pokes    chan struct{}
	commands chan func()
	written  chan *write // capacity 1: one write at a time

	view   atomic.Pointer[view]
	viewMu sync.Mutex
	viewed chan struct{} // closed when there is a newer view

	// Loop only.
	set         *source.Set
	records     map[types.NamespacedName]activation.Record
	revocations map[types.NamespacedName]activation.Revocation
	reviewing   map[types.NamespacedName]activation.ReviewRequest // by activation, not on record yet
	candidates  map[types.NamespacedName]*candidate
	policies    map[string]policyRecord // as last recorded
	unwritten   []audit.Entry           // what is true but not recorded yet
	writing     bool                    // a batch is on its way to the disk
	started     bool                    // the start is on record
	resting     bool                    // the last write failed; the next tick tries again
	seq         uint64                  // of the last control entry
	forgetful   bool                    // the journal is older than what was recorded
	vouched     bool                    // it is not, says the number beside it
	journalErr  error                   // of the last write
	failedSince time.Time               // when the first of a row of writes failed
	replayed    uint64                  // the last control entry of before this start
	compared    bool                    // the journal was compared with the audit log
	translator  translator.Translator
	result      *translator.Result
	behind      time.Duration
	looked      time.Time // when the clock was last looked at, by both its readings
}

// housekeeping is how often the loop looks at what nobody tells it: a clock
// that stepped back, a journal that works again.
const housekeeping = time.Second

// run is the loop. Everything that can happen is in its select.
func (l *Engine) run(ctx context.Context, updates <-chan *source.Set) error {
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	for {
		due, stop := l.nextInstant()
		happened, ended := true, false
		select {
		case <-ctx.Done():
			ended = true
		case set, ok := <-updates:
			if ended = !ok; ok {
				l.noteChanges(ctx, l.set, set)
				l.set = set
			}
		case <-due:
		case <-l.pokes:
		case <-l.fetcher.Changed():
		case do := <-l.commands:
			do()
		case w := <-l.written:
			l.wrote(w)
		case <-tick.C:
			l.resting = false
			l.noteStep()
			happened = l.stale()
		}
		stop()
		if ended {
			return l.shutdown()
		}
		if happened && l.set != nil {
			l.reconcile(ctx)
		}
	}
}

// nextInstant fires when the last translation said that its answer changes.
func (l *Engine) nextInstant() (due <-chan time.Time, stop func()) {
	if l.result == nil || l.result.Next.IsZero() {
		return nil, func() {}
	}
	t := l.clock.Timer(l.result.Next)
	return t.C, t.Stop
}

// stale reports whether the housekeeping found a reason to translate again.
func (l *Engine) stale() bool {
	return l.behindNow() != l.behind || !l.writing && (len(l.unwritten) > 0 || l.journalErr != nil || !l.started)
}

// behindNow is how far Envoy's clock is behind ours, coarse, so that its jitter
// does not change the configuration. It is rounded up: deadlines written for
// Envoy then come early, not late.
func (l *Engine) behindNow() time.Duration {
	const coarse = 100 * time.Millisecond
	d := l.clock.Behind()
	if d < coarse {
		return 0
	}
	return (d + coarse - 1) / coarse * coarse
}

// clockStep is the data of a "clock" entry.
type clockStep struct {
	V int `json:"v"` // 1
	// Seconds that the wall clock has jumped, forward or back.
	Seconds float64 `json:"seconds"`
}

// noteStep records a wall clock that was set.
func (l *Engine) noteStep() {
	const step = time.Second
	now, before := time.Now(), l.looked
	l.looked = now
	if before.IsZero() {
		return
	}
	if d := now.Round(0).Sub(before.Round(0)) - now.Sub(before); d > step || d < -step {
		l.log.Warn("the wall clock was set", "by", d)
		l.unwritten = append(l.unwritten, entry(audit.KindClock, clockStep{V: 1, Seconds: d.Seconds()}))
	}
}

// Poke wakes the loop: something that it depends on may have changed.
func (l *Engine) Poke() {
	select {
	case l.pokes <- struct{}{}:
	default:
	}
}

// ask runs do on the loop and waits for it.
func (l *Engine) ask(ctx context.Context, do func()) error {
	done := make(chan struct{})
	select {
	case l.commands <- func() { do(); close(done) }:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reconcile translates, applies and records. What closes is withdrawn from
// Envoy before anything is written; what opens is written first, and opens in
// the reconcile that follows the write.
func (l *Engine) reconcile(ctx context.Context) {
	l.compareJournal()
	l.fetcher.Set(remoteKeys(l.set))
	l.behind = l.behindNow()
	doubt := l.doubt()
	l.turnAway(doubt.why)
	l.result = l.translator.Translate(l.input(doubt))
	l.notePolicies()
	l.world.Apply(ctx, l.set, l.result)
	l.record(ctx)
	l.publish()
}

// doubt is why it is not sure that what happens is kept, in the journal or in the
// audit log, "" for none; and whether that is no more than that the log is not open
// yet.
type doubt struct {
	why     string
	pending bool
}

// failing says why nothing opens. "": nothing is in doubt.
func (l *Engine) failing() string { return l.doubt().why }

func (l *Engine) doubt() doubt {
	var why []string
	if l.journalErr != nil {
		why = append(why, fmt.Sprintf("nothing can be recorded: %v", l.journalErr))
	}
	problem, opening := l.recorder.State()
	if problem != "" {
		why = append(why, problem)
	}
	// What a journal says to be open is served before the log is asked whether it is
	// the newest only if there is another word for that.
	return doubt{strings.Join(why, "; "), opening && l.vouched && l.journalErr == nil}
}

func (l *Engine) input(d doubt) translator.Input {
	in := translator.Input{
		Objects:     l.set.Objects,
		Now:         l.now(),
		ClockBehind: l.behind,
		FirstStart:  !l.started && (l.journal.First() || l.forgetful),
		Seen:        l.seen(),
		RequestedBy: l.requesters(),
		Requests:    l.requests(),
		Records:     l.records,
		Revocations: l.revocations,
		Reviews:     slices.Collect(maps.Values(l.reviewing)),
		RemoteKeys:  l.fetcher.Snapshot(),
	}
	if d.pending {
		in.AuditPending = d.why
	} else {
		in.AuditFailing = d.why
	}
	in.NobodyIsTold = l.alarms.problem()
	in.Delivery = l.world.Deliveries()
	l.world.Amend(&in)
	return in
}
