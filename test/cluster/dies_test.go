//go:build cluster

package cluster

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// kill has a program of a container, or all of it, killed, and waits until the API server knows that it was started anew.
func kill(ctx context.Context, pod corev1.Pod, name, program string) {
	GinkgoHelper()
	before := restarts(ctx, pod.Name, name)
	Expect(shared.KillContainer(container(pod, name), program)).To(Succeed())
	Eventually(restarts).WithArguments(ctx, pod.Name, name).Should(BeNumerically(">", before))
}

func dies(d *door) {
	It("keeps every deadline and the streams of the other Envoy when an agent, an Envoy and a pod of the fleet are killed", func(ctx context.Context) {
		name, brief := once("fleet-dies"), once("fleet-dies-and-deadline")
		fleet := steady(ctx, fleets, 2)
		d.open(ctx, name, 10*time.Minute)
		p := d.probe(name)
		deadline := d.open(ctx, brief, 20*time.Second) // somewhere on the way
		briefly := d.probe(brief)
		ends := d.envoy(fleet[1]).Events("stream", testbed.Host(brief), "/api/stream", d.token())
		stream := func(pod corev1.Pod) *testbed.Stream {
			return d.envoy(pod).Events("stream by "+pod.Name, testbed.Host(name), "/api/stream", d.token())
		}
		one, other := stream(fleet[0]), stream(fleet[1])

		By("kill the agent of one")
		began := time.Now()
		kill(ctx, fleet[0], "agent", "")
		Eventually(func() bool { return ready(pods(ctx, fleets)[0]) && ready(pods(ctx, fleets)[1]) }).WithContext(ctx).Should(BeTrue())
		Expect(one.Open()).To(BeTrue(), "without its agent: %s", one)
		p.calm(began.Add(-time.Second), time.Now())

		By("kill Envoy itself of the same")
		kill(ctx, fleet[0], "envoy", "envoy")
		Eventually(one.Done()).Should(BeClosed())
		Eventually(d.envoy(fleet[0]).Status(testbed.Host(name), "/api/x", d.token())).WithPolling(20 * time.Millisecond).Should(Equal(200))
		AddReportEntry("an Envoy that was killed lets in again after", time.Since(one.End()).Round(time.Millisecond).String())
		Expect(other.Open()).To(BeTrue(), "%s", other)

		By("delete its pod at once")
		kubectl(ctx, "-n", release, "delete", "pod", fleet[0].Name, "--force", "--grace-period=0")
		steady(ctx, fleets, 2)
		Expect(other.Open()).To(BeTrue(), "%s", other)
		AddReportEntry("requests that were not let in while one of two Envoys was killed twice", p.failed(time.Now()))

		Eventually(ends.Done()).WithTimeout(max(0, time.Until(deadline)) + 10*time.Second).Should(BeClosed())
		Expect(ends.Last()).To(BeTemporally("~", deadline, time.Second), ends.String())
		Eventually(d.client(false).Status(testbed.Host(brief), "/api/x", d.token())).Should(Equal(404))
		briefly.stop(deadline)
		revoked := d.revoke(ctx, name)
		Eventually(other.Done()).Should(BeClosed())
		p.stop(revoked.Add(time.Second))
	})

	It("fails no request, and keeps the deadline, when both controllers are killed, and goes on opening when they are back", func(ctx context.Context) {
		name := once("controllers-die")
		replicas := steady(ctx, controllers, 2)
		deadline := d.open(ctx, name, 20*time.Second)
		p := d.probe(name)
		began := time.Now()
		stream := d.client(false).Events("stream", testbed.Host(name), "/api/stream", d.token())

		By("kill their processes")
		for _, pod := range replicas {
			kill(ctx, pod, "controller", "")
		}
		steady(ctx, controllers, 2)

		By("delete their pods at once")
		for _, pod := range replicas {
			kubectl(ctx, "-n", release, "delete", "pod", pod.Name, "--force", "--grace-period=0")
		}
		By("kill the new ones until after the deadline")
		deaths := 0
		for time.Now().Before(deadline.Add(200 * time.Millisecond)) {
			for _, pod := range pods(ctx, controllers) {
				if id := container(pod, "controller"); id != "" && shared.KillContainer(id, "") == nil {
					deaths++
				}
			}
		}
		AddReportEntry("controllers killed on the way to the deadline", deaths)
		Eventually(stream.Done()).Should(BeClosed())
		Expect(stream.Last()).To(BeTemporally("~", deadline, time.Second), stream.String())
		Eventually(d.client(false).Status(testbed.Host(name), "/api/x", d.token())).Should(BeElementOf(403, 404))
		p.calm(began, deadline.Add(-200*time.Millisecond))
		p.stop(deadline)

		kubectl(ctx, "-n", release, "delete", "pod", "-l", controllers, "--force", "--grace-period=0") // the kubelet waits ever longer with those that end so often
		steady(ctx, controllers, 2)
		Eventually(d.phase).WithArguments(ctx, name).Should(BeEquivalentTo("Expired"))
		again := once("controllers-back")
		d.open(ctx, again, 10*time.Second)
		Eventually(d.client(false).Status(testbed.Host(again), "/api/x", d.token())).Should(Equal(200))
	})
}
