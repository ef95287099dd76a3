package activation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// Review is a verdict on record.
type Review struct {
	// Verdict is drill, justified or misuse.
	Verdict string `json:"verdict"`
	// By whom, as the API server or the control socket saw it.
	By string    `json:"by"`
	At time.Time `json:"at"`
	// Note and FollowUps in the reviewer's words.
	Note      string   `json:"note,omitempty"`
	FollowUps []string `json:"followUps,omitempty"`
	// Source is how it came: "control", or "ActivationReview namespace/name"; and the
	// uid of that object.
	Source    string `json:"source,omitempty"`
	SourceUID string `json:"sourceUID,omitempty"`
}

// words for people.
func (v *Review) words() string {
	text := v.Verdict
	if v.Note != "" {
		text += ": " + v.Note
	}
	for _, f := range v.FollowUps {
		text += "; to do: " + f
	}
	return text
}

// SourceControl is a review that came over the control socket.
const SourceControl = "control"

// Reasons why a review is not accepted. They are API: conditions carry them.
const (
	ReviewNotFound      = "NotFound"
	ReviewNotEnded      = "NotEnded"
	ReviewNeverOpened   = "NeverOpened"
	ReviewAlready       = "AlreadyReviewed"
	ReviewOwn           = "ReviewerIsActivator"
	ReviewActivatorless = "ActivatorNotKnown"
	ReviewDistrusted    = ReasonDistrusted
)

// reviewWithin is how long a review may take if no policy says.
const reviewWithin = 72 * time.Hour

// ReviewRequest is a review that somebody has made.
type ReviewRequest struct {
	// Object is the ActivationReview that says it. Empty: it came over the control
	// socket.
	Object types.NamespacedName
	// Activation that it is of, and its UID, if it has to be that one.
	Activation types.NamespacedName
	UID        string
	// Review without a time.
	Review Review
	// Made is when the object was made, by the API server's clock. Zero: just now.
	Made time.Time
	// Early: it was found to be made before the end. It stays so, for Made is told to
	// a second only.
	Early bool
	// Doubt says why it is not sure who made it. "": it is.
	Doubt string
	// Accepted is when a replica that led has recorded it, as the object's status
	// says. Zero: none has.
	Accepted time.Time
}

// within is how long a review may take under the policy.
func (p *Policy) within() time.Duration {
	return v1alpha1.PositiveOr(p.Spec.Review.Within, reviewWithin)
}

// refusesOverdue reports whether nothing new opens for a role while a review is
// overdue. Anything but the word for it means no: it would lock people out.
func (p *Policy) refusesOverdue() bool { return p.Spec.Review.OnOverdue == v1alpha1.OverdueRefuse }

// askReview notes until when r, which has just ended, is to be reviewed: within the
// least that a policy of its routes says. What never opened needs no review.
func (p *Plan) askReview(r *Record) {
	if len(r.Targets) == 0 || !r.ReviewDue.IsZero() {
		return
	}
	var least time.Duration
	for _, t := range r.Spec.TargetRefs {
		route := p.route(*r, t)
		if route == nil {
			continue
		}
		for _, pol := range route.Policies {
			if w := pol.within(); least == 0 || w < least {
				least = w
			}
		}
	}
	r.ReviewDue = r.EndedAt.Add(cmp.Or(least, reviewWithin))
}

// Unreviewed reports whether r has ended and lacks a review that it needs.
func (r Record) Unreviewed() bool { return r.Final() && !r.ReviewDue.IsZero() && r.Review == nil }

// due is until when r is to be reviewed: the earliest that its record or its status
// says, for two replicas may have seen its end at two instants. Zero: never.
func (p *Plan) due(r Record) time.Time {
	due := r.ReviewDue
	if s := p.toldReview(r); s != nil && s.Due != nil && (due.IsZero() || s.Due.Time.Before(due)) {
		due = s.Due.Time
	}
	return due
}

// toldReview is what the status of r's object says of its review, nil for nothing.
func (p *Plan) toldReview(r Record) *v1alpha1.ReviewStatus {
	obj := p.in.Objects[r.Key()]
	if p.in.Cluster == nil || obj == nil || p.gone(r) {
		return nil
	}
	return obj.Status.Review
}

// review proposes the verdicts that are to be recorded, and says which reviews are
// overdue. Nothing opens or closes by it.
func (p *Plan) review() {
	p.reviews = map[types.NamespacedName]v1alpha1.ActivationReviewStatus{}
	requests := slices.SortedFunc(slices.Values(p.in.Reviews), func(a, b ReviewRequest) int {
		return cmp.Or(a.Made.Compare(b.Made), strings.Compare(a.Object.String(), b.Object.String()), strings.Compare(a.Activation.String(), b.Activation.String()))
	})
	for _, q := range requests {
		if r := p.records[q.Activation]; !q.Accepted.IsZero() && r.Review == nil && q.of(r) == nil {
			p.verdict(r, q.Review, q.Accepted)
		}
	}
	waiting := p.unreviewed()
	for _, key := range waiting {
		p.adoptReview(p.records[key], requests)
	}
	if !p.follows() && !p.restored() {
		for _, q := range requests {
			p.judge(q)
		}
	}
	for _, key := range waiting {
		p.overdue(p.records[key])
	}
}

// unreviewed are those that lack a review, or whose status says something of one,
// sorted.
func (p *Plan) unreviewed() (keys []types.NamespacedName) {
	for key, r := range p.records {
		if r.Unreviewed() || r.Final() && r.Review == nil && p.toldReview(r) != nil {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) })
	return keys
}

// verdict records a review. It counts once it is durable.
func (p *Plan) verdict(r Record, v Review, at time.Time) {
	v.At = at
	r.Review = &v
	p.fact(Reviewed, r)
}

// adoptReview takes over what the status of r says that this replica does not know:
// the verdict, in the words of its ActivationReview if that is still there, or that it
// is overdue.
func (p *Plan) adoptReview(r Record, requests []ReviewRequest) {
	s := p.toldReview(r)
	if s == nil || r.Review != nil {
		return
	}
	if r.ReviewDue.IsZero() && s.Due != nil {
		r.ReviewDue = s.Due.Time
		p.records[r.Key()] = r
	}
	switch {
	case s.State.Reviewed():
		v := Review{Verdict: strings.ToLower(string(s.State)), By: s.By, Source: "status"}
		for _, q := range requests {
			if q.Activation == r.Key() && q.Review.Verdict == v.Verdict && q.Review.By == v.By {
				v = q.Review
			}
		}
		at := p.in.Now
		if s.At != nil {
			at = s.At.Time
		}
		p.verdict(r, v, at)
	case s.State == v1alpha1.ReviewOverdue && r.Overdue.IsZero():
		r.Overdue = p.in.Now
		p.fact(Overdue, r)
	}
}

// overdue says that r has not been reviewed in time. Who follows leaves that to who
// leads: he may have seen a review that is not seen here yet.
func (p *Plan) overdue(r Record) {
	if r.Review != nil {
		return
	}
	if due := p.due(r); p.in.Now.Before(due) {
		p.wake(due)
		return
	}
	if r.Overdue.IsZero() && !p.follows() {
		r.Overdue = p.in.Now
		p.fact(Overdue, r)
	}
}

func (p *Plan) restored() bool { return p.in.Cluster != nil && p.in.Cluster.Restored }

// judge says what becomes of a review, and records it if it is the first that is
// good. Whose status says that it was accepted is not judged again.
func (p *Plan) judge(q ReviewRequest) {
	if !q.Accepted.IsZero() {
		return
	}
	key := q.Activation
	if v := p.in.Records[key].Review; v != nil && q.Object.Name != "" && v.Source == q.Review.Source && v.SourceUID == q.Review.SourceUID {
		p.reviews[q.Object] = v1alpha1.ActivationReviewStatus{AcceptedAt: micro(v.At), Conditions: accepted(nil)}
		return
	}
	r := p.records[key]
	if b := q.Unacceptable(r); b != nil {
		if p.in.Records[key].Review == nil && r.Review != nil {
			return // the first is being recorded; then it is known which it is
		}
		if q.Object.Name != "" {
			p.reviews[q.Object] = v1alpha1.ActivationReviewStatus{Conditions: accepted(b)}
		}
		return
	}
	p.verdict(r, q.Review, p.in.Now)
}

// of says why q is no review of r, which is zero if there is none. Nil: it is one.
func (q *ReviewRequest) of(r Record) *Blocked {
	switch name := quoted(q.Activation); {
	case r.Name == "":
		return &Blocked{ReviewNotFound, fmt.Sprintf("there is no Activation %s, and there was none: correct the name", name)}
	case q.UID != "" && r.UID != "" && string(r.UID) != q.UID:
		return &Blocked{ReviewNotFound, fmt.Sprintf("the Activation %s that was open has the uid %s, not %s: correct it, or leave it out", name, r.UID, q.UID)}
	case !r.Final():
		return &Blocked{ReviewNotEnded, fmt.Sprintf("the Activation %s has not ended: wait for its deadline, or revoke it; then make a new review", name)}
	case len(r.Targets) == 0:
		return &Blocked{ReviewNeverOpened, fmt.Sprintf("the Activation %s was never open (%s): there is nothing to review", name, r.Reason)}
	}
	return nil
}

// Unacceptable says why q may not be the verdict on r, which is zero if there is none.
// Nil: it may.
func (q *ReviewRequest) Unacceptable(r Record) *Blocked {
	if b := q.of(r); b != nil {
		return b
	}
	switch name := quoted(q.Activation); {
	case r.Review != nil:
		return &Blocked{ReviewAlready, fmt.Sprintf("the Activation %s was reviewed by %s at %s (%s), and a verdict stays: write what else there is to say into the incident",
			name, r.Review.By, at(r.Review.At), r.Review.Verdict)}
	case q.Early || !q.Made.IsZero() && q.Made.Before(r.EndedAt.Truncate(time.Second)):
		return &Blocked{ReviewNotEnded, fmt.Sprintf("this was made before the Activation %s ended at %s, so it cannot be about all of it: make a new review", name, at(r.EndedAt))}
	case r.RequestedBy == "":
		return &Blocked{ReviewActivatorless, fmt.Sprintf("who made the Activation %s is not on record, so nobody can tell whether you are somebody else: "+
			"write the verdict into the incident; if it keeps a role shut, set review.onOverdue: Alert in the EmergencyPolicy", name)}
	case q.Review.By == "":
		return &Blocked{ReviewDistrusted, cmp.Or(q.Doubt, "nobody can tell who reviews")}
	case SamePerson(r.RequestedBy, q.Review.By):
		return &Blocked{ReviewOwn, fmt.Sprintf("you (%s) made the Activation %s yourself (%s): somebody else has to review it", q.Review.By, name, r.RequestedBy)}
	case q.Doubt != "":
		return &Blocked{ReviewDistrusted, q.Doubt}
	}
	return nil
}

// reviewStatus is how the status tells of r's review: as it is on record.
func (p *Plan) reviewStatus(r Record) *v1alpha1.ReviewStatus {
	if !r.Final() {
		return nil
	}
	due, v := p.due(r), r.Review
	if v != nil {
		v = p.in.Records[r.Key()].Review // not what is only proposed
	}
	if v == nil && due.IsZero() {
		return nil
	}
	s := &v1alpha1.ReviewStatus{State: v1alpha1.ReviewPending, Due: micro(due)}
	switch {
	case v != nil:
		s.State, s.By, s.At = stateOf(v.Verdict), v.By, micro(v.At)
	case !r.Overdue.IsZero() || !p.in.Now.Before(due):
		s.State = v1alpha1.ReviewOverdue
	}
	return s
}

// stateOf is the verdict as the API has it.
func stateOf(verdict string) v1alpha1.ReviewState {
	for _, v := range []v1alpha1.Verdict{v1alpha1.VerdictDrill, v1alpha1.VerdictJustified, v1alpha1.VerdictMisuse} {
		if strings.EqualFold(string(v), verdict) {
			return v1alpha1.ReviewState(v)
		}
	}
	return v1alpha1.ReviewState(verdict)
}

// Reviews are what becomes of the ActivationReviews. Of one that is being recorded,
// or was accepted before, it says nothing.
func (p *Plan) Reviews() map[types.NamespacedName]v1alpha1.ActivationReviewStatus { return p.reviews }

// lacking says that the policy lets nothing new open for the role of r because the
// review of an activation of that role is overdue. An activation of which nobody can
// tell any more under which policy it was counts.
func (p *Plan) lacking(r Record, policy *Policy) *Blocked {
	if !policy.refusesOverdue() {
		return nil
	}
	var first *Record
	var since time.Time
	for key, other := range p.in.Records {
		if other.Spec.Role != r.Spec.Role || !other.Unreviewed() {
			continue
		}
		due := p.due(other)
		if p.in.Now.Before(due) && other.Overdue.IsZero() || !p.under(other, policy) && p.governed(other) {
			continue
		}
		if first == nil || due.Before(since) || due.Equal(since) && key.String() < first.Key().String() {
			first, since = &other, due
		}
	}
	if first == nil {
		return nil
	}
	return &Blocked{ReasonReviewOverdue, fmt.Sprintf("EmergencyPolicy %s opens nothing new for role %q while a review is overdue (review.onOverdue), and that of Activation %s is since %s: "+
		"have it reviewed by anybody but %s (breakglass review %s --verdict drill|justified|misuse --note '...'), then make a new Activation",
		policy.Name, r.Spec.Role, quoted(first.Key()), at(since), cmp.Or(first.RequestedBy, "who made it"), quoted(first.Key()))}
}

// governed reports whether some policy governs what r opened, as far as is known.
func (p *Plan) governed(r Record) bool {
	return slices.ContainsFunc(r.Spec.TargetRefs, func(t v1alpha1.TargetReference) bool {
		route := p.route(r, t)
		return route != nil && len(route.Policies) > 0
	})
}
