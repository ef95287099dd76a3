package control

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// Backend does what is asked for. Its methods are called concurrently.
type Backend interface {
	// Activate validates the activation, records it durably and returns it as it
	// was first seen. Only its namespace, name and spec are set; revoked and
	// requestedBy are not. A name that is spent is Refused.
	Activate(context.Context, ActivateRequest, Peer) (*v1alpha1.Activation, error)
	// Activation as it is now, or NotFound.
	Activation(context.Context, types.NamespacedName) (*v1alpha1.Activation, error)
	// Wait calls done with the activation as it is now and again whenever its
	// status changes, until done returns true or the context ends; then it
	// returns the activation, or the context's error.
	Wait(ctx context.Context, key types.NamespacedName, done func(*v1alpha1.Activation) bool) (*v1alpha1.Activation, error)
	// Revoke ends what is named, or everything. It is NotFound, and nothing is
	// revoked, if one of the names is not known. One that has ended already is
	// not an error. It returns those that it ended and those that were named.
	Revoke(context.Context, RevokeRequest, Peer) ([]v1alpha1.Activation, error)
	// Review records a verdict and returns the activation with it. It is NotFound or
	// Refused if it is not accepted; its words then say why and what to do.
	Review(context.Context, ReviewRequest, Peer) (*v1alpha1.Activation, error)
	// Status of everything. It works while nothing is loaded.
	Status(context.Context) (*Status, error)
	// Timeline calls fn with what happened since then, the oldest first. An error
	// of fn ends it and is returned.
	Timeline(ctx context.Context, since time.Time, fn func(TimelineEntry) error) error
	// Objects are the manifests in use, last good versions included.
	Objects(context.Context) (*Objects, error)
}

// ActivateRequest asks to break the glass.
type ActivateRequest struct {
	Activation v1alpha1.Activation `json:"activation"`
}

// RevokeRequest asks to close. Exactly one of Names and All is set.
type RevokeRequest struct {
	Names []types.NamespacedName `json:"names,omitempty"`
	All   bool                   `json:"all,omitempty"`
	// Namespace bounds All to one namespace. Empty: all.
	Namespace string `json:"namespace,omitempty"`
	// Reason for the record. May be empty.
	Reason string `json:"reason,omitempty"`
}

// ReviewRequest is a verdict on an activation that has ended.
type ReviewRequest struct {
	Name types.NamespacedName `json:"name"`
	// Verdict is Drill, Justified or Misuse.
	Verdict v1alpha1.Verdict `json:"verdict"`
	// Note says how it was reached.
	Note string `json:"note"`
	// FollowUps are what is to be done.
	FollowUps []string `json:"followUps,omitempty"`
}

// Object is the request as an ActivationReview.
func (r *ReviewRequest) Object(name string) *v1alpha1.ActivationReview {
	return &v1alpha1.ActivationReview{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ActivationReview"},
		ObjectMeta: metav1.ObjectMeta{Namespace: r.Name.Namespace, Name: name},
		Spec: v1alpha1.ActivationReviewSpec{
			ActivationRef: v1alpha1.ActivationReference{Name: r.Name.Name}, Verdict: r.Verdict, Note: r.Note, FollowUps: r.FollowUps,
		},
	}
}

// Problems are what is wrong with the request by itself: as the schema of an
// ActivationReview has it.
func (r *ReviewRequest) Problems() []string {
	var out []string
	bad := func(is bool, format string, args ...any) {
		if is {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	verdicts := []v1alpha1.Verdict{v1alpha1.VerdictDrill, v1alpha1.VerdictJustified, v1alpha1.VerdictMisuse}
	bad(!slices.Contains(verdicts, r.Verdict), "verdict: %q is none of %v", r.Verdict, verdicts)
	bad(strings.TrimSpace(r.Note) == "", "note: say how you came to the verdict, in words an auditor can use")
	bad(utf8.RuneCountInString(r.Note) > maxNote, "note: it is %d characters long: at most %d", utf8.RuneCountInString(r.Note), maxNote)
	bad(len(r.FollowUps) > maxFollowUps, "followUps: %d of them: at most %d", len(r.FollowUps), maxFollowUps)
	for i, f := range r.FollowUps {
		bad(strings.TrimSpace(f) == "", "followUps[%d]: it says nothing: leave it out", i)
		bad(utf8.RuneCountInString(f) > maxFollowUp, "followUps[%d]: it is %d characters long: at most %d", i, utf8.RuneCountInString(f), maxFollowUp)
	}
	return out
}

// Bounds of a review, as in the schema.
const (
	maxNote      = 4096
	maxFollowUps = 16
	maxFollowUp  = 512
)

// Status is what `breakglass status` tells.
type Status struct {
	// Version of what serves. Empty: it is not known.
	Version string `json:"version"`
	// Cluster that this is of. Empty: it is of a serve.
	Cluster string `json:"cluster,omitempty"`
	// Ready: everything that should be served can be served. NotReady says what
	// cannot.
	Ready    bool     `json:"ready"`
	NotReady []string `json:"notReady,omitempty"`
	// Now is the clock that windows are judged by. It never goes back.
	Now time.Time `json:"now"`
	// ClockBehind is how far the system's clock is behind Now, as a Go duration.
	// Empty: it is not.
	ClockBehind string `json:"clockBehind,omitempty"`
	// Alarms: who is told of what happens. nil: it is not known.
	Alarms *AlarmStatus `json:"alarms,omitempty"`
	// Objects in use, by kind.
	Objects     map[string]int        `json:"objects,omitempty"`
	Gateways    []GatewayStatus       `json:"gateways"`
	Routes      []RouteStatus         `json:"routes"`
	Activations []v1alpha1.Activation `json:"activations"`
	Policies    []PolicyStatus        `json:"policies"`
	Problems    []Problem             `json:"problems"`
}

// AlarmStatus is who is told of activations, refusals and gaps.
type AlarmStatus struct {
	// Problem says why nobody is told. Empty: somebody is.
	Problem string      `json:"problem,omitempty"`
	Sinks   []AlarmSink `json:"sinks"`
	// Undelivered alarms are those that no sink has taken yet, Oldest when the first
	// of them was caused.
	Undelivered int       `json:"undelivered"`
	Oldest      time.Time `json:"oldest,omitzero"`
}

// AlarmSink is one way by which somebody is told.
type AlarmSink struct {
	Name string `json:"name"`
	// Failing since then, and why. Zero: it works.
	Failing time.Time `json:"failing,omitzero"`
	Reason  string    `json:"reason,omitempty"`
}

// GatewayStatus is one Gateway and its Envoy.
type GatewayStatus struct {
	Namespace string           `json:"namespace"`
	Name      string           `json:"name"`
	Class     string           `json:"class"`
	Policy    string           `json:"policy"`
	Addresses []string         `json:"addresses,omitempty"`
	Listeners []ListenerStatus `json:"listeners,omitempty"`
	Envoy     EnvoyStatus      `json:"envoy"`
}

// ListenerStatus is one Listener of a Gateway.
type ListenerStatus struct {
	Name     string `json:"name"`
	Hostname string `json:"hostname,omitempty"`
	Protocol string `json:"protocol"`
	Port     int32  `json:"port"`
	// Address that it is bound to, an IP.
	Address    string `json:"address,omitempty"`
	Programmed bool   `json:"programmed"`
	// Message says why it is not programmed.
	Message        string `json:"message,omitempty"`
	AttachedRoutes int32  `json:"attachedRoutes"`
}

// EnvoyStatus is the Envoy process of a Gateway.
type EnvoyStatus struct {
	PID   int  `json:"pid,omitempty"`
	Ready bool `json:"ready"`
	// Restarts since serve started.
	Restarts int `json:"restarts"`
	// Connected: it holds a configuration stream to us.
	Connected bool   `json:"connected"`
	LastError string `json:"lastError,omitempty"`
}

// RouteStatus is one route.
type RouteStatus struct {
	// Kind of the route. Empty: HTTPRoute, as of a serve that knows no other kind.
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Role is the only one that opens it: the label breakglass.dev/role.
	Role      string   `json:"role,omitempty"`
	Hostnames []string `json:"hostnames,omitempty"`
	// Matches: what may be asked of it while it is open, one entry per match.
	Matches  []MatchStatus `json:"matches,omitempty"`
	Accepted bool          `json:"accepted"`
	Live     bool          `json:"live"`
	// Reason and Message of what is wrong, or of why it is not live.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Gateways that it is attached to, namespace/name.
	Gateways []string `json:"gateways,omitempty"`
}

// MatchStatus is a method and a path that a route matches. Either may be empty:
// any.
type MatchStatus struct {
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
}

// PolicyStatus is one EmergencyPolicy.
type PolicyStatus struct {
	Name      string         `json:"name"`
	Suspended bool           `json:"suspended"`
	Accepted  bool           `json:"accepted"`
	Message   string         `json:"message,omitempty"`
	Issuers   []IssuerStatus `json:"issuers,omitempty"`
}

// IssuerStatus is the key set of one issuer.
type IssuerStatus struct {
	Name string `json:"name"`
	// Keys that can be used; less than 0: not known.
	Keys    int    `json:"keys"`
	Error   string `json:"error,omitempty"`
	Offline bool   `json:"offline,omitempty"`
	// Stale: the last fetch failed and an older answer is in use.
	Stale bool `json:"stale,omitempty"`
}

// Problem is one thing that is wrong with the manifests.
type Problem struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Object  string `json:"object,omitempty"`
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
	// LastGood: an earlier version, from before it went wrong, is still in use.
	LastGood bool `json:"lastGood,omitempty"`
}

// TimelineEntry is one thing that happened, told for people. Data is the entry
// as it was recorded.
type TimelineEntry struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	// Kind of the journal's entry (activation, policy, request, ...), and Event in
	// one word: opened, revoked, allowed, denied.
	Kind  string `json:"kind"`
	Event string `json:"event,omitempty"`
	// Who did it: a Peer, or the subject and issuer of a token.
	Who string `json:"who,omitempty"`
	// Object that it was done to, as Kind namespace/name.
	Object   string          `json:"object,omitempty"`
	Role     string          `json:"role,omitempty"`
	Incident string          `json:"incident,omitempty"`
	Message  string          `json:"message,omitempty"`
	Data     json.RawMessage `json:"data,omitempty"`
}

// Objects are the manifests in use.
type Objects struct {
	// ConfigDir that they were read from, absolute.
	ConfigDir string   `json:"configDir"`
	Items     []Object `json:"items"`
}

// Object is one manifest, without private keys, and of a Secret with its
// certificates only: what is secret does not leave serve. Who may read it has its
// file.
type Object struct {
	// File below ConfigDir, and the line that the object begins at.
	File     string          `json:"file,omitempty"`
	Line     int             `json:"line,omitempty"`
	Manifest json.RawMessage `json:"manifest"`
	// Withheld: the object in use has more in it than Manifest says.
	Withheld bool `json:"withheld,omitempty"`
	// Data of a Secret: the names in it, and of each value that serve uses (a
	// certificate and its key, a key set) the SHA-256, in hex.
	Data map[string]string `json:"data,omitempty"`
}
