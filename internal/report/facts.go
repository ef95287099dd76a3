package report

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
)

// Events of activations that package activation does not decide on.
const (
	eventReviewed = "reviewed"
	eventOverdue  = "overdue"
)

// facts are all activations of a log. Each controller of a cluster records what was
// decided: the same fact is one.
type facts struct {
	acts     map[actKey]*windowed
	policies map[string]policyEntry
}

type actKey struct{ namespace, name, uid string }

// factEntry is an "activation" entry.
type factEntry struct {
	activation.Fact
	Record struct {
		activation.Record
		Review    *reviewData `json:"review"`
		ReviewDue time.Time   `json:"reviewDue"`
	} `json:"record"`
}

// reviewData is record.review.
type reviewData struct {
	Verdict   string    `json:"verdict"`
	By        string    `json:"by"`
	At        time.Time `json:"at"`
	Note      string    `json:"note"`
	FollowUps []string  `json:"followUps"`
	Source    string    `json:"source"`
}

// windowed is one activation.
type windowed struct {
	rec    activation.Record
	review *reviewData
	due    time.Time
	facts  []*decision
	scope  []Scope

	// start and end are those of the time that a report of it is about: end is that of
	// the newest entry as long as it has not ended.
	start, end time.Time
	// until by route is when the door that it opened had to be closed: its deadline, or
	// that of another activation that held the same open.
	until map[string]time.Time
	// closed by route is the same for ends of any kind.
	closed map[string]time.Time

	counts Counts
	kept   Kept
}

// decision is a fact, and where it is recorded.
type decision struct {
	fact    activation.Fact
	review  *reviewData
	ended   int // targets that had ended
	entries []Ref
}

func (w *windowed) Key() string { return w.rec.Namespace + "/" + w.rec.Name }

func (w *windowed) overlaps(from, until time.Time) bool {
	return !w.end.Before(from) && w.start.Before(until)
}

// opened is when the first target was; zero: never.
func (w *windowed) opened() (first time.Time) {
	for _, t := range w.rec.Targets {
		if !t.OpenedAt.IsZero() && (first.IsZero() || t.OpenedAt.Before(first)) {
			first = t.OpenedAt
		}
	}
	return first
}

func newFacts() *facts {
	return &facts{acts: map[actKey]*windowed{}, policies: map[string]policyEntry{}}
}

func (f *facts) take(e *Entry) error {
	var x factEntry
	if err := json.Unmarshal(e.Data, &x); err != nil {
		return err
	}
	rec := x.Record.Record
	k := actKey{rec.Namespace, rec.Name, string(rec.UID)}
	w := f.acts[k]
	if w == nil {
		w = &windowed{rec: rec, scope: f.scope(rec.Spec.Role)}
		f.acts[k] = w
	}
	d := &decision{fact: activation.Fact{Event: x.Event, Time: x.Time, Record: rec}, review: x.Record.Review, entries: []Ref{e.ref()}}
	for _, t := range rec.Targets {
		if !t.EndedAt.IsZero() {
			d.ended++
		}
	}
	if x.Time.IsZero() {
		d.fact.Time = e.Time
	}
	earliest(&w.due, x.Record.ReviewDue)
	w.take(d)
	return nil
}

// take a fact, or another record of one that is known. A target may be withdrawn, and
// a review be given, more than once.
func (w *windowed) take(d *decision) {
	for _, known := range w.facts {
		if known.fact.Event == d.fact.Event && known.ended == d.ended && sameReview(known.review, d.review) {
			known.entries = append(known.entries, d.entries...)
			if d.fact.Time.Before(known.fact.Time) {
				known.fact.Time = d.fact.Time
			}
			return
		}
	}
	w.facts = append(w.facts, d)
	w.merge(d.fact.Record)
	if d.review != nil && (w.review == nil || !d.review.At.Before(w.review.At)) {
		w.review = d.review
	}
}

func sameReview(a, b *reviewData) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Verdict == b.Verdict && a.By == b.By && a.At.Equal(b.At) && a.Note == b.Note
}

// merge what another record says: the earliest deadline and end, and whatever the
// record before did not know.
func (w *windowed) merge(r activation.Record) {
	m := &w.rec
	earliest(&m.Start, r.Start)
	earliest(&m.Deadline, r.Deadline)
	earliest(&m.LiveAt, r.LiveAt)
	if r.Phase != "" && (m.Phase == "" || !r.EndedAt.IsZero() && r.EndedAt.Before(m.EndedAt)) {
		m.Phase, m.Reason, m.Message, m.EndedAt = r.Phase, r.Reason, r.Message, r.EndedAt
	}
	m.EndedBy = cmp.Or(m.EndedBy, r.EndedBy)
	m.RequestedBy = cmp.Or(m.RequestedBy, r.RequestedBy)
	targets := map[string]activation.Target{}
	for k, t := range m.Targets {
		targets[k] = t
	}
	for k, t := range r.Targets {
		old, known := targets[k]
		if !known {
			targets[k] = t
			continue
		}
		earliest(&old.OpenedAt, t.OpenedAt)
		if !t.EndedAt.IsZero() && (old.EndedAt.IsZero() || t.EndedAt.Before(old.EndedAt)) {
			old.EndedAt, old.Reason, old.Message = t.EndedAt, t.Reason, t.Message
		}
		targets[k] = old
	}
	m.Targets = targets
}

func earliest(t *time.Time, other time.Time) {
	if !other.IsZero() && (t.IsZero() || other.Before(*t)) {
		*t = other
	}
}

// windows are all activations, the oldest first.
func (f *facts) windows(newest time.Time) []*windowed {
	var out []*windowed
	for _, w := range f.acts {
		w.start, w.end = w.rec.Start, w.rec.EndedAt
		if w.start.IsZero() && len(w.facts) > 0 {
			w.start = w.facts[0].fact.Time
		}
		if w.end.IsZero() && w.rec.Phase.Final() {
			for _, d := range w.facts { // a record of an older version
				if d.fact.Record.Phase.Final() && d.fact.Time.After(w.end) {
					w.end = d.fact.Time
				}
			}
			w.rec.EndedAt = w.end
		}
		if w.end.IsZero() {
			w.end = newest
		}
		slices.SortStableFunc(w.facts, func(a, b *decision) int { return a.fact.Time.Compare(b.fact.Time) })
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b *windowed) int {
		return cmp.Or(a.start.Compare(b.start), cmp.Compare(a.rec.Namespace, b.rec.Namespace), cmp.Compare(a.rec.Name, b.rec.Name), cmp.Compare(a.rec.UID, b.rec.UID))
	})
	return out
}

// span is a time in which an activation held a route open.
type span struct{ from, deadline, end time.Time }

// extend finds until when each route that an activation opened had to be closed. A
// second activation of the same route and role lengthens the window, and streams of
// the first live on.
func (f *facts) extend(all []*windowed) {
	spans := map[[2]string][]span{}
	for _, w := range all {
		for _, t := range w.rec.Targets {
			s := span{t.OpenedAt, w.rec.Deadline, w.rec.Deadline}
			earliest(&s.end, t.EndedAt)
			earliest(&s.end, w.rec.EndedAt)
			k := [2]string{t.Route, w.rec.Spec.Role}
			spans[k] = append(spans[k], s)
		}
	}
	for _, w := range all {
		w.until, w.closed = map[string]time.Time{}, map[string]time.Time{}
		for _, t := range w.rec.Targets {
			with := spans[[2]string{t.Route, w.rec.Spec.Role}]
			end := w.rec.Deadline
			earliest(&end, t.EndedAt)
			earliest(&end, w.rec.EndedAt)
			w.until[t.Route] = reach(w.rec.Deadline, with, func(s span) time.Time { return s.deadline })
			w.closed[t.Route] = reach(end, with, func(s span) time.Time { return s.end })
		}
	}
}

// reach goes from an end to that of whoever held the same open then, and on.
func reach(end time.Time, with []span, of func(span) time.Time) time.Time {
	for more := true; more; {
		more = false
		for _, s := range with {
			if !s.from.After(end) && of(s).After(end) {
				end, more = of(s), true
			}
		}
	}
	return end
}

// policyEntry is what a "policy" entry says, as far as reports tell of it.
type policyEntry struct {
	Name   string                        `json:"name"`
	Digest string                        `json:"digest"`
	Spec   *v1alpha1.EmergencyPolicySpec `json:"spec"`
	entry  Ref
}

func (f *facts) policy(e *Entry) error {
	var p policyEntry
	if err := json.Unmarshal(e.Data, &p); err != nil {
		return err
	}
	p.entry = e.ref()
	f.policies[p.Name] = p
	return nil
}

// scope of a role, by the policies as they are at this point of the log.
func (f *facts) scope(role string) (out []Scope) {
	for _, name := range sorted(f.policies) {
		p := f.policies[name]
		if p.Spec == nil {
			continue
		}
		for _, r := range p.Spec.Roles {
			if r.Name != role {
				continue
			}
			s := Scope{Policy: p.Name, Digest: p.Digest, Entry: p.entry, Hostnames: []string{}, Namespaces: []string{}, Issuers: []string{}}
			for _, h := range r.Hostnames {
				s.Hostnames = append(s.Hostnames, string(h))
			}
			s.Namespaces = append(s.Namespaces, r.Namespaces...)
			for _, g := range r.Grants {
				if !slices.Contains(s.Issuers, g.Issuer) {
					s.Issuers = append(s.Issuers, g.Issuer)
				}
			}
			if r.MaxDuration != nil {
				s.MaxDuration = string(*r.MaxDuration)
			}
			out = append(out, s)
		}
	}
	return out
}
