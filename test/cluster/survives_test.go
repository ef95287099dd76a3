//go:build cluster

package cluster

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

func survives(d *door) {
	It("goes on without the API server: what is open ends on time, and who is killed meanwhile comes back", func(ctx context.Context) {
		name := once("no-api-server")
		fleet, replicas := steady(ctx, fleets, 2), steady(ctx, controllers, 2)
		deadline := d.open(ctx, name, 35*time.Second)
		p := d.probe(name)
		began := time.Now()
		stream := d.envoy(fleet[1]).Events("stream", testbed.Host(name), "/api/stream", d.token())

		revive, err := shared.Kill(ctx, "kube-apiserver")
		Expect(err).NotTo(HaveOccurred())
		up := false
		back := func(ctx context.Context) {
			if up {
				return
			}
			up = true
			Expect(revive(ctx)).To(Succeed())
			Eventually(func() error { _, err := shared.Kubectl(ctx, "get", "--raw=/readyz"); return err }).WithContext(ctx).Should(Succeed())
		}
		DeferCleanup(back)

		By("kill both controllers: they come back with what was last good")
		for _, pod := range replicas {
			Expect(shared.KillContainer(container(pod, "controller"), "")).To(Succeed())
		}
		serving := d.client(false).Fresh().Status(testbed.Host(name), "/api/x", d.token())
		Consistently(serving, "1s", "20ms").Should(Equal(200))
		p.calm(began, time.Now())

		By("kill an Envoy: it comes back and has its configuration from one of them")
		killed := time.Now()
		Expect(shared.KillContainer(container(fleet[0], "envoy"), "")).To(Succeed())
		Eventually(d.envoy(fleet[0]).Status(testbed.Host(name), "/api/x", d.token())).WithPolling(20 * time.Millisecond).Should(Equal(200))
		AddReportEntry("an Envoy that was killed without an API server lets in again after", time.Since(killed).Round(time.Millisecond).String())
		Expect(time.Now()).To(BeTemporally("<", deadline), "all of that was to be within one window")
		Expect(stream.Open()).To(BeTrue(), stream.String())

		By("the deadline")
		Eventually(stream.Done()).WithTimeout(time.Until(deadline) + 10*time.Second).Should(BeClosed())
		Expect(stream.Last()).To(BeTemporally("~", deadline, time.Second), stream.String())
		for _, pod := range fleet {
			Eventually(d.envoy(pod).Status(testbed.Host(name), "/api/x", d.token())).Should(Equal(404))
		}
		p.stop(deadline)

		By("with the API server again, what happened is told, and things open")
		back(ctx)
		Eventually(d.phase).WithArguments(ctx, name).Should(BeEquivalentTo("Expired"))
		steady(ctx, controllers, 2)
		steady(ctx, fleets, 2)
		again := once("api-server-back")
		d.open(ctx, again, 10*time.Second)
		Eventually(d.client(false).Status(testbed.Host(again), "/api/x", d.token())).Should(Equal(200))
	})
}
