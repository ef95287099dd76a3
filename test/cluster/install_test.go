//go:build cluster

package cluster

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

func helm(ctx context.Context, args ...string) string {
	GinkgoHelper()
	out, err := shared.Helm(ctx, args...)
	Expect(err).NotTo(HaveOccurred())
	return out
}

// conditions by type, as "Status Reason".
func conditions(list []metav1.Condition) map[string]string {
	out := map[string]string{}
	for _, c := range list {
		out[c.Type] = string(c.Status) + " " + c.Reason
	}
	return out
}

func gateway(ctx context.Context, namespace, name string) (gw gwv1.Gateway) {
	GinkgoHelper()
	read(ctx, &gw, "-n", namespace, "gateway", name)
	return gw
}

// programmed waits for a Gateway, and returns its address.
func programmed(ctx context.Context, namespace, name string) string {
	GinkgoHelper()
	var address string
	Eventually(func(g Gomega) {
		gw := gateway(ctx, namespace, name)
		g.Expect(conditions(gw.Status.Conditions)).To(Equal(map[string]string{
			"Accepted": "True Accepted", "Programmed": "True Programmed", "ResolvedRefs": "True ResolvedRefs",
		}))
		g.Expect(gw.Status.Addresses).To(HaveLen(1))
		address = gw.Status.Addresses[0].Value
	}).WithContext(ctx).Should(Succeed())
	return address
}

func installs(d *door) {
	It("is installed by Helm, and the Gateway has two Envoys behind a load balancer", func(ctx context.Context) {
		began := time.Now()
		kubectl(ctx, "create", "namespace", release)
		d.certificate(ctx, release)
		apply(ctx, release, auditVolume)
		// As it was before there was an audit log service, which the first upgrade brings: see collects.
		notes := helm(ctx, "install", "breakglass", chart, "-n", release, "-f", d.values, "--set", "audit.service.enabled=false", "--wait", "--timeout", "2m")
		Expect(notes).To(ContainSubstring("kubectl create rolebinding oncall -n payments --clusterrole breakglass-activator-db"))
		AddReportEntry("helm install --wait", time.Since(began).Round(time.Millisecond).String())
		d.address = programmed(ctx, release, "emergency")
		AddReportEntry("from the beginning of that until the Gateway was programmed", time.Since(began).Round(time.Millisecond).String())
		steady(ctx, controllers, 2)
		steady(ctx, fleets, 2)
		AddReportEntry("until everything was ready", time.Since(began).Round(time.Millisecond).String())

		kubectl(ctx, "create", "rolebinding", "oncall", "-n", tenants, "--clusterrole", "breakglass-activator-db", "--user", "alice")
		kubectl(ctx, "create", "rolebinding", "lead", "-n", tenants, "--clusterrole", "breakglass-revoker", "--user", "carol")
	})

	It("has the status that the Gateway API wants of GatewayClass, Gateway and HTTPRoute", func(ctx context.Context) {
		d.route(ctx, "status")
		var class gwv1.GatewayClass
		read(ctx, &class, "gatewayclass", "breakglass")
		Expect(conditions(class.Status.Conditions)).To(HaveKeyWithValue("Accepted", "True Accepted"))

		Eventually(func(g Gomega) {
			gw := gateway(ctx, release, "emergency")
			g.Expect(gw.Status.Listeners).To(HaveLen(1))
			listener := gw.Status.Listeners[0]
			g.Expect(conditions(listener.Conditions)).To(Equal(map[string]string{
				"Accepted": "True Accepted", "Programmed": "True Programmed", "ResolvedRefs": "True ResolvedRefs", "Conflicted": "False NoConflicts",
			}))
			g.Expect(listener.AttachedRoutes).To(BeEquivalentTo(1))
			g.Expect(listener.SupportedKinds).To(HaveLen(2))
			g.Expect(listener.SupportedKinds[0].Kind).To(BeEquivalentTo("HTTPRoute"))
			g.Expect(listener.SupportedKinds[1].Kind).To(BeEquivalentTo("GRPCRoute"))
			for _, c := range append(gw.Status.Conditions, listener.Conditions...) {
				g.Expect(c.ObservedGeneration).To(Equal(gw.Generation), c.Type)
			}
		}).WithContext(ctx).Should(Succeed())

		var route gwv1.HTTPRoute
		read(ctx, &route, "-n", tenants, "httproute", "status")
		parent := route.Status.Parents[0]
		Expect(parent.ControllerName).To(BeEquivalentTo("breakglass.dev/gateway-controller"))
		Expect(conditions(parent.Conditions)).To(Equal(map[string]string{
			"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs", "breakglass.dev/Live": "False Dormant",
		}))
		for _, c := range parent.Conditions {
			Expect(c.ObservedGeneration).To(Equal(route.Generation), c.Type)
		}
	})

	It("has NetworkPolicies for the controller and for the fleet", func(ctx context.Context) {
		Expect(kubectl(ctx, "-n", release, "get", "networkpolicies", "-o", "name")).To(And(
			ContainSubstring("/breakglass-controller\n"), ContainSubstring("/breakglass-fleets\n"), ContainSubstring("/breakglass-"+release+"-eme-")))
	})
}
