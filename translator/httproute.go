package translator

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/compare"
)

// route is an HTTPRoute or a GRPCRoute with at least one parent of ours.
type route struct {
	key     activation.RouteKey
	obj     *gwv1.HTTPRoute // of a GRPCRoute: what it is as one
	grpc    *gwv1.GRPCRoute // nil for an HTTPRoute
	digest  string          // of its spec
	role    string          // label breakglass.dev/role
	parents []*parent
	rules   []*rule
	// unsupported and violation say why the whole route is refused.
	unsupported, violation, foreign string
	resolved                        condition
	decision                        *activation.Route
	services                        []types.NamespacedName // that its backendRefs name
	scopes                          []*scope               // where it has its place
	live                            condition              // as last told in its status
}

// parent is one parentRef to a Gateway of ours.
type parent struct {
	ref      gwv1.ParentReference
	gateway  *gateway
	set      *listenerSet // nil: the Gateway itself
	attached []attachment
	fits     condition // accepted, if no route of the other kind were there
	clash    *clash    // nil: none is
	accepted condition
}

// attachment is a listener with the hostnames on which it serves the route.
type attachment struct {
	listener  *listener
	hostnames []string
}

func (r *route) owner() string { return r.key.String() }

// resolveRoutes brings the routes up to date, or resolves all of them anew.
func (s *state) resolveRoutes(anew bool) {
	if s.routes == nil {
		s.routes = map[activation.RouteKey]*route{}
		s.users = map[types.NamespacedName]map[activation.RouteKey]bool{}
	}
	stale := s.staleRoutes()
	if anew {
		for key := range s.in.HTTPRoutes {
			stale[activation.HTTPRoute(key)] = true
		}
		for key := range s.in.GRPCRoutes {
			stale[activation.GRPCRoute(key)] = true
		}
		for key := range s.routes {
			stale[key] = true
		}
	}
	for key := range stale {
		if old := s.routes[key]; old != nil {
			s.takeOut(old)
		}
		if r := s.readRoute(key); r != nil && s.resolveRoute(r) {
			s.putIn(r)
		}
		s.touched[key] = true
	}
	s.settleClashes()
}

// readRoute is nil if there is none.
func (s *state) readRoute(key activation.RouteKey) *route {
	if key.Kind == v1alpha1.KindGRPCRoute {
		if obj := s.in.GRPCRoutes[key.NamespacedName]; obj != nil {
			return grpcRoute(key, obj)
		}
		return nil
	}
	if obj := s.in.HTTPRoutes[key.NamespacedName]; obj != nil {
		return &route{key: key, obj: obj, digest: activation.Digest(obj.Spec)}
	}
	return nil
}

// staleRoutes are those of which something that they are made of has changed.
func (s *state) staleRoutes() map[activation.RouteKey]bool {
	stale := map[activation.RouteKey]bool{}
	for key := range compare.Keys(s.was.HTTPRoutes, s.in.HTTPRoutes) {
		stale[activation.HTTPRoute(key)] = true
	}
	for key := range compare.Keys(s.was.GRPCRoutes, s.in.GRPCRoutes) {
		stale[activation.GRPCRoute(key)] = true
	}
	touch := func(service types.NamespacedName) {
		s.lookAt(service)
		for key := range s.users[service] {
			stale[key] = true
		}
	}
	for key := range compare.Keys(s.was.Services, s.in.Services) {
		touch(key)
	}
	s.indexEndpoints(touch)
	s.resolveTLSPolicies(touch)
	return stale
}

// resolveRoute reports whether the route is ours.
func (s *state) resolveRoute(r *route) bool {
	r.role = r.obj.Labels[v1alpha1.RoleLabel]
	for _, ref := range r.obj.Spec.ParentRefs {
		if g, set := s.parentGateway(r.key, ref); g != nil {
			r.parents = append(r.parents, &parent{ref: ref, gateway: g, set: set})
		}
	}
	if len(r.parents) == 0 {
		return false
	}
	s.resolveRules(r)
	for _, p := range r.parents {
		s.attach(r, p)
	}
	r.violation, r.foreign = r.scopeViolation(), s.foreign(r)
	for _, p := range r.parents {
		p.judge(r)
		p.fits = p.accepted
	}
	r.decision = s.decisionRoute(r)
	return true
}

// putIn adds a route to whatever counts and finds it.
func (s *state) putIn(r *route) {
	s.routes[r.key] = r
	for _, svc := range r.services {
		if s.users[svc] == nil {
			s.users[svc] = map[activation.RouteKey]bool{}
		}
		s.users[svc][r.key] = true
		s.lookAt(svc)
	}
	r.count(1)
	for _, p := range r.parents {
		if p.placed() {
			s.place(r, p)
		}
	}
}

// takeOut undoes putIn.
func (s *state) takeOut(r *route) {
	delete(s.routes, r.key)
	for _, svc := range r.services {
		s.lookAt(svc)
		if delete(s.users[svc], r.key); len(s.users[svc]) == 0 {
			delete(s.users, svc)
		}
	}
	r.count(-1)
	for _, sc := range r.scopes {
		sc.remove(r)
		s.scopes[sc] = true
	}
	r.scopes = nil
}

// count adds n to the routes of r's Gateways, and to the attached routes of its
// listeners, of which several parentRefs may name one.
func (r *route) count(n int32) {
	counted := map[*listener]bool{}
	for _, p := range r.parents {
		p.gateway.parents[r.key.Kind] += int(n)
		p.gateway.stirred = true
		for _, a := range p.attached {
			if p.accepted.ok() && !counted[a.listener] {
				counted[a.listener] = true
				a.listener.attached += n
			}
		}
	}
}

// parentGateway is the Gateway of ours that a parentRef means, and the ListenerSet of it
// that it names, if it names one.
func (s *state) parentGateway(route activation.RouteKey, ref gwv1.ParentReference) (*gateway, *listenerSet) {
	if set := s.parentSet(route, ref); set != nil {
		return set.gateway, set
	}
	if ref.Group != nil && *ref.Group != gwv1.GroupName || ref.Kind != nil && *ref.Kind != "Gateway" {
		return nil, nil
	}
	key := Named(route.Namespace, ref.Namespace, ref.Name)
	for _, g := range s.gateways {
		if g.key == key {
			return g, nil
		}
	}
	return nil, nil
}

// String is the object that the parentRef names.
func (p *parent) String() string {
	if p.set != nil {
		return "ListenerSet " + p.set.key.String()
	}
	return "Gateway " + p.gateway.key.String()
}

func (p *parent) home() string {
	if p.set != nil {
		return p.set.key.Namespace
	}
	return p.gateway.key.Namespace
}

// names reports whether the parentRef means the listener. Who names the Gateway does not
// mean its sets, nor the reverse.
func (p *parent) names(l *listener) bool {
	return l.set == p.set && (p.ref.SectionName == nil || *p.ref.SectionName == l.spec.Name) && (p.ref.Port == nil || *p.ref.Port == l.spec.Port)
}

// attach finds the listeners that take the route, with their hostnames.
func (s *state) attach(r *route, p *parent) {
	named, allowed, notOptedIn := false, false, s.optedIn(r.key.Namespace)
	for _, l := range p.gateway.listeners {
		if !p.names(l) {
			continue
		}
		named = true
		if !Allows(l.spec, p.home(), r.key.Namespace, s.in.Namespaces) || !l.supports(gwv1.Kind(r.key.Kind)) {
			continue
		}
		allowed = true
		if notOptedIn != "" {
			continue // it takes no place: it would be a 404 in somebody else's route
		}
		if hosts := CommonHostnames(l.hostname, r.obj.Spec.Hostnames); len(hosts) > 0 {
			p.attached = append(p.attached, attachment{l, hosts})
		}
	}
	refused := func(reason gwv1.RouteConditionReason, message string) {
		p.accepted = no(string(gwv1.RouteConditionAccepted), string(reason), message)
	}
	p.accepted = yes(string(gwv1.RouteConditionAccepted), string(gwv1.RouteReasonAccepted))
	switch {
	case p.set != nil && p.set.refused != "":
		refused(gwv1.RouteReasonNoMatchingParent, fmt.Sprintf("%s is not accepted: %s", p, p.set.refused))
	case !named:
		refused(gwv1.RouteReasonNoMatchingParent, fmt.Sprintf("%s has no listener that fits sectionName and port", p))
	case notOptedIn != "":
		refused(gwv1.RouteReasonNotAllowedByListeners, notOptedIn)
	case !allowed:
		refused(gwv1.RouteReasonNotAllowedByListeners, fmt.Sprintf("no listener of %s allows %ss of namespace %s (allowedRoutes)", p, r.key.Kind, r.key.Namespace))
	case len(p.attached) == 0:
		refused(gwv1.RouteReasonNoMatchingListenerHostname, fmt.Sprintf("no listener of %s has a hostname that fits spec.hostnames", p))
	}
}

// judge adds what is wrong with the route itself.
func (p *parent) judge(r *route) {
	switch {
	case !p.accepted.ok():
	case r.foreign != "":
		p.accepted = no(string(gwv1.RouteConditionAccepted), "ForeignParent", r.foreign)
	case r.unsupported != "":
		p.accepted = no(string(gwv1.RouteConditionAccepted), string(gwv1.RouteReasonUnsupportedValue), r.unsupported)
	case r.violation != "":
		p.accepted = no(string(gwv1.RouteConditionAccepted), "ScopeViolation", r.violation)
	}
}

// placed reports whether the route takes its place in the match order of p's
// Gateway. A refused route does too: what it names answers 404. But routes of two
// kinds never stand in one order (Gateway API, GRPCRouteSpec.hostnames).
func (p *parent) placed() bool { return len(p.attached) > 0 && p.clash == nil }

// decisionRoute is the route as the activation package sees it.
func (s *state) decisionRoute(r *route) *activation.Route {
	d := &activation.Route{
		Key: r.key, Role: r.role, Digest: r.digest,
		Named: map[string]string{}, URLs: map[string][]string{},
	}
	policies := map[string]*policy{}
	hosts := map[string]bool{}
	// A parent that does not take the route has no say in whether others do.
	var refused string
	taken := false
	for _, p := range r.parents {
		if pol := p.gateway.class.policy; pol != nil {
			policies[pol.obj.Name] = pol
		}
		if taken = taken || p.accepted.ok(); !p.accepted.ok() {
			refused = fmt.Sprintf("%s is not accepted by %s: %s", r.key, p, p.accepted.message)
		}
		for _, a := range p.attached {
			for _, h := range a.hostnames {
				hosts[h] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(policies)) {
		d.Policies = append(d.Policies, policies[name].decision)
	}
	d.Hostnames = slices.Sorted(maps.Keys(hosts))
	for _, ru := range r.rules {
		d.Rules = append(d.Rules, ru.key)
		if ru.spec.Name != nil {
			d.Named[string(*ru.spec.Name)] = ru.key
		}
		d.URLs[ru.key] = r.urls(ru)
	}
	if !taken {
		d.Blocked = activation.Blocked{Reason: "RouteNotAccepted", Message: refused}
	}
	return d
}

// urls that answer when the rule is open, for people to paste.
func (r *route) urls(ru *rule) []string {
	var out []string
	for _, p := range r.parents {
		for _, a := range p.attached {
			if !a.listener.serving() {
				continue
			}
			for _, h := range a.hostnames {
				if p.gateway.mostSpecific(a.listener, h) != a.listener {
					continue
				}
				for _, m := range ru.matches {
					u := strings.ToLower(string(a.listener.spec.Protocol)) + "://" + h
					if !(a.listener.tls() && a.listener.spec.Port == 443 || !a.listener.tls() && a.listener.spec.Port == 80) {
						u += fmt.Sprintf(":%d", a.listener.spec.Port)
					}
					u += m.path
					if !slices.Contains(out, u) {
						out = append(out, u)
					}
				}
			}
		}
	}
	return out
}

// before reports in which order routes compete: the older first, then by name.
func (r *route) before(o *route) int {
	return cmp.Or(
		r.obj.CreationTimestamp.Compare(o.obj.CreationTimestamp.Time),
		r.key.Compare(o.key))
}
