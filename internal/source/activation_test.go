package source

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

func activation(spec string) string {
	return fmt.Sprintf(`apiVersion: breakglass.dev/v1alpha1
kind: Activation
metadata: {name: inc, namespace: payments, creationTimestamp: "2020-01-01T00:00:00Z", uid: forged, labels: {a: b}}
spec: {targetRefs: [{name: db}], role: db, reason: because, incident: INC-1, %s}
status: {phase: Live, nonsense: true}
`, spec)
}

var inc = types.NamespacedName{Namespace: "payments", Name: "inc"}

// duration and revoked of the Activation, or - if there is none.
func window(s *Set) string {
	a := s.Activations[inc]
	if a == nil {
		return "-"
	}
	return fmt.Sprint(*a.Spec.Duration, " ", a.Spec.Revoked)
}

func is(want string) func(*Set) bool { return func(s *Set) bool { return window(s) == want } }

func TestAnActivationHasDefaultsAndNoClaims(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.yaml")
	write(t, file, activation("duration: 10m"))
	set := Load(file)
	a := set.Activations[inc]
	if a == nil {
		t.Fatal(set.Problems)
	}
	want := v1alpha1.TargetReference{Group: gwv1.GroupName, Kind: "HTTPRoute", Name: "db"}
	if a.Spec.TargetRefs[0] != want {
		t.Errorf("%+v", a.Spec.TargetRefs[0])
	}
	if !a.CreationTimestamp.IsZero() || a.UID != "" || a.Status.Phase != "" || a.Labels["a"] != "b" {
		t.Errorf("a file's claims were taken: %+v", a)
	}
	origin := set.Origins[ObjectKey{"Activation", "payments", "inc"}]
	if origin.File != file || origin.Line != 1 || origin.Modified.IsZero() || origin.OwnerUID != uint32(os.Getuid()) {
		t.Errorf("%+v", origin)
	}
}

func TestAnActivationCannotBeChangedOnlyRevoked(t *testing.T) {
	f := follow(t, t.TempDir(), Options{})
	f.write("a.yaml", activation("duration: 10m"))
	first := f.until("there", is("10m false"))

	f.write("a.yaml", "# no change\n"+activation("duration: 10m"))
	f.write("m.yaml", configMap("m", "1"))
	if set := f.until("reformatted", has("m", "1")); set.Activations[inc] != first.Activations[inc] || !noProblems(set) {
		t.Error("a comment made a new object", set.Problems)
	}
	f.write("a.yaml", activation("duration: 20m"))
	set := f.until("refused", problem("a.yaml:4: Activation payments/inc: spec: an Activation cannot be changed, only revoked (spec.revoked: true): make a new one under a new name (the last good version stays in use)"))
	if set.Activations[inc] != first.Activations[inc] {
		t.Error("a refused change made a new object")
	}
	f.write("a.yaml", activation("duration: 10m, revoked: true"))
	if set := f.until("revoked", is("10m true")); !noProblems(set) {
		t.Error(set.Problems)
	}
	f.write("a.yaml", activation("duration: 10m"))
	if set := f.until("revocation withdrawn", problem("revocation is final")); window(set) != "10m true" {
		t.Error(window(set))
	}
	f.write("a.yaml", "[")
	if set := f.until("broken", problem("not valid YAML")); window(set) != "10m true" {
		t.Error(window(set))
	}
}

func TestARevocationIsHonouredWhateverElseIsWrong(t *testing.T) {
	for name, wrong := range map[string]string{
		"another field edited":  activation("duration: 20m, revoked: true"),
		"schema violated":       activation("duration: ten, revoked: true"),
		"unknown field":         activation("revoked: true, duraton: 10m"),
		"label malformed":       strings.Replace(activation("duration: 10m, revoked: true"), "a: b", "a: '!'", 1),
		"required field absent": strings.Replace(activation("revoked: true"), "role: db,", "", 1),
	} {
		t.Run(name, func(t *testing.T) {
			f := follow(t, t.TempDir(), Options{})
			f.write("a.yaml", activation("duration: 10m"))
			f.until("there", is("10m false"))
			f.write("a.yaml", wrong)
			set := f.until("revoked", is("10m true"))
			if !problem("it is closed all the same")(set) {
				t.Error(set.Problems)
			}
			f.write("a.yaml", activation("duration: 10m"))
			f.until("and for good", problem("revocation is final"), func(s *Set) {
				if window(s) != "10m true" {
					t.Error(window(s))
				}
			})
		})
	}
}

func TestAnActivationThatIsRecreatedQuicklyIsAChange(t *testing.T) {
	f := follow(t, t.TempDir(), Options{Vanish: 5 * time.Second})
	f.write("a.yaml", activation("duration: 10m"))
	f.until("there", is("10m false"))
	must(t, os.Remove(filepath.Join(f.dir, "a.yaml")))
	f.write("b.yaml", activation("duration: 4h"))
	f.until("refused", problem("b.yaml:4: Activation payments/inc: spec: an Activation cannot be changed"), func(s *Set) {
		if window(s) != "10m false" {
			t.Error(window(s))
		}
	})
}

const policy = `apiVersion: breakglass.dev/v1alpha1
kind: EmergencyPolicy
metadata: {name: p}
spec:
  suspended: %t
  issuers: [{name: sso, issuer: i, audiences: [a], jwks: {inline: '{}'}}]
  roles: [{name: r, grants: [{issuer: %s, claims: [{path: [groups], anyOf: [x]}]}]}]
`

func TestThePanicButtonWorksInAPolicyThatIsWrong(t *testing.T) {
	f := follow(t, t.TempDir(), Options{})
	f.write("p.yaml", fmt.Sprintf(policy, false, "sso"))
	set := f.until("there", func(s *Set) bool { return s.Policies["p"] != nil })
	p := set.Policies["p"]
	if *p.Spec.Limits.MaxDuration != "4h" || *p.Spec.Limits.MaxOpen != 16 || *p.Spec.Scope.MaxRules != 8 || *p.Spec.Issuers[0].MaxTokenLifetime != "1h" {
		t.Errorf("defaults: %+v", p.Spec)
	}
	f.write("p.yaml", fmt.Sprintf(policy, true, "nobody"))
	set = f.until("suspended", func(s *Set) bool { return s.Policies["p"].Spec.Suspended })
	if set.Policies["p"].Spec.Roles[0].Grants[0].Issuer != "sso" || !problem("every grant must name an issuer")(set) {
		t.Error(set.Problems)
	}
	f.write("p.yaml", fmt.Sprintf(policy, false, "sso"))
	f.until("released", func(s *Set) bool { return !s.Policies["p"].Spec.Suspended && noProblems(s) })
}

func TestValidateObjectChecksAndDefaultsInPlace(t *testing.T) {
	ten, twenty := gwv1.Duration("10m"), gwv1.Duration("20m")
	now := metav1.Now()
	made := func(change func(*v1alpha1.Activation)) *v1alpha1.Activation {
		a := &v1alpha1.Activation{
			ObjectMeta: metav1.ObjectMeta{Name: "inc", Namespace: "payments", CreationTimestamp: now, UID: "u"},
			Spec: v1alpha1.ActivationSpec{
				TargetRefs: []v1alpha1.TargetReference{{Name: "db"}}, Role: "db", Reason: "because", Incident: "INC-1", Duration: &ten, NotAfter: &now,
			},
			Status: v1alpha1.ActivationStatus{Phase: v1alpha1.PhaseLive, RequestedBy: "uid 0"},
		}
		change(a)
		return a
	}
	good := made(func(*v1alpha1.Activation) {})
	if ps := ValidateObject(good, nil); len(ps) != 0 {
		t.Fatal(ps)
	}
	asked := made(func(a *v1alpha1.Activation) {
		a.Spec.RequestedBy, a.Spec.Revoked, a.Spec.RevokedBy = "alice", true, "bob"
	})
	if ps := ValidateObject(asked, nil); len(ps) != 0 {
		t.Fatal(ps)
	}
	if good.Spec.TargetRefs[0].Kind != "HTTPRoute" || good.Status.Phase != v1alpha1.PhaseLive || good.UID != "u" || good.CreationTimestamp.IsZero() {
		t.Errorf("%+v", good)
	}
	for _, tc := range []struct {
		name   string
		change func(*v1alpha1.Activation)
		old    runtime.Object
		want   string
	}{
		{"revoked", func(a *v1alpha1.Activation) { a.Spec.Revoked = true }, good, ""},
		{"who revoked", func(a *v1alpha1.Activation) { a.Spec.Revoked, a.Spec.RevokedBy = true, "alice" }, good, ""},
		{"who revoked, and nobody did", func(a *v1alpha1.Activation) { a.Spec.RevokedBy = "alice" }, good, "spec.revokedBy goes with spec.revoked: true"},
		{"another asked", func(a *v1alpha1.Activation) { a.Spec.RequestedBy = "mallory" }, asked, "an Activation cannot be changed"},
		{"nobody asked", func(a *v1alpha1.Activation) { a.Spec.RequestedBy = "" }, asked, "an Activation cannot be changed"},
		{"another revoked", func(a *v1alpha1.Activation) {
			a.Spec.RequestedBy, a.Spec.Revoked, a.Spec.RevokedBy = "alice", true, "mallory"
		}, asked, "spec.revokedBy cannot be changed"},
		{"unchanged", func(*v1alpha1.Activation) {}, good, ""},
		{"no old", func(a *v1alpha1.Activation) { a.Spec.Duration = &twenty }, (*v1alpha1.Activation)(nil), ""},
		{"changed", func(a *v1alpha1.Activation) { a.Spec.Duration = &twenty }, good, "Activation payments/inc: spec: an Activation cannot be changed"},
		{"no incident", func(a *v1alpha1.Activation) { a.Spec.Incident = "" }, nil, "spec.incident is required"},
		{"no namespace", func(a *v1alpha1.Activation) { a.Namespace = "" }, nil, ""},
		{"bad name", func(a *v1alpha1.Activation) { a.Name = "A b" }, nil, "Activation payments/A b: metadata.name: "},
		{"no name", func(a *v1alpha1.Activation) { a.Name = "" }, nil, "metadata.name: is required: add it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ps := ValidateObject(made(tc.change), tc.old)
			switch {
			case tc.want == "" && len(ps) != 0:
				t.Error(ps)
			case tc.want != "" && (len(ps) == 0 || !strings.Contains(ps[0].Error(), tc.want)):
				t.Error(ps)
			}
		})
	}
	if ps := ValidateObject(&v1alpha1.ActivationList{}, nil); len(ps) != 1 {
		t.Error(ps)
	}
}

// Anybody who may write a file could give any verdict in anybody's name.
func TestAReviewIsNotTakenFromAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "r.yaml")
	write(t, file, `apiVersion: breakglass.dev/v1alpha1
kind: ActivationReview
metadata: {name: r, namespace: payments}
spec: {activationRef: {name: inc}, verdict: Justified, note: fine, reviewedBy: jane}
`)
	set := Load(file)
	if len(set.Problems) != 1 || !strings.Contains(set.Problems[0].Message, "nobody can tell who gave the verdict") || !strings.Contains(set.Problems[0].Remedy, "breakglass review") {
		t.Errorf("problems %+v", set.Problems)
	}
}
