package activation

import (
	"cmp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// RouteKey names a route. Routes of two kinds may have one name in one namespace, and
// what opens one never opens the other.
type RouteKey struct {
	Kind string
	types.NamespacedName
}

// RouteOf names a target of an activation in namespace.
func RouteOf(namespace string, t v1alpha1.TargetReference) RouteKey {
	return RouteKey{t.Kind, types.NamespacedName{Namespace: namespace, Name: t.Name}}
}

// HTTPRoute names an HTTPRoute.
func HTTPRoute(key types.NamespacedName) RouteKey { return RouteKey{v1alpha1.KindHTTPRoute, key} }

// GRPCRoute names a GRPCRoute.
func GRPCRoute(key types.NamespacedName) RouteKey { return RouteKey{v1alpha1.KindGRPCRoute, key} }

// String is the key for people: "HTTPRoute pay/db".
func (k RouteKey) String() string { return k.Kind + " " + k.NamespacedName.String() }

// Compare orders keys as Gateway API has routes compete, by namespace and name, and of
// two that are alike in these an HTTPRoute first.
func (k RouteKey) Compare(o RouteKey) int {
	return cmp.Or(cmp.Compare(k.Namespace, o.Namespace), cmp.Compare(k.Name, o.Name), cmp.Compare(o.Kind, k.Kind))
}

// Ref is the key on record, in the log and on Envoy's routes: namespace/name of an
// HTTPRoute, as when there was no other kind; of any other the same as String.
func (k RouteKey) Ref() string {
	if k.Kind == v1alpha1.KindHTTPRoute {
		return k.NamespacedName.String()
	}
	return k.String()
}

// RouteOfRef is what Ref was made of, for people: "HTTPRoute pay/db".
func RouteOfRef(ref string) string {
	if strings.Contains(ref, " ") { // no name has one
		return ref
	}
	return v1alpha1.KindHTTPRoute + " " + ref
}

// Route is a route as far as opening it is concerned.
type Route struct {
	Key RouteKey
	// Role is the value of the label breakglass.dev/role, "" without one.
	Role string
	// Digest of the spec.
	Digest string
	// Rules are the keys of all rules, in order; Named maps a rule's name to its key.
	Rules []string
	Named map[string]string
	// Hostnames that it serves; URLs that answer when it is open, by rule.
	Hostnames []string
	URLs      map[string][]string
	// Policies that govern it: those of the classes of the Gateways it is attached to.
	Policies []*Policy
	// Blocked says why it cannot be served now. Zero: nothing stands in its way.
	Blocked Blocked
}

// Blocked is a reason why a route cannot be served now, and its remedy.
type Blocked struct{ Reason, Message string }

// Policy is an EmergencyPolicy as far as opening is concerned.
type Policy struct {
	Name string
	Spec v1alpha1.EmergencyPolicySpec
	// Usable reports whether tokens of the issuer can be verified now.
	Usable func(issuer string) bool
}

// degrades reports whether what is open under the policy stays so while the
// audit log cannot be kept. Anything but the word for it means no.
func (p *Policy) degrades() bool { return p.Spec.Audit.OnFailure == v1alpha1.AuditDegrade }

// role finds a role by name.
func (p *Policy) role(name string) *v1alpha1.Role {
	for i := range p.Spec.Roles {
		if p.Spec.Roles[i].Name == name {
			return &p.Spec.Roles[i]
		}
	}
	return nil
}

func (p *Policy) roleNames() string {
	names := make([]string, 0, len(p.Spec.Roles))
	for _, r := range p.Spec.Roles {
		names = append(names, r.Name)
	}
	return strings.Join(names, ", ")
}

// longest is the longest window the policy allows from the start.
func (p *Policy) longest(spec *v1alpha1.ActivationSpec, role *v1alpha1.Role) time.Duration {
	l := p.Spec.Limits
	longest := v1alpha1.PositiveOr(l.MaxDuration, 4*time.Hour)
	if spec.Drill {
		longest = min(longest, v1alpha1.PositiveOr(l.DrillMaxDuration, 15*time.Minute))
	}
	if role != nil {
		longest = min(longest, v1alpha1.PositiveOr(role.MaxDuration, longest))
	}
	if spec.Duration == nil {
		longest = min(longest, v1alpha1.PositiveOr(l.DefaultDuration, 15*time.Minute))
	}
	return longest
}

// covers reports whether one of the role's hostname patterns covers host.
func covers(patterns []gwv1.Hostname, host string) bool {
	if len(patterns) == 0 {
		return true
	}
	for _, p := range patterns {
		pattern := strings.ToLower(string(p))
		if pattern == host {
			return true
		}
		suffix, wildcard := strings.CutPrefix(pattern, "*")
		// A wildcard host is covered only by a wildcard at least as wide.
		if wildcard && strings.HasSuffix(strings.TrimPrefix(host, "*"), suffix) && host != suffix {
			return true
		}
	}
	return false
}
