package translator

import (
	"fmt"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// scopeRules are the least-privilege rules of an EmergencyPolicy, in the order
// in which they are told. Each returns what is wrong and how to mend it, or "".
var scopeRules = []func(*route, *v1alpha1.Scope) string{
	exactHostnames,
	noCatchAllPath,
	namedMethods,
	roleLabel,
	fewRules,
}

// scopeViolation is the first violation of a policy that governs the route.
func (r *route) scopeViolation() string {
	for _, p := range r.parents {
		policy := p.gateway.class.policy
		if policy == nil {
			continue
		}
		for _, rule := range scopeRules {
			if v := rule(r, &policy.obj.Spec.Scope); v != "" {
				return fmt.Sprintf("%s of EmergencyPolicy %s", v, policy.obj.Name)
			}
		}
	}
	return ""
}

func exactHostnames(r *route, scope *v1alpha1.Scope) string {
	if scope.AllowWildcardHostnames {
		return ""
	}
	if len(r.obj.Spec.Hostnames) == 0 {
		return "spec.hostnames: name the exact hostnames to serve, or relax scope.allowWildcardHostnames"
	}
	for i, h := range r.obj.Spec.Hostnames {
		if h[0] == '*' {
			return fmt.Sprintf("spec.hostnames[%d]: %s is a wildcard: name the exact hostnames to serve, or relax scope.allowWildcardHostnames", i, h)
		}
	}
	return ""
}

func noCatchAllPath(r *route, scope *v1alpha1.Scope) string {
	for _, ru := range r.rules {
		for i, m := range ru.matches {
			if !scope.AllowCatchAllPath && m.catchAll() {
				if m.grpc != nil {
					return fmt.Sprintf("spec.rules[%d].matches[%d].method: covers every service and method: name those an incident needs, or relax scope.allowCatchAllPath", ru.index, i)
				}
				return fmt.Sprintf("spec.rules[%d].matches[%d].path: covers every path: name the paths an incident needs, or relax scope.allowCatchAllPath", ru.index, i)
			}
		}
	}
	return ""
}

func namedMethods(r *route, scope *v1alpha1.Scope) string {
	for _, ru := range r.rules {
		for i, m := range ru.matches {
			if !scope.AllowAnyMethod && m.method == "" {
				return fmt.Sprintf("spec.rules[%d].matches[%d].method: name the method (one match per method), or relax scope.allowAnyMethod", ru.index, i)
			}
		}
	}
	return ""
}

func roleLabel(r *route, scope *v1alpha1.Scope) string {
	if scope.AllowUnlabelled || r.role != "" {
		return ""
	}
	return fmt.Sprintf("metadata.labels: add %s: ROLE, so that only that role opens it, or relax scope.allowUnlabelled", v1alpha1.RoleLabel)
}

func fewRules(r *route, scope *v1alpha1.Scope) string {
	limit := int32(8)
	if scope.MaxRules != nil {
		limit = *scope.MaxRules
	}
	if n := len(r.obj.Spec.Rules); n > int(limit) {
		return fmt.Sprintf("spec.rules: %d rules, at most %d: split the route, or raise scope.maxRules", n, limit)
	}
	return ""
}
