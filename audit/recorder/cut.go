package recorder

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// When a lease goes away its streams end, and to Envoy that looks like a backend
// that closed. Only the journal knows that it was us: a stream that ends so when
// its opening has ended was cut.

const (
	// factAfter is how long after a stream was cut the journal may take to say so:
	// what closes is recorded after it has closed.
	factAfter = 300 * time.Millisecond
	// leaseEarly is how much before its deadline a lease may end: Envoy truncates
	// its time to milliseconds, and clocks are read apart.
	leaseEarly = 20 * time.Millisecond
	// keepOpening is how long after its end an opening is remembered.
	keepOpening = 10 * time.Minute
	maxOpenings = 10_000
)

// openings says until when each opening lasts, by the journal.
type openings map[string]*opening

// opening is a lease: until when, by each activation that holds it.
type opening struct{ holders map[string]time.Time }

// end is when the last holder ends.
func (o *opening) end() (end time.Time) {
	for _, t := range o.holders {
		if t.After(end) {
			end = t
		}
	}
	return end
}

// fact is what is read of an entry of an activation; see internal/activation.
type fact struct {
	Record struct {
		Namespace, Name   string
		Deadline, EndedAt time.Time
		Targets           map[string]struct {
			Openings map[string]string
			EndedAt  time.Time
		}
	}
}

// note takes an entry of the journal.
func (o openings) note(e *audit.Entry, now time.Time) {
	var f fact
	if e.Kind != audit.KindActivation || json.Unmarshal(e.Data, &f) != nil {
		return
	}
	r := &f.Record
	for _, target := range r.Targets {
		end := r.Deadline
		for _, t := range []time.Time{r.EndedAt, target.EndedAt} {
			if !t.IsZero() && t.Before(end) {
				end = t
			}
		}
		for _, id := range target.Openings {
			if o[id] == nil {
				o.tidy(now)
				o[id] = &opening{holders: map[string]time.Time{}}
			}
			o[id].holders[r.Namespace+"/"+r.Name] = end
		}
	}
}

// OpenUntil says until when an opening lasts, where there is no journal to say so:
// before anybody can notice its end.
func (r *Recorder) OpenUntil(id string, end time.Time) {
	r.tell(func() {
		if r.openings[id] == nil {
			r.openings.tidy(r.opts.Now())
			r.openings[id] = &opening{holders: map[string]time.Time{}}
		}
		r.openings[id].holders[""] = end
	})
}

func (o openings) tidy(now time.Time) {
	if len(o) < maxOpenings {
		return
	}
	for id, x := range o {
		if now.Sub(x.end()) > keepOpening {
			delete(o, id)
		}
	}
}

// aborted reports whether a request ended as one does whose lease goes away.
func aborted(e *audit.RequestEntry) bool {
	if e.Opening == "" || e.Cut != "" || e.Type != audit.TypeEnd {
		return false
	}
	for flag := range strings.SplitSeq(e.ResponseFlags, ",") {
		if flag == "UC" || flag == "UPE" || flag == "UF" {
			return true
		}
	}
	return false
}

// cut reports whether the journal says that we ended this request, which was
// aborted. Not known yet: the journal may still say so.
func (o openings) cut(e *audit.RequestEntry, now time.Time) (cut, known bool) {
	at := e.At()
	if x := o[e.Opening]; x != nil && !at.Before(x.end().Add(-leaseEarly)) {
		return true, true
	}
	// Envoy's clock may be ahead of ours; nothing waits longer for that.
	wait := now.Sub(at)
	return false, wait > factAfter || wait < -factAfter
}
