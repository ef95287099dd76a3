package alarm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// Severities.
const (
	Critical = "critical"
	Warning  = "warning"
	Info     = "info"
)

// Options of New. The zero value is good.
type Options struct {
	// Collected: the log has the entries of others, and decisions have had their
	// alarms where they were made. Only what nobody looked at before is.
	Collected bool
	// AlarmSinks are the names of those sinks by which people are told.
	AlarmSinks []string
	// ForgedTokens is how many requests with a forged token within ForgedWithin are a
	// burst, ForgedQuiet how long there must be none until it is over. Default 10, a
	// minute, 5 minutes.
	ForgedTokens              int
	ForgedWithin, ForgedQuiet time.Duration
}

func (o *Options) defaults() {
	if o.ForgedTokens <= 0 {
		o.ForgedTokens = 10
	}
	if o.ForgedWithin <= 0 {
		o.ForgedWithin = time.Minute
	}
	if o.ForgedQuiet <= 0 {
		o.ForgedQuiet = 5 * time.Minute
	}
}

// rule is one kind of entry and what it may raise. All rules of a kind see its
// entries, for some have something to remember.
type rule struct {
	kind string
	// decision: of what was decided. In a log of many logs it was raised before.
	decision bool
	look     func(*Rules, *merkle.Entry) []audit.Alarm
}

// table is all rules, in the order in which their alarms come.
var table = []rule{
	{audit.KindActivation, true, (*Rules).opened},
	{audit.KindActivation, true, (*Rules).refused},
	{audit.KindActivation, true, (*Rules).revoked},
	{audit.KindActivation, true, (*Rules).ended},
	{audit.KindActivation, true, (*Rules).reviewed},
	{audit.KindActivation, true, (*Rules).overdue},
	{audit.KindActivation, false, (*Rules).forgetOffline}, // raises nothing
	{audit.KindPolicy, true, (*Rules).policyChanged},
	{audit.KindConfig, true, (*Rules).configChanged},
	{audit.KindRequest, false, (*Rules).offlineUsed},
	{audit.KindRequest, false, (*Rules).forged},
	{audit.KindLimited, false, (*Rules).flooded},
	{audit.KindGap, false, (*Rules).gap},
	{audit.KindProblem, true, (*Rules).notRecorded},
	{audit.KindSink, false, (*Rules).sinkState},
	{audit.KindClock, true, (*Rules).clockStepped},
}

// Rules are the rules and what they have to remember. They are not safe for
// concurrent use.
type Rules struct {
	opts    Options
	state   map[string]string // cursors, by name
	moved   map[string]string // those that changed since the last call of Moved
	raised  recent            // ids
	bursts  map[string]*burst // by gateway
	offline map[string]int    // subjects, by activation
	issuers map[string]bool   // digests of those that are offline

	// Of the entry that is looked at: one of them, as its kind says.
	current activationFact
	request audit.RequestEntry
	broken  bool // it is none
}

// New makes rules that know nothing yet; see Restore and Learn.
func New(o Options) *Rules {
	o.defaults()
	return &Rules{opts: o, state: map[string]string{}, moved: map[string]string{}, bursts: map[string]*burst{}, offline: map[string]int{}}
}

// Look says what to raise of an entry that is being appended.
func (r *Rules) Look(e merkle.Entry) (out []audit.Alarm) {
	if !r.read(&e) {
		return nil
	}
	for _, rule := range table {
		if rule.kind != e.Kind {
			continue
		}
		for _, a := range rule.look(r, &e) {
			if rule.decision && r.opts.Collected || r.raised.has(a.ID) {
				continue
			}
			r.raised.add(a.ID)
			out = append(out, finished(a))
		}
	}
	return out
}

// read the data that more than one rule looks at. It is false if none has to.
func (r *Rules) read(e *merkle.Entry) bool {
	switch e.Kind {
	case audit.KindActivation:
		r.current = activationFact{}
		r.broken = json.Unmarshal(e.Data, &r.current) != nil
	case audit.KindRequest:
		// There are thousands of them, and nearly all are of no interest.
		if len(r.issuers) == 0 && !bytes.Contains(e.Data, deniedToken) {
			return false
		}
		r.request = audit.RequestEntry{}
		r.broken = json.Unmarshal(e.Data, &r.request) != nil
	}
	return true
}

var deniedToken = []byte(`"denied":"token: `)

// Learn looks at an entry that is in the log already: its alarms are, too.
func (r *Rules) Learn(e merkle.Entry) {
	if e.Kind != audit.KindAlarm {
		r.Look(e)
		return
	}
	if a, ok := raised(e.Kind, e.Data); ok {
		r.raised.add(a.ID)
	}
}

// Tick says what to raise because time has passed.
func (r *Rules) Tick(now time.Time) (out []audit.Alarm) {
	for _, a := range r.burstsOver(now) {
		out = append(out, finished(a))
	}
	return out
}

// Restore takes what Moved had returned, of the log's cursors.
func (r *Rules) Restore(cursors map[string]string) {
	for name, at := range cursors {
		if strings.HasPrefix(name, cursorPrefix) {
			r.state[name] = at
		}
	}
	r.noteIssuers()
	r.restoreBursts()
	r.restoreOffline()
}

// Moved returns the cursors that changed since it was called last. They belong to
// the append of what was looked at since.
func (r *Rules) Moved() map[string]string {
	out := r.moved
	r.moved = map[string]string{}
	return out
}

// cursorPrefix of what is to be remembered.
const cursorPrefix = "alarms/"

// remember sets a cursor; "" forgets it.
func (r *Rules) remember(name, at string) {
	name = cursorName(name)
	if r.state[name] == at {
		return
	}
	if at == "" {
		delete(r.state, name)
	} else {
		r.state[name] = at
	}
	r.moved[name] = at
}

func (r *Rules) remembered(name string) string { return r.state[cursorName(name)] }

// count is how many cursors begin so.
func (r *Rules) count(prefix string) (n int) {
	for name := range r.state {
		if strings.HasPrefix(name, cursorPrefix+prefix) {
			n++
		}
	}
	return n
}

// cursorName is one that the log takes, whatever it is made of.
func cursorName(name string) string { return audit.Text(cursorPrefix+name, maxCursor) }

// finished is an alarm with what all have, within its bounds.
func finished(a audit.Alarm) audit.Alarm {
	a.V, a.Event = 1, audit.AlarmRaised
	a.ID = audit.Text(a.ID, maxID)
	a.Time = a.Time.UTC().Truncate(time.Microsecond)
	a.Summary = audit.Text(a.Summary, maxSummary)
	labels := maps.Clone(a.Labels)
	for k, v := range labels {
		if v = audit.Text(v, maxLabel); v == "" {
			delete(labels, k)
		} else {
			labels[k] = v
		}
	}
	if a.Labels = labels; len(labels) == 0 {
		a.Labels = nil
	}
	return a
}

// Bounds, in bytes.
const (
	maxSummary = 1 << 10
	maxLabel   = 256
	maxID      = 1 << 10
	maxCursor  = 500

	// maxCursorsOfRules is how many of the cursors of a log they use at most.
	maxCursorsOfRules = maxOffline + maxBursts + maxPolicies
)

// stamp is a time as ids have it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// about is a time in ids of what replicas see at almost the same time.
func about(t time.Time) string {
	return t.UTC().Truncate(10 * time.Second).Format("2006-01-02T15:04:05Z")
}

// clockText is a time of day for people.
func clockText(t time.Time) string {
	if t.IsZero() {
		return "?"
	}
	return t.UTC().Format("15:04:05") + " UTC"
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

// recent remembers the last ids.
type recent struct {
	ids  map[string]bool
	ring []string
	next int
}

// keptIDs is how many ids are remembered.
const keptIDs = 8192

func (r *recent) has(id string) bool { return r.ids[id] }

// add remembers an id, and returns the one that it has forgotten for it.
func (r *recent) add(id string) (forgotten string, forgot bool) {
	if r.ids == nil {
		r.ids = map[string]bool{}
	}
	if r.ids[id] {
		return "", false
	}
	r.ids[id] = true
	if len(r.ring) < keptIDs {
		r.ring = append(r.ring, id)
		return "", false
	}
	forgotten = r.ring[r.next]
	delete(r.ids, forgotten)
	r.ring[r.next] = id
	r.next = (r.next + 1) % keptIDs
	return forgotten, true
}
