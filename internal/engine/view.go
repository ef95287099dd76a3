package engine

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// view is what others may see of the loop's state. It does not change.
type view struct {
	set         *source.Set
	result      *translator.Result
	activations map[types.NamespacedName]*v1alpha1.Activation
	journalErr  error
	unrecorded  bool // something that is true is not durable yet
	now         time.Time
	behind      time.Duration
}

// publish makes a new view and wakes whoever waits for one.
func (l *Engine) publish() {
	v := &view{
		set: l.set, result: l.result, journalErr: l.journalErr, unrecorded: l.writing || len(l.unwritten) > 0,
		now: l.now(), behind: l.behind,
		activations: make(map[types.NamespacedName]*v1alpha1.Activation, len(l.result.Statuses.Activations)),
	}
	old := l.view.Load()
	for key, status := range l.result.Statuses.Activations {
		var before *v1alpha1.Activation
		if old != nil {
			before = old.activations[key]
		}
		v.activations[key] = l.observed(key, status, before)
	}
	l.view.Store(v)
	l.viewMu.Lock()
	close(l.viewed)
	l.viewed = make(chan struct{})
	l.viewMu.Unlock()
}

// observed is an activation as others see it. One whose status did not change
// stays the same object.
func (l *Engine) observed(key types.NamespacedName, status v1alpha1.ActivationStatus, before *v1alpha1.Activation) *v1alpha1.Activation {
	now := metav1.NewTime(l.now())
	for i := range status.Conditions {
		c := &status.Conditions[i]
		c.LastTransitionTime = now
		if before == nil {
			continue
		}
		for _, b := range before.Status.Conditions {
			if b.Type == c.Type && b.Status == c.Status {
				c.LastTransitionTime = b.LastTransitionTime
			}
		}
	}
	if before != nil && equality.Semantic.DeepEqual(before.Status, status) {
		return before
	}
	r := l.result.Records[key]
	return &v1alpha1.Activation{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Activation"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: key.Namespace, Name: key.Name, CreationTimestamp: metav1.NewTime(r.Start),
		},
		Spec:   r.Spec,
		Status: status,
	}
}

// await calls done with each view until it is true.
func (l *Engine) await(ctx context.Context, done func(*view) bool) error {
	for {
		l.viewMu.Lock()
		newer := l.viewed
		l.viewMu.Unlock()
		if v := l.view.Load(); v != nil && done(v) {
			return nil
		}
		select {
		case <-newer:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
