package controller

import (
	"log/slog"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/admission"
	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
)

func bobs(conditions ...metav1.Condition) *v1alpha1.ActivationReview {
	return &v1alpha1.ActivationReview{
		ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "r", UID: "1", CreationTimestamp: metav1.NewTime(installed.Add(time.Hour))},
		Spec:       v1alpha1.ActivationReviewSpec{ActivationRef: v1alpha1.ActivationReference{Name: "a"}, Verdict: v1alpha1.VerdictMisuse, Note: "n", ReviewedBy: "bob"},
		Status:     v1alpha1.ActivationReviewStatus{Conditions: conditions},
	}
}

func saidOf(status metav1.ConditionStatus, reason string) metav1.Condition {
	return metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: status, Reason: reason, Message: "m", LastTransitionTime: metav1.NewTime(installed)}
}

func seen(obj *v1alpha1.ActivationReview, t *trust) *reviews {
	return &reviews{objects: map[types.NamespacedName]*v1alpha1.ActivationReview{pay(obj.Name): obj}, read: true, trust: t}
}

func TestNoReviewIsJudgedBeforeItIsKnownWhoMayHaveMadeIt(t *testing.T) {
	r := newReviews(slog.New(slog.DiscardHandler), func() bool { return true }, func() *outcome { return nil }, func() {})
	run := r.begin()
	r.put(run, bobs(), false)
	if got := r.requests(nil); len(got) > 0 {
		t.Errorf("judged before all were read: %+v", got)
	}
	r.done(run)
	if got := r.requests(nil); len(got) > 0 {
		t.Errorf("judged before the policies were read: %+v", got)
	}
	r.trust.done("")
	if got := r.requests(nil); len(got) != 1 || got[0].Doubt == "" {
		t.Errorf("without any policy: %+v", got)
	}
	r.trust = believing
	if got := r.requests(nil); len(got) != 1 || got[0].Doubt != "" || got[0].Review.By != "bob" || got[0].Review.Verdict != "misuse" || got[0].Activation != pay("a") {
		t.Errorf("with the policies: %+v", got)
	}
	later := r.begin()
	r.done(run) // a late word
	r.put(run, bobs(), false)
	if got := r.requests(nil); len(got) > 0 {
		t.Errorf("what watches before have read is used: %+v", got)
	}
	r.put(later, bobs(), false)
	r.put(later, bobs(), true)
	r.done(later)
	if got := r.requests(nil); len(got) > 0 {
		t.Errorf("a deleted one is used: %+v", got)
	}
}

// Whoever removes the policies, forges a review and puts them back gains nothing.
func TestAReviewThatWasInDoubtStaysSo(t *testing.T) {
	if got := seen(bobs(saidOf(metav1.ConditionFalse, activation.ReviewDistrusted)), believing).requests(nil); got[0].Doubt != "m" {
		t.Errorf("%+v", got)
	}
	if got := seen(bobs(saidOf(metav1.ConditionFalse, activation.ReviewNotEnded)), believing).requests(nil); got[0].Doubt != "" || !got[0].Early {
		t.Errorf("%+v", got)
	}
	altered := newTrust(admission.Reviews, time.Now, func() {})
	altered.done("")
	if got := seen(bobs(saidOf(metav1.ConditionTrue, "Accepted")), altered).requests(nil); got[0].Doubt != "" || got[0].Accepted.IsZero() {
		t.Errorf("one that was accepted is in doubt: %+v", got)
	}
}

func TestOnceEverythingIsSaidAReviewCostsNothing(t *testing.T) {
	records := map[types.NamespacedName]activation.Record{pay("a"): {Namespace: "pay", Name: "a", Review: &activation.Review{Verdict: "misuse", By: "bob", SourceUID: "1"}}}
	for reason, want := range map[string]int{"Accepted": 0, "": 1, activation.ReviewOwn: 1} {
		c := []metav1.Condition{saidOf(metav1.ConditionFalse, reason)}
		if reason == "Accepted" {
			c[0].Status = metav1.ConditionTrue
		} else if reason == "" {
			c = nil
		}
		if got := seen(bobs(c...), believing).requests(records); len(got) != want {
			t.Errorf("%q: %d requests, want %d", reason, len(got), want)
		}
	}
	other := bobs(saidOf(metav1.ConditionFalse, activation.ReviewAlready))
	other.UID = "2"
	if got := seen(other, believing).requests(records); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	// The one that is on record was taken for another: it is put right.
	if got := seen(bobs(saidOf(metav1.ConditionFalse, activation.ReviewAlready)), believing).requests(records); len(got) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestWhatWasAcceptedIsNeverToldToBeRefused(t *testing.T) {
	refused := v1alpha1.ActivationReviewStatus{Conditions: []metav1.Condition{saidOf(metav1.ConditionFalse, activation.ReviewAlready)}}
	was := bobs(saidOf(metav1.ConditionTrue, "Accepted"))
	if got := withStatus(was, refused); got.Status.Conditions[0].Status != metav1.ConditionTrue {
		t.Errorf("%+v", got.Status)
	}
	if got := withStatus(bobs(), refused); got.Status.Conditions[0].Reason != activation.ReviewAlready {
		t.Errorf("%+v", got.Status)
	}
}

func TestAStatusTakesNoReviewBack(t *testing.T) {
	at := func(d time.Duration) *metav1.MicroTime { t := metav1.NewMicroTime(installed.Add(d)); return &t }
	pending, overdue := &v1alpha1.ReviewStatus{State: v1alpha1.ReviewPending, Due: at(2)}, &v1alpha1.ReviewStatus{State: v1alpha1.ReviewOverdue, Due: at(2)}
	drill, misuse := &v1alpha1.ReviewStatus{State: "Drill", By: "bob"}, &v1alpha1.ReviewStatus{State: "Misuse", By: "carol"}
	earlier := &v1alpha1.ReviewStatus{State: v1alpha1.ReviewPending, Due: at(1)}
	for name, test := range map[string]struct{ there, is, want *v1alpha1.ReviewStatus }{
		"the first word":           {nil, pending, pending},
		"nothing":                  {pending, nil, pending},
		"overdue":                  {pending, overdue, overdue},
		"no more overdue":          {overdue, pending, overdue},
		"a verdict":                {overdue, drill, drill},
		"no verdict any more":      {drill, overdue, drill},
		"another verdict":          {drill, misuse, drill},
		"a due time that is later": {earlier, pending, earlier},
		"one that is earlier":      {pending, earlier, earlier},
	} {
		if got := laterReview(test.there, test.is); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}
