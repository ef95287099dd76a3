package translator

import (
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
}

// take is what happens when the snapshot reaches Envoy.
func (e *fakeEnvoy) take(s *snapshot.Snapshot) {
	e.got = s
	if e.answers == nil {
		e.answers = map[string]string{}
	}
	for k, r := range s.Resources {
		if k.Type == snapshot.Route {
			e.answers[r.Version] = ""
			if e.refuse != nil {
				e.answers[r.Version] = e.refuse(r)
			}
		}
	}
}

func (e *fakeEnvoy) Tried(_ snapshot.Key, version string) (bool, string) {
	refused, answered := e.answers[version]
	return answered, refused
}

func (e *fakeEnvoy) Connected() bool { return true }

func (e *fakeEnvoy) Acked(k snapshot.Key) string {
	if e.got == nil || e.got.Resources[k] == nil || e.reject[k] != "" || e.answers[e.got.Resources[k].Version] != "" {
		return ""
	}
	return e.got.Resources[k].Version
}

func (e *fakeEnvoy) Rejected(k snapshot.Key) (string, string) {
	if e.got == nil || e.got.Resources[k] == nil || e.reject[k] == "" {
		return "", ""
	}
	return e.got.Resources[k].Version, e.reject[k]
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
	if len(a.Resources) != len(b.Resources) {
		return false
	}
	for k, r := range a.Resources {
		if b.Resources[k] == nil || b.Resources[k].Version != r.Version {
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
	return &Input{Now: now, Objects: Objects{
		Namespaces: set.Namespaces, GatewayClasses: set.GatewayClasses, Gateways: set.Gateways, HTTPRoutes: set.HTTPRoutes,
		ReferenceGrants: set.ReferenceGrants, Services: set.Services, EndpointSlices: set.EndpointSlices,
		Secrets: set.Secrets, ConfigMaps: set.ConfigMaps, Policies: set.Policies, Activations: set.Activations,
	}}
}
