package render

import (
	"errors"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// Settle translates until nothing changes, as the loop of serve does, with a disk
// that takes every fact at once and an Envoy that acknowledges whatever it is
// sent: what is to be open is open, at that very instant. The records are those
// that serve would have then.
func Settle(in translator.Input) (*translator.Result, map[types.NamespacedName]activation.Record, error) {
	records := maps.Clone(in.Records)
	if records == nil {
		records = map[types.NamespacedName]activation.Record{}
	}
	in.Records = records
	envoys := map[types.NamespacedName]agreeable{}
	const enough = 64 // each round takes a window or a resource further
	for range enough {
		out := translator.Translate(in)
		settled := len(out.Facts) == 0
		for _, f := range out.Facts {
			records[f.Record.Key()] = f.Record
		}
		in.Requests = nil // they are on record now
		in.Delivery = map[types.NamespacedName]snapshot.Delivery{}
		for key, g := range out.Gateways {
			settled = settled && same(envoys[key].has, g.Snapshot)
			envoys[key] = agreeable{g.Snapshot}
			in.Delivery[key] = envoys[key]
		}
		if settled {
			return out, records, nil
		}
	}
	return nil, nil, errors.New("the manifests do not settle: report this as a defect")
}

func same(a, b *snapshot.Snapshot) bool {
	if a == nil {
		return false
	}
	for k := range b.Differences(a) {
		if x, y := a.Get(k), b.Get(k); x == nil || y == nil || x.Version != y.Version {
			return false
		}
	}
	return true
}

// agreeable is an Envoy that has acknowledged all that it was sent.
type agreeable struct{ has *snapshot.Snapshot }

func (agreeable) Connected() bool { return true }

func (e agreeable) Acked(k snapshot.Key) string {
	if r := e.has.Get(k); r != nil {
		return r.Version
	}
	return ""
}

func (agreeable) Rejected(snapshot.Key) (version, message string) { return "", "" }

func (agreeable) Tried(snapshot.Key, string) (answered bool, refused string) { return true, "" }

func (agreeable) Refused() []snapshot.Key { return nil }

// Open is a window that a reviewer wants to see open.
type Open struct {
	Route    activation.RouteKey
	Rule     string // "" for all
	Role     string
	Duration time.Duration // 0: the policy's default
}
