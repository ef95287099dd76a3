package report

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// Entry is an entry, and the log that it is in if there are several.
type Entry struct {
	Log string
	merkle.Entry
}

func (e *Entry) ref() Ref { return Ref{e.Log, e.Seq} }

// Source hands out the entries that were recorded since a time (zero: all), in the
// order of the log; of several logs, in that of their times. It is called twice, and
// must hand out the same.
type Source func(since time.Time, fn func(Entry) error) error

// Options of Build.
type Options struct {
	Asked  Asked
	Policy Policy
}

// NoneError says that the log has no activation that was asked for.
type NoneError struct {
	// Missing were asked for; Known are all that there are, namespace/name, the newest
	// last, and Incidents their incidents.
	Missing          []string
	Known, Incidents []string
}

func (e *NoneError) Error() string {
	return fmt.Sprintf("the log has no activation %s", strings.Join(e.Missing, ", "))
}

// margin is how far apart the clocks of those may be who recorded an entry, and of
// those who saw what is in it.
const margin = time.Hour

// Build makes a report of a log. What the proof is made of is for the caller to add.
func Build(o Options, read Source) (*Report, error) {
	b := &builder{
		asked: o.Asked, redactor: newRedactor(o.Policy),
		facts: newFacts(), identities: map[identityKey]*identity{}, refusals: map[refusalKey]*Refusal{},
		alarms: map[string]*Alarm{}, receipts: map[string][]Delivery{}, begun: map[string]Request{},
	}
	if err := read(time.Time{}, b.decide); err != nil {
		return nil, err
	}
	if err := b.choose(); err != nil {
		return nil, err
	}
	since := b.from
	if !since.IsZero() {
		since = since.Add(-margin)
	}
	if err := read(since, b.take); err != nil {
		return nil, err
	}
	r := b.report()
	r.Redaction = o.Policy.redaction()
	return r, nil
}

// builder of one report.
type builder struct {
	asked Asked
	*redactor

	// Of the first reading: all activations, and those that are asked for.
	facts   *facts
	chosen  []*windowed
	byKey   map[string][]*windowed // of chosen, by namespace/name
	newest  time.Time
	entries uint64
	// from and until bound the report.
	from, until time.Time

	requests   []Request
	counts     Counts
	elsewhere  uint64
	identities map[identityKey]*identity
	refusals   map[refusalKey]*Refusal
	alarms     map[string]*Alarm
	receipts   map[string][]Delivery // of all alarms of the log, by their ids
	events     []Event
	reads      []Read
	notes      []string
	silent     silent
	unread     int // entries that are not understood
	// begun have a beginning in the log, and no end yet, by gateway and key.
	begun map[string]Request

	first, last map[string]uint64 // seq by log, of what the report is made of
}

// decide is the first reading: what was decided.
func (b *builder) decide(e Entry) error {
	b.entries++
	if e.Time.After(b.newest) {
		b.newest = e.Time
	}
	var err error
	switch e.Kind {
	case audit.KindActivation:
		err = b.facts.take(&e)
	case audit.KindPolicy:
		err = b.facts.policy(&e)
	}
	if err != nil {
		b.misread(&e, err)
	}
	return nil
}

// misread notes an entry that is not understood: nothing is left out silently.
func (b *builder) misread(e *Entry, err error) {
	const most = 20
	if b.unread++; b.unread <= most {
		var kind *json.UnmarshalTypeError
		what := "it is not JSON of the form that this version knows"
		if errors.As(err, &kind) {
			what = "its field " + withoutTokens(kind.Field) + " is not what this version knows"
		}
		b.notes = append(b.notes, fmt.Sprintf("%s of kind %s is not understood and not counted: %s", b.entryName(e.ref()), withoutTokens(e.Kind), what))
	}
}

func (b *builder) entryName(r Ref) string {
	if r.Log != "" {
		return fmt.Sprintf("Entry %d of log %s", r.Seq, r.Log)
	}
	return fmt.Sprintf("Entry %d", r.Seq)
}

// choose the activations that are asked for, and the time that the report is about.
func (b *builder) choose() error {
	all := b.facts.windows(b.newest)
	b.from, b.until = b.asked.Since, b.asked.Until
	if b.period() && b.until.IsZero() {
		b.until = b.newest
	}
	for _, w := range all {
		if b.wants(w) {
			b.chosen = append(b.chosen, w)
		}
	}
	if err := b.missing(all); err != nil {
		return err
	}
	b.byKey = map[string][]*windowed{}
	for _, w := range b.chosen {
		b.byKey[w.Key()] = append(b.byKey[w.Key()], w)
		if b.period() {
			continue
		}
		earliest(&b.from, w.start)
		if w.end.After(b.until) {
			b.until = w.end
		}
	}
	b.facts.extend(all)
	b.first, b.last = map[string]uint64{}, map[string]uint64{}
	return nil
}

// period says whether a time was asked for.
func (b *builder) period() bool { return !b.asked.Since.IsZero() }

func (b *builder) wants(w *windowed) bool {
	return slices.Contains(b.asked.Activations, w.Key()) || b.asked.Incident != "" && w.rec.Spec.Incident == b.asked.Incident ||
		b.period() && w.overlaps(b.from, b.until)
}

// missing is an error if something that was asked for by name is not there.
func (b *builder) missing(all []*windowed) error {
	there := func(key string) bool {
		return slices.ContainsFunc(b.chosen, func(w *windowed) bool { return w.Key() == key })
	}
	e := &NoneError{Missing: slices.DeleteFunc(slices.Clone(b.asked.Activations), there)}
	if b.asked.Incident != "" && len(b.chosen) == 0 {
		e.Missing = append(e.Missing, "of incident "+b.asked.Incident)
	}
	if len(e.Missing) == 0 {
		return nil
	}
	for _, w := range all {
		e.Known = append(e.Known, w.Key())
		if i := w.rec.Spec.Incident; i != "" && !slices.Contains(e.Incidents, i) {
			e.Incidents = append(e.Incidents, i)
		}
	}
	return e
}

// used notes that an entry is in the report.
func (b *builder) used(e *Entry) {
	if first, ok := b.first[e.Log]; !ok || e.Seq < first {
		b.first[e.Log] = e.Seq
	}
	if last, ok := b.last[e.Log]; !ok || e.Seq > last {
		b.last[e.Log] = e.Seq
	}
}

// take is the second reading.
func (b *builder) take(e Entry) (err error) {
	switch e.Kind {
	case audit.KindRequest:
		err = b.request(&e)
	case audit.KindAlarm:
		err = b.alarm(&e)
	case audit.KindRead:
		err = b.read(&e)
	case audit.KindConnection:
		err = b.connection(&e)
	case audit.KindActivation, merkle.KindSegment:
	default:
		err = b.event(&e)
	}
	if err != nil {
		b.misread(&e, err)
	}
	return nil
}

// within says whether a time is in that of the report.
func (b *builder) within(t time.Time) bool { return !t.Before(b.from) && !t.After(b.until) }

// meanwhile says whether a time is in that of one of the activations; without any, in
// that of the report.
func (b *builder) meanwhile(t time.Time) bool {
	if b.period() {
		return b.within(t)
	}
	for _, w := range b.chosen {
		if !t.Before(w.start) && !t.After(w.end) {
			return true
		}
	}
	return false
}

// report puts together what was read.
func (b *builder) report() *Report {
	b.unfinished()
	b.silent.event(b)
	r := &Report{
		V: 1, Asked: b.asked, AsOf: b.newest, From: b.from, Until: b.until,
		Requests: b.requests, Events: b.events, Reads: b.reads, Notes: b.notes,
		Identities: b.identityList(), Refused: b.refusalList(), Alarms: b.alarmList(),
	}
	for _, w := range b.chosen {
		r.Activations = append(r.Activations, b.activation(w))
	}
	if b.unread > len(b.notes) {
		r.Notes = append(r.Notes, fmt.Sprintf("%d entries in all are not understood and not counted.", b.unread))
	}
	slices.SortStableFunc(r.Events, func(x, y Event) int { return x.Time.Compare(y.Time) })
	b.summarize(r)
	for _, log := range sorted(b.first) {
		r.Proof.Logs = append(r.Proof.Logs, LogProof{Log: log, Range: []Inclusion{{Seq: b.first[log]}, {Seq: b.last[log]}}})
	}
	fillLists(r)
	return r
}

// fillLists makes lists of what JSON would call null.
func fillLists(r *Report) {
	list(&r.Activations)
	list(&r.Identities)
	list(&r.Refused)
	list(&r.Alarms)
	list(&r.Events)
	list(&r.Reads)
	list(&r.Notes)
	list(&r.Requests)
	list(&r.Proof.Logs)
	list(&r.Proof.Again)
	for i := range r.Alarms {
		list(&r.Alarms[i].Raised)
		list(&r.Alarms[i].Delivered)
	}
	for i := range r.Activations {
		list(&r.Activations[i].Targets)
		list(&r.Activations[i].Scope)
	}
}

func list[T any](s *[]T) {
	if *s == nil {
		*s = []T{}
	}
}

// sorted are the keys of a map.
func sorted[K cmp.Ordered, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
