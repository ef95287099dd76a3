// Package v1alpha1 holds the objects of Breakglass Gateway, API group
// breakglass.dev.
//
// There are two. An EmergencyPolicy says who may come in and within which
// limits; it is named by the parametersRef of a GatewayClass whose
// controllerName is breakglass.dev/gateway-controller. An Activation breaks
// the glass: it opens named routes for one emergency role, for a while.
//
// +kubebuilder:object:generate=true
// +groupName=breakglass.dev
package v1alpha1
