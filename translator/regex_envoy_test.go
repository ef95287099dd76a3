//go:build envoy

package translator

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// draw an expression, of everything that Go's syntax has and of some things that
// it does not have.
func drawRegex(r *rand.Rand, depth int) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	if depth == 0 || r.IntN(4) == 0 {
		return pick("a", "/", "v1", ".", `\.`, "[a-z]", "[^/]", `[\d_-]`, `\d`, `\W`, `\pL`, `\p{Lu}`, `\P{^Nd}`, "[[:alpha:]]", "[[:^word:]]", `\x41`, `\Q.*\E`,
			"^", "$", `\b`, `\A`, `\z`, "é", "(?i)", "(?s)", "(?U)", "(?-m)", "", `\t`, `\011`, `\C`, `\Z`, `\p{Greek}`, `\p{Cn}`, `\p{LC}`, `\p{Any}`, `\1`, "[a-", "[]a]", `[\pN\PN]`, "{,3}", "{2", `\u0041`, `\8`)
	}
	in := func() string { return drawRegex(r, depth-1) }
	switch r.IntN(8) {
	case 0, 1, 2:
		return in() + in()
	case 3:
		return in() + "|" + in()
	case 4:
		return pick("(", "(?:", "(?P<n"+pick("1", "2", "_")+">", "(?<m>", "(?i:", "(?U:", "(?=", "(?>") + in() + ")"
	case 5:
		return pick("(?:", "(") + in() + ")" + pick("{2,5}", "{0}", "{3,}", "{1000}", "{1001}", "{0,1}?", "{7}?", "{2}{3}")
	default:
		return in() + pick("*", "+", "?", "*?", "+?", "??", "**", "{2}")
	}
}

// An expression that is taken here and refused by Envoy would take its whole
// hostname with it, until the route was found. Envoy's engine says what it takes.
func TestEveryRegularExpressionThatIsTakenCompilesInEnvoy(t *testing.T) {
	binary := os.Getenv("BREAKGLASS_ENVOY")
	if binary == "" {
		t.Fatal("BREAKGLASS_ENVOY is not set: it must be the path of an Envoy 1.40 (make envoy)")
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	taken, refused := []string{}, 0
	kind := gwv1.PathMatchRegularExpression
	for len(taken) < 2000 {
		expr := drawRegex(r, 1+r.IntN(5))
		if readMatches([]gwv1.HTTPRouteMatch{{Path: &gwv1.HTTPPathMatch{Type: &kind, Value: &expr}}})[0].invalid == nil {
			taken = append(taken, expr)
		} else {
			refused++
		}
	}
	t.Logf("seed %d: %d taken, %d refused", seed, len(taken), refused)
	if refused < 100 {
		t.Error("next to nothing was refused: this draws too tamely")
	}
	bad := envoyRefuses(t, binary, taken)
	if bad == "" {
		return
	}
	for half := len(taken) / 2; half > 0 && len(taken) > 1; half = len(taken) / 2 {
		if why := envoyRefuses(t, binary, taken[:half]); why != "" {
			taken, bad = taken[:half], why
		} else {
			taken = taken[half:]
		}
	}
	t.Fatalf("seed %d: Envoy refuses %q, which is taken here: %s", seed, taken, bad)
}

// envoyRefuses is what Envoy says against a configuration with these; "" if it
// takes it.
func envoyRefuses(t *testing.T, binary string, exprs []string) string {
	t.Helper()
	type object = map[string]any
	routes := []object{}
	for _, e := range exprs {
		routes = append(routes, object{"match": object{"safe_regex": object{"regex": e}}, "direct_response": object{"status": 404}})
	}
	config := object{
		"layered_runtime": object{"layers": []object{{"name": "static", "static_layer": object{"re2.max_program_size.error_level": 20000}}}},
		"static_resources": object{"listeners": []object{{
			"name": "test", "address": object{"pipe": object{"path": filepath.Join(t.TempDir(), "s")}},
			"filter_chains": []object{{"filters": []object{{"name": "hcm", "typed_config": object{
				"@type":        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
				"stat_prefix":  "test",
				"route_config": object{"virtual_hosts": []object{{"name": "all", "domains": []string{"*"}, "routes": routes}}},
				"http_filters": []object{{"name": "router", "typed_config": object{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}},
			}}}}},
		}}},
	}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "envoy.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary, "--mode", "validate", "-c", file, "-l", "error", "--disable-hot-restart", "--use-dynamic-base-id").CombinedOutput()
	if err == nil {
		return ""
	}
	// It repeats the whole configuration; what is wrong is before and after that.
	text := string(out)
	return err.Error() + ": " + text[:min(len(text), 300)] + " ... " + text[max(0, len(text)-300):]
}
