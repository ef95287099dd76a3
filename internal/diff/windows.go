package diff

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

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
	ends := map[string]Fact{}
	for _, f := range next.Facts {
		was, known := records[f.Record.Key()]
		if !known || was.Final() || len(was.Targets) == 0 {
			continue
		}
		// The last one says what it comes to.
		if fact, tell := windowFact(f, was); tell {
			ends["Activation "+f.Record.Key().String()] = fact
		}
	}
	for key, s := range next.Statuses.Activations {
		// No fact says so: it is only not served any more, and may be again.
		name, was := "Activation "+key.String(), records[key]
		if _, told := ends[name]; told || was.Final() || len(was.Targets) == 0 {
			continue
		}
		for i, t := range s.Targets {
			old := out.Statuses.Activations[key].Targets
			if blocked(t.Reason) && i < len(old) && !blocked(old[i].Reason) {
				ends[name] = Fact{Narrows, fmt.Sprintf("is open for role %s until %s, and would not be served", was.Spec.Role, stamp(was.Deadline)), "", t.Message}
			}
		}
	}
	for name, fact := range ends {
		r.Changes = append(r.Changes, Change{Object: name, Kind: Window, Facts: []Fact{fact}})
	}
	slices.SortStableFunc(r.Changes, func(a, b Change) int {
		if a.Kind == Window && b.Kind == Window {
			return cmp.Compare(a.Object, b.Object)
		}
		return cmp.Compare(rank(a.Kind), rank(b.Kind))
	})
	return nil
}

// rank tells windows last.
func rank(k Kind) int {
	if k == Window {
		return 1
	}
	return 0
}

// blocked: whether a reason is more than Envoy's not having answered yet.
func blocked(reason string) bool {
	return reason != activation.ReasonOpening && reason != activation.ReasonLive
}

func windowFact(f activation.Fact, was activation.Record) (Fact, bool) {
	open := fmt.Sprintf("is open for role %s until %s", was.Spec.Role, stamp(was.Deadline))
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
