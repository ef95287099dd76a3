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
		name, brief := once("no-api-server"), once("no-api-server-and-deadline")
		fleet, replicas := steady(ctx, fleets, 2), steady(ctx, controllers, 2)
		d.open(ctx, name, 10*time.Minute)
		p := d.probe(name)
		stream := d.envoy(fleet[1]).Events("stream", testbed.Host(name), "/api/stream", d.token())
		deadline := d.open(ctx, brief, 20*time.Second)
		briefly := d.probe(brief)
		ends := d.envoy(fleet[1]).Events("stream", testbed.Host(brief), "/api/stream", d.token())
		Consistently(d.client(false).Fresh().Status(testbed.Host(brief), "/api/x", d.token()), "500ms", "20ms").Should(Equal(200))
		began := time.Now()

		revive, err := shared.Kill(ctx, "kube-apiserver")
		Expect(err).NotTo(HaveOccurred())
		up := false
		back := func(ctx context.Context) {
			if up {
				return
			}
			up = true
			Expect(revive(ctx)).To(Succeed())
			Eventually(func() error { // it says that it is ready before its admission knows the CRDs
				_, err := shared.Kubectl(ctx, "-n", "payments", "label", "activation", name, "settled=yes", "--dry-run=server")
				return err
			}).WithContext(ctx).WithTimeout(time.Minute).Should(Succeed())
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
		Expect(stream.Open()).To(BeTrue(), stream.String())

		By("the deadline")
		Eventually(ends.Done()).WithTimeout(max(0, time.Until(deadline)) + 10*time.Second).Should(BeClosed())
		Expect(ends.Last()).To(BeTemporally("~", deadline, time.Second), ends.String())
		for _, pod := range fleet {
			Eventually(d.envoy(pod).Status(testbed.Host(brief), "/api/x", d.token())).Should(Equal(404))
		}
		briefly.stop(deadline)
		Expect(stream.Open()).To(BeTrue(), stream.String())

		By("with the API server again, what happened is told, and things open")
		back(ctx)
		Eventually(d.phase).WithArguments(ctx, brief).Should(BeEquivalentTo("Expired"))
		Expect(d.phase(ctx, name)).To(BeEquivalentTo("Live"))
		revoked := d.revoke(ctx, name)
		Eventually(stream.Done()).Should(BeClosed())
		p.stop(revoked.Add(2 * time.Second))
		steady(ctx, controllers, 2)
		steady(ctx, fleets, 2)
		again := once("api-server-back")
		d.open(ctx, again, 10*time.Second)
		Eventually(d.client(false).Status(testbed.Host(again), "/api/x", d.token())).Should(Equal(200))
	})
}
