//go:build apiserver

package controller_test

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

var _ = Describe("An emergency Gateway in a cluster", func() {
	It("opens a route for the time, the role and the token that were asked for, and for nothing else", func() {
		c := newCluster()
		r := c.controller("controller-0")
		p := c.pod("pod-0", r)
		c.route("db")
		c.route("other")
		Eventually(r.ready).Should(BeEmpty())
		token := c.issuer.Token("sre")
		get := p.status(testbed.Host("db"), "/api/x", token)
		Eventually(get).Should(Equal(404))
		began := time.Now()
		c.activate("inc-1", "db", "3s")
		made := time.Now()
		Eventually(get).WithPolling(time.Millisecond).Should(Equal(200))
		AddReportEntry("create", made.Sub(began).String()+", then to the first 200 "+time.Since(made).String())
		Expect(p.status(testbed.Host("db"), "/api/x", "")()).To(Equal(401))
		Expect(p.status(testbed.Host("db"), "/api/x", c.issuer.Token("dev"))()).To(Equal(403))
		Expect(p.status(testbed.Host("other"), "/api/x", token)()).To(Equal(404))
		Eventually(c.phase("inc-1")).Should(Equal("Live Live"))
		a := c.activation("inc-1")
		Expect(a.Status.RequestedBy).To(Equal("alice"))
		Expect(a.Status.Deadline.Time).To(BeTemporally("==", a.CreationTimestamp.Add(3*time.Second)))
		for time.Until(a.Status.Deadline.Time) > -5*time.Millisecond {
			if now := time.Now(); get() == 200 {
				Expect(now).To(BeTemporally("<", a.Status.Deadline.Time), "let in after the deadline")
			}
		}
		Eventually(get).Should(Equal(404))
		Eventually(c.phase("inc-1")).Should(Equal("Expired DeadlinePassed"))

		c.activate("inc-2", "db", "10m")
		Eventually(get).Should(Equal(200))
		Expect(c.admin.Delete(context.Background(), c.activation("inc-2"))).To(Succeed())
		Eventually(get).Should(Equal(404))
	})

	It("closes at once when its policy, or its namespace's consent, is gone", func() {
		c := newCluster()
		r := c.controller("controller-0")
		p := c.pod("pod-0", r)
		c.route("db")
		Eventually(r.ready).Should(BeEmpty())
		get := p.status(testbed.Host("db"), "/api/x", c.issuer.Token("sre"))
		c.activate("inc-1", "db", "10m")
		Eventually(get).Should(Equal(200))
		var ns corev1.Namespace
		Expect(c.admin.Get(context.Background(), types.NamespacedName{Name: tenants}, &ns)).To(Succeed())
		label := client.MergeFrom(ns.DeepCopy())
		delete(ns.Labels, v1alpha1.EmergencyRoutesLabel)
		Expect(c.admin.Patch(context.Background(), &ns, label)).To(Succeed())
		Eventually(get).Should(Equal(404))
		label = client.MergeFrom(ns.DeepCopy())
		ns.Labels[v1alpha1.EmergencyRoutesLabel] = v1alpha1.EmergencyRoutesAllowed
		Expect(c.admin.Patch(context.Background(), &ns, label)).To(Succeed())
		Eventually(func() error {
			return c.alice.Create(context.Background(), activationOf("inc-2", "db", "10m"))
		}).Should(Succeed())
		Eventually(get).Should(Equal(200))
		policy := &v1alpha1.EmergencyPolicy{}
		policy.Name = "emergency"
		Expect(c.admin.Delete(context.Background(), policy)).To(Succeed())
		Eventually(get).ShouldNot(Equal(200))
		Consistently(get, "200ms", "5ms").ShouldNot(Equal(200))
	})
})
