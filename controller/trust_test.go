package controller

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"pgregory.net/rapid"

	"github.com/breakglass-gateway/breakglass-gateway/api/admission"
	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// guard is a trust with a clock of its own, and the policies as an API server has them.
type guard struct {
	*trust
	clock    time.Time
	policies admission.Objects
	run      int
}

// installed is when the policies were made.
var installed = time.Date(2026, 11, 25, 3, 0, 0, 0, time.UTC)

func newGuard() *guard {
	g := &guard{clock: installed.Add(time.Hour), policies: admission.Expected()}
	for _, o := range []metav1.Object{g.policies.Mutating, g.policies.MutatingBinding, g.policies.Validating, g.policies.ValidatingBinding} {
		o.SetCreationTimestamp(metav1.NewTime(installed))
		o.SetGeneration(1)
		o.SetUID("uid")
	}
	g.trust = newTrust(admission.Activations, func() time.Time { return g.clock }, func() {})
	g.connect()
	return g
}

// connect watches anew, and is told of what is there.
func (g *guard) connect() {
	run, was := g.begin()
	g.run = run
	for _, o := range []any{g.policies.Mutating, g.policies.MutatingBinding, g.policies.Validating, g.policies.ValidatingBinding} {
		if o != (*admissionv1.ValidatingAdmissionPolicy)(nil) {
			g.put(run, o, false)
		}
	}
	g.done(was)
}

// believes reports whether it believes an Activation made then.
func (g *guard) believes(made time.Time) bool {
	return g.doubt(&v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(made)}, Spec: v1alpha1.ActivationSpec{RequestedBy: "jane"}}) == ""
}

// alter stores another spec, as the API server does; the times in managedFields are
// whatever who writes it says.
func (g *guard) alter(fail admissionv1.FailurePolicyType) {
	p := g.policies.Validating.DeepCopy()
	p.Spec.FailurePolicy = &fail
	p.Generation++
	p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m", Time: &metav1.Time{Time: installed.Add(-time.Hour)}}}
	g.policies.Validating = p
	g.put(g.run, p, false)
}

func TestAnActivationIsBelievedOnlyWhileThePoliciesAreInForce(t *testing.T) {
	g := newGuard()
	if !g.believes(g.clock) || g.problem() != "" {
		t.Fatalf("not believed: %s", g.problem())
	}
	if g.believes(installed.Add(admission.Margin - time.Second)) {
		t.Error("believed from before the policies had settled")
	}
	if g.doubt(&v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(g.clock)}}) == "" {
		t.Error("believed without a requester")
	}
	if untold := newTrust(admission.Activations, time.Now, func() {}); untold.problem() == "" {
		t.Error("believed before any policy was seen")
	}
	for name, gone := range map[string]any{
		"MutatingAdmissionPolicy": g.policies.Mutating, "MutatingAdmissionPolicyBinding": g.policies.MutatingBinding,
		"ValidatingAdmissionPolicy": g.policies.Validating, "ValidatingAdmissionPolicyBinding": g.policies.ValidatingBinding,
	} {
		g := newGuard()
		g.put(g.run, toolscache.DeletedFinalStateUnknown{Obj: gone}, true)
		if g.believes(g.clock) || !strings.Contains(g.problem(), "the "+name+" breakglass-activations is missing") {
			t.Errorf("without the %s: %q", name, g.problem())
		}
	}
}

func TestAPolicyThatWasAlteredAndRestoredIsBelievedFromThenOnWhateverItSaysOfItself(t *testing.T) {
	g := newGuard()
	before := g.clock
	g.alter(admissionv1.Ignore)
	if g.believes(before) || g.believes(g.clock) {
		t.Error("believed while it is altered")
	}
	g.clock = g.clock.Add(time.Minute)
	restored := g.clock
	g.alter(admissionv1.Fail)
	if g.report.Since.After(installed) {
		t.Fatalf("it says of itself that it was changed at %s: the test proves nothing", g.report.Since)
	}
	for made, want := range map[time.Time]bool{
		before: false, restored.Add(-time.Second): false, restored: false, restored.Add(admission.Margin - time.Second): false, restored.Add(admission.Margin): true,
	} {
		if got := g.believes(made); got != want {
			t.Errorf("made %s after it was restored: believed %t", made.Sub(restored), got)
		}
	}
	if !strings.Contains(g.problem(), "was changed just now") {
		t.Errorf("it says %q", g.problem())
	}
}

func TestAPolicyThatWentWhileNobodyWatchedIsMissed(t *testing.T) {
	g := newGuard()
	old, run := g.policies.Validating, g.run
	g.policies.Validating = nil
	g.connect()
	if g.believes(g.clock) {
		t.Error("what an earlier watch has seen is believed")
	}
	g.put(run, old, false)
	if g.believes(g.clock.Add(time.Hour)) {
		t.Error("a late word of the earlier watch is believed")
	}
}

func TestAPolicyThatChangedWhileNobodyWatchedIsBelievedFromThenOn(t *testing.T) {
	g := newGuard()
	p := g.policies.Validating.DeepCopy()
	p.Generation += 2 // altered, and restored
	g.policies.Validating = p
	g.connect()
	if g.believes(g.clock) || !g.believes(g.clock.Add(admission.Margin)) {
		t.Errorf("since %s, now %s", g.since, g.clock)
	}
	calm := newGuard()
	calm.connect()
	if !calm.believes(calm.clock) {
		t.Error("to watch anew made a change of nothing")
	}
}

// TestClocksThatDifferAreFound: whatever the delay of the answers, who differs by up
// to 2 s is never told so, and who differs by 3.5 s is with the first quick one.
func TestClocksThatDifferAreFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := installed
		s := &skew{now: func() time.Time { return now }, changed: func() {}}
		ahead := time.Duration(0)
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			if rapid.IntRange(0, 2).Draw(t, "the clock is set") == 0 {
				ahead = time.Duration(rapid.IntRange(-6000, 6000).Draw(t, "ahead")) * time.Millisecond
			}
			answer := func(there, back time.Duration) {
				asked := now
				now = now.Add(there)
				at := now.Add(ahead).Truncate(time.Second)
				now = now.Add(back)
				s.saw(at, asked, now)
			}
			ms := func(what string, most int) time.Duration {
				return time.Duration(rapid.IntRange(0, most).Draw(t, what)) * time.Millisecond
			}
			for range rapid.IntRange(0, 3).Draw(t, "slow answers") {
				now = now.Add(ms("pause", 5000))
				answer(ms("there", 3000), ms("back", 3000))
			}
			for range 2 { // the second is not judged by what was before the clock was set
				now = now.Add(ms("pause", 5000))
				answer(ms("there", 200), ms("back", 200))
			}
			p := s.problem()
			switch {
			case ahead >= -skewed && ahead <= skewed && p != "":
				t.Fatalf("%s ahead: %s", ahead, p)
			case (ahead > skewed+1500*time.Millisecond || ahead < -skewed-1500*time.Millisecond) && p == "":
				t.Fatalf("%s ahead, and nothing is said: between %s and %s", ahead, s.least, s.most)
			}
		}
	})
}

func TestTheClockOfTheAPIServerIsThatOfItsAnswers(t *testing.T) {
	now, told := installed, 0
	s := &skew{now: func() time.Time { return now }, changed: func() { told++ }}
	answer := func(date string) {
		rt := s.wrap(roundTripper(func(*http.Request) (*http.Response, error) {
			resp := httptest.NewRecorder().Result()
			resp.Header.Set("Date", date)
			return resp, nil
		}))
		resp, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	answer("yesterday")
	if s.known {
		t.Error("a date that is none was read")
	}
	answer(now.Add(10 * time.Second).Format(http.TimeFormat))
	if told != 1 || !strings.Contains(s.problem(), "10s ahead of this node's") {
		t.Errorf("told %d times: %q", told, s.problem())
	}
	now = now.Add(10 * time.Second) // somebody has set it
	answer(now.Format(http.TimeFormat))
	if told != 2 || s.problem() != "" {
		t.Errorf("the clocks agree again, and: %q", s.problem())
	}
}
