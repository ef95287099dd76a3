package activation

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// BenchmarkDecide is what an event costs when so many activations have ended
// before, of which nothing more can come.
func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprintf("%d ended", n), func(b *testing.B) {
			now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
			records := map[types.NamespacedName]Record{}
			for i := range n {
				r := Record{Namespace: "pay", Name: fmt.Sprintf("a%d", i), Origin: Manifest, Removed: true, Start: now.Add(-time.Duration(i) * time.Minute), Phase: v1alpha1.PhaseExpired, EndedAt: now, Spec: v1alpha1.ActivationSpec{
					TargetRefs: []v1alpha1.TargetReference{{Kind: "HTTPRoute", Name: "db"}}, Role: "db", Reason: "r", Incident: "I",
				}}
				records[r.Key()] = r
			}
			in := Input{Now: now, Records: records, Route: func(RouteKey) *Route { return nil }}
			b.ReportAllocs()
			for b.Loop() {
				Decide(in).Complete(func(WindowKey, *Window) (bool, string) { return true, "" })
			}
		})
	}
}
