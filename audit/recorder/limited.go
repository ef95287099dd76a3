package recorder

import (
	"fmt"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

const (
	// tellLimitedEvery is how often the log says how many requests have no entry.
	tellLimitedEvery = 5 * time.Second
	// Refused requests without a good token, and connections without a request, have
	// an entry each up to strangersBurst at once and strangersPerSecond from then on.
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
	saved  numbers // in a cursor
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

// save has the next entry say what is counted, along with the place in the spool
// up to which it is.
func (l *limited) save(e *epoch, cursors map[string]string) {
	if l.all != l.saved {
		l.saved = l.all
		cursors[e.cursor("unlogged")] = l.all.String()
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
	cursors := map[string]string{e.cursor("limited"): l.all.String()}
	l.save(e, cursors)
	if position := g.released; position != g.placed { // or the entry before says so
		g.placed = position
		cursors["spool/"+g.name] = position
		r.after = append(r.after, func() { r.committed(g, position) })
	}
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

// stranger: it was refused, by us, and nobody is known to have asked.
func stranger(e *audit.RequestEntry) bool {
	return e.Subject == "" && e.Issuer == "" && e.UpstreamAddress == "" && (e.Denied != "" || e.Status == 400)
}

// less is a - b, and not below 0.
func less(a, b uint64) uint64 { return a - min(a, b) }
