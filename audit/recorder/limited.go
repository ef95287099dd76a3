package recorder

import (
	"fmt"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

const (
	// tellLimitedEvery is how often the log says how many requests have no entry.
	tellLimitedEvery = 5 * time.Second
	// Requests without a good token, and connections without a request in the spool,
	// have an entry each up to strangersBurst at once and strangersPerSecond from then on.
	// Beyond, they are counted: whoever floods the door must not fill the disk, for
	// without its log the door closes.
	strangersBurst     = 10_000
	strangersPerSecond = 20
)

// numbers of what has no entry.
type numbers struct{ refused, requests, connections uint64 }

func (n numbers) minus(m numbers) numbers {
	return numbers{less(n.refused, m.refused), less(n.requests, m.requests), less(n.connections, m.connections)}
}

func (n numbers) String() string { return fmt.Sprint(n.refused, n.requests, n.connections) }

// parseNumbers reads what String has written; nothing is no numbers.
func parseNumbers(s string) (n numbers) {
	_, _ = fmt.Sscan(s, &n.refused, &n.requests, &n.connections)
	return n
}

// limited is what an epoch has no entries of, although it is known to have been.
type limited struct {
	all    numbers
	told   numbers // in the log
	saved  numbers // in a cursor: what lines are without an entry
	last   uint64  // Envoy's counter of refused requests, when it was read last
	since  time.Time
	toldAt time.Time
}

// count takes Envoy's counter of requests that were refused because there were
// too many. Like others it begins anew when the last listener goes; what was told
// is never counted again.
func (l *limited) count(n uint64, at time.Time) {
	if l.since.IsZero() {
		l.since = at
	}
	if n < l.last {
		l.last = 0
	}
	l.all.refused, l.last = max(l.all.refused+n-l.last, l.told.refused), n
}

// save has the next entry say how many lines have no entry: see gateway.place.
func (l *limited) save(e *epoch, cursors map[string]string) {
	now := l.all
	now.refused = 0 // Envoy counts these
	if now != l.saved {
		l.saved = now
		cursors[e.cursor("unlogged")] = now.String()
	}
}

// tellLimited has the log say what it has not said, if it did not say so within
// every.
func (r *Recorder) tellLimited(g *gateway, e *epoch, at time.Time, every time.Duration) {
	l := &e.limited
	more := l.all.minus(l.told)
	if more == (numbers{}) {
		l.since = at
		return
	}
	if at.Sub(l.toldAt) < every {
		return
	}
	cursors := map[string]string{}
	if position := g.released; position != g.placed { // or the entry before says so
		g.placed = position
		cursors = g.place(position)
		r.after = append(r.after, func() { r.committed(g, position) })
	}
	cursors[e.cursor("limited")] = l.all.String()
	r.addValue(audit.KindLimited, audit.Limited{
		V: 1, Gateway: g.name, Epoch: e.id, Refused: more.refused, Requests: more.requests, Connections: more.connections,
		Since: l.since.UTC(), Until: at.UTC(),
	}, cursors)
	l.told, l.toldAt, l.since = l.all, at, at
}

// strangers is how many entries those without a good token may have now.
type strangers struct {
	left float64
	at   time.Time
}

// take one.
func (s *strangers) take(now time.Time) bool {
	if s.at.IsZero() {
		s.left, s.at = strangersBurst, now
	}
	if d := now.Sub(s.at); d > 0 {
		s.left, s.at = min(s.left+d.Seconds()*strangersPerSecond, strangersBurst), now
	}
	if s.left < 1 {
		return false
	}
	s.left--
	return true
}

// stranger: nobody is known to have asked. Who was let in has an issuer. How it
// ended is not looked at, for a client that resets its stream can change what
// Envoy says of that.
func stranger(e *audit.RequestEntry) bool {
	return e.Subject == "" && e.Issuer == "" && e.UpstreamAddress == ""
}

// less is a - b, and not below 0.
func less(a, b uint64) uint64 { return a - min(a, b) }
