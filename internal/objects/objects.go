// Package objects is the configuration as it is handed from whoever reads it to
// the translator.
package objects

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// Objects are plain maps that a test can write by hand.
type Objects struct {
	Namespaces         map[string]*corev1.Namespace
	GatewayClasses     map[string]*gwv1.GatewayClass
	Gateways           map[types.NamespacedName]*gwv1.Gateway
	ListenerSets       map[types.NamespacedName]*gwv1.ListenerSet
	HTTPRoutes         map[types.NamespacedName]*gwv1.HTTPRoute
	GRPCRoutes         map[types.NamespacedName]*gwv1.GRPCRoute
	BackendTLSPolicies map[types.NamespacedName]*gwv1.BackendTLSPolicy
	ReferenceGrants    map[types.NamespacedName]*gwv1.ReferenceGrant
	Services           map[types.NamespacedName]*corev1.Service
	EndpointSlices     map[types.NamespacedName]*discoveryv1.EndpointSlice
	Secrets            map[types.NamespacedName]*corev1.Secret
	ConfigMaps         map[types.NamespacedName]*corev1.ConfigMap
	Policies           map[string]*v1alpha1.EmergencyPolicy
	Activations        map[types.NamespacedName]*v1alpha1.Activation
}
