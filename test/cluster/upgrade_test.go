//go:build cluster

package cluster

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

func upgrades(d *door) {
	It("replaces every pod by helm upgrade without a failed request, and what is open stays open until the same deadline", func(ctx context.Context) {
		name := once("upgraded")
		old := map[string]bool{}
		for _, pod := range append(steady(ctx, fleets, 2), steady(ctx, controllers, 2)...) {
			old[string(pod.UID)] = true
		}
		deadline := d.open(ctx, name, 10*time.Minute)
		p := d.probe(name)
		began := time.Now()
		helm(ctx, "upgrade", "breakglass", chart, "-n", release, "-f", d.values, "--set", "envoy.concurrency=1", "--wait", "--timeout", "2m")
		AddReportEntry("helm upgrade --wait", time.Since(began).Round(time.Millisecond).String())
		Eventually(func(g Gomega) {
			var list corev1.PodList
			read(ctx, &list, "-n", release, "pods")
			g.Expect(list.Items).To(HaveLen(5), "two and two, and the audit log service")
			for _, pod := range list.Items {
				g.Expect(old[string(pod.UID)]).To(BeFalse(), "%s is an old one", pod.Name)
				g.Expect(ready(pod)).To(BeTrue(), pod.Name)
			}
		}).WithContext(ctx).WithTimeout(2 * time.Minute).Should(Succeed())
		AddReportEntry("until the last old pod was gone", time.Since(began).Round(time.Millisecond).String())
		Expect(fmt.Sprint(pods(ctx, fleets)[0].Spec.Containers[0].Args)).To(ContainSubstring("--concurrency 1 "))
		p.calm(began, time.Now())
		requests := 0
		for _, probe := range p.may {
			requests += len(probe.Samples())
		}
		AddReportEntry("requests on the way, of which none failed", requests)

		a := d.look(ctx, name)
		Expect(a.Status.Phase).To(Equal(v1alpha1.PhaseLive))
		Expect(a.Status.Deadline.Time).To(BeTemporally("==", deadline))
		revoked := d.revoke(ctx, name)
		Eventually(d.client(false).Status(testbed.Host(name), "/api/x", d.token())).Should(Equal(404))
		p.stop(revoked.Add(time.Second))
	})
}

// second is a Gateway besides that of the chart.
const second = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: second}
spec:
  gatewayClassName: breakglass
  listeners:
  - {name: https, protocol: HTTPS, port: 443, hostname: "*.example.test", tls: {certificateRefs: [{name: emergency-tls}]}}
`

func more(d *door) {
	It("gives a second Gateway, in a namespace that may have one, Envoys of its own, and takes them away with it", func(ctx context.Context) {
		d.certificate(ctx, "doors")
		apply(ctx, "doors", second)
		address := programmed(ctx, "doors", "second")
		Expect(address).NotTo(Equal(d.address))
		steady(ctx, fleets, 4)
		its := fleets + ",breakglass.dev/gateway-namespace=doors"
		Expect(pods(ctx, its)).To(HaveLen(2))
		Expect(d.at(address+":443", false).Get(testbed.Host("status"), "/api/x", d.token()).Status).To(Equal(404))

		kubectl(ctx, "-n", "doors", "delete", "gateway", "second")
		Eventually(func() string {
			return kubectl(ctx, "-n", release, "get", "deployments,services,serviceaccounts,secrets,networkpolicies,poddisruptionbudgets,pods", "-l", its, "-o", "name")
		}).WithContext(ctx).Should(BeEmpty())
		steady(ctx, fleets, 2)
	})

	It("refuses a Gateway in any other namespace, and makes nothing for it", func(ctx context.Context) {
		apply(ctx, "elsewhere", second)
		Eventually(func(g Gomega) {
			g.Expect(conditions(gateway(ctx, "elsewhere", "second").Status.Conditions)).To(HaveKeyWithValue("Accepted", HavePrefix("False")))
		}).WithContext(ctx).Should(Succeed())
		Expect(kubectl(ctx, "-n", release, "get", "deployments,services", "-l", "breakglass.dev/gateway-namespace=elsewhere", "-o", "name")).To(BeEmpty())
		AddReportEntry("what its status says", fmt.Sprint(gateway(ctx, "elsewhere", "second").Status.Conditions[0].Message))
		kubectl(ctx, "-n", "elsewhere", "delete", "gateway", "second")
	})
}
