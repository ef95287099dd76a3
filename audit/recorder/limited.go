package recorder

import (
	"strconv"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// tellLimitedEvery is how often the log says how many requests were refused
// because there were too many.
const tellLimitedEvery = 10 * time.Second

// limited are the requests of an epoch that were refused because there were too
// many.
type limited struct {
	total  uint64 // that Envoy has counted
	last   uint64 // its counter, when it was read last
	told   uint64 // in the log
	since  time.Time
	toldAt time.Time
}

// count takes the counter as Envoy has it. Like others it begins anew when the
// last listener goes; what was told is never counted again.
func (l *limited) count(n uint64, at time.Time) {
	if l.since.IsZero() {
		l.since = at
	}
	if n < l.last {
		l.last = 0
	}
	l.total, l.last = max(l.total+n-l.last, l.told), n
}

// tellLimited has the log say what it has not said, if it did not say so within
// every.
func (r *Recorder) tellLimited(g *gateway, e *epoch, at time.Time, every time.Duration) {
	l := &e.limited
	if l.total <= l.told {
		l.since = at
		return
	}
	if at.Sub(l.toldAt) < every {
		return
	}
	r.addValue(audit.KindLimited, audit.Limited{
		V: 1, Gateway: g.name, Epoch: e.id, Refused: l.total - l.told, Since: l.since.UTC(), Until: at.UTC(),
	}, map[string]string{e.cursor("limited"): strconv.FormatUint(l.total, 10)})
	l.told, l.toldAt, l.since = l.total, at, at
}

// less is a - b, and not below 0.
func less(a, b uint64) uint64 { return a - min(a, b) }
