package client

import (
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// Timeline tells what the Activations that are there say of themselves. Requests,
// and Activations that were deleted, are in the audit log only.
func (c *Cluster) Timeline(ctx context.Context, since time.Time, fn func(control.TimelineEntry) error) error {
	var list v1alpha1.ActivationList
	if err := c.list(ctx, &list, ""); err != nil {
		return c.explain(err, "see all Activations", "", "breakglass-viewer")
	}
	var all []control.TimelineEntry
	for i := range list.Items {
		all = append(all, stepsOf(&list.Items[i])...)
	}
	all = slices.DeleteFunc(all, func(e control.TimelineEntry) bool { return e.Time.Before(since) })
	slices.SortStableFunc(all, func(a, b control.TimelineEntry) int { return a.Time.Compare(b.Time) })
	for _, e := range all {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// stepsOf an Activation, in order.
func stepsOf(a *v1alpha1.Activation) (out []control.TimelineEntry) {
	add := func(at time.Time, event activation.Event, who, message string) {
		out = append(out, control.TimelineEntry{
			Time: at.UTC(), Kind: "activation", Event: string(event), Who: who, Object: "Activation " + a.Namespace + "/" + a.Name,
			Role: a.Spec.Role, Incident: a.Spec.Incident, Message: message,
		})
	}
	add(a.CreationTimestamp.Time, activation.Requested, a.Spec.RequestedBy, a.Spec.Reason)
	st := &a.Status
	if st.OpenedAt != nil {
		message := ""
		if st.Deadline != nil {
			message = "until " + st.Deadline.UTC().Format(time.RFC3339)
		}
		add(st.OpenedAt.Time, activation.Opened, a.Spec.RequestedBy, message)
	}
	if st.LiveAt != nil {
		add(st.LiveAt.Time, activation.Live, "", "")
	}
	if st.EndedAt != nil {
		who, message := "", ""
		event := map[v1alpha1.Phase]activation.Event{
			v1alpha1.PhaseExpired: activation.Expired, v1alpha1.PhaseRevoked: activation.Revoked, v1alpha1.PhaseRefused: activation.Refused,
		}[st.Phase]
		if st.Phase == v1alpha1.PhaseRevoked {
			who = a.Spec.RevokedBy
		}
		if c := control.Condition(st.Conditions, v1alpha1.ConditionLive); c.Status == metav1.ConditionFalse {
			message = fmt.Sprintf("%s: %s", c.Reason, c.Message)
		}
		add(st.EndedAt.Time, event, who, message)
	}
	if r := st.Review; r != nil && r.State == v1alpha1.ReviewOverdue && r.Due != nil {
		add(r.Due.Time, activation.Overdue, "", "no review until "+r.Due.UTC().Format(time.RFC3339))
	} else if r != nil && r.State.Reviewed() && r.At != nil {
		add(r.At.Time, activation.Reviewed, r.By, string(r.State))
	}
	return out
}
