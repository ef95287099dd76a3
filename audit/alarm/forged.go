package alarm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// burst of forged tokens at one Gateway.
type burst struct {
	seen  []time.Time // of the last requests, before it is one
	since time.Time   // it is one; zero: it is not
	last  time.Time   // when one of it was looked at
	count uint64
}

// honest are the failures that a token of our own issuers has, too: it is not there,
// too old, too early, or for somebody else. So is one that could not be checked. All
// others, such as Envoy may yet come to know, are forgeries. So is one whose client
// left before he was told why he was refused: who tries tokens can always do that, and
// an impatient one without a token does not do it ten times a minute.
var honest = []string{
	"Jwt is missing", "Jwt is expired", "Jwt not yet valid", "Audiences in Jwt are not allowed",
	"Jwks remote fetch is failed",
}

// isForged reports whether a request was refused because nobody whom a policy names
// can have signed its token.
func isForged(denied string) bool {
	failure, token := strings.CutPrefix(denied, "token: ")
	return token && !slices.Contains(honest, failure)
}

// forged: somebody tries tokens. One alarm for a burst, and one when it is over that
// says how many there were.
func (r *Rules) forged(e *merkle.Entry) []audit.Alarm {
	q := &r.request
	if r.broken || q.Type != audit.TypeEnd || !isForged(q.Denied) {
		return nil
	}
	gateway, b := r.burst(q.Gateway)
	b.last = e.Time
	b.count++
	if !b.since.IsZero() {
		return nil
	}
	b.seen = append(b.seen, q.At())
	if len(b.seen) < r.opts.ForgedTokens {
		return nil
	}
	oldest, newest := slices.MinFunc(b.seen, time.Time.Compare), slices.MaxFunc(b.seen, time.Time.Compare)
	if newest.Sub(oldest) > r.opts.ForgedWithin {
		b.seen = b.seen[1:]
		b.count--
		return nil
	}
	return r.begin(gateway, b, oldest, newest, fmt.Sprintf("%d requests with forged tokens at %s since %s, the last from %s (%s)",
		b.count, gateway, clockText(oldest), audit.Text(q.ClientAddress, maxLabel), audit.Text(q.Denied, maxLabel)))
}

// flooded: so many came without a good token that they have no entry each. What
// tokens they had, if any, nobody knows.
func (r *Rules) flooded(e *merkle.Entry) []audit.Alarm {
	var l audit.Limited
	if json.Unmarshal(e.Data, &l) != nil || l.Requests == 0 {
		return nil
	}
	gateway, b := r.burst(l.Gateway)
	b.last = e.Time
	b.count += l.Requests
	if !b.since.IsZero() {
		return nil
	}
	return r.begin(gateway, b, l.Since, e.Time, fmt.Sprintf("%d requests without a good token at %s, too many for an entry each", l.Requests, gateway))
}

// begin a burst.
func (r *Rules) begin(gateway string, b *burst, since, at time.Time, summary string) []audit.Alarm {
	b.since, b.seen = since, nil
	r.remember(burstCursor(gateway), stamp(since)+" "+stamp(b.last)+" "+strconv.FormatUint(b.count, 10))
	return []audit.Alarm{{
		ID: burstID(gateway, since), Name: audit.AlarmForged, Severity: Warning, Time: at, Summary: summary, Labels: map[string]string{"gateway": gateway},
	}}
}

func burstID(gateway string, since time.Time) string { return "forged/" + gateway + "/" + stamp(since) }

// burstsOver says which bursts have ended.
func (r *Rules) burstsOver(now time.Time) (out []audit.Alarm) {
	for gateway, b := range r.bursts {
		if now.Sub(b.last) <= r.opts.ForgedQuiet {
			continue
		}
		delete(r.bursts, gateway)
		if b.since.IsZero() {
			continue
		}
		r.remember(burstCursor(gateway), "")
		out = append(out, audit.Alarm{
			ID: burstID(gateway, b.since) + "/over", Name: audit.AlarmForged, Severity: Info, Time: b.last, Labels: map[string]string{"gateway": gateway},
			Summary: fmt.Sprintf("No more forged tokens at %s: %d or more requests from %s to %s", gateway, b.count, clockText(b.since), clockText(b.last)),
		})
	}
	return out
}

// maxBursts bounds how many Gateways are remembered.
const maxBursts = 80

// burst at a Gateway, and the name under which it is kept.
func (r *Rules) burst(gateway string) (string, *burst) {
	gateway = audit.Text(gateway, maxLabel)
	if r.bursts[gateway] == nil && len(r.bursts) >= maxBursts {
		gateway = "other gateways"
	}
	if r.bursts[gateway] == nil {
		r.bursts[gateway] = &burst{}
	}
	return gateway, r.bursts[gateway]
}

func burstCursor(gateway string) string { return "forged/" + gateway }

func (r *Rules) restoreBursts() {
	for name, at := range r.state {
		gateway, ok := strings.CutPrefix(name, cursorPrefix+"forged/")
		if !ok {
			continue
		}
		f := strings.Fields(at)
		if len(f) != 3 {
			continue
		}
		since, err1 := time.Parse(time.RFC3339, f[0])
		last, err2 := time.Parse(time.RFC3339, f[1])
		count, err3 := strconv.ParseUint(f[2], 10, 64)
		if err1 == nil && err2 == nil && err3 == nil {
			r.bursts[gateway] = &burst{since: since, last: last, count: count}
		}
	}
}
