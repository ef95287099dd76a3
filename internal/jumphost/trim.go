package jumphost

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// trim is a copy of obj with what serve looks at, so that nothing is written anew
// because of what it does not.
func trim(obj client.Object) runtime.Object {
	obj = obj.DeepCopyObject().(client.Object)
	meta := metav1.ObjectMeta{Namespace: obj.GetNamespace(), Name: obj.GetName(), Labels: some(obj.GetLabels(), v1alpha1.RoleLabel, discoveryv1.LabelServiceName),
		Annotations: some(obj.GetAnnotations(), v1alpha1.LintIgnoreAnnotation)}
	switch o := obj.(type) {
	case *corev1.Namespace:
		meta.Labels = o.Labels // selectors of listeners look at them
		return &corev1.Namespace{ObjectMeta: meta}
	case *corev1.Service:
		return &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Type: o.Spec.Type, Ports: ports(o.Spec.Ports)}}
	case *corev1.Secret:
		return &corev1.Secret{ObjectMeta: meta, Type: o.Type, Data: o.Data}
	case *corev1.ConfigMap:
		return &corev1.ConfigMap{ObjectMeta: meta, Data: o.Data}
	case *discoveryv1.EndpointSlice:
		out := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: o.AddressType, Ports: o.Ports}
		for _, e := range o.Endpoints {
			out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{Addresses: e.Addresses, Conditions: discoveryv1.EndpointConditions{Ready: e.Conditions.Ready}})
		}
		return out
	case *gwv1.GatewayClass:
		return &gwv1.GatewayClass{ObjectMeta: meta, Spec: o.Spec}
	case *gwv1.Gateway:
		return &gwv1.Gateway{ObjectMeta: meta, Spec: o.Spec}
	case *gwv1.ListenerSet:
		return &gwv1.ListenerSet{ObjectMeta: meta, Spec: o.Spec}
	case *gwv1.HTTPRoute:
		return &gwv1.HTTPRoute{ObjectMeta: meta, Spec: o.Spec}
	case *gwv1.BackendTLSPolicy:
		return &gwv1.BackendTLSPolicy{ObjectMeta: meta, Spec: o.Spec}
	case *gwv1.GRPCRoute:
		return &gwv1.GRPCRoute{ObjectMeta: meta, Spec: o.Spec}
	case *gwv1.ReferenceGrant:
		return &gwv1.ReferenceGrant{ObjectMeta: meta, Spec: o.Spec}
	case *v1alpha1.EmergencyPolicy:
		return &v1alpha1.EmergencyPolicy{ObjectMeta: meta, Spec: o.Spec}
	}
	return obj
}

func ports(all []corev1.ServicePort) []corev1.ServicePort {
	for i := range all {
		all[i].NodePort = 0
	}
	return all
}

// some of the labels or annotations.
func some(all map[string]string, names ...string) map[string]string {
	var out map[string]string
	for _, name := range names {
		if v, there := all[name]; there {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = v
		}
	}
	return out
}
