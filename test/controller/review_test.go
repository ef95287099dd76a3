//go:build apiserver

package controller_test

import (
	"context"
	"encoding/json"
	"os"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/breakglass-gateway/breakglass-gateway/api/admission"
	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// reviewPolicy has the policy ask for reviews like this, in JSON.
func (c *cluster) reviewPolicy(review string) {
	GinkgoHelper()
	p := &v1alpha1.EmergencyPolicy{}
	p.Name = "emergency"
	Expect(c.admin.Patch(context.Background(), p, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"review":`+review+`}}`)))).To(Succeed())
}

// review is the state and the author of the review of an Activation.
func (c *cluster) review(name string) func() string {
	return func() string {
		var a v1alpha1.Activation
		if err := c.admin.Get(context.Background(), types.NamespacedName{Namespace: tenants, Name: name}, &a); err != nil {
			return err.Error()
		}
		if a.Status.Review == nil {
			return ""
		}
		return string(a.Status.Review.State) + " " + a.Status.Review.By
	}
}

// accepted is what is said of an ActivationReview.
func (c *cluster) accepted(name string) func() string {
	return func() string {
		var r v1alpha1.ActivationReview
		if err := c.admin.Get(context.Background(), types.NamespacedName{Namespace: tenants, Name: name}, &r); err != nil {
			return err.Error()
		}
		for _, cond := range r.Status.Conditions {
			return string(cond.Status) + " " + cond.Reason
		}
		return ""
	}
}

func reviewOf(name, activation string, verdict v1alpha1.Verdict) *v1alpha1.ActivationReview {
	return &v1alpha1.ActivationReview{
		ObjectMeta: metav1.ObjectMeta{Namespace: tenants, Name: name},
		Spec:       v1alpha1.ActivationReviewSpec{ActivationRef: v1alpha1.ActivationReference{Name: activation}, Verdict: verdict, Note: "read the log"},
	}
}

// reviewer is a client of a user.
func (c *cluster) reviewer(name string) client.Client {
	GinkgoHelper()
	cfg := c.env.Config
	config := *cfg
	config.Impersonate.UserName = name
	config.Impersonate.Groups = []string{"system:authenticated"}
	config.QPS = -1
	out, err := client.New(&config, client.Options{Scheme: c.admin.Scheme()})
	Expect(err).NotTo(HaveOccurred())
	return out
}

var _ = Describe("The review of what was opened in a cluster", func() {
	It("is due, overdue, refuses the role and unlocks it, whichever replica dies and whatever is deleted", func() {
		w := newPair()
		grace := w.user("grace", tenants, "breakglass-reviewer")
		both := w.user("both", tenants, "breakglass-reviewer", "breakglass-activator-db")
		w.reviewPolicy(`{"within":"3s","onOverdue":"Refuse"}`)
		ctx := context.Background()

		w.activate("inc-1", "db", "10m")
		Eventually(w.phase("inc-1")).Should(Equal("Live Live"))
		Expect(w.review("inc-1")()).To(BeEmpty())
		w.activate("open", "other", "10m")
		Eventually(w.phase("open")).Should(Equal("Live Live"))

		// Before it has ended there is nothing to review.
		Expect(w.reviewer("grace").Create(ctx, reviewOf("early", "inc-1", v1alpha1.VerdictDrill))).To(Succeed())
		Eventually(w.accepted("early")).Should(Equal("False NotEnded"))
		w.revoke("inc-1")
		Eventually(w.review("inc-1")).Should(Equal("Pending "))
		Expect(w.accepted("early")()).To(Equal("False NotEnded"), "made before the end")

		Eventually(w.review("inc-1")).Should(Equal("Overdue "))
		w.activate("inc-2", "db", "10m")
		Eventually(w.phase("inc-2")).Should(Equal("Refused ReviewOverdue"))
		Expect(w.phase("open")()).To(Equal("Live Live"), "what is open stays open")

		// The replicas are killed, and one loses its memory.
		w.leader.kill()
		w.follower.kill()
		Expect(os.RemoveAll(w.leader.dir)).To(Succeed())
		w.leader.restart()
		w.follower.restart()
		Eventually(w.leader.ready).Should(BeEmpty())
		Eventually(w.follower.ready).Should(BeEmpty())
		w.activate("inc-3", "db", "10m")
		Eventually(w.phase("inc-3")).Should(Equal("Refused ReviewOverdue"))
		Expect(w.review("inc-1")()).To(Equal("Overdue "))

		// By whom it was made it is not reviewed, whatever he is bound to.
		Expect(w.admin.Create(ctx, reviewOf("by-admin", "none", v1alpha1.VerdictDrill))).To(Succeed())
		Eventually(w.accepted("by-admin")).Should(Equal("False NotFound"))

		began := time.Now()
		a := w.cli(grace, "review", "inc-1", "--verdict", "justified", "--note", "as in the runbook", "--follow-up", "OPS-12", "-o", "json")
		Expect(a.code).To(BeZero(), a.errOut)
		AddReportEntry("breakglass review: the command returns after", time.Since(began).String())
		var st v1alpha1.ReviewStatus
		Expect(json.Unmarshal([]byte(a.out), &st)).To(Succeed())
		Expect(st.State).To(BeEquivalentTo("Justified"))
		Expect(st.By).To(Equal("grace"))
		w.activate("inc-4", "db", "10m")
		Eventually(w.phase("inc-4")).Should(Equal("Live Live"))
		AddReportEntry("from the review to the next Activation, Live", time.Since(began).String())
		Eventually(w.review("inc-1")).Should(Equal("Justified grace"))

		// It stays: over its deletion, another verdict, and restarts.
		Expect(w.admin.DeleteAllOf(ctx, &v1alpha1.ActivationReview{}, client.InNamespace(tenants))).To(Succeed())
		Expect(w.reviewer("both").Create(ctx, reviewOf("second", "inc-1", v1alpha1.VerdictMisuse))).To(Succeed())
		Eventually(w.accepted("second")).Should(Equal("False AlreadyReviewed"))
		w.leader.kill()
		w.leader.restart()
		Eventually(w.leader.ready).Should(BeEmpty())
		Expect(w.review("inc-1")()).To(Equal("Justified grace"))

		// Who may do both reviews others, and not himself; and by name what was deleted.
		own := w.cli(both, "activate", "db", "--role", "db", "--name", "inc-5", "--incident", "I", "--reason", "r")
		Expect(own.code).To(BeZero(), own.errOut)
		Expect(w.cli(w.file("admin.kubeconfig"), "revoke", "-n", tenants, "inc-5", "inc-4").code).To(BeZero())
		own = w.cli(both, "review", "inc-5", "--verdict", "drill", "--note", "n")
		Expect(own.code).To(Equal(1))
		Expect(own.errOut).To(ContainSubstring("ReviewerIsActivator"))
		Expect(w.admin.Delete(ctx, w.activation("inc-5"))).To(Succeed())
		own = w.cli(grace, "review", tenants+"/inc-5", "--verdict", "misuse", "--note", "n")
		Expect(own.code).To(BeZero(), own.errOut)
		own = w.cli(both, "review", "inc-4", "--verdict", "drill", "--note", "n")
		Expect(own.code).To(BeZero(), own.errOut)
		list := w.cli(grace, "review", "--list", "-n", tenants)
		Expect(list.out).To(Equal("Nothing waits for a review.\n"), list.errOut)
		Expect(w.phase("open")()).To(Equal("Live Live"))
	})

	It("is believed only while the admission policies for reviews are those of the release", func() {
		c := newCluster()
		r := c.controller("controller-0")
		p := c.pod("pod-0", r)
		_ = p
		c.route("db")
		Eventually(r.ready).Should(BeEmpty())
		grace := c.user("grace", tenants, "breakglass-reviewer")
		c.activate("inc-1", "db", "10m")
		Eventually(c.phase("inc-1")).Should(Equal("Live Live"))
		c.revoke("inc-1")
		Eventually(c.review("inc-1")).Should(Equal("Pending "))
		ctx := context.Background()
		policy := &admissionv1.MutatingAdmissionPolicy{}
		policy.Name = admission.ReviewsName
		Expect(c.admin.Delete(ctx, policy)).To(Succeed())
		validating := &admissionv1.ValidatingAdmissionPolicy{}
		validating.Name = admission.ReviewsName
		Expect(c.admin.Delete(ctx, validating)).To(Succeed())
		forge := func(name, by string) {
			Eventually(func() error { // until the API server goes by it
				forged := reviewOf(name, "inc-1", v1alpha1.VerdictJustified)
				forged.Spec.ReviewedBy = by
				err := c.reviewer("grace").Create(ctx, forged)
				if err == nil && forged.Spec.ReviewedBy != by {
					_ = c.admin.Delete(ctx, forged)
					return context.DeadlineExceeded
				}
				return err
			}).Should(Succeed())
		}
		forge("forged", "bob")
		Eventually(c.accepted("forged")).Should(Equal("False AuthorNotAssured"))
		forge("own", "alice")
		Eventually(c.accepted("own")).Should(Equal("False ReviewerIsActivator"))
		Consistently(c.review("inc-1"), "300ms").Should(Equal("Pending "))
		// Activations are believed as before: their policies are others.
		c.activate("inc-2", "db", "10m")
		Eventually(c.phase("inc-2")).Should(Equal("Live Live"))
		out := c.cli(grace, "review", "--list", "-o", "json")
		Expect(out.out).To(And(ContainSubstring(`"name": "inc-1"`), ContainSubstring(`"state": "Pending"`)))
	})

	It("needs no kind that is not there: without it everything else works, and once it is there it is read", func() {
		c := newCluster()
		crd := c.dropReviews()
		r := c.controller("controller-0")
		p := c.pod("pod-0", r)
		_ = p
		c.route("db")
		Eventually(r.ready).Should(BeEmpty())
		c.activate("inc-1", "db", "10m")
		Eventually(c.phase("inc-1")).Should(Equal("Live Live"))
		c.revoke("inc-1")
		Eventually(c.review("inc-1")).Should(Equal("Pending "))
		c.restoreReviews(crd)
		grace := c.user("grace", tenants, "breakglass-reviewer")
		Eventually(func() string {
			return c.cli(grace, "review", "inc-1", "--verdict", "drill", "--note", "n", "--timeout", "10s").errOut
		}, "40s").ShouldNot(ContainSubstring("Error"))
		Eventually(c.review("inc-1")).Should(Equal("Drill grace"))
	})
})

// dropReviews removes the kind, as of a release before it, and returns it.
func (c *cluster) dropReviews() *unstructured.Unstructured {
	GinkgoHelper()
	crd := &unstructured.Unstructured{}
	crd.SetAPIVersion("apiextensions.k8s.io/v1")
	crd.SetKind("CustomResourceDefinition")
	key := client.ObjectKey{Name: "activationreviews.breakglass.dev"}
	Expect(c.admin.Get(context.Background(), key, crd)).To(Succeed())
	Expect(c.admin.Delete(context.Background(), crd.DeepCopy())).To(Succeed())
	Eventually(func() bool { return apierrors.IsNotFound(c.admin.Get(context.Background(), key, crd.DeepCopy())) }).Should(BeTrue())
	return crd
}

func (c *cluster) restoreReviews(crd *unstructured.Unstructured) {
	GinkgoHelper()
	crd = crd.DeepCopy()
	crd.SetResourceVersion("")
	crd.SetUID("")
	unstructured.RemoveNestedField(crd.Object, "status")
	Expect(c.admin.Create(context.Background(), crd)).To(Succeed())
}
