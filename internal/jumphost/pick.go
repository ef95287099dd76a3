package jumphost

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// refusedRole is the role of a route that the cluster refuses. It is a label's
// value, but no DNS label, and so no role of any policy.
const refusedRole = "Refused-in-the-cluster"

// Options of an export.
type Options struct {
	// Addresses of the jump host that Gateways are bound to; none: loopback.
	Addresses []string
	// PrivateKeys takes the certificates of listeners with their keys.
	PrivateKeys bool
}

// Export is what serve is to be given.
type Export struct {
	Set *source.Set
	// Told is what is not as in the cluster, one sentence each, sorted.
	Told []string
}

// ErrNothing is what the error is when there is nothing to serve.
var ErrNothing = errors.New("the cluster has no emergency Gateway that its controller accepts")

// Read makes an export of what the API server has now.
func Read(ctx context.Context, r client.Reader, o Options) (*Export, error) {
	all, err := readAll(ctx, r, kinds())
	if err != nil {
		return nil, err
	}
	return pick(ctx, all, r, o)
}

// picking is an export in the making.
type picking struct {
	all      *source.Set
	verdict  *translator.Result // of the cluster's rules
	gateways map[types.NamespacedName]bool
	sets     map[types.NamespacedName]bool
	out      map[source.ObjectKey]runtime.Object
	told     []string
}

// pick makes an export of all. direct reads what is not in all.
func pick(ctx context.Context, all *source.Set, direct client.Reader, o Options) (*Export, error) {
	p := &picking{all: all, gateways: map[types.NamespacedName]bool{}, sets: map[types.NamespacedName]bool{}, out: map[source.ObjectKey]runtime.Object{}}
	p.pickGateways(o)
	if len(p.gateways) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNothing, cmp.Or(strings.Join(p.told, "; "), "install the Helm chart of breakglass, or name another cluster"))
	}
	p.judge()
	p.pickSets()
	p.pickRoutes()
	p.pickGrants()
	if err := p.pickKeys(ctx, direct); err != nil {
		return nil, err
	}
	if err := p.pickTLSPolicies(ctx, direct); err != nil {
		return nil, err
	}
	if err := p.pickCertificates(ctx, direct, o.PrivateKeys); err != nil {
		return nil, err
	}
	if err := p.pickAuthorities(ctx, direct); err != nil {
		return nil, err
	}
	p.pickNamespaces()
	return p.export()
}

func (p *picking) tell(format string, args ...any) {
	p.told = append(p.told, fmt.Sprintf(format, args...))
}

func (p *picking) add(obj client.Object) {
	if key, ok := source.KeyOf(obj); ok {
		p.out[key] = trim(obj)
	}
}

// class of ours that a Gateway is of, nil if it is not.
func (p *picking) class(g *gwv1.Gateway) *gwv1.GatewayClass {
	c := p.all.GatewayClasses[string(g.Spec.GatewayClassName)]
	if c == nil || c.Spec.ControllerName != v1alpha1.ControllerName {
		return nil
	}
	return c
}

// pickGateways takes those that the cluster accepts, with their classes and
// policies. One whose policy is wrong is refused by serve, too, for as long.
func (p *picking) pickGateways(o Options) {
	for key, g := range p.all.Gateways {
		class := p.class(g)
		if class == nil {
			continue
		}
		c := control.Condition(g.Status.Conditions, string(gwv1.GatewayConditionAccepted))
		if c.Status != "True" && c.Reason != string(gwv1.GatewayReasonInvalidParameters) && c.Reason != string(gwv1.GatewayReasonListenersNotValid) {
			p.tell("Gateway %s is left out: %s", key, cmp.Or(c.Message, "the controller has not accepted it yet"))
			continue
		}
		p.gateways[key] = true
		bound := g.DeepCopy()
		bound.Spec.Addresses = nil
		for _, a := range o.Addresses {
			kind := gwv1.IPAddressType
			bound.Spec.Addresses = append(bound.Spec.Addresses, gwv1.GatewaySpecAddress{Type: &kind, Value: a})
		}
		p.add(bound)
		p.add(class)
		if ref := class.Spec.ParametersRef; ref != nil && ref.Kind == "EmergencyPolicy" {
			if policy := p.all.Policies[ref.Name]; policy != nil {
				p.add(policy)
			}
		}
		for _, l := range g.Spec.Listeners {
			p.tellPort("Gateway", key, l.Port)
		}
	}
}

// judge finds what the cluster's rules say of the routes.
func (p *picking) judge() {
	rules := &translator.Cluster{GatewayNamespaces: map[string]bool{}}
	for key := range p.gateways {
		rules.GatewayNamespaces[key.Namespace] = true
	}
	p.verdict = translator.Translate(translator.Input{Now: time.Now().UTC(), Objects: p.all.Objects, Cluster: rules})
}

// pickSets takes the ListenerSets that the cluster lets in: serve asks nobody but the
// Gateway.
func (p *picking) pickSets() {
	for key, st := range p.verdict.Statuses.ListenerSets {
		set := p.all.ListenerSets[key]
		parent := types.NamespacedName{Namespace: key.Namespace, Name: string(set.Spec.ParentRef.Name)}
		if ns := set.Spec.ParentRef.Namespace; ns != nil {
			parent.Namespace = string(*ns)
		}
		c := control.Condition(st.Conditions, string(gwv1.ListenerSetConditionAccepted))
		switch {
		case !p.gateways[parent]:
		case c.Reason == string(gwv1.ListenerSetReasonNotAllowed):
			p.tell("ListenerSet %s is left out, as in the cluster: %s", key, c.Message)
		default:
			p.sets[key] = true
			p.add(set)
			for _, l := range set.Spec.Listeners {
				p.tellPort("ListenerSet", key, l.Port)
			}
		}
	}
}

// tellPort of a listener that not everybody may bind.
func (p *picking) tellPort(kind string, key types.NamespacedName, port gwv1.PortNumber) {
	if port < 1024 {
		p.tell("%s %s listens on port %d, which is below 1024: run serve there as root, or give it CAP_NET_BIND_SERVICE", kind, key, port)
	}
}

// pickRoutes takes the routes of the Gateways, and what they reach.
func (p *picking) pickRoutes() {
	services := map[types.NamespacedName]bool{}
	for key, route := range translator.RoutesOf(&p.all.Objects) {
		if !p.attached(route) {
			continue
		}
		refused := p.refused(key)
		obj := p.all.Object(source.ObjectKey{Kind: key.Kind, Namespace: key.Namespace, Name: key.Name}).(client.Object)
		if refused != "" {
			p.tell("%s opens nothing, as in the cluster: %s", key, refused)
			obj = obj.DeepCopyObject().(client.Object)
			labels := maps.Clone(obj.GetLabels())
			if labels == nil {
				labels = map[string]string{}
			}
			labels[v1alpha1.RoleLabel] = refusedRole
			obj.SetLabels(labels)
		}
		p.add(obj)
		for i := range route.Spec.Rules {
			for _, b := range translator.BackendRefs(&route.Spec.Rules[i]) {
				svc := translator.Named(key.Namespace, b.Namespace, b.Name)
				services[svc] = services[svc] || refused == ""
			}
		}
	}
	for key, reached := range services {
		if svc := p.all.Services[key]; svc != nil && reached {
			p.add(svc)
		}
	}
	p.pickEndpoints(services)
}

func (p *picking) attached(route *gwv1.HTTPRoute) bool {
	return slices.ContainsFunc(route.Spec.ParentRefs, func(ref gwv1.ParentReference) bool {
		key := translator.Named(route.Namespace, ref.Namespace, ref.Name)
		if ref.Group != nil && *ref.Group != gwv1.GroupName {
			return false
		}
		if ref.Kind != nil && *ref.Kind == "ListenerSet" {
			return p.sets[key]
		}
		return (ref.Kind == nil || *ref.Kind == "Gateway") && p.gateways[key]
	})
}

// refused says why no parent of a route accepts it in the cluster, "" if one does.
func (p *picking) refused(key activation.RouteKey) string {
	why := ""
	for _, parent := range p.verdict.Statuses.Routes[key].Parents {
		c := control.Condition(parent.Conditions, string(gwv1.RouteConditionAccepted))
		if c.Status == metav1.ConditionTrue {
			return ""
		}
		why = cmp.Or(why, c.Message)
	}
	return why
}

// pickEndpoints takes those of the Services. One that is not for an emergency route
// takes all of its Service with it, as it does in the cluster.
func (p *picking) pickEndpoints(services map[types.NamespacedName]bool) {
	of := map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
	for key, s := range p.all.EndpointSlices {
		svc := types.NamespacedName{Namespace: key.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
		if services[svc] {
			of[svc] = append(of[svc], s)
		}
	}
	for svc, all := range of {
		if why := unreachable(all); why != "" {
			p.tell("Service %s has no endpoints here: %s: it is no backend of an emergency route", svc, why)
			continue
		}
		for _, s := range all {
			p.add(s)
		}
	}
}

func unreachable(all []*discoveryv1.EndpointSlice) string {
	for _, s := range all {
		for _, e := range s.Endpoints {
			for _, text := range e.Addresses {
				a, err := netip.ParseAddr(text)
				if err != nil {
					continue // serve has its own word for it
				}
				if why := translator.Unreachable(a); why != "" {
					return text + " " + why
				}
			}
		}
	}
	return ""
}

// pickGrants takes those that let routes or Gateways which are taken reach
// something.
func (p *picking) pickGrants() {
	from := map[string]bool{}
	for key := range p.out {
		if key.Kind == "Gateway" || key.Kind == "ListenerSet" || key.Kind == v1alpha1.KindHTTPRoute || key.Kind == v1alpha1.KindGRPCRoute {
			from[key.Namespace] = true
		}
	}
	for _, grant := range p.all.ReferenceGrants {
		if slices.ContainsFunc(grant.Spec.From, func(f gwv1.ReferenceGrantFrom) bool {
			return f.Group == gwv1.GroupName && from[string(f.Namespace)]
		}) {
			p.add(grant)
		}
	}
}

// pickNamespaces takes those that something taken is in.
func (p *picking) pickNamespaces() {
	names := map[string]bool{}
	for key := range p.out {
		names[key.Namespace] = true
	}
	for name := range names {
		if ns := p.all.Namespaces[name]; ns != nil {
			p.add(ns)
		}
	}
}

// export checks each object as serve would if it read it from a file. If it would
// not take one there is no export: what is missing may be what keeps another shut.
func (p *picking) export() (*Export, error) {
	var errs []error
	objects := make([]source.Object, 0, len(p.out))
	for key, obj := range p.out {
		for _, problem := range source.ValidateObject(obj, nil) {
			errs = append(errs, fmt.Errorf("%s: %s: %s: %s", key, problem.Field, problem.Message, problem.Remedy))
		}
		objects = append(objects, source.Object{Key: key, Object: obj})
	}
	if len(errs) > 0 {
		slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return nil, fmt.Errorf("serve would not take this: %w", errors.Join(errs...))
	}
	slices.Sort(p.told)
	return &Export{Set: source.NewSet(objects), Told: slices.Compact(p.told)}, nil
}
