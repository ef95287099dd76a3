package posture

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Backend is what one reference of a route to a backend reaches.
type Backend struct {
	// Field is the reference, as spec.rules[0].backendRefs[0].
	Field string
	// Copies: it gets copies of requests, and nobody its answers.
	Copies  bool
	Service types.NamespacedName
	Port    int32
	// Object is nil if the Service is not in the manifests.
	Object *corev1.Service
	// Endpoints of the Service that are ready.
	Endpoints []Endpoint
	// Spoken is how it is spoken to, "" for not at all; Secure: over TLS.
	Spoken string
	Secure bool
}

// Endpoint is an address, and the EndpointSlice that has it.
type Endpoint struct {
	netip.AddrPort
	Slice types.NamespacedName
}

// Backends of a route, in order.
func (p *Posture) Backends(r *Route) []Backend {
	var out []Backend
	add := func(field string, ref gwv1.BackendObjectReference, copies bool) {
		b := Backend{Field: field, Copies: copies, Service: types.NamespacedName{Namespace: r.Key.Namespace, Name: string(ref.Name)}}
		if ref.Namespace != nil {
			b.Service.Namespace = string(*ref.Namespace)
		}
		if ref.Port != nil {
			b.Port = int32(*ref.Port)
		}
		b.Object = p.Objects.Services[b.Service]
		p.endpoints(&b)
		if b.Object != nil {
			b.Spoken, b.Secure, _ = p.upstreams.Describe(b.Object, b.Port) // what is wrong is told of the policy
		}
		out = append(out, b)
	}
	for i, rule := range r.Object.Spec.Rules {
		for j, ref := range rule.BackendRefs {
			add(fmt.Sprintf("spec.rules[%d].backendRefs[%d]", i, j), ref.BackendObjectReference, false)
		}
		for j, f := range rule.Filters {
			if f.RequestMirror != nil {
				add(fmt.Sprintf("spec.rules[%d].filters[%d].requestMirror.backendRef", i, j), f.RequestMirror.BackendRef, true)
			}
		}
	}
	return out
}

func (p *Posture) endpoints(b *Backend) {
	name := ""
	if b.Object != nil {
		for _, port := range b.Object.Spec.Ports {
			if port.Port == b.Port {
				name = port.Name
			}
		}
	}
	for _, key := range SortedKeys(p.Objects.EndpointSlices) {
		s := p.Objects.EndpointSlices[key]
		if key.Namespace != b.Service.Namespace || s.Labels[discoveryv1.LabelServiceName] != b.Service.Name {
			continue
		}
		for _, port := range s.Ports {
			if port.Port == nil || port.Name != nil && *port.Name != name || port.Name == nil && name != "" {
				continue
			}
			b.Endpoints = append(b.Endpoints, ready(key, s, uint16(*port.Port))...)
		}
	}
	slices.SortStableFunc(b.Endpoints, func(x, y Endpoint) int {
		return cmp.Or(x.Addr().Compare(y.Addr()), cmp.Compare(x.Port(), y.Port()))
	})
	b.Endpoints = slices.CompactFunc(b.Endpoints, func(x, y Endpoint) bool { return x.AddrPort == y.AddrPort })
}

func ready(key types.NamespacedName, s *discoveryv1.EndpointSlice, port uint16) []Endpoint {
	var out []Endpoint
	for _, e := range s.Endpoints {
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		for _, a := range e.Addresses {
			if ip, err := netip.ParseAddr(a); err == nil {
				out = append(out, Endpoint{netip.AddrPortFrom(ip, port), key})
			}
		}
	}
	return out
}
