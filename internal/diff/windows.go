package diff

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/render"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// Open are the windows that are open before the change.
type Open struct {
	// Requests came over the control socket.
	Requests map[types.NamespacedName]activation.Record
	// Seen is when Activations among the manifests were first seen. Those that are
	// not here are taken as first seen now.
	Seen map[types.NamespacedName]time.Time
}

// Windows adds what becomes of windows that are open now. It is the translator's
// word: the old manifests open them, and the new ones find them on record. Keys
// that are not in the manifests are taken to be there.
func (r *Report) Windows(before, after translator.Objects, at time.Time, open Open) error {
	opened, err := render.WithStandIns(before)
	if err != nil {
		return err
	}
	out, records, err := render.Settle(translator.Input{Objects: opened, Now: at, Requests: open.Requests, Seen: open.Seen})
	if err != nil {
		return err
	}
	changed, err := render.WithStandIns(after)
	if err != nil {
		return err
	}
	// Those that are only among the new manifests open nothing now.
	next := translator.Translate(translator.Input{Objects: changed, Now: at, Records: records})
	ends := ended(next.Facts, records)
	for key, s := range next.Statuses.Activations {
		name := object(key)
		if _, told := ends[name]; told || !isOpen(records[key]) {
			continue
		}
		if why := unserved(out.Statuses.Activations[key].Targets, s.Targets); why != "" {
			ends[name] = Fact{Narrows, standing(records[key]) + ", and would not be served", "", why}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(ends)) {
		r.Changes = append(r.Changes, Change{Object: name, Kind: Window, Facts: []Fact{ends[name]}})
	}
	return nil
}

func object(key types.NamespacedName) string { return "Activation " + key.String() }

func isOpen(r activation.Record) bool { return !r.Final() && len(r.Targets) > 0 }

func standing(r activation.Record) string {
	return fmt.Sprintf("is open for role %s until %s", r.Spec.Role, stamp(r.Deadline))
}

// ended are the windows that the facts end or shorten. The last fact says what it
// comes to.
func ended(facts []activation.Fact, records map[types.NamespacedName]activation.Record) map[string]Fact {
	ends := map[string]Fact{}
	for _, f := range facts {
		if was := records[f.Record.Key()]; isOpen(was) {
			if fact, tell := windowFact(f, was); tell {
				ends[object(f.Record.Key())] = fact
			}
		}
	}
	return ends
}

// unserved says why a target is not served any more although no fact ends it: it
// may be served again.
func unserved(was, is []v1alpha1.TargetStatus) string {
	for i, t := range is {
		if i < len(was) && blocked(t.Reason) && !blocked(was[i].Reason) {
			return t.Message
		}
	}
	return ""
}

// blocked: whether a reason is more than Envoy's not having answered yet.
func blocked(reason string) bool {
	return reason != activation.ReasonOpening && reason != activation.ReasonLive
}

func windowFact(f activation.Fact, was activation.Record) (Fact, bool) {
	open := standing(was)
	switch f.Event {
	case activation.Shortened:
		return Fact{Narrows, open + ", and would be shortened", "", "until " + stamp(f.Record.Deadline)}, true
	case activation.Withdrawn:
		why := ""
		for key, t := range f.Record.Targets {
			if before := was.Targets[key]; before.EndedAt.IsZero() && !t.EndedAt.IsZero() {
				why = t.Message
			}
		}
		return Fact{Narrows, open + ", and one of its targets would be cut", "", why}, true
	case activation.Revoked, activation.Expired, activation.Refused, activation.NeverLive:
		return Fact{Narrows, open + ", and would be cut", "", f.Record.Message}, true
	}
	return Fact{}, false
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
