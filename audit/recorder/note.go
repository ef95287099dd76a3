package recorder

import (
	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// Note has an entry of a value of package audit appended, about the log itself or who
// was told of it. It does not wait: what cannot be written now is written when it can,
// and is forgotten if this process ends before. The channel is closed when the entry
// is durable.
func (r *Recorder) Note(kind string, v any, cursors map[string]string) <-chan struct{} {
	durable := make(chan struct{})
	r.tell(func() {
		r.addValue(kind, v, cursors)
		r.after = append(r.after, func() { close(durable) })
	})
	return durable
}

// Add is Note for drafts.
func (r *Recorder) Add(drafts ...merkle.Draft) {
	if len(drafts) == 0 {
		return
	}
	r.tell(func() {
		for _, d := range drafts {
			r.add(d)
		}
	})
}

// Done is closed when nothing is recorded any more.
func (r *Recorder) Done() <-chan struct{} { return r.done }

// Learner is a Ledger that wants to know of the entries of the journal that it has
// already, such as rules that have something to remember.
type Learner interface{ Learn(e merkle.Entry) }

func (r *Recorder) learn(e *audit.Entry) {
	if l, ok := r.ledger.(Learner); ok {
		l.Learn(merkle.Entry{V: 1, Time: e.Time, Kind: e.Kind, Data: e.Data})
	}
}
