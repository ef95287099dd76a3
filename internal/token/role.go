package token

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

func (c *check) holdsRole() *Verdict {
	i := slices.IndexFunc(c.policy.Spec.Roles, func(r v1alpha1.Role) bool { return r.Name == c.role })
	if i < 0 {
		return refuse(http.StatusForbidden, ReasonRoleUnknown, "the policy has no role %q: add it to spec.roles, or correct the name", c.role)
	}
	var why []string
	for n, grant := range c.policy.Spec.Roles[i].Grants {
		missing := c.missing(grant)
		if missing == "" {
			return nil
		}
		why = append(why, fmt.Sprintf("grants[%d] %s", n, missing))
	}
	return refuse(http.StatusForbidden, ReasonRoleNotGranted, "the token does not hold role %s: %s", c.role, strings.Join(why, "; "))
}

// missing says what the token lacks for a grant, "" if nothing. It tells what
// the policy wants and not what the token has.
func (c *check) missing(grant v1alpha1.Grant) string {
	if grant.Issuer != c.issuer.Name {
		return fmt.Sprintf("is for tokens of issuer %s, and this one is of %s", grant.Issuer, c.issuer.Name)
	}
	if len(grant.Claims) == 0 {
		return "names no claim: there is no anonymous role"
	}
	for _, m := range grant.Claims {
		if !fits(c.claims, m) {
			return fmt.Sprintf("wants claim %s to be or to hold one of %q", strings.Join(m.Path, "."), m.AnyOf)
		}
	}
	return ""
}

// fits walks objects along the path. What is found must be one of the strings, or
// a list that holds one.
func fits(claims map[string]any, m v1alpha1.ClaimMatch) bool {
	var v any = claims
	for _, name := range m.Path {
		object, ok := v.(map[string]any)
		if !ok {
			return false
		}
		if v, ok = object[name]; !ok {
			return false
		}
	}
	switch v := v.(type) {
	case string:
		return slices.Contains(m.AnyOf, v)
	case []any:
		return slices.ContainsFunc(v, func(element any) bool {
			s, ok := element.(string)
			return ok && slices.Contains(m.AnyOf, s)
		})
	}
	return false
}
