package main

import (
	"maps"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// balanced is a Service with a load balancer that asks for an address and has one; "" for neither.
func balanced(name, asks, has string) corev1.Service {
	s := corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerIP: asks}}
	if has != "" {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: has}}
	}
	return s
}

func TestAddressesOfLoadBalancers(t *testing.T) {
	plain := balanced("plain", "10.0.0.2", "")
	plain.Spec.Type = corev1.ServiceTypeClusterIP
	for name, c := range map[string]struct {
		services []corev1.Service
		want     map[string]string // of those that change
	}{
		"any":                               {[]corev1.Service{balanced("a", "", "")}, map[string]string{"a": "10.0.0.1"}},
		"any that is free":                  {[]corev1.Service{balanced("a", "", "10.0.0.1"), balanced("b", "", "")}, map[string]string{"b": "10.0.0.2"}},
		"what is asked for":                 {[]corev1.Service{balanced("a", "10.0.0.5", "")}, map[string]string{"a": "10.0.0.5"}},
		"what is asked for, before any":     {[]corev1.Service{balanced("a", "", ""), balanced("b", "10.0.0.1", "")}, map[string]string{"a": "10.0.0.2", "b": "10.0.0.1"}},
		"what somebody has":                 {[]corev1.Service{balanced("a", "", "10.0.0.1"), balanced("b", "10.0.0.1", "")}, nil},
		"what two ask for":                  {[]corev1.Service{balanced("a", "10.0.0.1", ""), balanced("b", "10.0.0.1", "")}, map[string]string{"a": "10.0.0.1"}},
		"what is not of the pool":           {[]corev1.Service{balanced("a", "192.0.2.1", "")}, nil},
		"what is no address":                {[]corev1.Service{balanced("a", "x", "")}, nil},
		"another than before":               {[]corev1.Service{balanced("a", "10.0.0.5", "10.0.0.1")}, map[string]string{"a": "10.0.0.5"}},
		"another that cannot be had":        {[]corev1.Service{balanced("a", "192.0.2.1", "10.0.0.1")}, map[string]string{"a": ""}},
		"what another gives up":             {[]corev1.Service{balanced("a", "10.0.0.5", "10.0.0.1"), balanced("b", "10.0.0.1", "")}, map[string]string{"a": "10.0.0.5", "b": "10.0.0.1"}},
		"the one that it has, not asked":    {[]corev1.Service{balanced("a", "", "10.0.0.6")}, nil},
		"the one that it has, asked for":    {[]corev1.Service{balanced("a", "10.0.0.6", "10.0.0.6")}, nil},
		"a Service without a load balancer": {[]corev1.Service{plain}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			changed, err := assign(c.services, netip.MustParsePrefix("10.0.0.0/29"))
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, s := range changed {
				got[s.Name] = ""
				for _, i := range s.Status.LoadBalancer.Ingress {
					got[s.Name] = i.IP
				}
			}
			if !maps.Equal(got, c.want) {
				t.Errorf("changed to %v, want %v", got, c.want)
			}
		})
	}
}

func TestAPoolEnds(t *testing.T) {
	if _, err := assign([]corev1.Service{balanced("a", "", ""), balanced("b", "", ""), balanced("c", "", "")}, netip.MustParsePrefix("10.0.0.0/31")); err == nil {
		t.Error("three Services have an address of a pool of one")
	}
}
