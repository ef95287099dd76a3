package activation

import (
	"fmt"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// Served reports whether Envoy has acknowledged a window, and if not why not.
type Served func(WindowKey, *Window) (bool, string)

// Complete adds what only Envoy's acknowledgement can tell: the Live facts and
// the status of every activation.
func (p *Plan) Complete(served Served) map[types.NamespacedName]v1alpha1.ActivationStatus {
	out := make(map[types.NamespacedName]v1alpha1.ActivationStatus, len(p.records))
	for _, key := range slices.Concat(p.ordering, p.over) {
		r := p.records[key]
		live, targets := p.targets(r, served)
		if live && r.LiveAt.IsZero() {
			r.LiveAt = p.in.Now
			p.fact(Live, r)
		}
		out[key] = p.status(r, live, targets)
	}
	return out
}

// targets is the status of each target, and whether all are live.
func (p *Plan) targets(r Record, served Served) (bool, []v1alpha1.TargetStatus) {
	live := !r.Final()
	var out []v1alpha1.TargetStatus
	for _, t := range r.Spec.TargetRefs {
		s := v1alpha1.TargetStatus{TargetReference: t}
		s.Phase, s.Reason, s.Message = p.target(r, t, served)
		if rec, opened := r.Targets[TargetKey(t)]; opened {
			s.Opening = rec.opening()
		} else {
			s.Opening = p.opened(r, t)
		}
		live = live && s.Phase == v1alpha1.PhaseLive
		out = append(out, s)
	}
	return live, out
}

func (p *Plan) target(r Record, t v1alpha1.TargetReference, served Served) (v1alpha1.Phase, string, string) {
	rec, opened := p.in.Records[r.Key()].Targets[TargetKey(t)]
	ended := r.Targets[TargetKey(t)]
	switch b, blocked := p.blocked[r.Key()][TargetKey(t)]; {
	case opened && !ended.EndedAt.IsZero():
		return v1alpha1.PhaseRevoked, ended.Reason, ended.Message
	case r.Final():
		return r.Phase, r.Reason, r.Message
	case blocked:
		return v1alpha1.PhasePending, b.Reason, b.Message
	case !opened:
		return v1alpha1.PhasePending, ReasonOpening, "being recorded"
	}
	for _, rule := range slices.Sorted(maps.Keys(rec.Openings)) {
		wk := WindowKey{RouteOf(r.Namespace, t), rule}
		w := p.Windows[wk]
		if w == nil {
			return v1alpha1.PhasePending, ReasonOpening, "not open"
		}
		if ok, why := served(wk, w); !ok {
			return v1alpha1.PhasePending, ReasonOpening, why
		}
	}
	return v1alpha1.PhaseLive, ReasonLive, ""
}

func (p *Plan) status(r Record, live bool, targets []v1alpha1.TargetStatus) v1alpha1.ActivationStatus {
	s := v1alpha1.ActivationStatus{Phase: r.Phase, RequestedBy: r.RequestedBy, Targets: targets}
	deadline := metav1.NewMicroTime(r.Deadline.Truncate(time.Microsecond))
	s.Deadline = &deadline
	s.OpenedAt, s.LiveAt, s.EndedAt = micro(r.openedAt()), micro(r.LiveAt), micro(r.EndedAt)
	s.Review = p.reviewStatus(r)
	reason, message := r.Reason, r.Message
	if !r.Final() {
		s.Phase = v1alpha1.PhasePending
		if len(targets) > 0 { // the schema has it so, but a record may be anything
			reason, message = targets[0].Reason, targets[0].Message
		}
		if live {
			s.Phase, reason = v1alpha1.PhaseLive, ReasonLive
			message = fmt.Sprintf("open until %s", at(r.Deadline))
		}
		for _, t := range targets {
			if t.Phase != v1alpha1.PhaseLive {
				reason, message = t.Reason, t.Message
			}
		}
		s.URLs = p.urls(r)
	}
	if _, there := p.in.Objects[r.Key()]; there && r.Final() && r.Removed {
		s.Phase, reason = v1alpha1.PhaseRefused, ReasonNameSpent
		message = fmt.Sprintf("the name %s was used before: it ended %s at %s (%s); use a new name", quoted(r.Key()), r.Phase, at(r.EndedAt), r.Reason)
	}
	s.Conditions = conditions(s.Phase, reason, message)
	return s
}

// accepted is the condition of what may be as it is, and of what may not.
func accepted(b *Blocked) []metav1.Condition {
	if b != nil {
		return []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse, Reason: b.Reason, Message: b.Message}}
	}
	return []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: "Accepted"}}
}

// conditions says the same as the phase in the words of the Kubernetes API.
func conditions(phase v1alpha1.Phase, reason, message string) []metav1.Condition {
	if reason == "" {
		reason = string(phase)
	}
	accepted := accepted(nil)[0]
	live := metav1.Condition{Type: v1alpha1.ConditionLive, Status: metav1.ConditionFalse, Reason: reason, Message: message}
	switch phase {
	case v1alpha1.PhaseRefused:
		accepted.Status, accepted.Reason, accepted.Message = metav1.ConditionFalse, reason, message
	case v1alpha1.PhaseLive:
		live.Status = metav1.ConditionTrue
	}
	return []metav1.Condition{accepted, live}
}

// urls that answer while r is open.
func (p *Plan) urls(r Record) []string {
	var out []string
	for _, t := range r.Spec.TargetRefs {
		route := p.route(r, t)
		if route == nil {
			continue
		}
		for _, rule := range rulesOf(route, t) {
			for _, u := range route.URLs[rule] {
				if len(out) < 64 && !slices.Contains(out, u) {
					out = append(out, u)
				}
			}
		}
	}
	return out
}

// Records are the records as they are after the facts of this plan.
func (p *Plan) Records() map[types.NamespacedName]Record { return p.records }
