package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// EmergencyPolicy says who may come in through an emergency GatewayClass, and
// within which limits.
//
// Writing an EmergencyPolicy is total control of the emergency door: whoever
// can edit one can name a key of his own as an issuer and a role that reaches
// every dormant route. Guard it like cluster-admin. Every change is recorded.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=epol,categories=breakglass
// +kubebuilder:printcolumn:name="SUSPENDED",type=boolean,JSONPath=`.spec.suspended`
// +kubebuilder:printcolumn:name="ACCEPTED",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="AGE",type=date,JSONPath=`.metadata.creationTimestamp`
type EmergencyPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   EmergencyPolicySpec   `json:"spec"`
	Status EmergencyPolicyStatus `json:"status,omitempty"`
}

// EmergencyPolicyList is a list of EmergencyPolicy.
//
// +kubebuilder:object:root=true
type EmergencyPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EmergencyPolicy `json:"items"`
}

// EmergencyPolicySpec is the wanted state of an EmergencyPolicy.
//
// +kubebuilder:validation:XValidation:rule="self.roles.all(r, r.grants.all(g, self.issuers.exists(i, i.name == g.issuer)))",message="every grant must name an issuer of this policy: add it to spec.issuers or correct spec.roles[].grants[].issuer"
// +kubebuilder:validation:XValidation:rule="self.issuers.all(a, self.issuers.exists_one(b, b.issuer == a.issuer))",message="two issuers share one issuer URL: a token's iss must name exactly one entry of spec.issuers; merge their keys into one jwks"
type EmergencyPolicySpec struct {
	// Issuers sign the tokens that are accepted. At least one, at most 8.
	//
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Issuers []Issuer `json:"issuers"`

	// Roles are the emergency roles. An Activation opens a route for exactly one.
	//
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Roles []Role `json:"roles"`

	// Limits bound how long, how many and how often.
	//
	// +optional
	// +kubebuilder:default={}
	Limits Limits `json:"limits,omitzero"`

	// Scope holds the least-privilege rules for routes. Each is strict until it
	// is relaxed by name.
	//
	// +optional
	// +kubebuilder:default={}
	Scope Scope `json:"scope,omitzero"`

	// Requests bounds how many requests clients may make of one listener, so that a flood neither
	// keeps others out nor fills the audit log.
	//
	// +optional
	// +kubebuilder:default={}
	Requests Requests `json:"requests,omitzero"`

	// Audit says what happens while the audit log cannot be kept.
	//
	// +optional
	// +kubebuilder:default={}
	Audit Audit `json:"audit,omitzero"`

	// Review says until when an Activation that has ended must be reviewed, and what
	// happens if it is not. Every one that was open needs a review, drills included,
	// also under a policy that says nothing here: within 72h, or it is an alert.
	//
	// +optional
	Review Review `json:"review,omitzero"`

	// Suspended is the panic button. While true nothing is open and nothing can
	// be opened. What was open when it was pressed is Revoked and stays so after
	// it is released: opening again takes a new Activation.
	//
	// +optional
	Suspended bool `json:"suspended,omitempty"`
}

// Algorithm is a JWS signature algorithm (RFC 7518 section 3.1, RFC 8037). Only
// asymmetric ones exist here: a shared secret is a static credential.
//
// +kubebuilder:validation:Enum=RS256;RS384;RS512;PS256;PS384;PS512;ES256;ES384;ES512;EdDSA
type Algorithm string

// Issuer is a signer of tokens.
type Issuer struct {
	// Name is how grants refer to this issuer.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// Issuer is the exact value of the token's iss claim (RFC 7519 section 4.1.1).
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Issuer string `json:"issuer"`

	// Audiences: the token's aud claim must hold at least one of these.
	//
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	Audiences []string `json:"audiences"`

	// Algorithms that are accepted from this issuer. A key of the key set that
	// fits none of them is not used.
	//
	// +optional
	// +listType=set
	// +kubebuilder:default={RS256,ES256,EdDSA}
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=10
	Algorithms []Algorithm `json:"algorithms,omitempty"`

	// MaxTokenLifetime bounds exp - iat of a token, both of which it must carry.
	// Default 1h, at least 1s, at most 24h.
	//
	// +optional
	// +kubebuilder:default="1h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="must be between 1s and 24h"
	MaxTokenLifetime *gwv1.Duration `json:"maxTokenLifetime,omitempty"`

	// Offline marks an issuer whose signing key this team itself holds, for the
	// day the identity provider is down. Its use is worth an alarm.
	//
	// +optional
	Offline bool `json:"offline,omitempty"`

	// JWKS is where the public keys come from.
	JWKS JWKSSource `json:"jwks"`
}

// JWKSSource is where a JSON Web Key Set (RFC 7517) comes from: exactly one of
// its fields.
//
// +kubebuilder:validation:XValidation:rule="[has(self.inline), has(self.remote), has(self.secretRef), has(self.configMapRef)].filter(x, x).size() == 1",message="set exactly one of inline, remote, secretRef and configMapRef"
type JWKSSource struct {
	// Inline is the key set as JSON text. Public keys only.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=65536
	Inline *string `json:"inline,omitempty"`

	// Remote is fetched by the control plane, never by Envoy and never while a
	// request waits.
	//
	// +optional
	Remote *RemoteJWKS `json:"remote,omitempty"`

	// SecretRef names a Secret that holds the key set.
	//
	// +optional
	SecretRef *KeySetReference `json:"secretRef,omitempty"`

	// ConfigMapRef names a ConfigMap that holds the key set.
	//
	// +optional
	ConfigMapRef *KeySetReference `json:"configMapRef,omitempty"`
}

// KeySetReference names one key of a Secret or ConfigMap.
type KeySetReference struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Key within data. Default jwks.json.
	//
	// +optional
	// +kubebuilder:default="jwks.json"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// RemoteJWKS is a key set served over HTTPS. Redirects are not followed. The
// response is bounded to 64 KiB. The last good answer is kept on disk and used
// up to MaxStale after it was fetched, so that an outage of the identity
// provider locks nobody out.
type RemoteJWKS struct {
	// URI of the key set.
	//
	// +kubebuilder:validation:Pattern=`^https://[^/?#@]+(/[^#]*)?$`
	// +kubebuilder:validation:MaxLength=2048
	URI string `json:"uri"`

	// CACertificates, PEM, replace the system's trust store for this URI.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=65536
	CACertificates *string `json:"caCertificates,omitempty"`

	// RefreshInterval between fetches. Default 5m, at least 1s.
	//
	// +optional
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="must be at least 1s"
	RefreshInterval *gwv1.Duration `json:"refreshInterval,omitempty"`

	// Timeout of one fetch, everything included. Default 5s, at most 30s.
	//
	// +optional
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('100ms') && duration(self) <= duration('30s')",message="must be between 100ms and 30s"
	Timeout *gwv1.Duration `json:"timeout,omitempty"`

	// MaxStale is how long after the last good fetch the keys are still used.
	// Default 24h.
	//
	// +optional
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="must be at least 1s"
	MaxStale *gwv1.Duration `json:"maxStale,omitempty"`

	// AllowLocalTargets permits a URI whose host is, or resolves to, a loopback or
	// link-local address. Such targets are otherwise refused, because a policy
	// could use them to read services that only this host reaches.
	//
	// +optional
	AllowLocalTargets bool `json:"allowLocalTargets,omitempty"`
}

// Role is an emergency role: who holds it, and what it may open.
type Role struct {
	// Name of the role.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// Grants: a token holds the role if any of these fits it.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Grants []Grant `json:"grants"`

	// MaxDuration of an activation with this role. The policy's limits apply too.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="must be at least 1s"
	MaxDuration *gwv1.Duration `json:"maxDuration,omitempty"`

	// Hostnames this role may open. A wildcard label covers what it would in a
	// Listener. Empty: any.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	Hostnames []gwv1.Hostname `json:"hostnames,omitempty"`

	// Namespaces whose routes this role may open. Empty: any.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	Namespaces []string `json:"namespaces,omitempty"`
}

// Grant fits a token that this issuer signed and that has all of the claims.
type Grant struct {
	// Issuer names an entry of spec.issuers.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Issuer string `json:"issuer"`

	// Claims the token must have, all of them. At least one: there is no
	// anonymous role.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Claims []ClaimMatch `json:"claims"`
}

// ClaimMatch fits a claim that is one of the strings in AnyOf, or a list that
// holds one of them.
type ClaimMatch struct {
	// Path to the claim, one element per level: [realm_access, roles].
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	Path []string `json:"path"`

	// AnyOf are the accepted values, compared exactly.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	AnyOf []string `json:"anyOf"`
}

// Limits bound how long, how many and how often.
//
// +kubebuilder:validation:XValidation:rule="!has(self.defaultDuration) || !has(self.maxDuration) || duration(self.defaultDuration) <= duration(self.maxDuration)",message="defaultDuration must not exceed maxDuration"
type Limits struct {
	// DefaultDuration of an activation that names none. Default 15m.
	//
	// +optional
	// +kubebuilder:default="15m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="must be at least 1s"
	DefaultDuration *gwv1.Duration `json:"defaultDuration,omitempty"`

	// MaxDuration of any activation. A longer one is cut to it. Default 4h, at
	// most 24h.
	//
	// +optional
	// +kubebuilder:default="4h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="must be between 1s and 24h"
	MaxDuration *gwv1.Duration `json:"maxDuration,omitempty"`

	// DrillMaxDuration of an activation with drill: true. Default 15m.
	//
	// +optional
	// +kubebuilder:default="15m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="must be between 1s and 24h"
	DrillMaxDuration *gwv1.Duration `json:"drillMaxDuration,omitempty"`

	// MaxOpen activations at one time under this policy. Default 16.
	//
	// +optional
	// +kubebuilder:default=16
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	MaxOpen *int32 `json:"maxOpen,omitempty"`

	// MaxPerDay activations of one route that open within any 24 hours. Chained
	// activations are a standing door. Default 24.
	//
	// +optional
	// +kubebuilder:default=24
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	MaxPerDay *int32 `json:"maxPerDay,omitempty"`

	// RequireNotAfter refuses an activation without notAfter.
	//
	// +optional
	RequireNotAfter bool `json:"requireNotAfter,omitempty"`
}

// Scope holds the least-privilege rules for routes. All are strict by default.
type Scope struct {
	// AllowWildcardHostnames: a route may serve wildcard hostnames, or all of a
	// listener's.
	//
	// +optional
	AllowWildcardHostnames bool `json:"allowWildcardHostnames,omitempty"`
	// AllowCatchAllPath: a match may cover every path (prefix /).
	//
	// +optional
	AllowCatchAllPath bool `json:"allowCatchAllPath,omitempty"`
	// AllowAnyMethod: a match need not name its method.
	//
	// +optional
	AllowAnyMethod bool `json:"allowAnyMethod,omitempty"`
	// AllowUnlabelled: a route need not carry the label breakglass.dev/role.
	//
	// +optional
	AllowUnlabelled bool `json:"allowUnlabelled,omitempty"`
	// AllowPlainHTTP: an HTTP listener may be bound to an address that is not
	// loopback. Tokens then cross the network in the clear.
	//
	// +optional
	AllowPlainHTTP bool `json:"allowPlainHTTP,omitempty"`
	// MaxRules of a route. Default 8.
	//
	// +optional
	// +kubebuilder:default=8
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16
	MaxRules *int32 `json:"maxRules,omitempty"`
}

// Requests bounds how many requests clients may make of one listener: each counts
// for itself. What is above is answered with 429 and Retry-After, reaches nothing,
// and is in the audit log as a number. A request counts as one with a token by its Authorization
// header; whether the token is good is seen later.
//
// A change takes effect at once, cuts no stream and begins to count anew.
type Requests struct {
	// WithToken is for each client address (of IPv6, its first 64 bits), for
	// requests with a token. Think of everybody behind one NAT, and of dashboards.
	// Default 1000 a second, bursts of 5000.
	//
	// +optional
	// +kubebuilder:default={perSecond: 1000, burst: 5000}
	WithToken *Rate `json:"withToken,omitempty"`
	// WithoutToken is for each client address, for requests without a token.
	// Default 10 a second, bursts of 100.
	//
	// +optional
	// +kubebuilder:default={perSecond: 10, burst: 100}
	WithoutToken *Rate `json:"withoutToken,omitempty"`
	// AllWithoutToken is for all clients of a listener together, for requests
	// without a token.
	// Default 200 a second, bursts of 1000.
	//
	// +optional
	// +kubebuilder:default={perSecond: 200, burst: 1000}
	AllWithoutToken *Rate `json:"allWithoutToken,omitempty"`
}

// Rate is a token bucket: Burst requests at once, and PerSecond from then on.
//
// +kubebuilder:validation:XValidation:rule="self.burst >= self.perSecond",message="burst must be at least perSecond"
type Rate struct {
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	PerSecond int32 `json:"perSecond"`
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000000
	Burst int32 `json:"burst"`
}

// Audit says what happens while the audit log cannot be kept: its disk is full,
// it cannot be written, or Envoy cannot write its own record of requests.
//
// Whatever is chosen here, nothing opens meanwhile: an activation opens only
// after its own entry is durable. It waits, Pending with reason AuditFailing,
// and opens by itself once entries can be kept again, unless its window has
// passed by then. And nothing waits with closing: deadlines, revocations and
// suspended take effect as ever, and are recorded later.
type Audit struct {
	// Mode says what must be durable when a request is forwarded. Default Standard.
	//
	// Standard: a request has its entry when it has ended. Should Envoy and who keeps
	// the log be killed in that moment, the log says that something may be missing,
	// not what.
	//
	// Strict: audit before act. A request that has passed every lock is forwarded once
	// an entry of who asks for what is on the disk. Where that cannot be had within 0.25 s it
	// is answered with 503 and reaches nothing, whatever onFailure says. Each request
	// waits for the disk.
	//
	// A change holds from the next request on, and cuts no stream.
	//
	// +optional
	// +kubebuilder:default=Standard
	Mode AuditMode `json:"mode,omitempty"`

	// OnFailure is what happens to what is open while the audit log cannot be
	// kept. Default Refuse.
	//
	// Refuse: no record, no door. Everything open under this policy is closed,
	// exactly like outside its window: requests get a 404, and open streams are
	// cut. The activations do not end: they are Pending with reason AuditFailing,
	// keep their deadlines, and are served again, if those have not passed, once
	// entries can be kept again.
	//
	// Degrade: what is open stays open until its deadline, and requests are
	// served although their entries may be lost. The log then shows that there is
	// a gap, not what was done in it.
	//
	// +optional
	// +kubebuilder:default=Refuse
	OnFailure AuditFailurePolicy `json:"onFailure,omitempty"`
}

// AuditMode is what must be durable when a request is forwarded. Whatever is not
// Standard, or nothing, is Strict.
//
// +kubebuilder:validation:Enum=Standard;Strict
type AuditMode string

const (
	// AuditStandard records a request when it has ended.
	AuditStandard AuditMode = "Standard"
	// AuditStrict forwards no request of which there is no durable entry.
	AuditStrict AuditMode = "Strict"
)

// Strict reports whether a request needs a durable entry before it is forwarded.
func (a *Audit) Strict() bool { return a.Mode != "" && a.Mode != AuditStandard }

// AuditFailurePolicy is what becomes of open routes while the audit log cannot
// be kept. Whatever is not Degrade is Refuse.
//
// +kubebuilder:validation:Enum=Refuse;Degrade
type AuditFailurePolicy string

const (
	// AuditRefuse closes what is open until entries can be kept again.
	AuditRefuse AuditFailurePolicy = "Refuse"
	// AuditDegrade leaves open what is open.
	AuditDegrade AuditFailurePolicy = "Degrade"
)

// Review says until when Activations that have ended must be reviewed, by somebody
// other than who activated. See ActivationReview.
type Review struct {
	// Within is how long after its end an Activation must have its review. What it is
	// when the Activation ends counts; a later change concerns later endings. Default
	// 72h, at least 1s, at most 2160h (90 days).
	//
	// +optional
	// +kubebuilder:default="72h"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('2160h')",message="must be between 1s and 2160h"
	Within *gwv1.Duration `json:"within,omitempty"`

	// OnOverdue is what happens when there is none by then. Default Alert.
	//
	// Alert: it is told, and nothing else.
	//
	// Refuse: new Activations of the same role are Refused as well, until it is
	// reviewed. What is open stays open. At 3 a.m. the way out is a review by anybody
	// who may and is not who activated.
	//
	// +optional
	// +kubebuilder:default=Alert
	OnOverdue OverduePolicy `json:"onOverdue,omitempty"`
}

// OverduePolicy is what happens while a review is overdue. Whatever is not Refuse is
// Alert: nobody is locked out by a word that is not known.
//
// +kubebuilder:validation:Enum=Alert;Refuse
type OverduePolicy string

const (
	// OverdueAlert tells.
	OverdueAlert OverduePolicy = "Alert"
	// OverdueRefuse also refuses new Activations of the role.
	OverdueRefuse OverduePolicy = "Refuse"
)

// EmergencyPolicyStatus is the observed state of an EmergencyPolicy.
type EmergencyPolicyStatus struct {
	// Conditions: Accepted, ResolvedRefs (every issuer has usable keys).
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
