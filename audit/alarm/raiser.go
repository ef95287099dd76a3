package alarm

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"sync"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// Raiser runs rules on all that is appended to a log, and appends what they raise
// with it. Its methods may be called concurrently.
type Raiser struct {
	rules *Rules
	now   func() time.Time
	log   *slog.Logger
	told  func([]audit.Alarm)
	// Unrecorded, when not nil, is told once of each alarm whose append has failed. It
	// must not block.
	Unrecorded func([]audit.Alarm)
	tried      recent // ids that it was told of

	mu sync.Mutex
	// What failed appends had raised: it goes with the next. Their entries come again,
	// and were looked at.
	drafts []merkle.Draft
	moved  map[string]string
	looked map[[sha256.Size]byte]int
	failed bool // a rule has failed; it was said
}

// NewRaiser makes one for one log. raised is told of alarms that are durable now;
// it must not block.
func NewRaiser(rules *Rules, now func() time.Time, log *slog.Logger, raised func([]audit.Alarm)) *Raiser {
	return &Raiser{rules: rules, now: now, log: log, told: raised, moved: map[string]string{}, looked: map[[sha256.Size]byte]int{}}
}

// Appender is what takes entries: a *merkle.Log.
type Appender interface {
	Append(ctx context.Context, drafts ...merkle.Draft) error
}

// Log is an open log whose appends raise alarms.
type Log[L Appender] struct {
	Ledger L
	raiser *Raiser
}

// Over returns the log with alarms. cursors are those that it has: what the rules
// have to remember is among them.
func Over[L Appender](r *Raiser, log L, cursors map[string]string) *Log[L] {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rules.Restore(cursors)
	return &Log[L]{log, r}
}

// Append is that of the log, of the entries and their alarms together. What a failed
// one would have raised is raised with the next: the entries come again, or they never
// were.
func (l *Log[L]) Append(ctx context.Context, drafts ...merkle.Draft) error {
	r := l.raiser
	all, alarms, moved := r.with(drafts)
	if len(all) == 0 {
		return nil
	}
	err := l.Ledger.Append(ctx, all...)
	if err != nil {
		r.again(drafts, alarms, moved)
		return err
	}
	r.durable(all)
	return nil
}

// Learn is told of what is in the log already.
func (l *Log[L]) Learn(e merkle.Entry) {
	r := l.raiser
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.guard()
	r.rules.Learn(e)
}

// with returns the drafts and what they raise.
func (r *Raiser) with(drafts []merkle.Draft) (all, alarms []merkle.Draft, moved map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	alarms, r.drafts = r.drafts, nil
	moved, r.moved = r.moved, map[string]string{}
	for i := range drafts {
		if !r.wasLooked(&drafts[i]) {
			alarms = append(alarms, r.look(&drafts[i])...)
		}
	}
	maps.Copy(moved, r.rules.Moved())
	all = drafts
	if len(alarms) > 0 {
		all = append(drafts[:len(drafts):len(drafts)], alarms...)
	}
	if len(moved) > 0 && len(all) > 0 {
		// They go with the last entry, of which the caller may make use again.
		all = append([]merkle.Draft(nil), all...)
		last := &all[len(all)-1]
		cursors := make(map[string]string, len(moved)+len(last.Cursors))
		maps.Copy(cursors, moved)
		maps.Copy(cursors, last.Cursors)
		last.Cursors = cursors
	}
	return all, alarms, moved
}

// look runs the rules on one draft. A rule that fails raises nothing, and nothing
// else waits for it.
func (r *Raiser) look(d *merkle.Draft) (out []merkle.Draft) {
	defer r.guard()
	at := d.Time
	if at.IsZero() {
		at = r.now()
	}
	for _, a := range r.rules.Look(merkle.Entry{V: 1, Time: at, Kind: d.Kind, Data: d.Data}) {
		out = append(out, draft(a, r.now()))
	}
	return out
}

func (r *Raiser) guard() {
	if p := recover(); p != nil && !r.failed {
		r.failed = true
		r.log.Error("a rule of alarms failed: alarms may be missing", "error", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

// maxLooked bounds what is known of failed appends. Beyond, counts of forged tokens
// may be too high.
const maxLooked = 100_000

func (r *Raiser) again(drafts, alarms []merkle.Draft, moved map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range drafts {
		if len(r.looked) < maxLooked {
			r.looked[fingerprint(&drafts[i])]++
		}
	}
	r.drafts = append(alarms, r.drafts...)
	r.tellUnrecorded(append(drafts[:len(drafts):len(drafts)], alarms...))
	for name, at := range moved {
		if _, newer := r.moved[name]; !newer {
			r.moved[name] = at
		}
	}
}

// tellUnrecorded tells of the alarms among what could not be appended.
func (r *Raiser) tellUnrecorded(all []merkle.Draft) {
	if r.Unrecorded == nil {
		return
	}
	var out []audit.Alarm
	for i := range all {
		if a, ok := raised(all[i].Kind, all[i].Data); ok && !r.tried.has(a.ID) {
			r.tried.add(a.ID)
			out = append(out, a)
		}
	}
	if len(out) > 0 {
		r.Unrecorded(out)
	}
}

// wasLooked reports whether a draft was in a failed append.
func (r *Raiser) wasLooked(d *merkle.Draft) bool {
	if len(r.looked) == 0 {
		return false
	}
	f := fingerprint(d)
	n := r.looked[f]
	if n > 1 {
		r.looked[f] = n - 1
	} else {
		delete(r.looked, f)
	}
	return n > 0
}

func fingerprint(d *merkle.Draft) [sha256.Size]byte {
	return sha256.Sum256(append([]byte(d.Kind+" "), d.Data...))
}

// durable tells of the alarms among what is durable now, whoever raised them.
func (r *Raiser) durable(all []merkle.Draft) {
	if r.told == nil {
		return
	}
	var out []audit.Alarm
	for i := range all {
		if a, ok := raised(all[i].Kind, all[i].Data); ok {
			out = append(out, a)
		}
	}
	if len(out) > 0 {
		r.told(out)
	}
}

// Raises reads the alarm that an entry raises. Those of deliveries raise none.
func Raises(e merkle.Entry) (a audit.Alarm, ok bool) { return raised(e.Kind, e.Data) }

func raised(kind string, data json.RawMessage) (a audit.Alarm, ok bool) {
	a, ok = alarmOf(kind, data)
	return a, ok && a.Event == audit.AlarmRaised
}

func alarmOf(kind string, data json.RawMessage) (a audit.Alarm, ok bool) {
	ok = kind == audit.KindAlarm && json.Unmarshal(data, &a) == nil
	return a, ok
}

// Tick returns the drafts of what is to be raised because time has passed, to be
// appended.
func (r *Raiser) Tick() (out []merkle.Draft) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.guard()
	for _, a := range r.rules.Tick(r.now()) {
		out = append(out, draft(a, r.now()))
	}
	return out
}

// draft is the entry of an alarm.
func draft(a audit.Alarm, now time.Time) merkle.Draft {
	data, err := merkle.EncodeData(a)
	if err != nil {
		data = nil // a time beyond year 9999: the log takes null
	}
	return merkle.Draft{Time: now, Kind: audit.KindAlarm, Data: data}
}
