// Package translator turns objects, facts on record and a time into what each
// Gateway's Envoy should have, the status of every object, the facts to
// record, and the next instant at which any of that changes by time alone.
//
// It is pure: no I/O, no clock, no globals that change. Config and status come
// out of the same call, so they cannot disagree. What it cannot resolve it
// leaves out and says so; it never guesses towards open.
package translator

import (
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
	"github.com/breakglass-gateway/breakglass-gateway/internal/objects"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// Objects is the configuration.
type Objects = objects.Objects

// Input is everything a translation depends on.
type Input struct {
	Objects
	Now time.Time
	// ClockBehind is how far the clock that Envoy reads is behind Now. Deadlines
	// are written for Envoy's clock.
	ClockBehind time.Duration
	// FirstStart, Seen and what follows: see activation.Input.
	FirstStart  bool
	Seen        map[types.NamespacedName]time.Time
	RequestedBy map[types.NamespacedName]string
	Requests    map[types.NamespacedName]activation.Record
	Records     map[types.NamespacedName]activation.Record
	Revocations map[types.NamespacedName]activation.Revocation
	Reviews     []activation.ReviewRequest
	// AuditFailing says, for people, why the audit log cannot be kept now; "": it
	// can. While it is set nothing is open under a policy whose audit.onFailure is
	// Refuse, nothing opens under any, and no opening is proposed. Nothing
	// ends because of it: its activations are Pending, and are served again once
	// it is cleared.
	AuditFailing string
	// AuditPending says, for people, that it is not known yet whether the audit log
	// can be kept, which is being opened; "": it is known. While it is set nothing
	// opens and no opening is proposed; what is open is served.
	AuditPending string
	// NobodyIsTold says, for people, why nobody hears of alarms; "": somebody does. It
	// is told in statuses, and changes nothing else.
	NobodyIsTold string
	// RemoteKeys are the fetched key sets, by policy and issuer.
	RemoteKeys map[jwks.Key]jwks.Result
	// Cluster, if the objects are those of one. Nil: they are not.
	Cluster *Cluster
	// Delivery is what each Gateway's Envoy has acknowledged. A missing entry:
	// nothing.
	Delivery map[types.NamespacedName]snapshot.Delivery
}

// Gateway is what one Gateway's Envoy should have.
type Gateway struct {
	Snapshot *snapshot.Snapshot
	// Ports of the listeners that are accepted, also those of its ListenerSets, sorted.
	Ports []int32
	// LastDeadline is until when it can serve anything. Zero: nothing is open.
	LastDeadline time.Time
	// Unrecorded: its policy lets it serve while the audit log cannot be kept.
	Unrecorded bool
}

// Statuses of every object, each by its key.
type Statuses struct {
	GatewayClasses map[string]gwv1.GatewayClassStatus
	Gateways       map[types.NamespacedName]gwv1.GatewayStatus
	ListenerSets   map[types.NamespacedName]gwv1.ListenerSetStatus
	Routes         map[activation.RouteKey]gwv1.RouteStatus
	// BackendTLSPolicies are those that a route of ours has to do with.
	BackendTLSPolicies map[types.NamespacedName]gwv1.PolicyStatus
	Policies           map[string]v1alpha1.EmergencyPolicyStatus
	Activations        map[types.NamespacedName]v1alpha1.ActivationStatus
	// Reviews are the ActivationReviews of which there is something to say.
	Reviews map[types.NamespacedName]v1alpha1.ActivationReviewStatus
}

// IssuerKeys tells what is known of an issuer's keys.
type IssuerKeys struct {
	Name string
	Keys int
	// Digest of the keys in use, "" for none.
	Digest  string
	Error   string
	Offline bool
	Stale   bool
}

// Result is what a translation yields.
type Result struct {
	// Gateways that should have an Envoy.
	Gateways map[types.NamespacedName]*Gateway
	Statuses Statuses
	// Facts to record, in order. See activation.Fact.
	Facts []activation.Fact
	// Issuers of each policy, in the order of its spec.
	Issuers map[string][]IssuerKeys
	// Served are the leases that the Envoys of this replica have, in a cluster.
	Served map[string]bool
	// Records as they are after the facts.
	Records map[types.NamespacedName]activation.Record
	// Next is when to translate again if nothing else happens. Zero: no need.
	Next time.Time
}

// Translator translates again and again. It remembers its last translation and
// does anew what depends on something that is another now, so that a change of one
// route among thousands costs what that route costs. Its answers are those of
// Translate. It is not for concurrent use. The maps and objects of an Input must
// not change after they were handed over: the same pointer is taken for the same
// content.
type Translator struct{ state state }

// Translate does it all, remembering what comes of it.
func (t *Translator) Translate(in Input) *Result { return t.state.translate(in) }

// Translate does it all, from nothing.
func Translate(in Input) *Result { return new(Translator).Translate(in) }

// state is what a translation leaves to the next, and one in progress: each step
// reads what the steps before it have left, and nothing else.
type state struct {
	// Kept. Every field is made of in alone; what is not stale needs no work.
	frame
	routes map[activation.RouteKey]*route
	tls    tlsPolicies
	slices map[types.NamespacedName][]*discoveryv1.EndpointSlice // by Service
	users  map[types.NamespacedName]map[activation.RouteKey]bool // of a Service: the routes that name it
	watch  map[*scope]bool                                       // open, or refused by Envoy, when last looked at
	lively map[activation.RouteKey]bool                          // routes whose status said so
	known  map[activation.RouteKey]gwv1.RouteStatus              // published: copied before a change
	was    Input                                                 // of the translation before

	// Of this translation.
	in       Input
	touched  map[activation.RouteKey]bool // routes that were resolved anew
	scopes   map[*scope]bool              // to look at
	plan     *activation.Plan
	excluded map[activation.RouteKey]string // routes that Envoy refused, and why
	out      *Result
}

func (s *state) translate(in Input) *Result {
	s.in, s.touched, s.scopes = in, map[activation.RouteKey]bool{}, map[*scope]bool{}
	s.excluded = map[activation.RouteKey]string{}
	s.out = &Result{Gateways: make(map[types.NamespacedName]*Gateway, len(s.gateways)), Served: map[string]bool{}}
	anew := s.resolveFrame()
	s.wake(s.until)
	s.resolveRoutes(anew)
	s.decide()
	s.findScopes()
	for _, g := range s.gateways {
		s.build(g)
	}
	s.out.Statuses.Activations = s.plan.Complete(s.served)
	s.out.Statuses.Reviews = s.plan.Reviews()
	s.out.Facts = s.plan.Facts
	s.out.Records = s.plan.Records()
	s.out.Issuers = s.issuers
	s.wake(s.plan.Next)
	s.writeStatuses()
	s.was = in
	return s.out
}

func (s *state) wake(t time.Time) {
	if !t.IsZero() && (s.out.Next.IsZero() || t.Before(s.out.Next)) {
		s.out.Next = t
	}
}

// forEnvoy is t on the clock that Envoy reads.
func (s *state) forEnvoy(t time.Time) time.Time { return t.Add(-s.in.ClockBehind) }
