package posture

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Backend is what one backendRef of a route reaches.
type Backend struct {
	Rule, Ref int
	Service   types.NamespacedName
	Port      int32
	// Object is nil if the Service is not in the manifests.
	Object *corev1.Service
	// Slices of the Service, and the addresses in them that are ready.
	Slices    []types.NamespacedName
	Endpoints []netip.AddrPort
}

// Backends of a route, in order.
func (p *Posture) Backends(r *Route) []Backend {
	var out []Backend
	for i, rule := range r.Object.Spec.Rules {
		for j, ref := range rule.BackendRefs {
			b := Backend{Rule: i, Ref: j, Service: types.NamespacedName{Namespace: r.Key.Namespace, Name: string(ref.Name)}}
			if ref.Namespace != nil {
				b.Service.Namespace = string(*ref.Namespace)
			}
			if ref.Port != nil {
				b.Port = int32(*ref.Port)
			}
			b.Object = p.Objects.Services[b.Service]
			p.endpoints(&b)
			out = append(out, b)
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
		b.Slices = append(b.Slices, key)
		for _, port := range s.Ports {
			if port.Port == nil || port.Name != nil && *port.Name != name || port.Name == nil && name != "" {
				continue
			}
			b.Endpoints = append(b.Endpoints, ready(s, uint16(*port.Port))...)
		}
	}
	slices.SortFunc(b.Endpoints, func(x, y netip.AddrPort) int {
		return cmp.Or(x.Addr().Compare(y.Addr()), cmp.Compare(x.Port(), y.Port()))
	})
	b.Endpoints = slices.Compact(b.Endpoints)
}

func ready(s *discoveryv1.EndpointSlice, port uint16) []netip.AddrPort {
	var out []netip.AddrPort
	for _, e := range s.Endpoints {
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		for _, a := range e.Addresses {
			if ip, err := netip.ParseAddr(a); err == nil {
				out = append(out, netip.AddrPortFrom(ip, port))
			}
		}
	}
	return out
}
