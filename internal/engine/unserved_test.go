package engine

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

func TestAnOpenWindowThatIsNotServedIsNotReady(t *testing.T) {
	opened := time.Date(2026, 11, 25, 3, 0, 0, 0, time.UTC)
	of := func(phase v1alpha1.Phase, reason string, opened time.Time) *v1alpha1.Activation {
		a := &v1alpha1.Activation{Status: v1alpha1.ActivationStatus{
			Phase: phase, Conditions: []metav1.Condition{{Type: v1alpha1.ConditionLive, Reason: reason, Message: "Envoy refused it"}},
		}}
		if !opened.IsZero() {
			at := metav1.NewMicroTime(opened)
			a.Status.OpenedAt = &at
		}
		return a
	}
	v := &view{activations: map[types.NamespacedName]*v1alpha1.Activation{
		{Namespace: "pay", Name: "refused"}:   of(v1alpha1.PhasePending, "Opening", opened),
		{Namespace: "pay", Name: "live"}:      of(v1alpha1.PhaseLive, "Live", opened),
		{Namespace: "pay", Name: "waits"}:     of(v1alpha1.PhasePending, "NoUsableKeys", time.Time{}),
		{Namespace: "pay", Name: "withheld"}:  of(v1alpha1.PhasePending, "AuditFailing", opened),
		{Namespace: "pay", Name: "half-open"}: of(v1alpha1.PhasePending, "AuditPending", opened),
	}}
	if got := openAndNotServed(v, opened.Add(4*time.Second)); len(got) != 0 {
		t.Errorf("too soon: %q", got)
	}
	got := openAndNotServed(v, opened.Add(6*time.Second))
	if len(got) != 1 || !strings.Contains(got[0], "pay/refused") || !strings.Contains(got[0], "Envoy refused it") {
		t.Errorf("got %q", got)
	}
}
