package engine

import (
	"fmt"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// unserved are the objects that nothing here serves, told as problems: they have
// no status that could say so.
func unserved(v *view) []control.Problem {
	var out []control.Problem
	for _, u := range translator.FindUnserved(v.set.Objects, v.result) {
		key := source.ObjectKey{Kind: u.Kind, Namespace: u.Key.Namespace, Name: u.Key.Name}
		o := v.set.Origins[key]
		out = append(out, control.Problem{File: o.File, Line: o.Line, Object: key.String(), Field: u.Field, Message: u.Message})
	}
	return out
}

// openingTime is how long a window may take to be served.
const openingTime = 5 * time.Second

// openAndNotServed are the windows that should have been served for a while. That
// the audit log cannot be kept is told once, not for each.
func openAndNotServed(v *view, now time.Time) []string {
	var out []string
	for _, key := range sorted(v.activations) {
		s := v.activations[key].Status
		live := control.Condition(s.Conditions, v1alpha1.ConditionLive)
		if s.Phase != v1alpha1.PhasePending || s.OpenedAt == nil || now.Sub(s.OpenedAt.Time) < openingTime || live.Reason == activation.ReasonAuditFailing || live.Reason == activation.ReasonAuditPending {
			continue
		}
		out = append(out, fmt.Sprintf("Activation %s is open and not served: %s: %s", key, live.Reason, live.Message))
	}
	return out
}
