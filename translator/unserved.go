package translator

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
)

// Unserved is an object that nothing here serves, or has use for, or not the use that
// it asks for. In a cluster another controller may; in a directory it is a typo.
type Unserved struct {
	Kind           string
	Key            types.NamespacedName
	Field, Message string
}

// FindUnserved finds the objects that out, the translation of o, leaves alone.
func FindUnserved(o Objects, out *Result) []Unserved {
	var all []Unserved
	for key, g := range o.Gateways {
		if class := string(g.Spec.GatewayClassName); o.GatewayClasses[class] == nil {
			all = append(all, Unserved{"Gateway", key, "spec.gatewayClassName", fmt.Sprintf("there is no GatewayClass %q in these manifests: nothing will serve it", class)})
		}
	}
	for key := range o.HTTPRoutes {
		if _, ours := out.Statuses.Routes[activation.HTTPRoute(key)]; !ours {
			all = append(all, unservedRoute(activation.HTTPRoute(key)))
		}
	}
	for key := range o.GRPCRoutes {
		if _, ours := out.Statuses.Routes[activation.GRPCRoute(key)]; !ours {
			all = append(all, unservedRoute(activation.GRPCRoute(key)))
		}
	}
	for key := range o.BackendTLSPolicies {
		if field, why := uselessTLSPolicy(out.Statuses.BackendTLSPolicies[key]); why != "" {
			all = append(all, Unserved{"BackendTLSPolicy", key, field, why})
		}
	}
	for key, s := range o.EndpointSlices {
		if field, why := uselessSlice(o, s); why != "" {
			all = append(all, Unserved{"EndpointSlice", key, field, why})
		}
	}
	slices.SortFunc(all, func(a, b Unserved) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key.String(), b.Key.String()))
	})
	return all
}

// uselessTLSPolicy says why a BackendTLSPolicy does not count, or not as it says. One
// whose target is misspelt would leave the real one in plain text.
func uselessTLSPolicy(st gwv1.PolicyStatus) (field, why string) {
	if len(st.Ancestors) == 0 {
		return "spec.targetRefs", "names no Service that an accepted route reaches: no backend is reached over TLS because of it"
	}
	for _, a := range st.Ancestors {
		for _, c := range a.Conditions {
			if c.Status == metav1.ConditionFalse {
				field := "spec.validation"
				if c.Reason == string(gwv1.PolicyReasonConflicted) || c.Reason == string(gwv1.PolicyReasonTargetNotFound) {
					field = "spec.targetRefs"
				}
				return field, c.Message
			}
		}
	}
	return "", ""
}

func unservedRoute(key activation.RouteKey) Unserved {
	return Unserved{key.Kind, key.NamespacedName, "spec.parentRefs", "names no Gateway of a GatewayClass of " + v1alpha1.ControllerName + " in these manifests: nothing will serve it"}
}

// uselessSlice says why an EndpointSlice gives its Service no endpoint, whatever
// is ready. Without a cluster somebody wrote it by hand, and would find out on the
// day, by a 503.
func uselessSlice(o Objects, s *discoveryv1.EndpointSlice) (field, why string) {
	name := s.Labels[discoveryv1.LabelServiceName]
	svc := o.Services[types.NamespacedName{Namespace: s.Namespace, Name: name}]
	switch {
	case name == "":
		return "metadata.labels", fmt.Sprintf("has no label %s, so that no Service gets its endpoints: add it", discoveryv1.LabelServiceName)
	case s.AddressType == discoveryv1.AddressTypeFQDN:
		return "addressType", "FQDN is not served, on the day DNS may be down: write IPv4 or IPv6, and the addresses"
	case svc == nil:
		return "", ""
	}
	var wanted []string
	for _, p := range svc.Spec.Ports {
		if slices.ContainsFunc(s.Ports, func(q discoveryv1.EndpointPort) bool { return deref(q.Name) == p.Name && q.Port != nil }) {
			return "", ""
		}
		wanted = append(wanted, portName(p))
	}
	return "ports", fmt.Sprintf("none is named as a port of Service %s/%s is (%s), so that it gets no endpoint: correct one of the names", svc.Namespace, svc.Name, strings.Join(wanted, ", "))
}

func portName(p corev1.ServicePort) string {
	return fmt.Sprintf("%d: %q", p.Port, p.Name)
}
