package alarm

import (
	"sync"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// Once finds alarms that are in a log more than once: in that of a cluster each
// replica of the controller brings its own. Its methods may be called concurrently.
type Once struct {
	mu    sync.Mutex
	first map[string]uint64 // seq, by id
	ids   recent
}

// Again reports whether an entry raises what an earlier one has raised.
func (o *Once) Again(e merkle.Entry) bool {
	a, ok := raised(e.Kind, e.Data)
	if !ok {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if first, known := o.first[a.ID]; known && first < e.Seq {
		return true
	}
	if o.first == nil {
		o.first = map[string]uint64{}
	}
	if old, known := o.ids.add(a.ID); known {
		delete(o.first, old)
	}
	o.first[a.ID] = e.Seq
	return false
}
