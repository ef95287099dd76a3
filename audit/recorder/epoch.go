package recorder

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

const (
	// pollEvery is how often Envoy's counters are read.
	pollEvery = 250 * time.Millisecond
	// settleTime is how long after it ended a request may take to come into the
	// spool: Envoy flushes every millisecond.
	settleTime = 50 * time.Millisecond
	// patience is how many polls in a row must find a request missing before the
	// log says so.
	patience = 8
	// buryAfter is how long after an Envoy's end its last rows may come: the gRPC
	// log's may be in a socket still.
	buryAfter = time.Second
)

// epoch is one life of an Envoy: what it counted and what the log has.
type epoch struct {
	gateway, id string
	count       uint64 // requests in the log
	held        uint64 // read, and not in the log yet
	gap         uint64 // said to be missing
	resumed     bool   // it is older than this recorder

	// The check under way: Envoy had counted min requests when it began; n were in
	// the log once the spool was read up to settleTime after that.
	min     uint64
	active  uint64
	at      time.Time
	n       uint64
	sampled bool
	misses  int
	whole   time.Time // when nothing was missing, last
	last    Counters
	// forgot is how many requests Envoy had counted, at the least, on filter chains
	// that it no longer has.
	forgot, saved uint64
	over          bool // it was said that the log has more than Envoy counted
	limited       limited
}

func (e *epoch) cursor(kind string) string { return kind + "/" + e.gateway + " " + e.id }

// epochsOf are those that are on record.
func epochsOf(gateway string, cursors map[string]string) map[string]*epoch {
	out := map[string]*epoch{}
	of := func(id string) *epoch {
		if out[id] == nil {
			out[id] = &epoch{gateway: gateway, id: id, resumed: true}
		}
		return out[id]
	}
	for name, text := range cursors {
		n, err := strconv.ParseUint(text, 10, 64)
		if id, ok := strings.CutPrefix(name, "count/"+gateway+" "); ok && err == nil {
			of(id).count = n
		}
		if id, ok := strings.CutPrefix(name, "gap/"+gateway+" "); ok && err == nil {
			of(id).gap = n
		}
		if id, ok := strings.CutPrefix(name, "forgot/"+gateway+" "); ok && err == nil {
			of(id).forgot, of(id).saved = n, n
		}
		if id, ok := strings.CutPrefix(name, "limited/"+gateway+" "); ok {
			of(id).limited.told = parseNumbers(text)
		}
		if id, ok := strings.CutPrefix(name, "unlogged/"+gateway+" "); ok {
			l := &of(id).limited
			l.all = parseNumbers(text)
			l.all.refused = 0 // Envoy counts these from the beginning
			l.saved = l.all
		}
	}
	return out
}

func (g *gateway) epoch(id string) *epoch {
	e := g.epochs[id]
	if e == nil {
		e = &epoch{gateway: g.name, id: id}
		g.epochs[id] = e
	}
	return e
}

// poll asks the Envoy of a Gateway for its counters until ctx ends.
func (r *Recorder) poll(ctx context.Context, s Source) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		c, err := s.Counters(ctx)
		at := time.Now()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && c.Epoch != "":
			r.tell(func() { r.counted(r.gateway(s.Gateway), c, at) })
		default:
			r.tell(func() { r.gateway(s.Gateway).silent(errors.Is(err, ErrNoProcess), at) })
		}
	}
}

// counted compares what Envoy counts with what is in the log.
func (r *Recorder) counted(g *gateway, c Counters, at time.Time) {
	e := g.epoch(c.Epoch)
	for id := range g.epochs {
		if id != c.Epoch {
			g.exited(exit{id, false, at}) // nobody lived to tell
		}
	}
	g.answered()
	for chain, before := range e.last.Chains {
		if c.Chains[chain].Total < before.Total {
			e.forgot += before.Total
		}
	}
	before := e.limited.all.refused
	e.limited.count(c.Limited, at)
	total, active := e.forgot, uint64(0)
	for _, n := range c.Chains {
		total, active = total+n.Total, active+n.Active
	}
	if e.sampled {
		// Envoy counts on while it is asked. What it refused by the time it was asked
		// before is certainly in total; what it refused by now is certainly not in min.
		r.compare(g, e, less(total, before))
	}
	r.tellLimited(g, e, at, tellLimitedEvery)
	total = less(total, e.limited.all.refused)
	switch first := e.last.Epoch == ""; {
	case !first && c.WriteFailed > e.last.WriteFailed:
		g.failing("writes have failed", at)
	case c.Buffered > maxBuffered:
		g.failing("what it has to write is not taken", at)
	default:
		g.writing()
	}
	e.last, e.active, e.min, e.at, e.sampled = c, active, less(total, active), at, false
}

// compare judges the last check; Envoy has counted total by now.
func (r *Recorder) compare(g *gateway, e *epoch, total uint64) {
	switch {
	// Of a chain that is forgotten there may have been more than was ever read, also
	// before this recorder.
	case e.n > total && e.forgot == 0 && !e.resumed && !e.over:
		e.over = true
		r.addValue(audit.KindProblem, audit.Problem{V: 1, File: "spool of " + g.name,
			Reason: fmt.Sprintf("the log has %d requests of epoch %s, Envoy counted %d: somebody else wrote into the spool", e.n, e.id, total)}, nil)
	case e.n+e.gap >= e.min:
		e.misses, e.whole = 0, r.opts.Now()
	default:
		e.misses++
	}
	if e.misses >= patience {
		e.misses = 0
		r.gap(g, e, "Envoy counted requests that it did not log", false)
	}
}

// sample notes how many requests are in the log, once that is the answer to the
// last counters.
func (g *gateway) sample() {
	for _, e := range g.epochs {
		if !e.at.IsZero() && !e.sampled && g.caught.After(e.at.Add(settleTime)) {
			e.n, e.sampled = e.count+e.held+e.limited.all.requests, true
		}
	}
}

// gap says in the log that requests are missing from it.
func (r *Recorder) gap(g *gateway, e *epoch, reason string, atLeast bool) {
	missing := uint64(0)
	if have := e.count + e.limited.all.requests + e.gap; e.min > have {
		missing = e.min - have
	}
	e.gap += missing
	since := e.whole // zero: in an earlier life of this process
	if since.IsZero() && !e.resumed {
		since = r.began
	}
	r.log.Error("requests are missing from the audit log", "gateway", g.name, "epoch", e.id, "missing", missing, "reason", reason)
	cursors := map[string]string{e.cursor("gap"): strconv.FormatUint(e.gap, 10)}
	if atLeast { // nothing follows in this epoch
		cursors = nil
	}
	r.addValue(audit.KindGap, audit.Gap{
		V: 1, Lost: missing, Since: since.UTC(), Until: r.opts.Now().UTC(), Reason: reason,
		Gateway: g.name, Epoch: e.id, Counted: e.min, Recorded: e.count, InFlight: e.active, AtLeast: atLeast,
	}, cursors)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Gaps++
	r.stats.Missing += missing
}

// bury accounts for Envoys that ended, once all that they wrote is in the log.
func (r *Recorder) bury(g *gateway) {
	kept := g.ended[:0]
	for _, x := range g.ended {
		e := g.epoch(x.epoch)
		if e.held > 0 || !r.ending && (!g.caught.After(x.seen.Add(buryAfter)) || g.waits(x.epoch)) {
			kept = append(kept, x)
			continue
		}
		if !x.clean {
			r.gap(g, e, "Envoy was killed or crashed: what it had not written in its last moment is missing, and so are requests that were under way", true)
		} else if e.min > e.count+e.limited.all.requests+e.gap {
			r.gap(g, e, "Envoy counted requests that it did not log before it ended", true)
		}
		r.tellLimited(g, e, r.opts.Now(), 0)
		r.forget(g, e)
	}
	g.ended = kept
}

// forget an epoch: nothing of it is to come.
func (r *Recorder) forget(g *gateway, e *epoch) {
	delete(g.epochs, e.id)
	for id := range g.talked {
		if strings.HasPrefix(id, e.id+"/") {
			delete(g.talked, id)
		}
	}
	r.addValue(KindEpoch, Epoch{V: 1, Gateway: g.name, Epoch: e.id, Requests: e.count, Missing: e.gap},
		map[string]string{e.cursor("count"): "", e.cursor("gap"): "", e.cursor("forgot"): "", e.cursor("limited"): "", e.cursor("unlogged"): ""})
}

// KindEpoch is the kind of an Epoch.
const KindEpoch = "epoch"

// Epoch is the data of an entry that closes the account of one life of an
// Envoy.
type Epoch struct {
	V        int    `json:"v"` // 1
	Gateway  string `json:"gateway"`
	Epoch    string `json:"epoch"`
	Requests uint64 `json:"requests"`
	Missing  uint64 `json:"missing"`
}
