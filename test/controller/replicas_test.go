//go:build apiserver

package controller_test

import (
	"context"
	"os"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admissionregistration/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/admission"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// pair is two replicas, each with the Envoy of one pod.
type pair struct {
	*cluster
	leader, follower *replica
	ofLeader         *pod
	ofFollower       *pod
	token            string
}

func newPair() *pair {
	GinkgoHelper()
	w := &pair{cluster: newCluster()}
	w.leader = w.controller("controller-0")
	w.follower = w.controller("controller-1")
	w.ofLeader = w.pod("pod-0", w.leader)
	w.ofFollower = w.pod("pod-1", w.follower)
	Eventually(w.leader.ready).Should(BeEmpty())
	Eventually(w.follower.ready).Should(BeEmpty())
	w.token = w.issuer.Token("sre")
	w.route("db")
	w.route("other")
	return w
}

func (w *pair) get(p *pod, route string) func() int {
	return p.status(testbed.Host(route), "/api/x", w.token)
}

var _ = Describe("Two replicas", func() {
	It("open and close the same at the same time, and Live is what the Envoys of both have", func() {
		w := newPair()
		here, there := w.get(w.ofLeader, "db"), w.get(w.ofFollower, "db")
		w.activate("inc-1", "db", "4s")
		Eventually(w.phase("inc-1")).Should(Equal("Live Live"))
		Expect(here()).To(Equal(200))
		Expect(there()).To(Equal(200))
		deadline := w.activation("inc-1").Status.Deadline.Time
		testbed.WaitUntil(deadline.Add(5 * time.Millisecond))
		for _, get := range []func() int{here, there} {
			Expect(get()).To(BeElementOf(403, 404))
			Eventually(get).Should(Equal(404))
		}
		Eventually(w.phase("inc-1")).Should(Equal("Expired DeadlinePassed"))
	})

	It("of which the leader is killed keep what is open, until the same deadline, and open again within seconds", func() {
		w := newPair()
		there := w.get(w.ofFollower, "db")
		w.activate("inc-1", "db", "10m")
		Eventually(w.phase("inc-1")).Should(Equal("Live Live"))
		deadline := w.activation("inc-1").Status.Deadline.Time
		w.leader.kill()
		Consistently(there, "500ms", "5ms").Should(Equal(200))
		Consistently(w.get(w.ofLeader, "db"), "200ms", "5ms").Should(Equal(200))
		began := time.Now()
		w.activate("inc-2", "other", "10m")
		Eventually(w.get(w.ofFollower, "other")).Should(Equal(200))
		AddReportEntry("the follower opens after", time.Since(began).String())
		Expect(time.Since(began)).To(BeNumerically("<", 12*time.Second))
		Expect(w.activation("inc-1").Status.Deadline.Time).To(Equal(deadline))
		Expect(w.admin.Delete(context.Background(), w.activation("inc-1"))).To(Succeed())
		Eventually(there).Should(Equal(404))
	})

	It("of which one has lost its memory know what was open and what has ended", func() {
		w := newPair()
		w.activate("inc-1", "db", "10m")
		w.activate("inc-2", "other", "10m")
		Eventually(w.phase("inc-1")).Should(Equal("Live Live"))
		Eventually(w.phase("inc-2")).Should(Equal("Live Live"))
		w.revoke("inc-2")
		Eventually(w.phase("inc-2")).Should(Equal("Revoked Revoked"))
		before := w.activation("inc-1")
		w.leader.kill()
		w.follower.kill()
		Expect(os.RemoveAll(w.leader.dir)).To(Succeed())
		Expect(os.RemoveAll(w.follower.dir)).To(Succeed())
		w.leader.restart()
		w.follower.restart()
		here := w.get(w.ofLeader, "db")
		Eventually(w.leader.ready).Should(BeEmpty())
		Consistently(here, "1s", "5ms").Should(Equal(200))
		Expect(w.get(w.ofLeader, "other")()).To(Equal(404))
		Expect(w.get(w.ofFollower, "other")()).To(Equal(404))
		after := w.activation("inc-1")
		Expect(after.Status.Deadline).To(Equal(before.Status.Deadline))
		Expect(after.Status.OpenedAt).To(Equal(before.Status.OpenedAt))
		Expect(after.Status.Targets).To(Equal(before.Status.Targets))
	})
})

var _ = Describe("An Activation", func() {
	It("whose name was used before is refused, and one that was made anew while nobody looked too", func() {
		w := newPair()
		here := w.get(w.ofLeader, "db")
		w.activate("inc-1", "db", "10m")
		Eventually(here).Should(Equal(200))
		Expect(w.admin.Delete(context.Background(), w.activation("inc-1"))).To(Succeed())
		Eventually(here).Should(Equal(404))
		w.activate("inc-1", "db", "10m")
		Eventually(w.phase("inc-1")).Should(Equal("Refused NameSpent"))

		w.activate("inc-2", "db", "10m")
		Eventually(here).Should(Equal(200))
		w.leader.kill()
		w.follower.kill()
		Expect(w.admin.Delete(context.Background(), w.activation("inc-2"))).To(Succeed())
		w.activate("inc-2", "db", "10m")
		w.leader.restart()
		w.follower.restart()
		Eventually(w.phase("inc-2")).Should(Equal("Refused NameSpent"))
		Expect(here()).To(Equal(404))
	})

	It("is refused while the admission policies are not those of the release", func() {
		w := newPair()
		here := w.get(w.ofLeader, "db")
		w.activate("before", "db", "10m")
		Eventually(here).Should(Equal(200))
		w.dropAdmission()
		Eventually(w.leader.ready).Should(ContainSubstring("is missing"))
		forged := activationOf("forged", "other", "10m")
		forged.Spec.RequestedBy = "somebody else"
		Expect(w.admin.Create(context.Background(), forged)).To(Succeed())
		Eventually(w.phase("forged")).Should(Equal("Refused AuthorNotAssured"))
		Expect(w.get(w.ofLeader, "other")()).To(Equal(404))
		Expect(here()).To(Equal(200), "what was opened before goes on")
	})
})

// revoke as somebody who may.
func (c *cluster) revoke(name string) {
	GinkgoHelper()
	a := c.activation(name)
	a.Spec.Revoked = true
	Expect(c.admin.Update(context.Background(), a)).To(Succeed())
}

// dropAdmission is somebody who removes what the chart has installed.
func (c *cluster) dropAdmission() {
	GinkgoHelper()
	p := &admissionv1.ValidatingAdmissionPolicy{}
	p.Name = admission.Name
	Expect(c.admin.Delete(context.Background(), p)).To(Succeed())
}
