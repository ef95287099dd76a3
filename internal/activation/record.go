// Package activation decides which routes are open for whom, until when.
//
// It is pure: a function of the Activation objects, the facts on record, the
// routes and policies as the translator sees them, and a time. It opens
// nothing by itself. It proposes facts; a fact that opens counts only after it
// has been recorded durably and comes back as a Record. A fact that closes is
// already true when it is proposed: recording it is for the log and for the
// next start.
//
// The window of an activation is [start, deadline): it is open at start and
// closed at the deadline itself.
package activation

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// Origin says where an activation came from.
type Origin string

const (
	// Manifest activations live and die with an object in the configuration.
	Manifest Origin = "manifest"
	// Control activations were asked for over the control socket; their record
	// is all there is of them.
	Control Origin = "control"
)

// Record is all that is durably known of one activation. The newest record of
// a name replaces the older ones.
type Record struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Origin    Origin `json:"origin"`
	// UID of the object, where objects have one.
	UID types.UID `json:"uid,omitempty"`
	// Spec as first seen. It holds whatever the object says later, but for
	// revoked.
	Spec        v1alpha1.ActivationSpec `json:"spec"`
	RequestedBy string                  `json:"requestedBy,omitempty"`
	// Start is the durable first sight.
	Start time.Time `json:"start"`
	// Deadline is the earliest that ever held. It never moves later.
	Deadline time.Time `json:"deadline"`
	// Targets by TargetKey.
	Targets map[string]Target `json:"targets,omitempty"`
	// LiveAt is when Envoy first acknowledged all targets. Zero: never.
	LiveAt time.Time `json:"liveAt,omitzero"`
	// Phase, once final; empty before.
	Phase   v1alpha1.Phase `json:"phase,omitempty"`
	Reason  string         `json:"reason,omitempty"`
	Message string         `json:"message,omitempty"`
	EndedAt time.Time      `json:"endedAt,omitzero"`
	// EndedBy is who revoked it; empty when nobody did, or the object says no more.
	EndedBy string `json:"endedBy,omitempty"`
	// Removed: the object went away after the end. Its name stays spent.
	Removed bool `json:"removed,omitempty"`
	// ReviewDue is until when it is to be reviewed. Zero: it need not be, for it was
	// never open, or ended in a version that did not ask for reviews.
	ReviewDue time.Time `json:"reviewDue,omitzero"`
	// Overdue is when it was noted that this has passed without a review.
	Overdue time.Time `json:"overdue,omitzero"`
	// Review, once there is one. It stays.
	Review *Review `json:"review,omitempty"`
}

// Target is what is durably known of one target of an activation.
type Target struct {
	// Route that was opened, as RouteKey.Ref has it.
	Route string `json:"route"`
	// Digest of the route's spec when it was opened. Another spec is another
	// route: it takes another activation.
	Digest string `json:"digest"`
	// Openings by rule: the lease that the rule's streams belong to.
	Openings map[string]string `json:"openings"`
	OpenedAt time.Time         `json:"openedAt"`
	EndedAt  time.Time         `json:"endedAt,omitzero"`
	Reason   string            `json:"reason,omitempty"`
	Message  string            `json:"message,omitempty"`
}

// Key of the activation.
func (r Record) Key() types.NamespacedName {
	return types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
}

// Final reports whether the activation has ended for good.
func (r Record) Final() bool { return r.Phase.Final() }

// openedAt is when the first target was opened.
func (r Record) openedAt() time.Time {
	var first time.Time
	for _, t := range r.Targets {
		if first.IsZero() || t.OpenedAt.Before(first) {
			first = t.OpenedAt
		}
	}
	return first
}

// clone copies r so that the copy's maps can be written.
func (r Record) clone() Record {
	targets := make(map[string]Target, len(r.Targets))
	for k, t := range r.Targets {
		targets[k] = t
	}
	r.Targets = targets
	return r
}

// Revocation is somebody's wish to end an activation.
type Revocation struct{ By, Reason string }

// Event is what happened to an activation.
type Event string

// The events, in the order in which they can happen.
const (
	Requested Event = "requested"
	Opened    Event = "opened"
	Live      Event = "live"
	Shortened Event = "shortened"
	Withdrawn Event = "withdrawn" // one target ended, others go on
	Refused   Event = "refused"
	Revoked   Event = "revoked"
	Expired   Event = "expired"
	NeverLive Event = "neverLive"
	Removed   Event = "removed"
	Overdue   Event = "overdue"  // it should have been reviewed by now
	Reviewed  Event = "reviewed" // somebody has given his verdict
)

// Fact is an event and the record that results from it.
type Fact struct {
	Event  Event     `json:"event"`
	Time   time.Time `json:"time"`
	Record Record    `json:"record"`
}

// Opens reports whether f may take effect only once it is durable. Any other
// fact is true whether or not it can be recorded. A review opens nothing, but may
// let something open later, and its author was told that it is on record.
func (f Fact) Opens() bool {
	return f.Event == Requested || f.Event == Opened || f.Event == Reviewed
}

// Who is who caused it, as far as is known.
func (f Fact) Who() string {
	if f.Event == Reviewed && f.Record.Review != nil {
		return f.Record.Review.By
	}
	if f.Event == Revoked && f.Record.EndedBy != "" {
		return f.Record.EndedBy
	}
	return f.Record.RequestedBy
}

// Words say why or until when, for people.
func (f Fact) Words() string {
	switch r := f.Record; {
	case f.Event == Reviewed && r.Review != nil:
		return r.Review.words()
	case f.Event == Overdue:
		return "no review until " + at(r.ReviewDue)
	case r.Message != "":
		return r.Message
	case f.Event == Requested:
		return r.Spec.Reason
	case f.Event == Opened, f.Event == Live:
		return "until " + r.Deadline.UTC().Format("15:04:05.000Z")
	}
	return ""
}

// TargetKey names a target within its activation.
func TargetKey(t v1alpha1.TargetReference) string {
	k := t.Kind + "/" + t.Name
	if t.SectionName != nil {
		k += ":" + string(*t.SectionName)
	}
	return k
}

// Digest is a hash of v's JSON.
func Digest(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		// Only unsupported Go types fail here, and then every call would.
		panic(err)
	}
	return digest(string(b))
}

func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:10])
}
