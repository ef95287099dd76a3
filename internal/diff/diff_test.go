package diff

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/posture"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

var now = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

func load(t *testing.T, path string) translator.Objects {
	t.Helper()
	set := source.Load(path)
	for _, p := range set.Problems {
		t.Error(p)
	}
	return set.Objects
}

// the fixture of the render package is small, and has a bit of everything.
const door = "../render/testdata/door/door.yaml"

// edited is the fixture with some of its text replaced.
func edited(t *testing.T, pairs ...string) translator.Objects {
	t.Helper()
	b, err := os.ReadFile(door)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%q is not in the fixture", pairs[i])
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	path := filepath.Join(t.TempDir(), "door.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return load(t, path)
}

func told(r *Report) (out []string) {
	for _, c := range r.Changes {
		for _, f := range c.Facts {
			out = append(out, fmt.Sprintf("%s %s: %s %s: %s -> %s", c.Object, c.Kind, f.Effect, f.Topic, f.Was, f.Is))
		}
	}
	return out
}

const (
	policyObject = "EmergencyPolicy emergency changed: "
	routeObject  = "HTTPRoute door/db changed: "
)

const tlsPolicy = `apiVersion: v1
kind: ConfigMap
metadata: {name: ca, namespace: door}
data: {ca.crt: "-----BEGIN CERTIFICATE-----\nMIIBfDCCASOgAwIBAgIUbn+bqTnZzgFtZ5/1HVqzi1RG1l8wCgYIKoZIzj0EAwIw\nEzERMA8GA1UEAwwIYmFja2VuZHMwIBcNMjYxMTI1MjIzMjA3WhgPMjEyNjExMDEy\nMjMyMDdaMBMxETAPBgNVBAMMCGJhY2tlbmRzMFkwEwYHKoZIzj0CAQYIKoZIzj0D\nAQcDQgAERccfLn0yXsImpiIxwOUNwCfPTaL3NTaWCyfGCpzygya+etJLSJhNpDzL\nrRHxMtc5zflszSPCT6NAfxRymrvKBqNTMFEwHQYDVR0OBBYEFE1Uz7e1FqBglCaV\n6B9zN/btFmBlMB8GA1UdIwQYMBaAFE1Uz7e1FqBglCaV6B9zN/btFmBlMA8GA1Ud\nEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIgH1Fo/xlGcWat5EYIpjo7t5Oc\nomCGix1MhYq2slU3cOgCIDsIoSWpH4cj+9PCf//haMQ+8PtRGw2auT0X18CUBhYP\n-----END CERTIFICATE-----"}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: db, namespace: door}
spec:
  targetRefs: [{group: "", kind: Service, name: db}]
  validation: {hostname: db.internal, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}
`

// Each change of a manifest, and what it must come to. The second edit is undone by
// swapping the sides: then it must come to the opposite.
func TestEachChangeIsToldInAReviewersWords(t *testing.T) {
	for _, c := range []struct {
		name, from, to string
		want           []string
	}{
		{"a longer window", "maxDuration: 10m", "maxDuration: 1h", []string{
			policyObject + "widens role db may hold a route open for: at most 10m -> at most 1h",
			routeObject + "widens could be opened by role db: for at most 10m -> for at most 1h"}},
		{"one more group", "issuer: sso, claims: [{path: [groups], anyOf: [db-oncall]}]", "issuer: sso, claims: [{path: [groups], anyOf: [db-oncall, interns]}]", []string{
			policyObject + `widens role db is held by:  -> tokens of issuer sso with groups "interns"`}},
		{"another claim to have", "issuer: sso, claims: [{path: [groups], anyOf: [web-oncall]}]", "issuer: sso, claims: [{path: [groups], anyOf: [web-oncall]}, {path: [amr], anyOf: [hwk]}]", []string{
			policyObject + `widens role web is held by:  -> tokens of issuer sso with groups "web-oncall" and amr "hwk"`,
			policyObject + `narrows role web is held by: tokens of issuer sso with groups "web-oncall" -> `}},
		{"one more audience", "audiences: [breakglass]", "audiences: [breakglass, other]", []string{
			policyObject + "widens issuer sso is taken for audience:  -> other"}},
		{"another key source", "https://sso.example.com/jwks.json", "https://evil.example.com/jwks.json", []string{
			policyObject + "widens issuer sso has keys from:  -> https://evil.example.com/jwks.json",
			policyObject + "narrows issuer sso has keys from: https://sso.example.com/jwks.json -> "}},
		{"longer tokens", "audiences: [breakglass]", "audiences: [breakglass]\n    maxTokenLifetime: 2h", []string{
			policyObject + "widens issuer sso: tokens may live for: 1h -> 2h"}},
		{"a relaxed scope rule", "  roles:\n", "  scope: {allowAnyMethod: true}\n  roles:\n", []string{
			policyObject + "widens scope allows any method: no -> yes"}},
		{"degrade", "  roles:\n", "  audit: {onFailure: Degrade}\n  roles:\n", []string{
			policyObject + "widens stays open while the audit log cannot be kept: no -> yes"}},
		{"no new activation before the review", "  roles:\n", "  review: {within: 24h, onOverdue: Refuse}\n  roles:\n", []string{
			policyObject + "narrows opens a role of which a review is overdue: yes -> no",
			policyObject + "narrows what was opened may go without a review for: 72h -> 24h"}},
		{"a bounded role", "    maxDuration: 10m\n", "    maxDuration: 10m\n    namespaces: [door]\n", []string{
			policyObject + "narrows role db may open namespaces: any -> door"}},
		{"another method", "matches: [{method: GET,", "matches: [{method: DELETE,", []string{
			routeObject + "widens could be reached at:  -> DELETE https://db.example.com:18443/status",
			routeObject + "narrows could be reached at: GET https://db.example.com:18443/status -> "}},
		{"a prefix", "type: Exact, value: /status", "type: PathPrefix, value: /", []string{
			routeObject + "widens could be reached at:  -> GET https://db.example.com:18443/ and all below it",
			routeObject + "narrows could be reached at: GET https://db.example.com:18443/status -> ",
			routeObject + "narrows is accepted: yes -> no: spec.rules[0].matches[0].path: covers every path: name the paths an incident needs, or relax scope.allowCatchAllPath of EmergencyPolicy emergency"}},
		{"another endpoint", "addresses: [10.0.0.1]", "addresses: [10.0.0.2]", []string{
			routeObject + "widens reaches:  -> Service door/db port 80 at 10.0.0.2:8080",
			routeObject + "narrows reaches: Service door/db port 80 at 10.0.0.1:8080 -> "}},
		{"another role", "labels: {breakglass.dev/role: db}", "labels: {breakglass.dev/role: web}", []string{
			routeObject + "widens could be opened by role web:  -> for at most 4h",
			routeObject + "narrows could be opened by role db: for at most 10m -> "}},
		{"on the network", "  gatewayClassName: emergency\n", "  gatewayClassName: emergency\n  addresses: [{type: IPAddress, value: 10.1.1.1}]\n", []string{
			"Gateway door/emergency changed: widens listens on:  -> 10.1.1.1 port 18443, HTTPS, for *.example.com (listener https)",
			"Gateway door/emergency changed: narrows listens on: 127.0.0.1 port 18443, HTTPS, for *.example.com (listener https) -> "}},
		{"certificates of clients", "  gatewayClassName: emergency\n", "  gatewayClassName: emergency\n  tls: {frontend: {default: {validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}}}\n", []string{
			"Gateway door/emergency changed: narrows listener https lets in clients with a certificate of: any -> ConfigMap door/ca"}},
		{"certificates of clients, or none", "  gatewayClassName: emergency\n", "  gatewayClassName: emergency\n  tls: {frontend: {default: {validation: {mode: AllowInsecureFallback, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}}}\n", nil},
		{"TLS to a backend", "# One door", tlsPolicy + "---\n# One door", []string{
			routeObject + "narrows speaks to Service door/db port 80: in plain text -> over TLS as db.internal, if it is db.internal by the word of authorities 84ece58f9bda5ec46269"}},
		{"TLS to a backend that nothing can be trusted of", "# One door", strings.Replace(tlsPolicy, "ca.crt", "x", 1) + "---\n# One door", []string{
			routeObject + "narrows speaks to Service door/db port 80: in plain text -> not at all"}},
		{"a comment", "# One door", "# A door", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			old, next := posture.Of(load(t, door), now), posture.Of(edited(t, c.from, c.to), now)
			got := told(Compare(old, next))
			slices.Sort(got)
			slices.Sort(c.want)
			if !slices.Equal(got, c.want) {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			there, back := Compare(old, next), Compare(next, old)
			if there.Count(Widens) != back.Count(Narrows) || there.Count(Narrows) != back.Count(Widens) {
				t.Errorf("back again is not the opposite:\n%s", strings.Join(told(back), "\n"))
			}
		})
	}
}

func TestAnObjectThatComesIsToldWhole(t *testing.T) {
	without := load(t, door)
	without.HTTPRoutes = nil
	r := Compare(posture.Of(without, now), posture.Of(load(t, door), now))
	if len(r.Changes) != 1 || r.Changes[0].Kind != Added || r.Count(Widens) != 5 || r.Count(Narrows) != 0 {
		t.Errorf("%s", strings.Join(told(r), "\n"))
	}
}

func openFor(d string) Open {
	duration := gwv1.Duration(d)
	a := &v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{Namespace: "door", Name: "inc-1"}, Spec: v1alpha1.ActivationSpec{
		TargetRefs: []v1alpha1.TargetReference{{Kind: "HTTPRoute", Name: "db"}}, Role: "db", Reason: "test", Incident: "INC-1", Duration: &duration,
	}}
	key := types.NamespacedName{Namespace: "door", Name: "inc-1"}
	return Open{Requests: map[types.NamespacedName]activation.Record{key: activation.New(a, activation.Control, "", now.Add(-time.Minute))}}
}

func TestAWindowThatIsOpenSaysWhatBecomesOfIt(t *testing.T) {
	for _, c := range []struct {
		name, from, to, want string
	}{
		{"nothing", "# One door", "# A door", ""},
		{"shorter", "maxDuration: 10m", "maxDuration: 5m", "and would be shortened:  -> until 2026-11-24T03:04:00Z"},
		{"over", "maxDuration: 10m", "maxDuration: 30s", "and would be cut:  -> closed at its deadline"},
		{"edited", "value: /status", "value: /state", "and would be cut:  -> HTTPRoute door/db was changed while it was open"},
		{"another role", "breakglass.dev/role: db", "breakglass.dev/role: web", `and would be cut:  -> only role "web" opens`},
		{"suspended", "spec:\n  issuers:", "spec:\n  suspended: true\n  issuers:", "and would be cut:  -> EmergencyPolicy emergency is suspended"},
		{"not accepted", "  roles:\n", "  scope: {maxRules: 1}\n  roles:\n", "and would not be served:  -> HTTPRoute door/db is not accepted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Report{}
			if err := r.Windows(load(t, door), edited(t, c.from, c.to), now, openFor("8m")); err != nil {
				t.Fatal(err)
			}
			got := strings.Join(told(r), "\n")
			if c.want == "" && got != "" || c.want != "" && (len(r.Changes) != 1 || !strings.Contains(got, "Activation door/inc-1 window: narrows is open for role db until 2026-11-24T03:07:00Z, "+c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
