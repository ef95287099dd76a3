//go:build apiserver

package controller_test

import (
	"context"
	"fmt"
	"net"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/controller/fleet"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// setOf a namespace has one listener of its own on port 8081.
func setOf(namespace, name, host string) *gwv1.ListenerSet {
	home, hostname := gwv1.Namespace(release), gwv1.Hostname(host)
	return &gwv1.ListenerSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: gwv1.ListenerSetSpec{
			ParentRef: gwv1.ParentGatewayReference{Namespace: &home, Name: "emergency"},
			Listeners: []gwv1.ListenerEntry{{Name: "own", Port: 8081, Protocol: gwv1.HTTPProtocolType, Hostname: &hostname}},
		},
	}
}

// setStatus is Accepted and Programmed of a ListenerSet, of its generation.
func (c *cluster) setStatus(namespace, name string) func() string {
	return func() string {
		var set gwv1.ListenerSet
		if err := c.admin.Get(context.Background(), types.NamespacedName{Namespace: namespace, Name: name}, &set); err != nil {
			return err.Error()
		}
		text := ""
		for _, kind := range []string{"Accepted", "Programmed"} {
			cond := meta.FindStatusCondition(set.Status.Conditions, kind)
			if cond == nil || cond.ObservedGeneration != set.Generation {
				return "not yet"
			}
			text += fmt.Sprintf("%s %s ", cond.Status, cond.Reason)
		}
		for _, l := range set.Status.Listeners {
			text += fmt.Sprintf("%s:%d", l.Name, l.AttachedRoutes)
		}
		return text
	}
}

var _ = Describe("A ListenerSet", func() {
	It("adds listeners to a Gateway that allows it, as long as its namespace may have to do with emergencies", func() {
		c, ctx := newCluster(), context.Background()
		r := c.controller("controller-0")
		p := c.pod("pod-0", r)
		host := testbed.Host("own")
		Expect(c.admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})).To(Succeed())
		Expect(c.admin.Create(ctx, setOf(tenants, "own", host))).To(Succeed())
		Expect(c.admin.Create(ctx, setOf("shop", "other", testbed.Host("other")))).To(Succeed())
		route := routeOf("own")
		kind, section := gwv1.Kind("ListenerSet"), gwv1.SectionName("own")
		route.Spec.ParentRefs = []gwv1.ParentReference{{Kind: &kind, Name: "own", SectionName: &section}}
		Expect(c.admin.Create(ctx, route)).To(Succeed())
		Eventually(r.ready).Should(BeEmpty())

		const refused = "False NotAllowed False NotAllowed "
		Eventually(c.setStatus(tenants, "own")).Should(Equal(refused))
		allow := func(from gwv1.FromNamespaces) {
			GinkgoHelper()
			patch(c, &gwv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: release, Name: "emergency"}}, func(gw *gwv1.Gateway) {
				gw.Spec.AllowedListeners = &gwv1.AllowedListeners{Namespaces: &gwv1.ListenerNamespaces{From: &from}}
			})
		}
		attached := func() int32 {
			var gw gwv1.Gateway
			Expect(c.admin.Get(ctx, emergency, &gw)).To(Succeed())
			if gw.Status.AttachedListenerSets == nil {
				return -1
			}
			return *gw.Status.AttachedListenerSets
		}
		ports := func() (out []int32) {
			var svc corev1.Service
			Expect(c.admin.Get(ctx, types.NamespacedName{Namespace: release, Name: fleet.Name(emergency)}, &svc)).To(Succeed())
			var policy networkingv1.NetworkPolicy
			Expect(c.admin.Get(ctx, types.NamespacedName{Namespace: release, Name: fleet.Name(emergency)}, &policy)).To(Succeed())
			for _, p := range svc.Spec.Ports {
				for _, open := range policy.Spec.Ingress[0].Ports {
					if open.Port.IntVal == p.TargetPort.IntVal {
						out = append(out, p.Port)
					}
				}
			}
			return out
		}

		allow(gwv1.NamespacesFromAll)
		Eventually(c.setStatus(tenants, "own")).Should(Equal("True Accepted True Programmed own:1"))
		Eventually(c.setStatus("shop", "other")).Should(Equal(refused), "its namespace has not opted in")
		Eventually(attached).Should(Equal(int32(1)))
		Eventually(ports).Should(ConsistOf(int32(8080), int32(8081)))
		ip, _, err := net.SplitHostPort(p.address)
		Expect(err).NotTo(HaveOccurred())
		p.address = ip + ":8081"
		get := p.status(host, "/api/x", c.issuer.Token("sre"))
		Eventually(get).Should(Equal(404))
		c.activate("inc-1", "own", "10m")
		Eventually(get).Should(Equal(200))
		Expect(p.status(host, "/api/x", "")()).To(Equal(401))

		By("the namespace opts out, and in again")
		patch(c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenants}}, func(ns *corev1.Namespace) { delete(ns.Labels, v1alpha1.EmergencyRoutesLabel) })
		Eventually(get).Should(Equal(0), "the port is open")
		Eventually(c.setStatus(tenants, "own")).Should(Equal(refused))
		patch(c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenants}}, func(ns *corev1.Namespace) {
			ns.Labels[v1alpha1.EmergencyRoutesLabel] = v1alpha1.EmergencyRoutesAllowed
		})
		Eventually(get).Should(Equal(200))

		By("the Gateway allows nobody any more")
		allow(gwv1.NamespacesFromNone)
		Eventually(get).Should(Equal(0))
		Eventually(c.setStatus(tenants, "own")).Should(Equal(refused))
		Eventually(attached).Should(Equal(int32(0)))
		Eventually(ports).Should(ConsistOf(int32(8080)))
	})
})
