package lint

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/posture"
)

var limitRules = []Rule{
	{ID: "BG040", Name: "audit-degrade", Severity: Warning, Summary: "What is open stays open while the audit log cannot be kept: what is done then is on no record.",
		Remedy: "set audit.onFailure: Refuse", check: eachPolicy(auditDegrade)},
	{ID: "BG041", Name: "relaxed-scope", Severity: Warning, Summary: "A least-privilege rule of the policy is relaxed for all of its routes.",
		Remedy: "remove the field, and narrow the routes that needed it", check: eachPolicy(relaxedScope)},
	{ID: "BG042", Name: "standing-door", Severity: Info, Summary: "A role could keep a route open around the clock by activating it again and again.",
		Remedy: "lower limits.maxPerDay, or maxDuration of the role", check: eachRole(standingDoor)},
	{ID: "BG043", Name: "suspended", Severity: Info, Summary: "A policy is suspended: nothing can be opened, also on the day.",
		Remedy: "set suspended: false once the reason is gone", check: eachPolicy(isSuspended)},
	{ID: "BG044", Name: "never-drilled", Severity: Info, Summary: "No drill of a route is in the manifests (or, with --live, in what serve remembers): a way in that nobody has tried.",
		Remedy: "rehearse it: breakglass activate --drill", check: eachRoute(neverDrilled)},
	{ID: "BG045", Name: "activation-in-repository", Severity: Warning, Summary: "An Activation lies among the manifests: it opens as soon as they are served anywhere.",
		Remedy: "remove it, and use breakglass activate; keep drills in a directory of their own", check: activationInRepository},
	{ID: "BG046", Name: "not-after-optional", Severity: Info, Summary: "An Activation need not name an absolute end: one that is found late, or restored from a backup, opens late.",
		Remedy: "set limits.requireNotAfter: true (breakglass activate always writes one)", check: eachPolicy(notAfterOptional)},
}

func auditDegrade(r *run, p *v1alpha1.EmergencyPolicy) {
	if p.Spec.Audit.OnFailure == v1alpha1.AuditDegrade {
		r.add(policyKey(p), "spec.audit.onFailure", "Degrade serves without a record")
	}
}

func relaxedScope(r *run, p *v1alpha1.EmergencyPolicy) {
	s := p.Spec.Scope
	for _, f := range []struct {
		name    string
		relaxed bool
		means   string
	}{
		{"allowWildcardHostnames", s.AllowWildcardHostnames, "routes may serve wildcard hostnames"},
		{"allowCatchAllPath", s.AllowCatchAllPath, "routes may cover every path"},
		{"allowAnyMethod", s.AllowAnyMethod, "routes need not name methods"},
		{"allowUnlabelled", s.AllowUnlabelled, "routes need not name their role"},
		{"allowPlainHTTP", s.AllowPlainHTTP, "tokens may cross the network in the clear"},
	} {
		if f.relaxed {
			r.add(policyKey(p), "spec.scope."+f.name, "%s: %s", f.name, f.means)
		}
	}
	if n := s.MaxRules; n != nil && *n > 8 {
		r.add(policyKey(p), "spec.scope.maxRules", "maxRules: routes may have %d rules", *n)
	}
}

func standingDoor(r *run, p *v1alpha1.EmergencyPolicy, field string, role *v1alpha1.Role) {
	perDay := int32(24)
	if n := p.Spec.Limits.MaxPerDay; n != nil {
		perDay = *n
	}
	if d := longest(p, role.Name); d*time.Duration(perDay) >= 24*time.Hour {
		r.add(policyKey(p), field, "role %s may open a route %d times a day for %s", role.Name, perDay, posture.Short(d))
	}
}

func isSuspended(r *run, p *v1alpha1.EmergencyPolicy) {
	if p.Spec.Suspended {
		r.add(policyKey(p), "spec.suspended", "nothing can be opened")
	}
}

func neverDrilled(r *run, rt *posture.Route) {
	drilled := func(namespace string, spec *v1alpha1.ActivationSpec) bool {
		for _, t := range spec.TargetRefs {
			if spec.Drill && activation.RouteOf(namespace, t) == rt.Key {
				return true
			}
		}
		return false
	}
	for key, a := range r.Objects.Activations {
		if drilled(key.Namespace, &a.Spec) {
			return
		}
	}
	if r.Live != nil {
		for i := range r.Live.Status.Activations {
			if a := &r.Live.Status.Activations[i]; drilled(a.Namespace, &a.Spec) {
				return
			}
		}
	}
	r.add(routeKey(rt), "", "no drill of it is known")
}

func activationInRepository(r *run) {
	for _, key := range posture.SortedKeys(r.Objects.Activations) {
		a := r.Objects.Activations[key]
		if a.Spec.Revoked || a.Spec.NotAfter != nil && !r.At.Before(a.Spec.NotAfter.Time) {
			continue
		}
		until := "its duration after it is first seen"
		if a.Spec.NotAfter != nil {
			until = a.Spec.NotAfter.UTC().Format(time.RFC3339) + " at the latest"
		}
		severity := r.rule.Severity
		if a.Spec.Drill && r.Live != nil {
			severity = Info
		}
		r.addAs(severity, objectKey("Activation", key), "", "opens %s for role %s until %s", targets(a), a.Spec.Role, until)
	}
}

func targets(a *v1alpha1.Activation) string {
	text := ""
	for i, t := range a.Spec.TargetRefs {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%s %s", t.Kind, types.NamespacedName{Namespace: a.Namespace, Name: t.Name})
	}
	return text
}

func notAfterOptional(r *run, p *v1alpha1.EmergencyPolicy) {
	if !p.Spec.Limits.RequireNotAfter {
		r.add(policyKey(p), "spec.limits", "requireNotAfter is not set")
	}
}
