package translator

import (
	"regexp"
	"strings"
	"testing"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// longClass is a class with a name longer than those of general categories.
var longClass = regexp.MustCompile(`\\[pP]\{\^?[A-Za-z_]{3,}\}`)

// FuzzRegex: an expression that is taken compiles, in bounded space, has no class
// that not every RE2 knows, and is sent to Envoy as it is.
// That Envoy takes it too is asked of Envoy in regex_envoy_test.go.
func FuzzRegex(f *testing.F) {
	for _, s := range []string{
		`/api/v[0-9]+`, `.*`, `/.*`, `(?i)/a`, `(?U)/a+`, `\pL`, `\p{Greek}`, `\p{^Lu}`, `\PN`, `[[:alpha:]]`, `[\p{L}-]`, `a{1000}`, `(a{100}){100}`, `(?P<n>a)`, `(?<n>a)`,
		`\Q.*\E`, `\C`, `a**`, `(((((((((`, `\8`, `\x{10ffff}`, `[^a]`, `^/a$`, `|`, `()`, `/(|x)(?:)`, "\xff", `\z`, `\p`, `\\p{Greek}`, `(?s:.)`, `x*y*z*|.+`,
	} {
		f.Add(s)
	}
	regexKind := gwv1.PathMatchRegularExpression
	f.Fuzz(func(t *testing.T, expr string) {
		if checkRegex(expr) != nil {
			return
		}
		if _, err := regexp.Compile(expr); err != nil {
			t.Fatalf("%q was taken and does not compile: %v", expr, err)
		}
		if len(expr) > 100<<10 {
			t.Fatalf("an expression of %d bytes was taken", len(expr))
		}
		if class := longClass.FindString(strings.ReplaceAll(expr, `\\`, "")); class != "" && !strings.Contains(expr, `\Q`) {
			t.Fatalf("%q was taken with the class %q", expr, class)
		}
		m := readMatches([]gwv1.HTTPRouteMatch{{Path: &gwv1.HTTPPathMatch{Type: &regexKind, Value: &expr}}})[0]
		if m.invalid != nil {
			return
		}
		if got := m.envoy().GetSafeRegex().GetRegex(); got != expr {
			t.Fatalf("%q became %q", expr, got)
		}
	})
}
