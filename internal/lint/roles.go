package lint

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/posture"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// What is long, and what is many.
const (
	longWindow = 4 * time.Hour
	manyValues = 10
)

var roleRules = []Rule{
	{ID: "BG020", Name: "long-window", Severity: Warning, Summary: "A role can hold a route open for more than 4 hours at a time.",
		Remedy: "lower maxDuration of the role or of the limits: activating again takes a moment", check: eachRole(longDuration)},
	{ID: "BG021", Name: "no-role-max-duration", Severity: Info, Summary: "A role has no maxDuration of its own, so that it gets all that the policy allows.",
		Remedy: "set maxDuration to what its work takes", check: eachRole(noMaxDuration)},
	{ID: "BG022", Name: "grant-fits-everybody", Severity: Error, Summary: "A grant asks only for claims that every token of the issuer has.",
		Remedy: "ask for a group or role that only the people on call have", check: eachGrant(fitsEverybody)},
	{ID: "BG023", Name: "wide-grant", Severity: Warning, Summary: "A claim accepts more than 10 values, or one that names everybody.",
		Remedy: "make one group for this role at the identity provider, and name it alone", check: eachGrant(wideGrant)},
	{ID: "BG024", Name: "personal-grant", Severity: Info, Summary: "A grant names single people by sub, email or user name: who leaves the team keeps the role.",
		Remedy: "name a group, so that the identity provider decides who is in it", check: eachGrant(personalGrant)},
	{ID: "BG025", Name: "role-opens-nothing", Severity: Warning, Summary: "A role is granted, and there is no route that it could open.",
		Remedy: "remove the role, or correct its hostnames, its namespaces or the routes' labels", check: eachRole(opensNothing)},
	{ID: "BG026", Name: "unbounded-role", Severity: Warning, Summary: "A role is bounded neither by hostnames nor by namespaces: it covers every route that is added later.",
		Remedy: "list the role's namespaces, and its hostnames", check: eachRole(unbounded)},
	{ID: "BG027", Name: "same-people-every-role", Severity: Info, Summary: "One claim value holds every role of a policy that has several: its roles do not separate anybody.",
		Remedy: "grant each role to those who do its work", check: eachPolicy(samePeople)},
}

func policyKey(p *v1alpha1.EmergencyPolicy) source.ObjectKey {
	return objectKey("EmergencyPolicy", types.NamespacedName{Name: p.Name})
}

func eachPolicy(check func(*run, *v1alpha1.EmergencyPolicy)) func(*run) {
	return func(r *run) {
		for _, name := range sortedNames(r.Objects.Policies) {
			check(r, r.Objects.Policies[name])
		}
	}
}

func eachRole(check func(r *run, p *v1alpha1.EmergencyPolicy, field string, role *v1alpha1.Role)) func(*run) {
	return eachPolicy(func(r *run, p *v1alpha1.EmergencyPolicy) {
		for i := range p.Spec.Roles {
			check(r, p, fmt.Sprintf("spec.roles[%d]", i), &p.Spec.Roles[i])
		}
	})
}

func eachGrant(check func(r *run, p *v1alpha1.EmergencyPolicy, field string, role *v1alpha1.Role, g v1alpha1.Grant)) func(*run) {
	return eachRole(func(r *run, p *v1alpha1.EmergencyPolicy, field string, role *v1alpha1.Role) {
		for i, g := range role.Grants {
			check(r, p, fmt.Sprintf("%s.grants[%d]", field, i), role, g)
		}
	})
}

func longest(p *v1alpha1.EmergencyPolicy, role string) time.Duration {
	return (&activation.Policy{Name: p.Name, Spec: p.Spec}).Longest(role, false)
}

func longDuration(r *run, p *v1alpha1.EmergencyPolicy, field string, role *v1alpha1.Role) {
	if d := longest(p, role.Name); d > longWindow {
		r.add(policyKey(p), field+".maxDuration", "role %s can hold a route open for %s at a time", role.Name, posture.Short(d))
	}
}

func noMaxDuration(r *run, p *v1alpha1.EmergencyPolicy, field string, role *v1alpha1.Role) {
	if role.MaxDuration == nil {
		r.add(policyKey(p), field, "role %s has no maxDuration: the policy's %s applies", role.Name, posture.Short(longest(p, role.Name)))
	}
}

// commonClaims are those that a token has whoever it was issued to.
var commonClaims = []string{"iss", "aud", "azp", "client_id", "cid", "typ", "token_use", "scope", "scp", "tid", "amr", "acr", "ver", "email_verified", "tenant"}

// everybody are values that identity providers give to all of their users.
var everybody = []string{"*", "all", "everyone", "everybody", "users", "user", "authenticated", "system:authenticated", "domain users", "employees",
	"all-users", "offline_access", "uma_authorization", "openid", "profile", "default"}

func fitsEverybody(r *run, p *v1alpha1.EmergencyPolicy, field string, role *v1alpha1.Role, g v1alpha1.Grant) {
	var asked []string
	for _, c := range g.Claims {
		if !slices.Contains(commonClaims, strings.ToLower(c.Path[len(c.Path)-1])) {
			return
		}
		asked = append(asked, strings.Join(c.Path, "."))
	}
	r.add(policyKey(p), field+".claims", "role %s is held by every token of issuer %s that has the %s it is issued with anyway", role.Name, g.Issuer, strings.Join(asked, " and "))
}

func wideGrant(r *run, p *v1alpha1.EmergencyPolicy, field string, role *v1alpha1.Role, g v1alpha1.Grant) {
	for i, c := range g.Claims {
		at := fmt.Sprintf("%s.claims[%d].anyOf", field, i)
		if n := len(c.AnyOf); n > manyValues {
			r.add(policyKey(p), at, "role %s is granted to %d values of %s", role.Name, n, strings.Join(c.Path, "."))
		}
		for _, v := range c.AnyOf {
			if name := strings.ToLower(v); slices.Contains(everybody, name) || strings.HasPrefix(name, "default-roles-") {
				r.add(policyKey(p), at, "role %s is granted to %q of %s, which is likely everybody", role.Name, v, strings.Join(c.Path, "."))
			}
		}
	}
}

func personalGrant(r *run, p *v1alpha1.EmergencyPolicy, field string, role *v1alpha1.Role, g v1alpha1.Grant) {
	for i, c := range g.Claims {
		switch strings.ToLower(c.Path[len(c.Path)-1]) {
		case "sub", "email", "upn", "preferred_username", "username", "name", "oid":
			r.add(policyKey(p), fmt.Sprintf("%s.claims[%d]", field, i), "role %s is granted to people by name (%s)", role.Name, strings.Join(c.Path, "."))
		}
	}
}

func opensNothing(r *run, p *v1alpha1.EmergencyPolicy, field string, role *v1alpha1.Role) {
	for _, rt := range r.Routes {
		for _, o := range rt.Openers {
			if o.Policy == p && o.Role == role {
				return
			}
		}
	}
	r.add(policyKey(p), field, "role %s opens no route of these manifests", role.Name)
}

func unbounded(r *run, p *v1alpha1.EmergencyPolicy, field string, role *v1alpha1.Role) {
	if len(role.Hostnames) == 0 && len(role.Namespaces) == 0 {
		r.add(policyKey(p), field, "role %s may open any hostname in any namespace", role.Name)
	}
}

func samePeople(r *run, p *v1alpha1.EmergencyPolicy) {
	if len(p.Spec.Roles) < 2 {
		return
	}
	holds := map[string]map[string]bool{}
	for _, role := range p.Spec.Roles {
		for _, g := range role.Grants {
			if len(g.Claims) != 1 {
				continue // who else must fit is not known
			}
			for _, v := range g.Claims[0].AnyOf {
				who := fmt.Sprintf("%s %q of issuer %s", strings.Join(g.Claims[0].Path, "."), v, g.Issuer)
				if holds[who] == nil {
					holds[who] = map[string]bool{}
				}
				holds[who][role.Name] = true
			}
		}
	}
	for _, who := range sortedNames(holds) {
		if len(holds[who]) == len(p.Spec.Roles) {
			r.add(policyKey(p), "spec.roles", "%s holds each of the %d roles", who, len(p.Spec.Roles))
		}
	}
}
