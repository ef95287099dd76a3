//go:build apiserver

package controller_test

import (
	"context"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/controller/fleet"
)

// balanced has the fleets' Services be load balancers.
func (c *cluster) balanced() {
	GinkgoHelper()
	const annotation = "breakglass.dev/config"
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: release, Name: "breakglass-controller"}}
	patch(c, set, func(s *appsv1.StatefulSet) {
		text := s.Spec.Template.Annotations[annotation]
		Expect(text).To(ContainSubstring("type: ClusterIP"))
		s.Spec.Template.Annotations[annotation] = strings.Replace(text, "type: ClusterIP", "type: LoadBalancer", 1)
	})
}

// emergency is the Gateway of the chart.
var emergency = types.NamespacedName{Namespace: release, Name: "emergency"}

// conditionOf the Gateway of the chart, as "Status Reason", of its generation.
func (c *cluster) conditionOf(kind string) func() string {
	return func() string {
		var gw gwv1.Gateway
		if err := c.admin.Get(context.Background(), emergency, &gw); err != nil {
			return err.Error()
		}
		cond := meta.FindStatusCondition(gw.Status.Conditions, kind)
		if cond == nil || cond.ObservedGeneration != gw.Generation {
			return "not yet"
		}
		return string(cond.Status) + " " + cond.Reason
	}
}

var _ = Describe("The addresses of a Gateway", func() {
	It("are asked of its Service's load balancer, and told as they are", func() {
		c := newCluster()
		c.balanced()
		r := c.controller("controller-0")
		c.pod("pod-0", r)
		Eventually(r.ready).Should(BeEmpty())
		asks := func(addresses ...gwv1.GatewaySpecAddress) {
			GinkgoHelper()
			patch(c, &gwv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: release, Name: "emergency"}}, func(gw *gwv1.Gateway) { gw.Spec.Addresses = addresses })
		}
		service := func() *corev1.Service {
			GinkgoHelper()
			svc := &corev1.Service{}
			Expect(c.admin.Get(context.Background(), types.NamespacedName{Namespace: release, Name: fleet.Name(emergency)}, svc)).To(Succeed())
			return svc
		}
		asked := func() string { return service().Spec.LoadBalancerIP }
		gets := func(address string) {
			GinkgoHelper()
			svc := service()
			before := client.MergeFrom(svc.DeepCopy())
			svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
			Expect(c.admin.Status().Patch(context.Background(), svc, before)).To(Succeed())
		}
		has := func() (out []string) {
			var gw gwv1.Gateway
			Expect(c.admin.Get(context.Background(), emergency, &gw)).To(Succeed())
			for _, a := range gw.Status.Addresses {
				out = append(out, string(*a.Type)+" "+a.Value)
			}
			return out
		}

		Eventually(c.conditionOf("Programmed")).Should(Equal("False AddressNotAssigned"))
		unusable, usable := gwv1.GatewaySpecAddress{Value: "192.0.2.1"}, gwv1.GatewaySpecAddress{Value: "10.99.1.254"}
		asks(gwv1.GatewaySpecAddress{Type: new(gwv1.AddressType("test/fake-invalid-type")), Value: "fake address teehee!"}, unusable, usable)
		Eventually(c.conditionOf("Accepted")).Should(Equal("False UnsupportedAddress"))

		asks(unusable, usable)
		Eventually(c.conditionOf("Accepted")).Should(Equal("True Accepted"))
		Eventually(c.conditionOf("Programmed")).Should(Equal("False AddressNotUsable"))
		Eventually(asked).Should(Equal("192.0.2.1"))
		gets("10.99.1.1") // not what was asked for
		Eventually(has).Should(Equal([]string{"IPAddress 10.99.1.1"}))
		Eventually(c.conditionOf("Programmed")).Should(Equal("False AddressNotUsable"))

		asks(usable)
		Eventually(asked).Should(Equal("10.99.1.254"))
		gets("10.99.1.254")
		Eventually(c.conditionOf("Programmed")).Should(Equal("True Programmed"))
		Expect(has()).To(Equal([]string{"IPAddress 10.99.1.254"}))

		asks(gwv1.GatewaySpecAddress{Type: new(gwv1.IPAddressType)})
		Eventually(asked).Should(BeEmpty())
		Eventually(c.conditionOf("Programmed")).Should(Equal("True Programmed"))
	})
})
