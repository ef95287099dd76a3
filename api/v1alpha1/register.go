package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// GroupName is the API group of every object in this package.
	GroupName = "breakglass.dev"
	// ControllerName is what a GatewayClass names in spec.controllerName to be ours.
	ControllerName = "breakglass.dev/gateway-controller"
	// RoleLabel, on a route, names the only emergency role that may open it.
	RoleLabel = "breakglass.dev/role"
	// EmergencyRoutesLabel, on a Namespace, with the value EmergencyRoutesAllowed,
	// lets its routes attach to emergency Gateways. Only in a cluster.
	EmergencyRoutesLabel   = "breakglass.dev/emergency-routes"
	EmergencyRoutesAllowed = "allowed"
	// LintIgnoreAnnotation, on any object, names findings of `breakglass lint` that a
	// reviewer has accepted for it: one per line, each with a reason, as "BG012 why".
	LintIgnoreAnnotation = "breakglass.dev/lint-ignore"
)

// GroupVersion is the group and version of every object in this package.
var GroupVersion = schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}

// AddToScheme registers the objects of this package.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &EmergencyPolicy{}, &EmergencyPolicyList{}, &Activation{}, &ActivationList{}, &ActivationReview{}, &ActivationReviewList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
