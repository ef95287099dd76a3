package source

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

const benchRoute = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: r%[1]d
  namespace: payments
  labels: {breakglass.dev/role: db}
spec:
  parentRefs: [{name: gw, namespace: infra}]
  hostnames: [db%[1]d.example.com]
  rules:
  - matches:
    - path: {type: PathPrefix, value: /db%[1]d}
      method: POST
    - path: {type: Exact, value: /x%[1]d}
      method: GET
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: x-a, value: b}]}
    backendRefs:
    - {name: svc, port: 8080, weight: 3}
    timeouts: {request: 10s}
`

func writeRoutes(tb testing.TB, n int) string {
	dir := tb.TempDir()
	for i := range n {
		path := filepath.Join(dir, fmt.Sprintf("r%05d.yaml", i))
		if err := os.WriteFile(path, fmt.Appendf(nil, benchRoute, i), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// BenchmarkLoad5000 is a cold start of the largest directory we promise.
func BenchmarkLoad5000(b *testing.B) {
	dir := writeRoutes(b, 5000)
	for b.Loop() {
		if set := Load(dir); len(set.HTTPRoutes) != 5000 || len(set.Problems) != 0 {
			b.Fatalf("%d routes, problems %v", len(set.HTTPRoutes), set.Problems)
		}
	}
}

func BenchmarkParseOneRoute(b *testing.B) {
	for i := 0; b.Loop(); i++ {
		if _, err := parse(fmt.Appendf(nil, benchRoute, i), nil, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOneChangeOf5000 is from the write of one file of many to the Set that
// has it, the 2 ms of waiting for a quiet tree included.
func BenchmarkOneChangeOf5000(b *testing.B) {
	dir := writeRoutes(b, 5000)
	w, err := Watch(b.Context(), Options{Dir: dir, Rescan: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	<-w.Updates()
	for i := 0; b.Loop(); i++ {
		text := fmt.Appendf(nil, benchRoute, 7)
		text = append(text, fmt.Sprintf("  - name: n%d\n", i)...)
		if err := os.WriteFile(filepath.Join(dir, "r00007.yaml"), text, 0o600); err != nil {
			b.Fatal(err)
		}
		for set := range w.Updates() {
			if r := set.HTTPRoutes[types.NamespacedName{Namespace: "payments", Name: "r7"}]; len(r.Spec.Rules) == 2 && string(*r.Spec.Rules[1].Name) == fmt.Sprintf("n%d", i) {
				break
			}
		}
	}
}
