package translator

import (
	"fmt"
	"maps"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// manyRoutes is a world of n routes, each with a hostname of its own, one of them
// open.
func manyRoutes(t testing.TB, n int) *Input {
	t.Helper()
	in := load(t, "testdata/httproute-live/in.yaml", epoch)
	template := in.HTTPRoutes[key("db")]
	for i := range n - 1 {
		r := template.DeepCopy()
		r.Name = fmt.Sprintf("db-%d", i)
		r.Spec.Hostnames = []gwv1.Hostname{gwv1.Hostname(r.Name + ".example.com")}
		in.HTTPRoutes[key(r.Name)] = r
	}
	settle(t, in, nil)
	return in
}

var sizes = []int{1, 100, 1000, 5000}

// BenchmarkTranslate is what a start costs.
func BenchmarkTranslate(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("%d routes", n), func(b *testing.B) {
			in := manyRoutes(b, n)
			b.ReportAllocs()
			for b.Loop() {
				Translate(*in)
			}
		})
	}
}

// BenchmarkChange is what an event of the loop costs after that.
func BenchmarkChange(b *testing.B) {
	for _, n := range sizes {
		for name, change := range map[string]func(*Input, int){
			"acknowledged": func(*Input, int) {},
			"route": func(in *Input, i int) {
				in.HTTPRoutes = maps.Clone(in.HTTPRoutes)
				r := in.HTTPRoutes[key("db")].DeepCopy()
				r.Spec.Hostnames = []gwv1.Hostname{gwv1.Hostname(fmt.Sprintf("h%d.example.com", i))}
				in.HTTPRoutes[key("db")] = r
			},
			"policy": func(in *Input, i int) {
				p := in.Policies["emergency"].DeepCopy()
				in.Policies = map[string]*v1alpha1.EmergencyPolicy{"emergency": p}
			},
		} {
			b.Run(fmt.Sprintf("%s/%d routes", name, n), func(b *testing.B) {
				in := manyRoutes(b, n)
				var tr Translator
				e := &fakeEnvoy{}
				e.take(tr.Translate(*in).Gateways[key("door")].Snapshot)
				in.Delivery = map[types.NamespacedName]snapshot.Delivery{key("door"): e}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					change(in, i)
					tr.Translate(*in)
				}
			})
		}
	}
}
