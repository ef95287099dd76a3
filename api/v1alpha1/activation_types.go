package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Activation breaks the glass: it opens the routes it names for one emergency
// role, from its start until its deadline, start <= t < deadline.
//
// The start is the API server's creationTimestamp; without a cluster, the
// durable record of the object's first sight. Time spent Pending counts. The
// deadline is the earliest of start + duration, notAfter and what policy and
// role allow; nothing moves it later. A namespace and name is spent once: an
// Activation that is made anew under a used name is Refused. Deleting an open
// one revokes it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=act,categories=breakglass
// +kubebuilder:printcolumn:name="ROUTE",type=string,JSONPath=`.spec.targetRefs[*].name`
// +kubebuilder:printcolumn:name="ROLE",type=string,JSONPath=`.spec.role`
// +kubebuilder:printcolumn:name="INCIDENT",type=string,JSONPath=`.spec.incident`
// +kubebuilder:printcolumn:name="PHASE",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="DEADLINE",type=string,JSONPath=`.status.deadline`
// +kubebuilder:printcolumn:name="REVIEW",type=string,JSONPath=`.status.review.state`
// +kubebuilder:printcolumn:name="REVIEWER",type=string,JSONPath=`.status.review.by`,priority=1
type Activation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ActivationSpec   `json:"spec"`
	Status ActivationStatus `json:"status,omitempty"`
}

// ActivationList is a list of Activation.
//
// +kubebuilder:object:root=true
type ActivationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Activation `json:"items"`
}

// ActivationSpec is the wanted state of an Activation. Only revoked may be
// changed, and only to true.
//
// +kubebuilder:validation:XValidation:rule="(has(self.drill) && self.drill) || has(self.incident)",message="spec.incident is required: name the incident this is for, or set spec.drill: true for a rehearsal"
// +kubebuilder:validation:XValidation:rule="self.targetRefs == oldSelf.targetRefs && self.role == oldSelf.role && self.reason == oldSelf.reason && has(self.incident) == has(oldSelf.incident) && (!has(self.incident) || self.incident == oldSelf.incident) && has(self.duration) == has(oldSelf.duration) && (!has(self.duration) || self.duration == oldSelf.duration) && has(self.notAfter) == has(oldSelf.notAfter) && (!has(self.notAfter) || self.notAfter == oldSelf.notAfter) && (has(self.drill) && self.drill) == (has(oldSelf.drill) && oldSelf.drill) && has(self.requestedBy) == has(oldSelf.requestedBy) && (!has(self.requestedBy) || self.requestedBy == oldSelf.requestedBy)",message="an Activation cannot be changed, only revoked (spec.revoked: true): make a new one under a new name"
// +kubebuilder:validation:XValidation:rule="!(has(oldSelf.revoked) && oldSelf.revoked) || (has(self.revoked) && self.revoked)",message="revocation is final: make a new Activation under a new name"
// +kubebuilder:validation:XValidation:rule="!has(self.revokedBy) || (has(self.revoked) && self.revoked)",message="spec.revokedBy goes with spec.revoked: true: leave it out"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.revokedBy) || (has(self.revokedBy) && self.revokedBy == oldSelf.revokedBy)",message="spec.revokedBy cannot be changed: leave it as it is"
type ActivationSpec struct {
	// TargetRefs name the routes to open, in the Activation's own namespace. Each
	// opens by itself, in this order. One that may not be opened (HeldByAnotherRole,
	// a limit, the role) makes the whole Activation Refused, for good, if none was
	// opened before it. Else the others stay open and it waits: it opens later,
	// until the same deadline, once nothing is against it any more, such as when
	// the Activation that held its route ends. Nobody is asked again: revoke the
	// Activation if that is no longer wanted.
	//
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, b.kind == a.kind && b.name == a.name && has(b.sectionName) == has(a.sectionName) && (!has(b.sectionName) || b.sectionName == a.sectionName)))",message="a target is named twice: remove one"
	TargetRefs []TargetReference `json:"targetRefs"`

	// Role is the emergency role, by its name in the EmergencyPolicy. A token
	// must hold it on every request.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Role string `json:"role"`

	// Reason, in words, for whoever reviews this after the incident.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('[^ \\\\t\\\\n\\\\r]')",message="say why, in words a reviewer can use"
	Reason string `json:"reason"`

	// Incident this is for, as the incident tracker names it. Required unless
	// drill is true.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Incident string `json:"incident,omitempty"`

	// Duration of the window. Default: the policy's defaultDuration. A duration
	// beyond what policy and role allow is cut to it.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="must be at least 1s"
	Duration *gwv1.Duration `json:"duration,omitempty"`

	// NotAfter is an absolute bound of the window.
	//
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`

	// Drill marks a rehearsal: no incident is needed and the policy's
	// drillMaxDuration applies. Nothing else differs.
	//
	// +optional
	Drill bool `json:"drill,omitempty"`

	// RequestedBy is who asked, as the API server or the control socket saw it.
	// What a client writes here is replaced or ignored.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	RequestedBy string `json:"requestedBy,omitempty"`

	// Revoked ends the window at once and for good.
	//
	// +optional
	Revoked bool `json:"revoked,omitempty"`

	// RevokedBy is who set revoked, as the API server saw it. What a client writes
	// here is replaced or ignored.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	RevokedBy string `json:"revokedBy,omitempty"`
}

// The kinds of routes.
const (
	KindHTTPRoute = "HTTPRoute"
	KindGRPCRoute = "GRPCRoute"
)

// TargetReference names a route, or one rule of it, in the Activation's
// namespace.
type TargetReference struct {
	// Group of the route.
	//
	// +optional
	// +kubebuilder:default="gateway.networking.k8s.io"
	// +kubebuilder:validation:Enum=gateway.networking.k8s.io
	Group string `json:"group,omitempty"`
	// Kind of the route. More kinds will come: treat an unknown one as not served.
	//
	// +optional
	// +kubebuilder:default=HTTPRoute
	// +kubebuilder:validation:Enum=HTTPRoute;GRPCRoute
	Kind string `json:"kind,omitempty"`
	// Name of the route.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// SectionName opens only the rule of this name (GEP-995). Default: all rules.
	//
	// +optional
	SectionName *gwv1.SectionName `json:"sectionName,omitempty"`
}

// Phase of an Activation. Live and Pending can still change; the others are
// final.
type Phase string

const (
	// PhasePending: accepted or not yet judged, and not served.
	PhasePending Phase = "Pending"
	// PhaseLive: open, and every target acknowledged by Envoy.
	PhaseLive Phase = "Live"
	// PhaseExpired: the deadline has passed.
	PhaseExpired Phase = "Expired"
	// PhaseRevoked: closed before its deadline.
	PhaseRevoked Phase = "Revoked"
	// PhaseRefused: never opened, and never will be.
	PhaseRefused Phase = "Refused"
)

// Final reports whether an Activation in this phase can never open again.
func (p Phase) Final() bool {
	return p == PhaseExpired || p == PhaseRevoked || p == PhaseRefused
}

// ActivationStatus is the observed state of an Activation.
type ActivationStatus struct {
	// Phase in one word.
	//
	// +optional
	Phase Phase `json:"phase,omitempty"`
	// RequestedBy is who asked, as the backend saw it.
	//
	// +optional
	RequestedBy string `json:"requestedBy,omitempty"`
	// OpenedAt is when the first target was opened.
	//
	// +optional
	OpenedAt *metav1.MicroTime `json:"openedAt,omitempty"`
	// LiveAt is when Envoy had acknowledged all targets for the first time.
	//
	// +optional
	LiveAt *metav1.MicroTime `json:"liveAt,omitempty"`
	// EndedAt is when it became Expired, Revoked or Refused.
	//
	// +optional
	EndedAt *metav1.MicroTime `json:"endedAt,omitempty"`
	// Deadline is when the window closes, or closed.
	//
	// +optional
	Deadline *metav1.MicroTime `json:"deadline,omitempty"`
	// Review of it, once it has ended. Not set: it needs none, for it never opened, or
	// ended before reviews were asked for.
	//
	// +optional
	Review *ReviewStatus `json:"review,omitempty"`
	// URLs that answer while the window is open.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	URLs []string `json:"urls,omitempty"`
	// Targets: one entry per targetRef, in order.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Targets []TargetStatus `json:"targets,omitempty"`
	// Conditions: Accepted, Live.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ReviewState is where the review of an Activation is: it is waited for, or its verdict.
//
// +kubebuilder:validation:Enum=Pending;Overdue;Drill;Justified;Misuse
type ReviewState string

const (
	// ReviewPending: there is none yet, and there is time.
	ReviewPending ReviewState = "Pending"
	// ReviewOverdue: there is none, and there should be.
	ReviewOverdue ReviewState = "Overdue"
)

// Reviewed reports whether there is a verdict.
func (s ReviewState) Reviewed() bool { return s != "" && s != ReviewPending && s != ReviewOverdue }

// ReviewStatus is the review of an Activation.
type ReviewStatus struct {
	// State: Pending or Overdue, or the verdict: Drill, Justified, Misuse.
	State ReviewState `json:"state"`
	// By whom, as the API server or the control socket saw it.
	//
	// +optional
	By string `json:"by,omitempty"`
	// At is when it was recorded.
	//
	// +optional
	At *metav1.MicroTime `json:"at,omitempty"`
	// Due is until when it is asked for.
	//
	// +optional
	Due *metav1.MicroTime `json:"due,omitempty"`
}

// TargetStatus is the state of one targetRef.
type TargetStatus struct {
	TargetReference `json:",inline"`
	// Phase of this target.
	Phase Phase `json:"phase"`
	// Reason, one CamelCase word.
	//
	// +optional
	Reason string `json:"reason,omitempty"`
	// Message for people.
	//
	// +optional
	Message string `json:"message,omitempty"`
	// Opening, once the target was opened.
	//
	// +optional
	Opening *Opening `json:"opening,omitempty"`
}

// Opening is what a target was opened as. In a cluster it is the common memory of
// the controller's replicas: each serves what this says, and none opens anew what
// was opened before.
type Opening struct {
	// Digest of the route's spec when it was opened. Another spec takes another
	// Activation.
	//
	// +kubebuilder:validation:MaxLength=64
	Digest string `json:"digest"`
	// At is when it was opened.
	At metav1.MicroTime `json:"at"`
	// EndedAt is when it ended, if it did before its Activation.
	//
	// +optional
	EndedAt *metav1.MicroTime `json:"endedAt,omitempty"`
	// Leases that the streams of each opened rule belong to.
	//
	// +listType=map
	// +listMapKey=rule
	// +kubebuilder:validation:MaxItems=16
	Leases []OpeningLease `json:"leases"`
}

// OpeningLease is the lease of one rule.
type OpeningLease struct {
	// Rule of the route.
	//
	// +kubebuilder:validation:MaxLength=64
	Rule string `json:"rule"`
	// Name of the lease.
	//
	// +kubebuilder:validation:MaxLength=64
	Name string `json:"name"`
}

// Condition types and reasons of breakglass.dev.
const (
	// ConditionAccepted on an EmergencyPolicy or Activation.
	ConditionAccepted = "Accepted"
	// ConditionResolvedRefs on an EmergencyPolicy: every issuer has usable keys.
	ConditionResolvedRefs = "ResolvedRefs"
	// ConditionAlarmsDelivered is False on a policy while nobody is told of what
	// happens under it, and is not there otherwise.
	ConditionAlarmsDelivered = "AlarmsDelivered"
	// ConditionLive on an Activation.
	ConditionLive = "Live"
	// ConditionRouteLive on a route's parent: is it served now, and if not why not.
	ConditionRouteLive = "breakglass.dev/Live"
)
