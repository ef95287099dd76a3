package translator

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	// The message types inside Any that protojson must know.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/golden"
)

var nowLine = regexp.MustCompile(`(?m)^# now: (\S+)$`)

// TestGolden translates testdata/CASE/in.yaml, whose first lines say `# now:`,
// and compares what comes out with xds.yaml and status.yaml beside it.
func TestGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/*/in.yaml")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, in := range cases {
		dir := filepath.Dir(in)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			text, err := os.ReadFile(in)
			if err != nil {
				t.Fatal(err)
			}
			stamp := nowLine.FindSubmatch(text)
			if stamp == nil {
				t.Fatal("no `# now:` line")
			}
			now, err := time.Parse(time.RFC3339, string(stamp[1]))
			if err != nil {
				t.Fatal(err)
			}
			out := settle(t, load(t, in, now), nil)
			golden.Check(t, filepath.Join(dir, "xds.yaml"), xdsYAML(t, out))
			golden.Check(t, filepath.Join(dir, "status.yaml"), statusYAML(t, out))
		})
	}
}

// TestGoldenHasNoOrphans finds outputs whose input is gone.
func TestGoldenHasNoOrphans(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if filepath.Base(d) == "fuzz" || filepath.Base(d) == "rapid" {
			continue
		}
		for _, f := range []string{"in.yaml", "xds.yaml", "status.yaml"} {
			if _, err := os.Stat(filepath.Join(d, f)); err != nil {
				t.Errorf("%s: %v", d, err)
			}
		}
	}
}

// xdsYAML leaves out what is the same for every Gateway, the filters of the
// HttpConnectionManager: translator/lock has its own test for them.
func xdsYAML(t *testing.T, out *Result) []byte {
	all := map[string]map[string]any{}
	for key, g := range out.Gateways {
		m := map[string]any{}
		for r := range g.Snapshot.All() {
			k := r.Key
			body, err := r.Body.UnmarshalNew()
			if err != nil {
				t.Fatal(err)
			}
			text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			var v any
			if err := json.Unmarshal(text, &v); err != nil {
				t.Fatal(err)
			}
			prune(v)
			entry := map[string]any{"body": v}
			if !r.Expires.IsZero() {
				entry["expires"] = r.Expires
			}
			var needs []string
			for _, n := range r.Needs {
				needs = append(needs, n.Name)
			}
			if needs != nil {
				entry["needs"] = needs
			}
			m[filepath.Ext(k.Type)[1:]+" "+k.Name] = entry
		}
		all[key.String()] = m
	}
	return toYAML(t, all)
}

func prune(v any) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "http_filters")
		delete(v, "access_log")
		delete(v, "early_header_mutation_extensions")
		for _, x := range v {
			prune(x)
		}
	case []any:
		for _, x := range v {
			prune(x)
		}
	}
}

func statusYAML(t *testing.T, out *Result) []byte {
	byName := func(m map[types.NamespacedName]any) map[string]any {
		o := map[string]any{}
		for k, v := range m {
			o[k.String()] = v
		}
		return o
	}
	classes := maps.Clone(out.Statuses.GatewayClasses)
	for name, c := range classes {
		c.SupportedFeatures = nil // the same for each, and not of what is in
		classes[name] = c
	}
	routes := map[string]map[string]any{}
	for k, v := range out.Statuses.Routes {
		if routes[k.Kind] == nil {
			routes[k.Kind] = map[string]any{}
		}
		routes[k.Kind][k.NamespacedName.String()] = v
	}
	all := map[string]any{
		"gatewayClasses": classes,
		"gateways":       byName(anyMap(out.Statuses.Gateways)),
		"httpRoutes":     routes[v1alpha1.KindHTTPRoute],
		"policies":       out.Statuses.Policies,
		"activations":    byName(anyMap(out.Statuses.Activations)),
		"next":           out.Next,
	}
	if len(out.Statuses.BackendTLSPolicies) > 0 {
		all["backendTLSPolicies"] = byName(anyMap(out.Statuses.BackendTLSPolicies))
	}
	if len(out.Statuses.ListenerSets) > 0 {
		all["listenerSets"] = byName(anyMap(out.Statuses.ListenerSets))
	}
	if grpc := routes[v1alpha1.KindGRPCRoute]; grpc != nil {
		all["grpcRoutes"] = grpc
	}
	return toYAML(t, all)
}

func anyMap[V any](m map[types.NamespacedName]V) map[types.NamespacedName]any {
	o := map[types.NamespacedName]any{}
	for k, v := range m {
		o[k] = v
	}
	return o
}

func toYAML(t *testing.T, v any) []byte {
	b, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
