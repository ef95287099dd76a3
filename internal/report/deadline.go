package report

import (
	"fmt"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// Tolerance is what Envoy may take to cut a stream at a deadline, and be said to have
// kept it. Measured are 10 ms at most (docs/benchmarks.md); the rest is for a machine
// that has something else to do. What began at the deadline or later has none.
const Tolerance = 100 * time.Millisecond

// keep compares a request that was let in with the deadline.
func (w *windowed) keep(q *Request, r *audit.RequestEntry) {
	k := &w.kept
	deadline, ok := w.until[r.Route]
	if !ok {
		deadline = w.rec.Deadline
	}
	if deadline.IsZero() {
		return
	}
	end := r.At()
	if r.Start.After(k.LastBegan) {
		k.LastBegan = r.Start
	}
	if !r.Start.Before(deadline) {
		k.BegunAfter++
	}
	if end.After(deadline.Add(Tolerance)) {
		k.EndedLate++
	}
	// The one that was nearest to its deadline, or furthest beyond.
	if m := milliseconds(deadline.Sub(end)); k.Last == nil || m < k.MarginMs {
		ref := q.Ref
		k.LastEnded, k.MarginMs, k.Last, k.Deadline = end, m, &ref, deadline
		k.AfterEndMs = 0
		if closed := w.closed[r.Route]; !closed.IsZero() && closed.Before(deadline) && end.After(closed) {
			k.AfterEndMs = milliseconds(end.Sub(closed))
		}
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// judged is what was found of the deadline.
func (w *windowed) judged(asOf time.Time) Kept {
	k := w.kept
	k.ToleranceMs = milliseconds(Tolerance)
	switch {
	case w.opened().IsZero():
		k.Verdict = Verdict{Nothing, "It was never open."}
	case k.BegunAfter > 0:
		k.Verdict = Verdict{Bad, fmt.Sprintf("NOT kept: %s let in at the deadline or after it.", number(k.BegunAfter, "request was", "requests were"))}
	case k.EndedLate > 0:
		k.Verdict = Verdict{Bad, fmt.Sprintf("NOT kept: %s more than %s after it, the last one %s.", number(k.EndedLate, "request ended", "requests ended"), Tolerance, ms(-k.MarginMs))}
	case !w.rec.Phase.Final() && w.rec.Deadline.After(asOf):
		k.Verdict = Verdict{Attention, "Still open, as of the newest entry: the deadline has not come."}
	case k.Last == nil:
		k.Verdict = Verdict{Good, "Kept: no request was let in at all."}
	case k.MarginMs < 0:
		k.Verdict = Verdict{Good, fmt.Sprintf("Kept: no request began after it, and the last stream was cut %s after it (at most %s is Envoy's time to cut).", ms(-k.MarginMs), Tolerance)}
	default:
		k.Verdict = Verdict{Good, fmt.Sprintf("Kept: the last request ended %s before it.", ms(k.MarginMs))}
	}
	if k.AfterEndMs > 0 && w.rec.Phase == v1alpha1.PhaseRevoked {
		k.Words += fmt.Sprintf(" The last request ended %s after the revocation.", ms(k.AfterEndMs))
	}
	if !k.Deadline.IsZero() && k.Deadline.After(w.rec.Deadline) {
		k.Words += " Another activation held the same route open for the same role longer; its deadline is the one that counts."
	}
	return k
}

// ms is a duration for people.
func ms(v float64) string {
	switch {
	case v < 10_000:
		return fmt.Sprintf("%.1f ms", v)
	default:
		return (time.Duration(v) * time.Millisecond).Round(100 * time.Millisecond).String()
	}
}

func number[N uint64 | int](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
