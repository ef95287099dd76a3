package fleet

import (
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/breakglass-gateway/breakglass-gateway/internal/ports"
)

func (b *builder) serviceAccount() *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		TypeMeta:                     metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta:                   b.meta(),
		AutomountServiceAccountToken: new(false),
	}
}

func (b *builder) service() *corev1.Service {
	out := &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: b.meta(),
		Spec: corev1.ServiceSpec{
			Type:                  b.config.Service.Type,
			Selector:              b.selector(),
			LoadBalancerClass:     b.config.Service.LoadBalancerClass,
			ExternalTrafficPolicy: b.config.Service.ExternalTrafficPolicy,
		},
	}
	maps.Copy(out.Annotations, b.config.Service.Annotations)
	maps.Copy(out.Annotations, b.annotations)
	b.ask(out)
	for _, port := range b.ports {
		out.Spec.Ports = append(out.Spec.Ports, corev1.ServicePort{
			Name: portName(port), Protocol: corev1.ProtocolTCP, Port: port, TargetPort: intstr.FromInt32(ports.ContainerPort(port)),
		})
	}
	return out
}

// ask the load balancer for the addresses that the Gateway names. Whoever gives them
// need not: the Gateway is not programmed then.
func (b *builder) ask(service *corev1.Service) {
	var addresses []string
	for _, a := range b.Gateway.Spec.Addresses {
		if a.Value != "" {
			addresses = append(addresses, a.Value)
		}
	}
	if len(addresses) == 0 || service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return
	}
	if annotation := b.config.Service.AddressAnnotation; annotation != "" {
		service.Annotations[annotation] = strings.Join(addresses, ",")
		return
	}
	service.Spec.LoadBalancerIP = addresses[0]
}

func portName(port int32) string { return fmt.Sprintf("port-%d", port) }

// budget has nodes be drained one pod at a time; a pod that is not ready is in
// nobody's way.
func (b *builder) budget() *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"},
		ObjectMeta: b.meta(),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable:             new(intstr.FromInt32(1)),
			Selector:                   &metav1.LabelSelector{MatchLabels: b.selector()},
			UnhealthyPodEvictionPolicy: new(policyv1.AlwaysAllow),
		},
	}
}

// networkPolicy lets clients to the listeners, and the cluster to the metrics.
// Backends may be anywhere, but never where a node or a cloud answers for itself.
func (b *builder) networkPolicy() *networkingv1.NetworkPolicy {
	listeners := networkingv1.NetworkPolicyIngressRule{From: b.config.NetworkPolicy.From}
	for _, port := range b.ports {
		listeners.Ports = append(listeners.Ports, tcp(ports.ContainerPort(port)))
	}
	everyPod := networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{}}
	out := &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: b.meta(),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: b.selector()},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From: []networkingv1.NetworkPolicyPeer{everyPod}, Ports: []networkingv1.NetworkPolicyPort{tcp(ports.Agent)},
			}},
			Egress: []networkingv1.NetworkPolicyEgressRule{
				{To: []networkingv1.NetworkPolicyPeer{
					everyPod, // an ipBlock need not hold for pods
					{IPBlock: &networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"169.254.0.0/16"}}},
					{IPBlock: &networkingv1.IPBlock{CIDR: "::/0", Except: []string{"fe80::/10", "fd00:ec2::/32"}}},
				}},
				// The agent finds the controller by name, and a node's own DNS is link-local.
				{Ports: []networkingv1.NetworkPolicyPort{tcp(53), {Protocol: new(corev1.ProtocolUDP), Port: new(intstr.FromInt32(53))}}},
			},
		},
	}
	if len(listeners.Ports) > 0 { // a rule without ports would be one for all
		out.Spec.Ingress = append([]networkingv1.NetworkPolicyIngressRule{listeners}, out.Spec.Ingress...)
	}
	return out
}

func tcp(port int32) networkingv1.NetworkPolicyPort {
	return networkingv1.NetworkPolicyPort{Protocol: new(corev1.ProtocolTCP), Port: new(intstr.FromInt32(port))}
}
