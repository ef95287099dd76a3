package activation

import (
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// adopt takes over what other replicas have decided, or this one before it lost
// its memory: the status of an Activation says it, and only they can write it.
// What it takes only ever opens what was opened and closes what was closed.
func (p *Plan) adopt() {
	if p.in.Cluster == nil {
		return
	}
	for _, key := range p.ordering {
		obj := p.in.Objects[key] // nil: among restored objects it may be missing, and is not gone
		if r := p.records[key]; obj != nil && !r.Final() && !p.gone(r) {
			p.adoptOne(r, obj)
		}
	}
}

func (p *Plan) adoptOne(r Record, obj *v1alpha1.Activation) {
	s := &obj.Status
	_, known := p.in.Records[r.Key()]
	if d := s.Deadline; d != nil && d.Time.Before(r.Deadline.Truncate(time.Microsecond)) {
		r.Deadline = d.Time
		if p.records[r.Key()] = r; known {
			p.fact(Shortened, r)
		}
	}
	if taken := r.take(s.Targets, p.held() == nil); taken.Targets != nil {
		r = taken
		p.fact(Opened, r)
	}
	if s.LiveAt != nil && r.LiveAt.IsZero() && len(r.Targets) > 0 {
		r.LiveAt = s.LiveAt.Time
		p.fact(Live, r)
	}
	if s.Phase.Final() {
		if s.EndedAt != nil {
			r.EndedAt = s.EndedAt.Time
		}
		p.finishAs(r, s)
	}
}

// finishAs ends r as its status says. Without a word of a review there it ended in a
// version that asked for none.
func (p *Plan) finishAs(r Record, s *v1alpha1.ActivationStatus) {
	r.Phase, r.Reason, r.Message = s.Phase, why(s).Reason, why(s).Message
	if r.EndedAt.IsZero() {
		r.EndedAt = p.in.Now
	}
	if s.Review != nil && s.Review.Due != nil {
		r.ReviewDue = s.Review.Due.Time
	}
	p.fact(ends[s.Phase], r)
}

// held says why this replica takes over no opening now, nil if it does: the clock
// by which it would close may be wrong, or it could not be recorded. Endings it takes
// over whatever is wrong.
func (p *Plan) held() *Blocked {
	if c := p.in.Cluster; c.Refusing != "" {
		return &Blocked{ReasonNotOpening, c.Refusing}
	}
	return p.unrecordable()
}

// opened is the opening of a target that the status tells of, nil for none. It is
// told on, and nothing is opened in its place, also by who may not take it over now.
func (p *Plan) opened(r Record, t v1alpha1.TargetReference) *v1alpha1.Opening {
	obj := p.in.Objects[r.Key()]
	if p.in.Cluster == nil || obj == nil || p.gone(r) {
		return nil
	}
	for _, s := range obj.Status.Targets {
		if TargetKey(s.TargetReference) == TargetKey(t) {
			return s.Opening
		}
	}
	return nil
}

// ends are the events by which an activation gets into its last phase.
var ends = map[v1alpha1.Phase]Event{v1alpha1.PhaseExpired: Expired, v1alpha1.PhaseRevoked: Revoked, v1alpha1.PhaseRefused: Refused}

// why is what the status says of its phase.
func why(s *v1alpha1.ActivationStatus) metav1.Condition {
	i := slices.IndexFunc(s.Conditions, func(c metav1.Condition) bool { return c.Type == v1alpha1.ConditionLive })
	if i < 0 {
		return metav1.Condition{Reason: string(s.Phase)}
	}
	return s.Conditions[i]
}

// take returns r with the openings and endings in targets that r lacks, the
// openings only if opens. Without any its Targets are nil.
func (r Record) take(targets []v1alpha1.TargetStatus, opens bool) Record {
	out, news := r.clone(), false
	for _, t := range targets {
		o := t.Opening
		if o == nil {
			continue
		}
		k := TargetKey(t.TargetReference)
		have, known := out.Targets[k]
		if !known && !opens {
			continue
		}
		if !known {
			have = Target{Route: RouteOf(r.Namespace, t.TargetReference).Ref(), Digest: o.Digest, OpenedAt: o.At.Time, Openings: map[string]string{}}
			for _, l := range o.Leases {
				have.Openings[l.Rule] = l.Name
			}
			news = true
		}
		if o.EndedAt != nil && have.EndedAt.IsZero() {
			have.EndedAt, have.Reason, have.Message = o.EndedAt.Time, t.Reason, t.Message
			news = true
		}
		out.Targets[k] = have
	}
	if !news {
		out.Targets = nil
	}
	return out
}

// opening is how the status tells of a target that was opened.
func (t Target) opening() *v1alpha1.Opening {
	o := &v1alpha1.Opening{Digest: t.Digest, At: metav1.NewMicroTime(t.OpenedAt.Truncate(time.Microsecond)), EndedAt: micro(t.EndedAt)}
	for _, rule := range slices.Sorted(maps.Keys(t.Openings)) {
		o.Leases = append(o.Leases, v1alpha1.OpeningLease{Rule: rule, Name: t.Openings[rule]})
	}
	return o
}

// micro is t as the API server keeps it, so that what is read is what was written.
func micro(t time.Time) *metav1.MicroTime {
	if t.IsZero() {
		return nil
	}
	m := metav1.NewMicroTime(t.Truncate(time.Microsecond))
	return &m
}
