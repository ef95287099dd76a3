package client

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// judgedEvery is how often it is asked whether a review was judged.
const judgedEvery = 50 * time.Millisecond

// Review makes an ActivationReview, and waits until the controller has said what
// becomes of it. Who reviews is written down by the API server.
func (c *Cluster) Review(ctx context.Context, req control.ReviewRequest) (*v1alpha1.ReviewStatus, error) {
	r := req.Object("")
	r.GenerateName = req.Name.Name + "-"
	what := func(err error) error {
		return c.explain(err, "make ActivationReviews", req.Name.Namespace, "breakglass-reviewer")
	}
	asking, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if err := c.objects.Create(asking, r); err != nil {
		if arrived(err) {
			return nil, fmt.Errorf("%w: kubectl get activationreviews -n %s: %w", ErrUnknown, req.Name.Namespace, what(err))
		}
		return nil, what(err)
	}
	key := client.ObjectKeyFromObject(r)
	for {
		switch judged := control.Condition(r.Status.Conditions, v1alpha1.ConditionAccepted); judged.Status {
		case metav1.ConditionTrue:
			return &v1alpha1.ReviewStatus{State: v1alpha1.ReviewState(r.Spec.Verdict), By: r.Spec.ReviewedBy, At: r.Status.AcceptedAt}, nil
		case metav1.ConditionFalse:
			return nil, control.Errorf(control.Refused, "the ActivationReview %s is not accepted: %s: %s", key, judged.Reason, judged.Message)
		}
		select {
		case <-ctx.Done():
			return nil, control.Errorf(control.Unavailable, "the ActivationReview %s was made, and the controller has not said yet what becomes of it: kubectl get activationreviews -n %s %s", key, key.Namespace, key.Name)
		case <-time.After(judgedEvery):
		}
		if err := c.objects.Get(ctx, key, r); err != nil && ctx.Err() == nil {
			return nil, fmt.Errorf("the ActivationReview %s was made, but: %w", key, what(err))
		}
	}
}
