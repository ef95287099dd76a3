package recorder

import (
	"encoding/json"
	"hash/maphash"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

const (
	// rescueAfter is how long the line of a request may come after its gRPC row.
	rescueAfter = 100 * time.Millisecond
	// keepKeys is how long the key of a request is remembered at the least, for its
	// second row, and maxKeys how many are: a row may come late when this process
	// was stopped.
	keepKeys = 2 * time.Minute
	maxKeys  = 1_000_000
	// maxWaiting bounds the gRPC rows that wait for their line. Those that find no
	// room are left to the spool.
	maxWaiting = 100_000
	// maxArrived bounds what run was told and has not heard yet.
	maxArrived = 100_000
)

// viaGRPC is RequestEntry.Via of a request whose line did not come.
const viaGRPC = "als"

// late is a row from gRPC whose line has not come yet.
type late struct {
	entry   audit.RequestEntry
	arrived time.Time
	done    bool
}

// keys are those of requests of which one row was taken and the other may come.
// A key counts once: should two requests have the same, both are logged.
type keys struct {
	now, before map[uint64]int
	turned      time.Time
}

var seed = maphash.MakeSeed()

func newKeys() *keys {
	return &keys{now: map[uint64]int{}, before: map[uint64]int{}, turned: time.Now()}
}

func (k *keys) put(key string) {
	if len(k.now) >= maxKeys || time.Since(k.turned) > keepKeys {
		k.now, k.before, k.turned = map[uint64]int{}, k.now, time.Now()
	}
	k.now[maphash.String(seed, key)]++
}

// take reports whether the key is there, and removes it once.
func (k *keys) take(key string) bool {
	h := maphash.String(seed, key)
	for _, m := range []map[uint64]int{k.now, k.before} {
		if m[h] > 1 {
			m[h]--
			return true
		}
		if m[h] == 1 {
			delete(m, h)
			return true
		}
	}
	return false
}

// Request takes an entry of the gRPC access log; a Recorder is the sink of an
// audit.Receiver. It is logged if its line does not come. What that log loses is
// in the spool.
func (r *Recorder) Request(e audit.RequestEntry) {
	if e.Type != audit.TypeEnd || e.Epoch == "" {
		return
	}
	r.mu.Lock()
	ready := r.ready && len(r.arrived) < maxArrived
	r.mu.Unlock()
	if !ready {
		return // the spool has it
	}
	now := time.Now()
	r.tell(func() {
		g := r.gateway(e.Node)
		if g.lines.take(e.Key) || g.waiting[e.Key] != nil || len(g.waiting) >= maxWaiting {
			return
		}
		l := &late{entry: e, arrived: now}
		g.waiting[e.Key] = l
		g.queue = append(g.queue, l)
	})
}

// lineCame drops the row that waited for this line, or remembers that the line
// came first.
func (g *gateway) lineCame(key string) {
	l := g.waiting[key]
	if l == nil {
		g.lines.put(key)
		return
	}
	l.done = true
	delete(g.waiting, key)
	for len(g.queue) > 0 && g.queue[0].done {
		g.queue = g.queue[1:]
	}
}

// waits reports whether a row of that epoch may still be taken.
func (g *gateway) waits(epoch string) bool {
	for _, l := range g.waiting {
		if l.entry.Epoch == epoch {
			return true
		}
	}
	return false
}

// rescue logs the rows whose line has not come, though all that was written
// before began has been read.
func (r *Recorder) rescue(g *gateway, began time.Time) {
	for len(g.queue) > 0 && len(r.drafts) < 2*batch {
		l := g.queue[0]
		if !l.done && !r.ending && began.Sub(l.arrived) < rescueAfter {
			break
		}
		if g.queue = g.queue[1:]; l.done {
			continue
		}
		delete(g.waiting, l.entry.Key)
		e := l.entry
		e.Gateway, e.Via = g.name, viaGRPC
		if cut, _ := r.openings.cut(&e, began); cut && aborted(&e) {
			e.Cut = audit.CutClosed
		}
		if e.Connection != "" {
			g.talked[talk(e.Epoch, e.Connection)] = true
		}
		g.rescued.put(e.Key)
		r.take(g, &e, map[string]string{})
	}
}

// remember what was logged before the last restart, so that a row of it that
// comes now is not taken again.
func (r *Recorder) remember(recent []merkle.Entry) {
	for _, e := range recent {
		if e.Kind != audit.KindRequest {
			continue
		}
		var q audit.RequestEntry
		if json.Unmarshal(e.Data, &q) != nil {
			continue
		}
		g := r.gateway(q.Gateway)
		if q.Connection != "" {
			g.talked[talk(q.Epoch, q.Connection)] = true
		}
		switch {
		case q.Type != audit.TypeEnd:
		case q.Via == viaGRPC:
			g.rescued.put(q.Key)
		default:
			g.lines.put(q.Key)
		}
	}
	for _, g := range r.gateways {
		for id := range g.talked {
			if epoch, _, _ := strings.Cut(id, "/"); g.epochs[epoch] == nil {
				delete(g.talked, id)
			}
		}
	}
}
