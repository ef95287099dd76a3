package translator

import (
	"fmt"
	"testing"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// BenchmarkTranslate is what every event of the loop costs.
func BenchmarkTranslate(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("%d routes", n), func(b *testing.B) {
			in := load(b, "testdata/httproute-live/in.yaml", epoch)
			template := in.HTTPRoutes[key("db")]
			for i := range n - 1 {
				r := template.DeepCopy()
				r.Name = fmt.Sprintf("db-%d", i)
				r.Spec.Hostnames = []gwv1.Hostname{gwv1.Hostname(r.Name + ".example.com")}
				in.HTTPRoutes[key(r.Name)] = r
			}
			settle(b, in, nil)
			b.ReportAllocs()
			for b.Loop() {
				Translate(*in)
			}
		})
	}
}
