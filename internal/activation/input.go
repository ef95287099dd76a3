package activation

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// Input is all that a decision depends on.
type Input struct {
	Now time.Time
	// FirstStart: the data directory was empty when this process started, so
	// nothing is known of what these objects did before.
	FirstStart bool
	// Objects are the Activations in the configuration.
	Objects map[types.NamespacedName]*v1alpha1.Activation
	// Requests that came by other ways than objects, and are not on record yet.
	Requests map[types.NamespacedName]Record
	// Seen is when objects that are not on record yet were seen first.
	Seen map[types.NamespacedName]time.Time
	// RequestedBy is who the backend saw ask for an object.
	RequestedBy map[types.NamespacedName]string
	// Records are the facts on record.
	Records map[types.NamespacedName]Record
	// Revocations that were asked for by other ways than objects.
	Revocations map[types.NamespacedName]Revocation
	// Reviews that were made, on record or not.
	Reviews []ReviewRequest
	// AuditFailing says, for people, why the audit log cannot be kept now. "": it
	// can. While it is set no opening is proposed, and what is open under a policy
	// that refuses is no Window; but no record ends because of it, and the time of
	// what waits runs.
	AuditFailing string
	// Cluster, if the objects are those of one. Nil: they are not.
	Cluster *Cluster
	// AuditPending says, for people, that it is not known yet whether the audit log
	// can be kept, which is being opened. Nothing opens meanwhile, and what is open
	// stays open. "": it is known.
	AuditPending string
	// Route finds a target. Nil: there is none.
	Route func(RouteKey) *Route
}

// Cluster is what differs where several replicas decide together. What they have
// in common is the status of the Activations.
type Cluster struct {
	// Follow: another replica decides what opens. This one opens what it has opened.
	Follow bool
	// Restored: the objects are those of some time before, because nobody can be asked
	// now. One that is not among them may be there all the same.
	Restored bool
	// Refusing says, for people, why this replica opens nothing now. "": it does.
	Refusing string
	// Distrusted are the Activations of which it is not sure who made them or
	// whether he may, and why.
	Distrusted map[types.NamespacedName]string
}

// WindowKey names what is opened: one rule of one route.
type WindowKey struct {
	Route RouteKey
	Rule  string
}

// Window is an open rule: for which role, until when, because of whom.
type Window struct {
	Policy   *Policy
	Role     *v1alpha1.Role
	Opening  string
	Deadline time.Time
	// Activations that cover it, namespace/name, and their incidents, both sorted.
	Activations []string
	Incidents   []string
}

// Plan is a decision.
type Plan struct {
	// Windows that are open now: durably opened, and nothing against it.
	Windows map[WindowKey]*Window
	// Withheld are the routes that would be open if the audit log could be kept.
	Withheld map[RouteKey]Blocked
	// Facts to record, in order.
	Facts []Fact
	// Next is the next instant at which the answer changes by time alone. Zero: none.
	Next time.Time

	in       Input
	records  map[types.NamespacedName]Record
	blocked  map[types.NamespacedName]map[string]Blocked
	routes   map[RouteKey]*Route
	ordering []types.NamespacedName
	over     []types.NamespacedName // those that open nothing any more
	reviews  map[types.NamespacedName]v1alpha1.ActivationReviewStatus
}
