//go:build apiserver

package controller_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// changes counts what happens to the objects of a list.
type changes struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *cluster) count(list client.ObjectList) *changes {
	GinkgoHelper()
	w, err := c.admin.Watch(context.Background(), list, client.InNamespace(tenants))
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(w.Stop)
	out := &changes{n: map[string]int{}}
	go func() {
		for e := range w.ResultChan() {
			if obj, ok := e.Object.(client.Object); ok && e.Type == watch.Modified {
				out.mu.Lock()
				out.n[obj.GetName()]++
				out.mu.Unlock()
			}
		}
	}()
	return out
}

func (c *changes) of(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[name]
}

var _ = Describe("Status", func() {
	It("is written at most twice for each change, beside what others say, and each step is an Event", func() {
		c := newCluster()
		r := c.controller("controller-0")
		p := c.pod("pod-0", r)
		route := c.route("db")
		c.route("other")
		ctx := context.Background()
		Eventually(r.ready).Should(BeEmpty())
		key := client.ObjectKeyFromObject(route)
		Eventually(func() int { _ = c.admin.Get(ctx, key, route); return len(route.Status.Parents) }).Should(Equal(1))

		foreign := gwv1.RouteParentStatus{
			ParentRef: gwv1.ParentReference{Name: "somebody"}, ControllerName: "example.com/other",
			Conditions: []metav1.Condition{{Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Theirs", LastTransitionTime: metav1.NewTime(time.Unix(1000, 0))}},
		}
		ours := metav1.Condition{Type: "example.com/Checked", Status: metav1.ConditionTrue, Reason: "Theirs", LastTransitionTime: metav1.NewTime(time.Unix(1000, 0))}
		Eventually(func() error {
			_ = c.admin.Get(ctx, key, route)
			route.Status.Parents = append(route.Status.Parents[:1:1], foreign)
			route.Status.Parents[0].Conditions = append(route.Status.Parents[0].Conditions, ours)
			return c.admin.Status().Update(ctx, route)
		}).Should(Succeed())

		routes, activations := c.count(&gwv1.HTTPRouteList{}), c.count(&v1alpha1.ActivationList{})
		c.activate("inc-1", "db", "3s")
		Eventually(c.phase("inc-1")).Should(Equal("Live Live"))
		Eventually(p.status(testbed.Host("db"), "/api/x", c.issuer.Token("sre"))).Should(Equal(200))
		Consistently(func() int { return routes.of("db") }, "500ms", "50ms").Should(BeNumerically("<=", 2))
		Expect(activations.of("inc-1")).To(BeNumerically("<=", 2))
		Eventually(c.phase("inc-1")).Should(Equal("Expired DeadlinePassed"))
		Consistently(func() int { return routes.of("db") }, "500ms", "50ms").Should(BeNumerically("<=", 4))
		Expect(activations.of("inc-1")).To(BeNumerically("<=", 4))
		Expect(routes.of("other")).To(BeZero(), "what does not change is not written")

		Expect(c.admin.Get(ctx, key, route)).To(Succeed())
		Expect(route.Status.Parents).To(HaveLen(2))
		Expect(route.Status.Parents[1].ControllerName).To(Equal(foreign.ControllerName))
		for cond, kept := range map[metav1.Condition][]metav1.Condition{foreign.Conditions[0]: route.Status.Parents[1].Conditions, ours: route.Status.Parents[0].Conditions} {
			is := meta.FindStatusCondition(kept, cond.Type)
			Expect(is).NotTo(BeNil())
			Expect(is.LastTransitionTime.Unix()).To(Equal(cond.LastTransitionTime.Unix()))
			Expect(is.Reason).To(Equal(cond.Reason))
		}

		steps := func() []string {
			var events eventsv1.EventList
			Expect(c.admin.List(ctx, &events, client.InNamespace(tenants))).To(Succeed())
			var out []string
			for _, e := range events.Items {
				if e.Regarding.Name == "inc-1" {
					out = append(out, fmt.Sprintf("%s %s", e.Type, e.Reason))
				}
			}
			slices.Sort(out)
			return out
		}
		Eventually(steps).Should(Equal([]string{"Normal Expired", "Warning Live", "Warning Opened"}))
	})
})

var _ = Describe("An Envoy", func() {
	It("gets nothing with the certificate of another Gateway, whatever it says of itself", func() {
		c := newCluster()
		r := c.controller("controller-0")
		p := c.pod("pod-0", r)
		c.route("db")
		Eventually(r.ready).Should(BeEmpty())
		get := p.status(testbed.Host("db"), "/api/x", c.issuer.Token("sre"))
		Eventually(get).Should(Equal(404))
		liar := c.podOf("pod-1", r, "other")
		Eventually(r.log).Should(ContainSubstring("an Envoy was sent away"))
		Consistently(liar.status(testbed.Host("db"), "/api/x", ""), "500ms", "10ms").Should(BeZero())
	})
})
