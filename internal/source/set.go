package source

import (
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// ObjectKey identifies an object across files and across the versions of its
// API group.
type ObjectKey struct {
	Kind      string
	Namespace string // empty for cluster-scoped kinds
	Name      string
}

// String is "Kind namespace/name", or "Kind name" without a namespace.
func (k ObjectKey) String() string {
	if k.Namespace == "" {
		return k.Kind + " " + k.Name
	}
	return k.Kind + " " + k.Namespace + "/" + k.Name
}

func (k ObjectKey) namespacedName() types.NamespacedName {
	return types.NamespacedName{Namespace: k.Namespace, Name: k.Name}
}

// Origin is where an object in use was read.
type Origin struct {
	File     string
	Line     int       // of the object's first line, from 1
	Modified time.Time // of the file, as the file system says
	OwnerUID uint32    // of the file
}

// Set is everything the directory holds at one time. It is not changed once it
// is published, and neither are the objects in it. An object that did not change
// is the same pointer as in the Set before.
type Set struct {
	Namespaces      map[string]*corev1.Namespace
	GatewayClasses  map[string]*gwv1.GatewayClass
	Gateways        map[types.NamespacedName]*gwv1.Gateway
	HTTPRoutes      map[types.NamespacedName]*gwv1.HTTPRoute
	ReferenceGrants map[types.NamespacedName]*gwv1.ReferenceGrant
	Services        map[types.NamespacedName]*corev1.Service
	EndpointSlices  map[types.NamespacedName]*discoveryv1.EndpointSlice
	Secrets         map[types.NamespacedName]*corev1.Secret
	ConfigMaps      map[types.NamespacedName]*corev1.ConfigMap
	Policies        map[string]*v1alpha1.EmergencyPolicy
	Activations     map[types.NamespacedName]*v1alpha1.Activation

	// Origins of the objects above.
	Origins map[ObjectKey]Origin
	// Problems, sorted by file and line.
	Problems []Problem
}

func newSet() *Set {
	return &Set{
		Namespaces:      map[string]*corev1.Namespace{},
		GatewayClasses:  map[string]*gwv1.GatewayClass{},
		Gateways:        map[types.NamespacedName]*gwv1.Gateway{},
		HTTPRoutes:      map[types.NamespacedName]*gwv1.HTTPRoute{},
		ReferenceGrants: map[types.NamespacedName]*gwv1.ReferenceGrant{},
		Services:        map[types.NamespacedName]*corev1.Service{},
		EndpointSlices:  map[types.NamespacedName]*discoveryv1.EndpointSlice{},
		Secrets:         map[types.NamespacedName]*corev1.Secret{},
		ConfigMaps:      map[types.NamespacedName]*corev1.ConfigMap{},
		Policies:        map[string]*v1alpha1.EmergencyPolicy{},
		Activations:     map[types.NamespacedName]*v1alpha1.Activation{},
		Origins:         map[ObjectKey]Origin{},
	}
}

// put returns m with key set to obj, or without key if obj is nil. m belongs to
// a published Set, so that it is copied first unless copied says that it was.
func put[K comparable, V any](m *map[K]V, key K, obj object, copied *bool) {
	if !*copied {
		*m, *copied = maps.Clone(*m), true
	}
	if v, ok := obj.(V); ok {
		(*m)[key] = v
		return
	}
	delete(*m, key)
}
