//go:build apiserver

package apiserver_test

import (
	"context"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/breakglass-gateway/breakglass-gateway/api/admission"
	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

func reviewOf(name string) *v1alpha1.ActivationReview {
	return &v1alpha1.ActivationReview{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: name},
		Spec: v1alpha1.ActivationReviewSpec{
			ActivationRef: v1alpha1.ActivationReference{Name: "inc-1"}, Verdict: v1alpha1.VerdictJustified, Note: "read the log", FollowUps: []string{"OPS-12"},
		},
	}
}

// reviewer is a client of somebody who may review, once the API server goes by the
// policies for reviews.
func reviewer(t *testing.T) client.Client {
	t.Helper()
	c := installed.as("grace")
	if err := client.IgnoreAlreadyExists(installed.bind(t.Context(), "payments", "breakglass-reviewer", "grace")); err != nil {
		t.Fatal(err)
	}
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		r := reviewOf("settled")
		r.Spec.ReviewedBy = "forged"
		last = c.Create(ctx, r, client.DryRunAll)
		return last == nil && r.Spec.ReviewedBy == "grace", nil
	})
	if err != nil {
		t.Fatalf("grace cannot review under her own name: %v", last)
	}
	return c
}

func TestWhoReviewsIsWhoTheAPIServerSawAndNothingOfAReviewCanBeChanged(t *testing.T) {
	c := reviewer(t)
	for _, claimed := range []string{"", "the CEO", "grace"} {
		r := reviewOf("who-" + strings.ToLower(strings.ReplaceAll(claimed, " ", "-")) + "x")
		r.Spec.ReviewedBy = claimed
		r.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: "Forged", LastTransitionTime: metav1.Now()}}
		if err := c.Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if r.Spec.ReviewedBy != "grace" || len(r.Status.Conditions) > 0 {
			t.Errorf("stored as %+v, %+v", r.Spec, r.Status)
		}
		for _, patch := range []string{`{"spec":{"verdict":"Misuse"}}`, `{"spec":{"note":"other"}}`, `{"spec":{"followUps":null}}`, `{"spec":{"activationRef":{"name":"inc-2"}}}`} {
			refused(t, installed.admin.Patch(t.Context(), r.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(patch))), "an ActivationReview cannot be changed")
		}
		for _, patch := range []string{`{"spec":{"reviewedBy":"bob"}}`, `{"spec":{"reviewedBy":null}}`} {
			refused(t, installed.admin.Patch(t.Context(), r.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(patch))), "")
		}
		if err := installed.admin.Patch(t.Context(), r, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`))); err != nil || r.Spec.ReviewedBy != "grace" {
			t.Errorf("labelled as %q: %v", r.Spec.ReviewedBy, err)
		}
		if err := c.Delete(t.Context(), r); err == nil {
			t.Error("a reviewer may delete reviews")
		}
	}
}

func TestABadReviewIsRefusedWithASentence(t *testing.T) {
	c := reviewer(t)
	for _, test := range []struct {
		name   string
		change func(*v1alpha1.ActivationReview)
		want   string
	}{
		{"no note", func(r *v1alpha1.ActivationReview) { r.Spec.Note = " \n" }, "say how you came to the verdict, in words an auditor can use"},
		{"no verdict", func(r *v1alpha1.ActivationReview) { r.Spec.Verdict = "" }, "spec.verdict"},
		{"another verdict", func(r *v1alpha1.ActivationReview) { r.Spec.Verdict = "Fine" }, `supported values: "Drill", "Justified", "Misuse"`},
		{"a verdict in lower case", func(r *v1alpha1.ActivationReview) { r.Spec.Verdict = "drill" }, `supported values: "Drill", "Justified", "Misuse"`},
		{"no activation", func(r *v1alpha1.ActivationReview) { r.Spec.ActivationRef.Name = "" }, "spec.activationRef.name"},
		{"a long note", func(r *v1alpha1.ActivationReview) { r.Spec.Note = strings.Repeat("x", 4097) }, "may not be more than 4096"},
		{"many follow-ups", func(r *v1alpha1.ActivationReview) { r.Spec.FollowUps = make([]string, 17) }, "spec.followUps"},
		{"an empty follow-up", func(r *v1alpha1.ActivationReview) { r.Spec.FollowUps = []string{" "} }, "a follow-up says nothing: leave it out"},
		{"a long follow-up", func(r *v1alpha1.ActivationReview) { r.Spec.FollowUps = []string{strings.Repeat("x", 513)} }, "may not be more than 512"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := reviewOf("bad")
			test.change(r)
			refused(t, c.Create(t.Context(), r), test.want)
		})
	}
}

func TestOnlyReviewersReview(t *testing.T) {
	reviewer(t)
	for user, want := range map[string]bool{"alice": false, "bob": false, "carol": false, "erin": false, "frank": false, "grace": true} {
		if got := may(t, user, authorizationv1.ResourceAttributes{Namespace: "payments", Group: "breakglass.dev", Resource: "activationreviews", Verb: "create"}); got != want {
			t.Errorf("%s may review: %v", user, got)
		}
		for _, verb := range []string{"update", "patch", "delete", "deletecollection"} {
			for _, resource := range []string{"activationreviews", "activationreviews/status"} {
				resource, sub, _ := strings.Cut(resource, "/")
				if may(t, user, authorizationv1.ResourceAttributes{Namespace: "payments", Group: "breakglass.dev", Resource: resource, Subresource: sub, Verb: verb}) {
					t.Errorf("%s may %s %s %s", user, verb, resource, sub)
				}
			}
		}
	}
	if !may(t, "frank", authorizationv1.ResourceAttributes{Namespace: "payments", Group: "breakglass.dev", Resource: "activationreviews", Verb: "list"}) {
		t.Error("a viewer does not see reviews")
	}
	refused(t, installed.as("alice").Create(t.Context(), reviewOf("by-alice")), `cannot create resource "activationreviews"`)
}

func TestTheControllerReadsReviewsAndTheirPoliciesAndWritesWhatBecomesOfThem(t *testing.T) {
	r := reviewOf("judged")
	if err := reviewer(t).Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	c := installed.as(controller)
	if err := c.List(t.Context(), &v1alpha1.ActivationReviewList{}); err != nil {
		t.Error(err)
	}
	policies := &admissionv1.MutatingAdmissionPolicyList{}
	if err := c.List(t.Context(), policies, client.MatchingFields{"metadata.name": admission.ReviewsName}); err != nil || len(policies.Items) != 1 {
		t.Errorf("%d policies: %v", len(policies.Items), err)
	}
	now := metav1.NowMicro()
	r.Status = v1alpha1.ActivationReviewStatus{AcceptedAt: &now, Conditions: []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: "Accepted", LastTransitionTime: metav1.Now()}}}
	if err := c.Status().Update(t.Context(), r); err != nil || !now.Time.Truncate(time.Microsecond).Equal(r.Status.AcceptedAt.Time) {
		t.Errorf("%+v: %v", r.Status, err)
	}
	if err := c.Delete(t.Context(), r); err == nil {
		t.Error("the controller may delete reviews")
	}
}

func TestThePoliciesForReviewsAreReturnedAsExpected(t *testing.T) {
	reviewer(t)
	key := client.ObjectKey{Name: admission.ReviewsName}
	got, want := admission.Objects{
		Mutating: &admissionv1.MutatingAdmissionPolicy{}, MutatingBinding: &admissionv1.MutatingAdmissionPolicyBinding{},
		Validating: &admissionv1.ValidatingAdmissionPolicy{}, ValidatingBinding: &admissionv1.ValidatingAdmissionPolicyBinding{},
	}, admission.Reviews.Expected()
	for _, obj := range []client.Object{got.Mutating, got.MutatingBinding, got.Validating, got.ValidatingBinding} {
		if err := installed.admin.Get(t.Context(), key, obj); err != nil {
			t.Fatal(err)
		}
	}
	if r := admission.Reviews.Check(got); !r.InForce() || r.Since.IsZero() {
		t.Errorf("%+v", r)
	}
	if !equality.Semantic.DeepEqual(got.Mutating.Spec, want.Mutating.Spec) || !equality.Semantic.DeepEqual(got.Validating.Spec, want.Validating.Spec) {
		t.Errorf("got %+v\n%+v", got.Mutating.Spec, got.Validating.Spec)
	}
}
