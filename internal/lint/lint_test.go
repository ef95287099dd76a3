package lint

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/golden"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

var now = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

func wide(t *testing.T) Input {
	t.Helper()
	return Input{Set: source.Load(filepath.Join("testdata", "wide")), At: now}
}

// text of a report, a line each.
func text(r *Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s:%d %s %s %s\n", f.File, f.Line, f.Severity, f.ID, f.Text())
	}
	return b.String()
}

func TestManifestsThatAreTooWideAreFoundWhereTheyAre(t *testing.T) {
	got := text(Run(wide(t)))
	golden.Check(t, filepath.Join("testdata", "wide.txt"), []byte(got))
}

func TestTheSameManifestsGiveTheSameReport(t *testing.T) {
	first := text(Run(wide(t)))
	for range 5 {
		if again := text(Run(wide(t))); again != first {
			t.Fatalf("another report:\n%s\nwas:\n%s", again, first)
		}
	}
}

// Each rule is red somewhere: else nobody knows that it looks at anything.
func TestEveryRuleFindsSomething(t *testing.T) {
	in := wide(t)
	in.Served = []source.Problem{{Object: "HTTPRoute app/all", Message: "is not accepted"}}
	addCertificate(t, in.Set, now.Add(20*24*time.Hour))
	in.Live = troubled()
	found := map[string]bool{}
	for _, f := range Run(in).Findings {
		found[f.ID] = true
	}
	for _, r := range Rules() {
		if !found[r.ID] {
			t.Errorf("%s %s found nothing", r.ID, r.Name)
		}
	}
}

func TestRulesAreCompleteAndTheirIdsUnique(t *testing.T) {
	seen := map[string]bool{}
	last := ""
	for _, r := range Rules() {
		if seen[r.ID] || seen[r.Name] {
			t.Errorf("%s %s is there twice", r.ID, r.Name)
		}
		seen[r.ID], seen[r.Name] = true, true
		if r.ID <= last {
			t.Errorf("%s comes after %s", r.ID, last)
		}
		last = r.ID
		if r.Severity.Rank() < 1 || !strings.HasSuffix(r.Summary, ".") && !strings.HasSuffix(r.Summary, ")") || r.Remedy == "" || strings.HasSuffix(r.Remedy, ".") {
			t.Errorf("%s: severity, summary or remedy: %+v", r.ID, r)
		}
	}
}

func TestTheExampleHasNothingWorseThanInfo(t *testing.T) {
	r := Run(Input{Set: source.Load(filepath.Join("..", "..", "examples", "repo")), At: now})
	if r.Count(Error)+r.Count(Warning) != 0 || r.Suppressed() == 0 {
		t.Errorf("examples/repo should show how to have none, and how to suppress:\n%s", text(r))
	}
}

func TestASuppressionNeedsAReasonAndIsKept(t *testing.T) {
	key := types.NamespacedName{Namespace: "app", Name: "wild"}
	ids := func(annotation string) (suppressed, open []string) {
		in := wide(t)
		rt := in.Set.HTTPRoutes[key].DeepCopy()
		rt.Annotations = map[string]string{v1alpha1.LintIgnoreAnnotation: annotation}
		in.Set.HTTPRoutes[key] = rt
		for _, f := range Run(in).Findings {
			switch {
			case f.Object != "HTTPRoute app/wild":
			case f.Suppressed != "":
				suppressed = append(suppressed, f.ID+" "+f.Suppressed)
			default:
				open = append(open, f.ID)
			}
		}
		return suppressed, open
	}
	suppressed, open := ids("BG010 the tenants are names below it; BG015 it serves nothing else\nBG014")
	if want := []string{"BG010 the tenants are names below it", "BG015 it serves nothing else"}; !slices.Equal(suppressed, want) {
		t.Errorf("suppressed %q, want %q", suppressed, want)
	}
	for _, id := range []string{"BG014", "BG003", "BG016"} {
		if !slices.Contains(open, id) {
			t.Errorf("%s should not be suppressed: %q", id, open)
		}
	}
	if slices.Contains(open, "BG010") {
		t.Errorf("BG010 is told twice: %q", open)
	}
}

func addCertificate(t *testing.T, set *source.Set, end time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	sec := &corev1.Secret{Data: map[string][]byte{corev1.TLSCertKey: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}}
	sec.Namespace, sec.Name = "door", "door"
	set.Secrets[types.NamespacedName{Namespace: "door", Name: "door"}] = sec
}

func TestACertificateThatEndsIsFoundInTime(t *testing.T) {
	for _, c := range []struct {
		end  time.Duration
		want Severity
	}{{-time.Second, Error}, {0, Error}, {time.Second, Warning}, {30*24*time.Hour - time.Second, Warning}, {31 * 24 * time.Hour, ""}} {
		in := wide(t)
		addCertificate(t, in.Set, now.Add(c.end))
		var got Severity
		for _, f := range Run(in).Findings {
			if f.ID == "BG054" {
				got = f.Severity
			}
		}
		if got != c.want {
			t.Errorf("a certificate that ends in %s: %q, want %q", c.end, got, c.want)
		}
	}
}

// troubled is a serve with everything that can be wrong.
func troubled() *Live {
	return &Live{
		Requests: map[string]int{"https://other.example.com": 3, "https://sso.example.com": 9},
		Status: &control.Status{
			NotReady: []string{"Gateway door/wide: Envoy does not start"}, ClockBehind: "3s",
			Gateways: []control.GatewayStatus{{Namespace: "door", Name: "wide", Listeners: []control.ListenerStatus{
				{Name: "http", Programmed: true}, {Name: "https", Message: "no certificate"}, {Name: "door/more/http", Message: "no port"},
			}}},
			Routes:   []control.RouteStatus{{Namespace: "app", Name: "all", Reason: "RefusedByEnvoy", Message: "Envoy refused it: regex too large"}},
			Policies: []control.PolicyStatus{{Name: "wide", Issuers: []control.IssuerStatus{{Name: "sso", Keys: 2, Stale: true}, {Name: "unused", Error: "not fetched"}}}},
			Problems: []control.Problem{{File: "x.yaml", Line: 3, Object: "HTTPRoute app/all", Message: "not valid", LastGood: true}, {Message: "is not there"}},
		},
	}
}

func TestARunningServeTellsWhatManifestsCannot(t *testing.T) {
	in := wide(t)
	in.Live = troubled()
	var got []string
	for _, f := range Run(in).Findings {
		if f.ID >= "BG080" {
			got = append(got, fmt.Sprintf("%s %s:%d %s", f.ID, f.Object, f.Line, f.Message))
		}
	}
	slices.Sort(got)
	want := []string{
		"BG080 :0 Gateway door/wide: Envoy does not start",
		"BG081 Gateway door/wide:19 listener https is not programmed: no certificate",
		"BG081 ListenerSet door/more:49 listener door/more/http is not programmed: no port",
		"BG082 HTTPRoute app/all:1 Envoy refused it: regex too large",
		"BG083 EmergencyPolicy wide:26 the keys of issuer sso are stale (2 in use)",
		"BG084 EmergencyPolicy wide:34 issuer unused has no usable key: not fetched",
		"BG085 EmergencyPolicy wider:78 3 requests came in with tokens of issuer other within a day",
		"BG086 HTTPRoute app/all:3 not valid",
		"BG087 :0 the system's clock is 3s behind",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestADrillThatWasDoneIsKnown(t *testing.T) {
	undrilled := func(in Input) (out []string) {
		for _, f := range Run(in).Findings {
			if f.ID == "BG044" {
				out = append(out, f.Object)
			}
		}
		return out
	}
	in := wide(t)
	before := len(undrilled(in))
	a := v1alpha1.Activation{Spec: v1alpha1.ActivationSpec{Drill: true, TargetRefs: []v1alpha1.TargetReference{{Kind: "HTTPRoute", Name: "wild"}}}}
	a.Namespace, a.Name = "app", "drill"
	in.Live = &Live{Status: &control.Status{Activations: []v1alpha1.Activation{a}}}
	if got := undrilled(in); len(got) != before-1 || slices.Contains(got, "HTTPRoute app/wild") {
		t.Errorf("never drilled: %q", got)
	}
}
