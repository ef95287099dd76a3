package translator

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/internal/compare"
	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
)

// backend is one backendRef, resolved.
type backend struct {
	weight int32
	lock.Backend
	// broken: it cannot be resolved, and answers an error to its share of the requests.
	broken  bool
	filters filters // request and response only
}

// indexEndpoints brings s.slices up to date, and calls touch with each Service
// whose endpoints may be others now.
func (s *state) indexEndpoints(touch func(service types.NamespacedName)) {
	if s.slices == nil {
		s.slices = map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
	}
	for key := range compare.Keys(s.was.EndpointSlices, s.in.EndpointSlices) {
		if old := s.was.EndpointSlices[key]; old != nil {
			if svc, named := serviceOf(key, old); named {
				s.slices[svc] = slices.DeleteFunc(s.slices[svc], func(o *discoveryv1.EndpointSlice) bool { return o == old })
				touch(svc)
			}
		}
		if now := s.in.EndpointSlices[key]; now != nil {
			if svc, named := serviceOf(key, now); named {
				s.slices[svc] = append(s.slices[svc], now)
				touch(svc)
			}
		}
	}
}

func serviceOf(key types.NamespacedName, s *discoveryv1.EndpointSlice) (svc types.NamespacedName, named bool) {
	name := s.Labels[discoveryv1.LabelServiceName]
	return types.NamespacedName{Namespace: key.Namespace, Name: name}, name != ""
}

// resolveBackends resolves the backendRefs of a rule and those of its mirrors, and
// tells of each that cannot be resolved. The error is of what is not supported.
func (s *state) resolveBackends(ru *rule) (unsupported error) {
	for i, ref := range ru.spec.BackendRefs {
		field := fmt.Sprintf("backendRefs[%d]", i)
		b := s.resolveBackend(ru, field, ref.BackendObjectReference)
		b.weight = 1
		if ref.Weight != nil {
			b.weight = *ref.Weight
		}
		var err error
		if b.filters, err = readBackendFilters(ref.Filters); err != nil && unsupported == nil {
			unsupported = fmt.Errorf("%s.%w", field, err)
		}
		if len(b.filters.request) > 0 && len(ru.filters.mirrors) > 0 && unsupported == nil {
			unsupported = fmt.Errorf("%s.filters: the copies of RequestMirror would have the headers that are meant for this backend: modify them in spec.rules[].filters, or mirror in another rule", field)
		}
		ru.backends = append(ru.backends, b)
	}
	for _, m := range ru.filters.mirrors {
		m.backend = s.resolveBackend(ru, fmt.Sprintf("filters[%d].requestMirror.backendRef", m.index), m.ref)
		ru.mirrors = append(ru.mirrors, m)
	}
	return unsupported
}

// resolveBackend resolves one reference. The reason that the status gives is that
// of the first that is broken.
func (s *state) resolveBackend(ru *rule, field string, ref gwv1.BackendObjectReference) backend {
	var b backend
	svc, reason, err := s.service(ru.route, ref)
	if err == nil {
		b.Backend, reason, err = s.endpoints(svc, ref.Port)
		b.HTTP2 = b.HTTP2 || ru.route.grpc != nil // gRPC is HTTP/2, whatever the Service says
	}
	if err != nil {
		b.broken = true
		message := fmt.Sprintf("spec.rules[%d].%s: %v", ru.index, field, err)
		if was := ru.route.resolved; !was.ok() {
			reason, message = gwv1.RouteConditionReason(was.reason), was.message+"; "+message
		}
		ru.route.resolved = no(string(gwv1.RouteConditionResolvedRefs), string(reason), message)
	}
	return b
}

// BackendRefs are the references of a rule to backends, those of its mirrors too.
func BackendRefs(rule *gwv1.HTTPRouteRule) []gwv1.BackendObjectReference {
	var out []gwv1.BackendObjectReference
	for _, b := range rule.BackendRefs {
		out = append(out, b.BackendObjectReference)
	}
	for _, f := range rule.Filters {
		if f.Type == gwv1.HTTPRouteFilterRequestMirror && f.RequestMirror != nil {
			out = append(out, f.RequestMirror.BackendRef)
		}
	}
	return out
}

func (s *state) service(r *route, ref gwv1.BackendObjectReference) (*corev1.Service, gwv1.RouteConditionReason, error) {
	if ref.Group != nil && *ref.Group != "" || ref.Kind != nil && *ref.Kind != "Service" {
		return nil, gwv1.RouteReasonInvalidKind, fmt.Errorf("only a core Service can be a backend")
	}
	namespace, key := r.key.Namespace, r.serviceKey(ref)
	r.services = append(r.services, key)
	if key.Namespace != namespace && !s.granted(reference{fromKind: r.key.Kind, fromNamespace: namespace, toKind: "Service", to: key}) {
		return nil, gwv1.RouteReasonRefNotPermitted, fmt.Errorf("Service %s is in another namespace and no ReferenceGrant there permits it", key)
	}
	svc := s.in.Services[key]
	switch {
	case svc == nil:
		return nil, gwv1.RouteReasonBackendNotFound, fmt.Errorf("Service %s does not exist", key)
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		return nil, gwv1.RouteReasonInvalidKind, fmt.Errorf("Service %s is of type ExternalName, which could name anything: use a Service with endpoints", key)
	}
	return svc, "", nil
}

func (r *route) serviceKey(ref gwv1.BackendObjectReference) types.NamespacedName {
	key := Named(r.key.Namespace, ref.Namespace, ref.Name)
	return key
}

// endpoints of a Service's port that are ready, sorted.
func (s *state) endpoints(svc *corev1.Service, port *gwv1.PortNumber) (lock.Backend, gwv1.RouteConditionReason, error) {
	key := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
	if port == nil {
		return lock.Backend{}, gwv1.RouteReasonInvalidKind, fmt.Errorf("port is required for Service %s", key)
	}
	i := slices.IndexFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == int32(*port) })
	if i < 0 {
		return lock.Backend{}, gwv1.RouteReasonBackendNotFound, fmt.Errorf("Service %s has no port %d", key, *port)
	}
	sp := svc.Spec.Ports[i]
	var b lock.Backend
	proto := appProtocols[appProtocol(sp)]
	if proto == nil {
		return lock.Backend{}, gwv1.RouteReasonUnsupportedProtocol, fmt.Errorf("Service %s port %d: appProtocol %s is not supported: http, https, kubernetes.io/h2c, kubernetes.io/ws and kubernetes.io/wss are", key, *port, deref(sp.AppProtocol))
	}
	var err error
	if b.TLS, err = s.upstreamTLS(svc, sp); err != nil {
		return lock.Backend{}, "BackendTLSPolicyNotValid", fmt.Errorf("Service %s port %d: %w", key, *port, err)
	}
	if b.HTTP2 = proto.http2; b.TLS == nil && needsTLS(sp) {
		return lock.Backend{}, gwv1.RouteReasonUnsupportedProtocol, fmt.Errorf("Service %s port %d: appProtocol %s without a BackendTLSPolicy that targets the Service: nothing says whom to trust, and it is not reached unverified, or in plain text: make one",
			key, *port, deref(sp.AppProtocol))
	}
	for _, slice := range s.slices[key] {
		b.Endpoints = append(b.Endpoints, sliceEndpoints(slice, sp.Name)...)
	}
	for _, e := range b.Endpoints {
		if why := s.unreachable(e.Addr()); why != "" {
			return lock.Backend{}, "BackendNotAllowed", fmt.Errorf("Service %s has the endpoint %s, which %s: it is no backend of an emergency route", key, e.Addr(), why)
		}
	}
	slices.SortFunc(b.Endpoints, func(x, y netip.AddrPort) int {
		return cmp.Or(x.Addr().Compare(y.Addr()), cmp.Compare(x.Port(), y.Port()))
	})
	b.Endpoints = slices.Compact(b.Endpoints)
	return b, "", nil
}

// protocol is what an appProtocol says of a port.
type protocol struct{ http2, tls bool }

// appProtocols that are spoken: https of IANA, and those of KEP-3726. TLS is made
// by a BackendTLSPolicy, whatever the appProtocol: HTTP/2 is then agreed on in the
// handshake.
var appProtocols = map[string]*protocol{
	"": {}, "http": {}, "kubernetes.io/ws": {}, "kubernetes.io/h2c": {http2: true}, "grpc": {http2: true},
	"https": {tls: true}, "kubernetes.io/wss": {tls: true},
}

// appProtocol of a port: names of IANA are the same in upper and lower case (RFC 6335).
func appProtocol(p corev1.ServicePort) string { return strings.ToLower(deref(p.AppProtocol)) }

// needsTLS reports whether a port is not to be spoken to in plain text.
func needsTLS(p corev1.ServicePort) bool {
	proto := appProtocols[appProtocol(p)]
	return proto != nil && proto.tls
}

func sliceEndpoints(slice *discoveryv1.EndpointSlice, portName string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, p := range slice.Ports {
		if deref(p.Name) != portName || p.Port == nil || *p.Port < 1 || *p.Port > 65535 {
			continue
		}
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, a := range e.Addresses {
				if ip, err := netip.ParseAddr(a); err == nil {
					out = append(out, netip.AddrPortFrom(ip, uint16(*p.Port)))
				}
			}
		}
	}
	return out
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
