package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/alarm"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
	"github.com/breakglass-gateway/breakglass-gateway/audit/sink"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// alarms are raised where entries are appended to the audit log, and what becomes of
// them is known here. The loop never waits for any of it.
type alarms struct {
	engine   *Engine
	raiser   *alarm.Raiser
	receipts *alarm.Receipts
	stop     context.CancelFunc
	ended    sync.WaitGroup
	wake     chan struct{} // of capacity 1: Problem of the recorder may be another
	sinks    atomic.Pointer[sink.Sinks]
	opened   chan uint64 // of capacity 1: the log was opened, with so many entries
}

// newAlarms makes them; opening returns the log with its alarms.
func newAlarms(l *Engine) *alarms {
	alarmSinks := l.alarmSinks()
	var late map[string]time.Duration
	if l.opts.Sinks != nil {
		late = l.opts.Sinks.Patience()
	}
	a := &alarms{engine: l, wake: make(chan struct{}, 1), opened: make(chan uint64, 1)}
	a.receipts = alarm.NewReceipts(alarm.ReceiptOptions{AlarmSinks: alarmSinks, Late: late, Now: l.now, Log: l.log, Append: a.note})
	rules := alarm.New(alarm.Options{AlarmSinks: alarmSinks})
	a.raiser = alarm.NewRaiser(rules, l.now, l.log, a.receipts.Raised)
	a.raiser.Unrecorded = a.unrecorded
	return a
}

// note records what a sink says, and waits until it is durable: what a sink counts as
// taken should have its receipt. It does not wait long for a log that cannot be
// written.
func (a *alarms) note(kind string, v any) {
	const most = 2 * time.Second
	if kind == audit.KindSink {
		a.engine.Poke() // statuses say whether somebody is told
	}
	r := a.engine.recorder
	select {
	case <-r.Note(kind, v, nil):
	case <-r.Done():
	case <-time.After(most):
	}
}

// ledger is an open log with alarms.
type ledger struct {
	recorder.Ledger
	*alarm.Log[recorder.Ledger]
}

// Append is that with alarms.
func (l ledger) Append(ctx context.Context, drafts ...merkle.Draft) error {
	return l.Log.Append(ctx, drafts...)
}

// over returns an opener of the log with alarms.
func (a *alarms) over(open recorder.Opener) recorder.Opener {
	return func() (recorder.Ledger, []merkle.Entry, error) {
		l, recent, err := open()
		if err != nil {
			return nil, nil, err
		}
		if sized, ok := l.(interface{ Size() uint64 }); ok {
			select {
			case a.opened <- sized.Size():
			default: // it is known how many there were at the start
			}
		}
		raising := alarm.Over(a.raiser, l, l.Cursors())
		for _, e := range recent { // a burst may have begun
			raising.Learn(e)
		}
		return ledger{l, raising}, recent, nil
	}
}

// start begins to look at what no entry tells of. The sinks are there by then.
func (a *alarms) start() {
	ctx, stop := context.WithCancel(context.Background())
	a.stop = stop
	a.ended.Go(func() { a.run(ctx) })
}

func (a *alarms) close() {
	if a.stop != nil {
		a.stop()
		a.ended.Wait()
	}
}

// changed says that the recorder may have another problem. It does not wait.
func (a *alarms) changed() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Time is looked at by rules, and by who waits for sinks.
const (
	ruleTick = 5 * time.Second
	lateTick = 100 * time.Millisecond
)

func (a *alarms) run(ctx context.Context) {
	rules, late := time.NewTicker(ruleTick), time.NewTicker(lateTick)
	defer rules.Stop()
	defer late.Stop()
	told := ""
	for {
		told = a.failing(told)
		select {
		case <-ctx.Done():
			return
		case size := <-a.opened:
			a.ended.Go(func() { a.recall(ctx, size) })
		case <-a.wake:
		case <-late.C:
			a.receipts.Tick()
		case <-rules.C:
			a.engine.recorder.Add(a.raiser.Tick()...)
		}
	}
}

// failing raises that entries cannot be kept, once for as long as that lasts. It may
// be the log that cannot be written, or signed: people are told without it, too.
func (a *alarms) failing(told string) string {
	problem, opening := a.engine.recorder.State()
	switch {
	case opening || problem == "":
		return ""
	case told != "":
		return told
	}
	x := alarm.Failing(problem, a.engine.now())
	a.engine.recorder.Note(audit.KindAlarm, x, nil)
	a.tell(x)
	return problem
}

// unrecorded tells people of alarms that the log does not take.
func (a *alarms) unrecorded(alarms []audit.Alarm) {
	for _, x := range alarms {
		a.engine.log.Error("an alarm cannot be recorded", "name", x.Name, "id", x.ID, "summary", x.Summary)
		a.tell(x)
	}
}

// tell people of an alarm without the log. They are told again once it is in there,
// under the same id.
func (a *alarms) tell(x audit.Alarm) {
	sinks := a.sinks.Load()
	if sinks == nil {
		return
	}
	go func() {
		for name, err := range sinks.Tell(context.Background(), x) {
			if err != nil {
				a.engine.log.Error("a sink does not take an alarm that is not in the log", "sink", name, "id", x.ID, "error", err)
			}
		}
	}()
}

// recallEntries is how many of the newest entries are looked at for alarms that were
// not delivered before this start.
const recallEntries = 20_000

// recall reads what was raised before this start and not delivered. size is that of
// the log.
func (a *alarms) recall(ctx context.Context, size uint64) {
	const most = 3 * time.Second
	l := a.engine
	sinks := a.sinks.Load()
	if sinks == nil {
		return
	}
	sinks.Placed(ctx, most)
	filter := merkle.Filter{From: size - min(size, recallEntries), Match: func(e *merkle.Entry) bool { return e.Kind == audit.KindAlarm && e.Seq < size }}
	err := merkle.Read(ctx, l.logDir(), filter, func(e merkle.Entry) error {
		a.receipts.Recall(e, sinks.Past)
		return nil
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		l.log.Warn("alarms of before this start are not counted", "error", err)
	}
}

// problem says why nobody is told, "" if somebody is, or it is not known.
func (a *alarms) problem() string {
	if a == nil {
		return ""
	}
	return a.receipts.Problem()
}

// status of alarms for people.
func (a *alarms) status() *control.AlarmStatus {
	s := a.receipts.Status()
	out := &control.AlarmStatus{Problem: s.Problem, Undelivered: s.Undelivered, Oldest: s.Oldest}
	for _, sink := range s.Sinks {
		out.Sinks = append(out.Sinks, control.AlarmSink{Name: sink.Name, Failing: sink.Since, Reason: sink.Reason})
	}
	return out
}
