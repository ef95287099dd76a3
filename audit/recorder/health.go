package recorder

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
)

const (
	// maxUnread bounds what may wait in a spool: above it the log does not keep up.
	// Below half of it, it does again.
	maxUnread = 256 << 20
	// maxBuffered bounds what Envoy may have to write and not be rid of.
	maxBuffered = 16 << 20
	// minFree is the free space below which entries may soon be lost, enoughFree
	// that at which all is well again.
	minFree    = 2 << 20
	enoughFree = 3 << 20
	// calm is how many polls without a failed write it takes to trust the spool
	// again: twice as many each time, at most maxCalm, as long as it fails again
	// within calmAgain.
	calm, maxCalm = 8, 240
	calmAgain     = 10 * time.Minute
	// An Envoy that does not answer is not known to be complete after quietLong, and
	// not trusted after tooQuiet.
	quietLong, tooQuiet = 5 * time.Second, 30 * time.Second
	// stalled is how long a write of the log may take.
	stalled = 2 * time.Second
)

// health of a Gateway's record.
type health struct {
	spoolErr  string // what Envoy says of its writes
	doubt     int    // polls until it is trusted again
	calm      int    // the same, for the next time
	failedAt  time.Time
	behind    bool // more waits in the spool than should
	askedFrom time.Time
	quietFor  time.Duration
}

// failing notes that Envoy could not write its spool.
func (h *health) failing(why string, at time.Time) {
	if h.doubt == 0 {
		h.calm = min(max(2*h.calm, calm), maxCalm)
		if at.Sub(h.failedAt) > calmAgain {
			h.calm = calm
		}
	}
	h.spoolErr, h.doubt, h.failedAt = why, h.calm, at
}

// writing notes that no further write failed.
func (h *health) writing() {
	if h.doubt > 0 {
		h.doubt--
	}
	if h.doubt == 0 {
		h.spoolErr = ""
	}
}

// answered notes that Envoy has said what it counts.
func (h *health) answered() { h.askedFrom, h.quietFor = time.Time{}, 0 }

// silent notes that Envoy did not. None that runs has nothing to say.
func (h *health) silent(none bool, at time.Time) {
	if none {
		h.answered()
		return
	}
	if h.askedFrom.IsZero() {
		h.askedFrom = at
	}
	h.quietFor = at.Sub(h.askedFrom)
}

// problem of a gateway, "" for none. It does not change as long as the problem
// is the same: each change is told.
func (g *gateway) problem() string {
	g.behind = g.unread > maxUnread || g.behind && g.unread > maxUnread/2
	switch {
	case g.openErr != nil:
		return fmt.Sprintf("the spool of Gateway %s cannot be opened: %v", g.name, g.openErr)
	case g.readErr != nil:
		return fmt.Sprintf("the spool of Gateway %s cannot be read: %v", g.name, g.readErr)
	case g.spoolErr != "":
		return fmt.Sprintf("the Envoy of Gateway %s cannot write its spool: %s", g.name, g.spoolErr)
	case g.behind:
		return fmt.Sprintf("the spool of Gateway %s grows faster than it is logged", g.name)
	case g.quietFor > tooQuiet:
		return fmt.Sprintf("the Envoy of Gateway %s does not answer how many requests it has had", g.name)
	}
	return ""
}

// assess says whether entries can be kept, and tells when that changes.
func (r *Recorder) assess() {
	problem := r.judge()
	unread, incomplete := int64(0), false
	for _, g := range r.gateways {
		unread += g.unread
		incomplete = incomplete || g.quietFor > quietLong
		for _, e := range g.epochs {
			incomplete = incomplete || e.misses > 0
		}
	}
	r.mu.Lock()
	changed := problem != r.problem
	r.problem, r.stats.Unread, r.stats.Incomplete = problem, unread, incomplete
	r.opening = time.Time{} // it was tried
	r.mu.Unlock()
	if changed {
		if problem != "" {
			r.log.Error("entries cannot be kept", "problem", problem)
		} else {
			r.log.Info("entries can be kept again")
		}
		r.changed()
	}
}

func (r *Recorder) judge() string {
	err := r.failed
	if err == nil && r.ledger != nil {
		err = r.ledger.Err()
	}
	if err != nil {
		return fmt.Sprintf("the audit log cannot be kept: %v", err)
	}
	if r.broken != nil {
		return fmt.Sprintf("the journal cannot be read: %v", r.broken)
	}
	if text := r.space(); text != "" {
		return text
	}
	for _, name := range slices.Sorted(maps.Keys(r.gateways)) {
		if text := r.gateways[name].problem(); text != "" {
			return text
		}
	}
	return ""
}

// space looks at the disk before it is full: Envoy loses lines on a full one.
func (r *Recorder) space() string {
	free := r.free()
	r.low = free < minFree || r.low && free < enoughFree
	if !r.low {
		return ""
	}
	return r.lowText()
}

// free bytes of the disk.
func (r *Recorder) free() int64 {
	if r.opts.free != nil {
		return r.opts.free()
	}
	return durable.Free(r.opts.DataDir)
}

func (r *Recorder) lowText() string {
	return fmt.Sprintf("the disk of %s is almost full: free some space, %d MiB at least", r.opts.DataDir, enoughFree>>20)
}
