package translator

import (
	"maps"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// fakeEnvoy acknowledges what it was last handed, but for what it rejects.
type fakeEnvoy struct {
	got    *snapshot.Snapshot
	reject map[snapshot.Key]string
	// refuse says why a resource is refused, whatever its version; "" takes it.
	refuse  func(*snapshot.Resource) string
	answers map[string]string
	// refusing are the keys of which a version was refused.
	refusing map[snapshot.Key]bool
}

// take is what happens when the snapshot reaches Envoy.
func (e *fakeEnvoy) take(s *snapshot.Snapshot) {
	e.got = s
	if e.answers == nil {
		e.answers, e.refusing = map[string]string{}, map[snapshot.Key]bool{}
	}
	for r := range s.All() {
		k := r.Key
		if k.Type == snapshot.Route {
			e.answers[r.Version] = ""
			if e.refuse != nil {
				e.answers[r.Version] = e.refuse(r)
			}
			if e.answers[r.Version] != "" {
				e.refusing[k] = true
			}
		}
	}
}

func (e *fakeEnvoy) Tried(_ snapshot.Key, version string) (bool, string) {
	refused, answered := e.answers[version]
	return answered, refused
}

func (e *fakeEnvoy) Refused() []snapshot.Key {
	return slices.Collect(maps.Keys(e.refusing))
}

func (e *fakeEnvoy) Connected() bool { return true }

func (e *fakeEnvoy) Acked(k snapshot.Key) string {
	if e.got == nil || e.got.Get(k) == nil || e.reject[k] != "" || e.answers[e.got.Get(k).Version] != "" {
		return ""
	}
	return e.got.Get(k).Version
}

func (e *fakeEnvoy) Rejected(k snapshot.Key) (string, string) {
	if e.got == nil || e.got.Get(k) == nil || e.reject[k] == "" {
		return "", ""
	}
	return e.got.Get(k).Version, e.reject[k]
}

// settle translates until nothing changes, as the serve loop does: facts come
// back as records, and Envoy acknowledges.
func settle(t testing.TB, in *Input, reject map[snapshot.Key]string) *Result {
	t.Helper()
	return settleWith(t, in, func() *fakeEnvoy { return &fakeEnvoy{reject: reject} })
}

func settleWith(t testing.TB, in *Input, newEnvoy func() *fakeEnvoy) *Result {
	t.Helper()
	if in.Records == nil {
		in.Records = map[types.NamespacedName]activation.Record{}
	}
	envoys := map[types.NamespacedName]*fakeEnvoy{}
	for range 30 {
		out := Translate(*in)
		moved := len(out.Facts) > 0
		for _, f := range out.Facts {
			in.Records[f.Record.Key()] = f.Record
		}
		in.Delivery = map[types.NamespacedName]snapshot.Delivery{}
		for key, g := range out.Gateways {
			e := envoys[key]
			if e == nil {
				e = newEnvoy()
				envoys[key] = e
			}
			moved = moved || e.got == nil || !sameVersions(e.got, g.Snapshot)
			e.take(g.Snapshot)
			in.Delivery[key] = e
		}
		if !moved {
			return out
		}
	}
	t.Fatal("does not settle")
	return nil
}

func sameVersions(a, b *snapshot.Snapshot) bool {
	if a.Len() != b.Len() {
		return false
	}
	for r := range a.All() {
		k := r.Key
		if b.Get(k) == nil || b.Get(k).Version != r.Version {
			return false
		}
	}
	return true
}

// load reads manifests as serve does: with schemas, defaults and CEL.
func load(t testing.TB, path string, now time.Time) *Input {
	t.Helper()
	set := source.Load(path)
	for _, p := range set.Problems {
		t.Errorf("%v", p)
	}
	return &Input{Now: now, Objects: set.Objects}
}
