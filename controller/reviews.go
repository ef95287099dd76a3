package controller

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/breakglass-gateway/breakglass-gateway/api/admission"
	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
)

// reviews follows the ActivationReviews and writes their status. It stands beside
// everything else: an API server that does not have the kind, or does not let it be
// read, holds up no opening and no closing.
type reviews struct {
	log     *slog.Logger
	leads   func() bool
	last    func() *outcome
	changed func()
	trust   *trust
	wake    chan struct{}

	mu      sync.Mutex
	objects map[types.NamespacedName]*v1alpha1.ActivationReview
	// read: they were all read, in the run of this number.
	read bool
	runs int
}

func newReviews(log *slog.Logger, leads func() bool, last func() *outcome, changed func()) *reviews {
	return &reviews{log: log, leads: leads, last: last, changed: changed, trust: newTrust(admission.Reviews, time.Now, changed), wake: make(chan struct{}, 1)}
}

// present reports whether the API server has the kind.
func (r *reviews) present(mapper meta.RESTMapper) bool {
	_, err := mapper.RESTMapping(v1alpha1.GroupVersion.WithKind("ActivationReview").GroupKind(), v1alpha1.GroupVersion.Version)
	return err == nil
}

func (r *reviews) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run reads and writes until ctx ends.
func (r *reviews) run(ctx context.Context, cfg *rest.Config, mapper meta.RESTMapper) {
	run := r.begin()
	if !r.present(mapper) {
		r.log.Warn("the API server has no kind ActivationReview: nothing can be reviewed until the CustomResourceDefinitions of the chart (directory crds) are applied")
		return
	}
	for wait := time.Second; ctx.Err() == nil; wait = min(2*wait, time.Minute) {
		if err := r.follow(ctx, run, cfg, mapper); err != nil && ctx.Err() == nil {
			r.log.Warn("cannot read the ActivationReviews; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// begin forgets what runs before have read.
func (r *reviews) begin() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs++
	r.objects, r.read = map[types.NamespacedName]*v1alpha1.ActivationReview{}, false
	return r.runs
}

// follow reads and writes until ctx ends, or that cannot be begun.
func (r *reviews) follow(ctx context.Context, run int, cfg *rest.Config, mapper meta.RESTMapper) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	scheme := newScheme()
	by := map[client.Object]cache.ByObject{}
	for _, obj := range admissionKinds {
		by[obj] = cache.ByObject{Field: fields.OneTermEqualSelector("metadata.name", admission.ReviewsName)}
	}
	objects, err := cache.New(cfg, cache.Options{
		Scheme: scheme, Mapper: mapper, ByObject: by, ReaderFailOnMissingInformer: true, DefaultTransform: dropManagedFields,
	})
	if err != nil {
		return err
	}
	direct, err := client.New(cfg, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- objects.Start(ctx) }()
	if err := r.trust.follow(ctx, objects); err != nil {
		return err
	}
	informer, err := objects.GetInformer(ctx, &v1alpha1.ActivationReview{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watch ActivationReviews: %w", err)
	}
	handled, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { r.put(run, o, false) },
		UpdateFunc: func(_, o any) { r.put(run, o, false) },
		DeleteFunc: func(o any) { r.put(run, o, true) },
	})
	if err != nil {
		return fmt.Errorf("watch ActivationReviews: %w", err)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), handled.HasSynced) {
		return ctx.Err()
	}
	r.done(run)
	for {
		select {
		case err := <-ended:
			return err
		case <-r.wake:
			r.write(ctx, direct)
		}
	}
}

func (r *reviews) done(run int) {
	r.mu.Lock()
	r.read = run == r.runs
	r.mu.Unlock()
	r.changed()
}

func (r *reviews) put(run int, o any, gone bool) {
	if t, is := o.(toolscache.DeletedFinalStateUnknown); is {
		o = t.Obj
	}
	obj, ok := o.(*v1alpha1.ActivationReview)
	if !ok {
		return
	}
	r.mu.Lock()
	if run != r.runs {
		r.mu.Unlock()
		return // a late word of watches that have ended
	}
	if key := client.ObjectKeyFromObject(obj); gone {
		delete(r.objects, key)
	} else {
		r.objects[key] = obj
	}
	r.mu.Unlock()
	r.changed()
}

// requests are the reviews that may still have an effect. Until all were read, and
// the admission policies by which it is known who made them, there are none.
func (r *reviews) requests(records map[types.NamespacedName]activation.Record) (out []activation.ReviewRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.read || !r.trust.read() {
		return nil
	}
	for _, obj := range r.objects {
		q := r.request(obj)
		if v := records[q.Activation].Review; v != nil && judged(obj, v) {
			continue
		}
		out = append(out, q)
	}
	return out
}

// judged reports whether the status of obj says what there is to say, with v on
// record.
func judged(obj *v1alpha1.ActivationReview, v *activation.Review) bool {
	c := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionAccepted)
	return c != nil && (c.Status == metav1.ConditionTrue || c.Reason == activation.ReviewAlready && string(obj.UID) != v.SourceUID)
}

func (r *reviews) request(obj *v1alpha1.ActivationReview) activation.ReviewRequest {
	key := client.ObjectKeyFromObject(obj)
	q := activation.ReviewRequest{
		Object: key, Activation: types.NamespacedName{Namespace: obj.Namespace, Name: obj.Spec.ActivationRef.Name}, UID: obj.Spec.ActivationRef.UID,
		Made: obj.CreationTimestamp.Time,
		Review: activation.Review{
			Verdict: strings.ToLower(string(obj.Spec.Verdict)), By: obj.Spec.ReviewedBy, Note: obj.Spec.Note, FollowUps: obj.Spec.FollowUps,
			Source: "ActivationReview " + key.String(), SourceUID: string(obj.UID),
		},
	}
	switch c := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionAccepted); {
	case c != nil && c.Status == metav1.ConditionTrue:
		q.Accepted = c.LastTransitionTime.Time
		if at := obj.Status.AcceptedAt; at != nil {
			q.Accepted = at.Time
		}
	case c != nil && c.Reason == activation.ReviewDistrusted:
		q.Doubt = c.Message // once in doubt it stays so: policies that are back say nothing of who made it
	default:
		q.Early = c != nil && c.Reason == activation.ReviewNotEnded
		q.Doubt = r.trust.doubtOf(q.Made, "spec.reviewedBy", q.Review.By, "ActivationReview")
	}
	return q
}

// write brings the statuses up to date, if this replica leads.
func (r *reviews) write(ctx context.Context, c client.Client) {
	o := r.last()
	if o == nil || !r.leads() {
		return
	}
	for key, is := range o.result.Statuses.Reviews {
		r.mu.Lock()
		obj := r.objects[key]
		r.mu.Unlock()
		if obj == nil {
			continue
		}
		wanted := withStatus(obj, is)
		if equality.Semantic.DeepEqual(obj.Status, wanted.Status) {
			continue
		}
		err := c.Status().Patch(ctx, wanted, client.MergeFromWithOptions(obj, client.MergeFromWithOptimisticLock{}))
		if client.IgnoreNotFound(err) == nil {
			continue
		}
		if !apierrors.IsConflict(err) && ctx.Err() == nil {
			r.log.Warn("cannot write the status of an ActivationReview; trying again", "object", key.String(), "error", err)
		}
		time.AfterFunc(time.Second, r.poke)
	}
}

// withStatus is obj with what is to be said of it. What was accepted stays so.
func withStatus(obj *v1alpha1.ActivationReview, is v1alpha1.ActivationReviewStatus) *v1alpha1.ActivationReview {
	wanted := obj.DeepCopy()
	if meta.IsStatusConditionTrue(obj.Status.Conditions, v1alpha1.ConditionAccepted) {
		return wanted
	}
	wanted.Status.AcceptedAt = is.AcceptedAt
	wanted.Status.Conditions = merge(obj.Status.Conditions, is.Conditions)
	return wanted
}
