package source

import (
	"iter"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/internal/compare"
)

// Object returns the object under k, a pointer; nil if there is none.
func (s *Set) Object(k ObjectKey) any {
	n := k.namespacedName()
	switch k.Kind {
	case "Namespace":
		return found(s.Namespaces, k.Name)
	case "GatewayClass":
		return found(s.GatewayClasses, k.Name)
	case "EmergencyPolicy":
		return found(s.Policies, k.Name)
	case "Gateway":
		return found(s.Gateways, n)
	case "HTTPRoute":
		return found(s.HTTPRoutes, n)
	case "ReferenceGrant":
		return found(s.ReferenceGrants, n)
	case "Service":
		return found(s.Services, n)
	case "EndpointSlice":
		return found(s.EndpointSlices, n)
	case "Secret":
		return found(s.Secrets, n)
	case "ConfigMap":
		return found(s.ConfigMaps, n)
	case "Activation":
		return found(s.Activations, n)
	}
	return nil
}

func found[K comparable, V any](m map[K]*V, k K) any {
	if v := m[k]; v != nil {
		return v
	}
	return nil
}

// Differences are the keys of objects that are not the same in both sets, in no
// order. It costs next to nothing for kinds in which nothing changed.
func (s *Set) Differences(old *Set) []ObjectKey {
	var keys []ObjectKey
	named := func(kind string, names iter.Seq[string]) {
		for name := range names {
			keys = append(keys, ObjectKey{Kind: kind, Name: name})
		}
	}
	namespaced := func(kind string, names iter.Seq[types.NamespacedName]) {
		for n := range names {
			keys = append(keys, ObjectKey{Kind: kind, Namespace: n.Namespace, Name: n.Name})
		}
	}
	named("Namespace", compare.Keys(old.Namespaces, s.Namespaces))
	named("GatewayClass", compare.Keys(old.GatewayClasses, s.GatewayClasses))
	named("EmergencyPolicy", compare.Keys(old.Policies, s.Policies))
	namespaced("Gateway", compare.Keys(old.Gateways, s.Gateways))
	namespaced("HTTPRoute", compare.Keys(old.HTTPRoutes, s.HTTPRoutes))
	namespaced("ReferenceGrant", compare.Keys(old.ReferenceGrants, s.ReferenceGrants))
	namespaced("Service", compare.Keys(old.Services, s.Services))
	namespaced("EndpointSlice", compare.Keys(old.EndpointSlices, s.EndpointSlices))
	namespaced("Secret", compare.Keys(old.Secrets, s.Secrets))
	namespaced("ConfigMap", compare.Keys(old.ConfigMaps, s.ConfigMaps))
	namespaced("Activation", compare.Keys(old.Activations, s.Activations))
	return keys
}
