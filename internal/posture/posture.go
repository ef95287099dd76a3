// Package posture says what manifests would let happen: which routes there are,
// where they are reached, what they reach, and which roles could open them for how
// long. Reviewers ask for it (lint, diff), no data plane does.
//
// What is served and accepted is the translator's word; what is added here is
// arithmetic on the objects.
package posture

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// Posture is what a set of manifests would let happen. All lists are sorted.
type Posture struct {
	Objects  translator.Objects
	Result   *translator.Result
	Gateways []*Gateway
	Routes   []*Route

	upstreams *translator.Upstreams
}

// Gateway is an emergency Gateway: one of a GatewayClass of ours.
type Gateway struct {
	Key    types.NamespacedName
	Object *gwv1.Gateway
	Class  *gwv1.GatewayClass
	// Policy that governs it. Nil: nothing can be opened.
	Policy    *v1alpha1.EmergencyPolicy
	Addresses []netip.Addr
	// Listeners of its own, and of the ListenerSets that it lets in.
	Listeners []*Listener
}

// Listener with the object that has it, and where.
type Listener struct {
	*gwv1.Listener
	Kind  string // Gateway or ListenerSet
	Key   types.NamespacedName
	Field string
}

// Text says which it is among those of its Gateway.
func (l *Listener) Text() string {
	if l.Kind == "Gateway" {
		return string(l.Name)
	}
	return fmt.Sprintf("%s of %s %s", l.Name, l.Kind, l.Key)
}

// Route is a route with at least one emergency Gateway as its parent.
type Route struct {
	Key      activation.RouteKey
	Object   *gwv1.HTTPRoute // a GRPCRoute in its shape
	Role     string          // its label
	Gateways []*Gateway
	Policies []*v1alpha1.EmergencyPolicy
	// Places at which it would be served.
	Places []Place
	// Refused says why no parent accepts it. Empty: one does.
	Refused string
	// Openers are the roles that could open it.
	Openers []Opener
}

// Place is a listener that serves a route, and one of the hostnames.
type Place struct {
	Gateway  *Gateway
	Listener *gwv1.Listener
	Host     string // lower case; "*" for any
}

// URL without a path.
func (p Place) URL() string {
	return fmt.Sprintf("%s://%s:%d", strings.ToLower(string(p.Listener.Protocol)), p.Host, p.Listener.Port)
}

// Opener is a role that could open a route.
type Opener struct {
	Policy *v1alpha1.EmergencyPolicy
	Role   *v1alpha1.Role
	// Longest window.
	Longest time.Duration
}

// Of finds the posture of objects at a time. Nothing is open in it.
func Of(objects translator.Objects, now time.Time) *Posture {
	dormant := objects
	dormant.Activations = nil
	p := &Posture{Objects: objects, Result: translator.Translate(translator.Input{Objects: dormant, Now: now}), upstreams: translator.NewUpstreams(objects)}
	for _, key := range SortedKeys(objects.Gateways) {
		if g := p.gateway(key, objects.Gateways[key]); g != nil {
			p.Gateways = append(p.Gateways, g)
		}
	}
	routes := translator.RoutesOf(&objects)
	for _, key := range slices.SortedFunc(maps.Keys(routes), activation.RouteKey.Compare) {
		if r := p.route(key, routes[key]); r != nil {
			p.Routes = append(p.Routes, r)
		}
	}
	return p
}

// Short is a duration as people write it: 30m, not 30m0s.
func Short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// SortedKeys of a map of objects.
func SortedKeys[V any](m map[types.NamespacedName]V) []types.NamespacedName {
	return slices.SortedFunc(maps.Keys(m), func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

func (p *Posture) gateway(key types.NamespacedName, obj *gwv1.Gateway) *Gateway {
	class := p.Objects.GatewayClasses[string(obj.Spec.GatewayClassName)]
	if class == nil || string(class.Spec.ControllerName) != v1alpha1.ControllerName {
		return nil
	}
	g := &Gateway{Key: key, Object: obj, Class: class}
	if ref := class.Spec.ParametersRef; ref != nil && string(ref.Kind) == "EmergencyPolicy" {
		g.Policy = p.Objects.Policies[ref.Name]
	}
	for _, a := range obj.Spec.Addresses {
		if ip, err := netip.ParseAddr(a.Value); err == nil {
			g.Addresses = append(g.Addresses, ip)
		}
	}
	if len(obj.Spec.Addresses) == 0 {
		g.Addresses = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	}
	for i := range obj.Spec.Listeners {
		g.Listeners = append(g.Listeners, &Listener{&obj.Spec.Listeners[i], "Gateway", key, fmt.Sprintf("spec.listeners[%d]", i)})
	}
	for _, set := range SortedKeys(p.Objects.ListenerSets) {
		if p.letIn(set, key) {
			for i, l := range p.Objects.ListenerSets[set].Spec.Listeners {
				spec := gwv1.Listener(l)
				g.Listeners = append(g.Listeners, &Listener{&spec, "ListenerSet", set, fmt.Sprintf("spec.listeners[%d]", i)})
			}
		}
	}
	return g
}

// letIn reports whether a Gateway takes the listeners of a ListenerSet.
func (p *Posture) letIn(set, gateway types.NamespacedName) bool {
	st, ours := p.Result.Statuses.ListenerSets[set]
	return ours && setParent(p.Objects.ListenerSets[set]) == gateway && !slices.ContainsFunc(st.Conditions, func(c metav1.Condition) bool {
		return c.Reason == string(gwv1.ListenerSetReasonNotAllowed)
	})
}

func setParent(set *gwv1.ListenerSet) types.NamespacedName {
	key := types.NamespacedName{Namespace: set.Namespace, Name: string(set.Spec.ParentRef.Name)}
	if ns := set.Spec.ParentRef.Namespace; ns != nil {
		key.Namespace = string(*ns)
	}
	return key
}

// Loopback reports whether it is reached from its own host only.
func (g *Gateway) Loopback() bool {
	return !slices.ContainsFunc(g.Addresses, func(a netip.Addr) bool { return !a.IsLoopback() })
}

func (p *Posture) route(key activation.RouteKey, obj *gwv1.HTTPRoute) *Route {
	r := &Route{Key: key, Object: obj, Role: obj.Labels[v1alpha1.RoleLabel]}
	for _, ref := range obj.Spec.ParentRefs {
		g, of := p.Parent(key.NamespacedName, ref)
		if g == nil {
			continue
		}
		if !slices.Contains(r.Gateways, g) {
			r.Gateways = append(r.Gateways, g)
		}
		p.place(r, g, of, ref)
		if g.Policy != nil && !slices.Contains(r.Policies, g.Policy) {
			r.Policies = append(r.Policies, g.Policy)
		}
	}
	if len(r.Gateways) == 0 {
		return nil
	}
	r.Refused = refused(p.Result.Statuses.Routes[key].Parents)
	slices.SortStableFunc(r.Places, func(a, b Place) int { return cmp.Compare(a.URL(), b.URL()) })
	r.openers()
	return r
}

// refused is the first reason why a parent does not accept a route, if none does.
func refused(parents []gwv1.RouteParentStatus) (why string) {
	for _, parent := range parents {
		for _, c := range parent.Conditions {
			switch {
			case c.Type != string(gwv1.RouteConditionAccepted):
			case c.Status == metav1.ConditionTrue:
				return ""
			case why == "":
				why = c.Message
			}
		}
	}
	return why
}

// Parent is the emergency Gateway that a parentRef of a route means, nil if none, and
// the key of the object that it names: that Gateway, or a ListenerSet of it.
func (p *Posture) Parent(route types.NamespacedName, ref gwv1.ParentReference) (*Gateway, types.NamespacedName) {
	key := translator.Named(route.Namespace, ref.Namespace, ref.Name)
	named := key
	switch {
	case ref.Group != nil && *ref.Group != gwv1.GroupName:
		return nil, named
	case ref.Kind == nil || *ref.Kind == "Gateway":
	case *ref.Kind == "ListenerSet" && p.Objects.ListenerSets[key] != nil:
		key = setParent(p.Objects.ListenerSets[key])
	default:
		return nil, named
	}
	for _, g := range p.Gateways {
		if g.Key == key {
			return g, named
		}
	}
	return nil, named
}

// place finds the listeners that a parentRef means and that let the route in, with
// the hostnames that they have in common with it.
func (p *Posture) place(r *Route, g *Gateway, of types.NamespacedName, ref gwv1.ParentReference) {
	kind := "Gateway"
	if ref.Kind != nil {
		kind = string(*ref.Kind)
	}
	for _, l := range g.Listeners {
		named := l.Kind == kind && l.Key == of && (ref.SectionName == nil || *ref.SectionName == l.Name) && (ref.Port == nil || *ref.Port == l.Port)
		if !named || !translator.AllowsKind(l.Listener, r.Key.Kind) || !translator.Allows(l.Listener, l.Key.Namespace, r.Key.Namespace, p.Objects.Namespaces) {
			continue
		}
		for _, h := range common(l.Hostname, r.Object.Spec.Hostnames) {
			at := Place{Gateway: g, Listener: l.Listener, Host: h}
			if !slices.Contains(r.Places, at) {
				r.Places = append(r.Places, at)
			}
		}
	}
}

// common are the hostnames that a listener and a route have in common.
func common(listener *gwv1.Hostname, route []gwv1.Hostname) []string {
	bound := ""
	if listener != nil {
		bound = strings.ToLower(string(*listener))
	}
	return translator.CommonHostnames(bound, route)
}

// openers asks the activation package which roles the policy lets open the route.
func (r *Route) openers() {
	if len(r.Policies) != 1 {
		return
	}
	policy := &activation.Policy{Name: r.Policies[0].Name, Spec: r.Policies[0].Spec}
	asked := &activation.Route{Key: r.Key, Role: r.Role, Policies: []*activation.Policy{policy}}
	for _, p := range r.Places {
		asked.Hostnames = append(asked.Hostnames, p.Host)
	}
	for i := range r.Policies[0].Spec.Roles {
		role := &r.Policies[0].Spec.Roles[i]
		if activation.Entitled(asked, role.Name) == nil {
			r.Openers = append(r.Openers, Opener{r.Policies[0], role, policy.Longest(role.Name, false)})
		}
	}
}
