package activation

import (
	"fmt"
	"slices"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// Reasons, one table. They are API: conditions and the log carry them.
const (
	ReasonDeadline        = "DeadlinePassed"
	ReasonNeverLive       = "NeverLive"
	ReasonRevoked         = "Revoked"
	ReasonDeleted         = "Deleted"
	ReasonSuspended       = "PolicySuspended"
	ReasonEmptyDataDir    = "EmptyDataDir"
	ReasonNotAfter        = "NotAfterPassed"
	ReasonNotAfterMissing = "NotAfterRequired"
	ReasonIncident        = "IncidentRequired"
	ReasonNameSpent       = "NameSpent"
	ReasonRoleUnknown     = "RoleNotFound"
	ReasonRoleLabel       = "RoleMismatch"
	ReasonRoleNamespace   = "NamespaceNotAllowed"
	ReasonRoleHostname    = "HostnameNotAllowed"
	ReasonHeld            = "HeldByAnotherRole"
	ReasonTooManyOpen     = "TooManyOpen"
	ReasonTooManyPerDay   = "TooManyPerDay"
	ReasonTwoPolicies     = "TwoPolicies"
	ReasonNoPolicy        = "NoEmergencyPolicy"
	ReasonNoKeys          = "NoUsableKeys"
	ReasonRouteNotFound   = "RouteNotFound"
	ReasonRuleNotFound    = "RuleNotFound"
	ReasonRouteChanged    = "RouteChanged"
	ReasonRouteDeleted    = "RouteDeleted"
	ReasonAuditFailing    = "AuditFailing"
	ReasonDistrusted      = "AuthorNotAssured"
	ReasonNotOpening      = "NotOpening"
	ReasonAuditPending    = "AuditPending"
	ReasonReviewOverdue   = "ReviewOverdue"
	ReasonOpening         = "Opening"
	ReasonLive            = "Live"
)

// ending is why an activation is over.
type ending struct {
	event           Event
	phase           v1alpha1.Phase
	reason, message string
	by              string
}

// endings end a whole activation, the first that applies. Time comes first:
// whatever else is wrong, a window that is over is over.
var endings = []func(*Plan, Record) *ending{
	expired,
	revoked,
	deleted,
	refusedAtFirstSight,
	suspended,
}

func expired(p *Plan, r Record) *ending {
	if p.in.Now.Before(r.Deadline) {
		return nil
	}
	if r.LiveAt.IsZero() {
		if na := r.Spec.NotAfter; na != nil && !r.Start.Before(na.Time) {
			return refused(ReasonNotAfter, fmt.Sprintf("notAfter %s had passed when this was first seen: make a new Activation", at(na.Time)))
		}
		return &ending{event: NeverLive, phase: v1alpha1.PhaseExpired, reason: ReasonNeverLive,
			message: fmt.Sprintf("the deadline %s passed before this was ever live", at(r.Deadline))}
	}
	return &ending{event: Expired, phase: v1alpha1.PhaseExpired, reason: ReasonDeadline, message: fmt.Sprintf("closed at its deadline %s", at(r.Deadline))}
}

func revoked(p *Plan, r Record) *ending {
	e := &ending{event: Revoked, phase: v1alpha1.PhaseRevoked, reason: ReasonRevoked}
	wish, asked := p.in.Revocations[r.Key()]
	obj := p.in.Objects[r.Key()]
	switch {
	case asked:
		e.by, e.message = wish.By, "revoked by "+wish.By
		if wish.Reason != "" {
			e.message += ": " + wish.Reason
		}
	case obj != nil && obj.Spec.Revoked && !p.gone(r) || r.Spec.Revoked:
		e.message = "spec.revoked is true"
	default:
		return nil
	}
	return e
}

func deleted(p *Plan, r Record) *ending {
	if r.Origin != Manifest || !p.gone(r) {
		return nil
	}
	return &ending{event: Revoked, phase: v1alpha1.PhaseRevoked, reason: ReasonDeleted, message: "the Activation was deleted"}
}

// refusedAtFirstSight refuses what could have been open before, as far as an
// empty data directory can tell: a lost disk must not reopen anything.
func refusedAtFirstSight(p *Plan, r Record) *ending {
	if _, known := p.in.Records[r.Key()]; known {
		return nil
	}
	if p.in.FirstStart && r.Origin == Manifest && r.Spec.NotAfter == nil {
		return refused(ReasonEmptyDataDir, "found at a first start with an empty data directory, so nobody can tell whether it was used before: "+
			"make a new Activation, or give it a notAfter (breakglass activate always does)")
	}
	if c := p.in.Cluster; c != nil && !c.Follow && c.Distrusted[r.Key()] != "" {
		return refused(ReasonDistrusted, c.Distrusted[r.Key()])
	}
	if !r.Spec.Drill && r.Spec.Incident == "" {
		return refused(ReasonIncident, "name the incident in spec.incident, or set spec.drill: true for a rehearsal")
	}
	return nil
}

func refused(reason, message string) *ending {
	return &ending{event: Refused, phase: v1alpha1.PhaseRefused, reason: reason, message: message}
}

func suspended(p *Plan, r Record) *ending {
	if p.follows() {
		return nil // closed, see doubted, but not for good
	}
	for _, t := range r.Spec.TargetRefs {
		route := p.route(r, t)
		if route == nil {
			continue
		}
		for _, pol := range route.Policies {
			if !pol.Spec.Suspended {
				continue
			}
			message := fmt.Sprintf("EmergencyPolicy %s is suspended: everything is closed; once spec.suspended is false again, make a new Activation", pol.Name)
			if len(r.Targets) == 0 {
				return refused(ReasonSuspended, message)
			}
			return &ending{event: Revoked, phase: v1alpha1.PhaseRevoked, reason: ReasonSuspended, message: message}
		}
	}
	return nil
}

// lost says why an opened target is over before its deadline, for good.
func (p *Plan) lost(r Record, t v1alpha1.TargetReference, rec Target) *Blocked {
	route := p.route(r, t)
	if route == nil {
		return &Blocked{ReasonRouteDeleted, fmt.Sprintf("%s %s/%s was deleted", t.Kind, r.Namespace, t.Name)}
	}
	if route.Digest != rec.Digest {
		return &Blocked{ReasonRouteChanged, fmt.Sprintf("%s was changed while it was open: review the change and activate it anew", route.Key)}
	}
	if len(route.Policies) == 1 {
		return p.entitlement(r, route)
	}
	return nil
}

// doubted says why who follows does not serve an opened target now. It ends nothing
// for good: what he sees of routes and policies may be older, or newer, than what
// the replica that leads has seen.
func (p *Plan) doubted(r Record, t v1alpha1.TargetReference, rec Target) *Blocked {
	policy := p.route(r, t).Policies[0]
	switch {
	case policy.Spec.Suspended:
		return &Blocked{ReasonSuspended, fmt.Sprintf("EmergencyPolicy %s is suspended: everything is closed", policy.Name)}
	case !p.in.Now.Before(p.until(r)):
		return &Blocked{ReasonDeadline, fmt.Sprintf("EmergencyPolicy %s allows no more than until %s", policy.Name, at(p.until(r)))}
	}
	return p.lost(r, t, rec)
}

// standing says why a target cannot be served now; it may be later.
func (p *Plan) standing(r Record, t v1alpha1.TargetReference) *Blocked {
	route := p.route(r, t)
	switch {
	case route == nil:
		return &Blocked{ReasonRouteNotFound, fmt.Sprintf("%s %s/%s does not exist: correct spec.targetRefs in a new Activation, or add the route", t.Kind, r.Namespace, t.Name)}
	case route.Blocked != Blocked{}:
		return &route.Blocked
	case len(rulesOf(route, t)) == 0:
		return &Blocked{ReasonRuleNotFound, fmt.Sprintf("%s has no rule named %q", route.Key, sectionOf(t))}
	case len(route.Policies) == 0:
		return &Blocked{ReasonNoPolicy, fmt.Sprintf("%s is not attached to a Gateway whose GatewayClass names an EmergencyPolicy in parametersRef", route.Key)}
	case len(route.Policies) > 1:
		return &Blocked{ReasonTwoPolicies, fmt.Sprintf("%s is attached to Gateways of %d EmergencyPolicies: attach it to those of one", route.Key, len(route.Policies))}
	}
	return nil
}

func sectionOf(t v1alpha1.TargetReference) string {
	if t.SectionName == nil {
		return ""
	}
	return string(*t.SectionName)
}

// entitlement says why the policy does not let this role open this route.
func (p *Plan) entitlement(r Record, route *Route) *Blocked {
	policy := route.Policies[0]
	role := policy.role(r.Spec.Role)
	if role == nil {
		return &Blocked{ReasonRoleUnknown, fmt.Sprintf("EmergencyPolicy %s has no role %q: its roles are %s", policy.Name, r.Spec.Role, policy.roleNames())}
	}
	if route.Role != "" && route.Role != role.Name {
		return &Blocked{ReasonRoleLabel, fmt.Sprintf("only role %q opens %s (label %s), not %q", route.Role, route.Key, v1alpha1.RoleLabel, role.Name)}
	}
	if len(role.Namespaces) > 0 && !slices.Contains(role.Namespaces, r.Namespace) {
		return &Blocked{ReasonRoleNamespace, fmt.Sprintf("role %q of EmergencyPolicy %s may not open routes in namespace %q: its namespaces are %v", role.Name, policy.Name, r.Namespace, role.Namespaces)}
	}
	for _, h := range route.Hostnames {
		if !covers(role.Hostnames, h) {
			return &Blocked{ReasonRoleHostname, fmt.Sprintf("role %q of EmergencyPolicy %s may not open hostname %q: its hostnames are %v", role.Name, policy.Name, h, role.Hostnames)}
		}
	}
	return nil
}

// refusal says why a target that could be served may not be opened, for good.
func (p *Plan) refusal(r Record, t v1alpha1.TargetReference) *Blocked {
	route := p.route(r, t)
	policy := route.Policies[0]
	if b := p.entitlement(r, route); b != nil {
		return b
	}
	if b := p.lacking(r, policy); b != nil {
		return b
	}
	if policy.Spec.Limits.RequireNotAfter && r.Spec.NotAfter == nil {
		return &Blocked{ReasonNotAfterMissing, fmt.Sprintf("EmergencyPolicy %s requires spec.notAfter: make a new Activation that has one", policy.Name)}
	}
	if h := p.holder(r, route); h != nil {
		return &Blocked{ReasonHeld, fmt.Sprintf("%s is open for role %q by Activation %s until %s: use that role, or revoke it first",
			route.Key, h.Spec.Role, quoted(h.Key()), at(h.Deadline))}
	}
	return p.overLimit(r, route, policy)
}

// keyless says that nobody could come in because no issuer of the role has keys
// now. It holds an opening back; what is open already stays, it lets nobody in.
func (p *Plan) keyless(r Record, t v1alpha1.TargetReference) *Blocked {
	policy := p.route(r, t).Policies[0]
	role := policy.role(r.Spec.Role)
	var issuers []string
	for _, g := range role.Grants {
		if policy.Usable == nil || policy.Usable(g.Issuer) {
			return nil
		}
		issuers = append(issuers, g.Issuer)
	}
	return &Blocked{ReasonNoKeys, fmt.Sprintf("no token for role %q can be verified: none of its issuers %v has usable keys (see EmergencyPolicy %s)", role.Name, issuers, policy.Name)}
}

// unaudited says that an open target is not served because what goes through it
// could not be recorded. It is no ending: the window goes on, unused.
func (p *Plan) unaudited(r Record, t v1alpha1.TargetReference) *Blocked {
	policy := p.route(r, t).Policies[0]
	if p.in.AuditFailing == "" || policy.degrades() {
		return nil
	}
	return &Blocked{ReasonAuditFailing, fmt.Sprintf("closed while the audit log cannot be kept, because EmergencyPolicy %s has audit.onFailure Refuse: %s: "+
		"once that is mended this is served again by itself, at most until its deadline %s", policy.Name, p.in.AuditFailing, at(r.Deadline))}
}

// unrecordable says that nothing opens now, whatever the policy: its opening
// could not be recorded. It is no refusal: what waits opens later.
func (p *Plan) unrecordable() *Blocked {
	switch {
	case p.in.AuditFailing != "":
		return &Blocked{ReasonAuditFailing, fmt.Sprintf("nothing opens while the audit log cannot be kept: %s: "+
			"once that is mended this opens by itself, if its window has not passed by then", p.in.AuditFailing)}
	case p.in.AuditPending != "":
		return &Blocked{ReasonAuditPending, fmt.Sprintf("nothing opens yet: %s: "+
			"once that is done this opens by itself, if its window has not passed by then", p.in.AuditPending)}
	}
	return nil
}

// follows reports whether another replica decides.
func (p *Plan) follows() bool { return p.in.Cluster != nil && p.in.Cluster.Follow }

// elsewhere says that this replica does not open anything now.
func (p *Plan) elsewhere() *Blocked {
	switch c := p.in.Cluster; {
	case c == nil:
		return nil
	case c.Refusing != "":
		return &Blocked{ReasonNotOpening, c.Refusing}
	case c.Follow:
		return &Blocked{ReasonOpening, "waiting for the replica of the controller that leads"}
	}
	return nil
}

// overLimit counts what is open and what was opened lately.
func (p *Plan) overLimit(r Record, route *Route, policy *Policy) *Blocked {
	open, today := 0, 0
	for _, key := range slices.Concat(p.ordering, p.over) {
		other := p.records[key]
		for _, t := range other.Targets {
			if t.Route == route.Key.Ref() && key != r.Key() && p.in.Now.Sub(t.OpenedAt) < 24*time.Hour {
				today++
			}
		}
		if key != r.Key() && !other.Final() && len(other.Targets) > 0 && p.under(other, policy) {
			open++
		}
	}
	if limit := count(policy.Spec.Limits.MaxOpen, 16); open >= limit {
		return &Blocked{ReasonTooManyOpen, fmt.Sprintf("%d activations are open and EmergencyPolicy %s allows %d (limits.maxOpen): revoke one first", open, policy.Name, limit)}
	}
	if limit := count(policy.Spec.Limits.MaxPerDay, 24); today >= limit {
		return &Blocked{ReasonTooManyPerDay, fmt.Sprintf("%s was opened %d times in 24 hours and EmergencyPolicy %s allows %d (limits.maxPerDay)", route.Key, today, policy.Name, limit)}
	}
	return nil
}

// under reports whether r opens anything that policy governs.
func (p *Plan) under(r Record, policy *Policy) bool {
	return slices.ContainsFunc(r.Spec.TargetRefs, func(t v1alpha1.TargetReference) bool {
		route := p.route(r, t)
		return route != nil && slices.ContainsFunc(route.Policies, func(q *Policy) bool { return q.Name == policy.Name })
	})
}

func count(n *int32, unset int) int {
	if n == nil {
		return unset
	}
	return int(*n)
}
