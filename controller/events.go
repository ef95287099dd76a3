package controller

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// tell makes an Event of each step of an Activation, once it is in its status.
func (s *statuses) tell(was, is *v1alpha1.Activation) {
	event := func(kind, reason, note string, args ...any) {
		s.events.Eventf(is, nil, kind, reason, reason, note, args...)
	}
	if was.Status.OpenedAt == nil && is.Status.OpenedAt != nil {
		event(corev1.EventTypeWarning, "Opened", "the glass is broken: role %s, incident %q, requested by %q, until %s",
			is.Spec.Role, is.Spec.Incident, is.Spec.RequestedBy, is.Status.Deadline.UTC().Format(metav1.RFC3339Micro))
	}
	switch r := is.Status.Review; {
	case r == nil || was.Status.Review != nil && was.Status.Review.State == r.State:
	case r.State == v1alpha1.ReviewOverdue:
		event(corev1.EventTypeWarning, "ReviewOverdue", "nobody has reviewed it by %s: kubectl create an ActivationReview, or breakglass review %s/%s", r.Due.UTC().Format(metav1.RFC3339Micro), is.Namespace, is.Name)
	case r.State.Reviewed():
		event(corev1.EventTypeNormal, "Reviewed", "%s, by %s", r.State, r.By)
	}
	if was.Status.Phase == is.Status.Phase {
		return
	}
	message := ""
	if c := meta.FindStatusCondition(is.Status.Conditions, v1alpha1.ConditionLive); c != nil {
		message = c.Message
	}
	switch is.Status.Phase {
	case v1alpha1.PhaseLive:
		event(corev1.EventTypeWarning, "Live", "%s", message)
	case v1alpha1.PhasePending:
		if was.Status.Phase == v1alpha1.PhaseLive {
			event(corev1.EventTypeWarning, "NotServed", "%s", message)
		}
	case v1alpha1.PhaseExpired, v1alpha1.PhaseRevoked:
		event(corev1.EventTypeNormal, string(is.Status.Phase), "%s", message)
	case v1alpha1.PhaseRefused:
		event(corev1.EventTypeWarning, "Refused", "%s", message)
	}
}
