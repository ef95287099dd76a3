// Package controltest holds a Backend for tests: activations in memory, and
// statuses that the test sets.
package controltest

import (
	"context"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// Backend keeps activations in memory. Set its fields before it is used.
type Backend struct {
	// OnActivate judges a new activation: it returns its first status, and may
	// start whatever calls Update later. Nil: Live at once.
	OnActivate func(*v1alpha1.Activation) (v1alpha1.ActivationStatus, error)
	// Fixed is the Status to tell; the activations are added.
	Fixed control.Status
	// Manifests in use.
	Manifests control.Objects
	// Entries of the timeline.
	Entries []control.TimelineEntry
	// TimelineErr ends the timeline after its entries.
	TimelineErr error
	// Now is the clock. Nil: time.Now.
	Now func() time.Time

	mu          sync.Mutex
	changed     chan struct{} // closed and renewed with each change
	activations []*v1alpha1.Activation
	peers       []control.Peer
	reviews     []control.ReviewRequest
	waits       int
}

func (b *Backend) now() time.Time {
	if b.Now != nil {
		return b.Now()
	}
	return time.Now()
}

func (b *Backend) find(key types.NamespacedName) *v1alpha1.Activation {
	for _, a := range b.activations {
		if a.Namespace == key.Namespace && a.Name == key.Name {
			return a
		}
	}
	return nil
}

// announce wakes all who wait. The caller holds mu.
func (b *Backend) announce() {
	if b.changed != nil {
		close(b.changed)
	}
	b.changed = make(chan struct{})
}

// Add puts an activation there as if it had always been.
func (b *Backend) Add(a *v1alpha1.Activation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.activations = append(b.activations, a.DeepCopy())
	b.announce()
}

// Update changes an activation and tells all who wait for it.
func (b *Backend) Update(key types.NamespacedName, change func(*v1alpha1.Activation)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.find(key); a != nil {
		change(a)
		b.announce()
	}
}

// Peers are those who called Activate and Revoke, in order.
func (b *Backend) Peers() []control.Peer {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.peers)
}

// Waiting is how many calls of Wait are under way.
func (b *Backend) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waits
}

// Activate implements control.Backend.
func (b *Backend) Activate(_ context.Context, req control.ActivateRequest, p control.Peer) (*v1alpha1.Activation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := req.Activation.DeepCopy()
	if b.find(types.NamespacedName{Namespace: a.Namespace, Name: a.Name}) != nil {
		return nil, control.Errorf(control.Refused, "the name %s/%s was used before: use a new one", a.Namespace, a.Name)
	}
	st := v1alpha1.ActivationStatus{Phase: v1alpha1.PhaseLive}
	if b.OnActivate != nil {
		var err error
		if st, err = b.OnActivate(a.DeepCopy()); err != nil {
			return nil, err
		}
	}
	a.Status = st
	if a.Status.Deadline == nil && a.Spec.NotAfter != nil {
		d := metav1.NewMicroTime(a.Spec.NotAfter.Time)
		a.Status.Deadline = &d
	}
	a.Status.RequestedBy = p.String()
	b.peers = append(b.peers, p)
	b.activations = append(b.activations, a)
	b.announce()
	return a.DeepCopy(), nil
}

// Activation implements control.Backend.
func (b *Backend) Activation(_ context.Context, key types.NamespacedName) (*v1alpha1.Activation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.find(key); a != nil {
		return a.DeepCopy(), nil
	}
	return nil, control.Errorf(control.NotFound, "there is no Activation %s", key)
}

// Wait implements control.Backend.
func (b *Backend) Wait(ctx context.Context, key types.NamespacedName, done func(*v1alpha1.Activation) bool) (*v1alpha1.Activation, error) {
	b.mu.Lock()
	b.waits++
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.waits--
		b.mu.Unlock()
	}()
	for {
		b.mu.Lock()
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		b.mu.Unlock()
		a, err := b.Activation(ctx, key)
		if err != nil || done(a) {
			return a, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Revoke implements control.Backend.
func (b *Backend) Revoke(_ context.Context, req control.RevokeRequest, p control.Peer) ([]v1alpha1.Activation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range req.Names {
		if b.find(n) == nil {
			return nil, control.Errorf(control.NotFound, "there is no Activation %s: nothing was revoked", n)
		}
	}
	b.peers = append(b.peers, p)
	var out []v1alpha1.Activation
	for _, a := range b.activations {
		named := slices.Contains(req.Names, types.NamespacedName{Namespace: a.Namespace, Name: a.Name})
		all := req.All && (req.Namespace == "" || req.Namespace == a.Namespace) && !a.Status.Phase.Final()
		if !named && !all {
			continue
		}
		if !a.Status.Phase.Final() {
			a.Status.Phase = v1alpha1.PhaseRevoked
			a.Status.Conditions = []metav1.Condition{{
				Type: v1alpha1.ConditionLive, Status: metav1.ConditionFalse, Reason: "Revoked", Message: "revoked by " + p.String() + ": " + req.Reason,
			}}
		}
		out = append(out, *a.DeepCopy())
	}
	b.announce()
	return out, nil
}

// Review implements control.Backend.
func (b *Backend) Review(_ context.Context, req control.ReviewRequest, p control.Peer) (*v1alpha1.Activation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.find(req.Name)
	switch {
	case a == nil:
		return nil, control.Errorf(control.NotFound, "there is no Activation %s", req.Name)
	case !a.Status.Phase.Final():
		return nil, control.Errorf(control.Refused, "the Activation %s has not ended", req.Name)
	case a.Status.RequestedBy == p.String():
		return nil, control.Errorf(control.Refused, "you made the Activation %s yourself", req.Name)
	}
	now := metav1.NewMicroTime(b.now())
	was := a.Status.Review
	a.Status.Review = &v1alpha1.ReviewStatus{State: v1alpha1.ReviewState(req.Verdict), By: p.String(), At: &now}
	if was != nil {
		a.Status.Review.Due = was.Due
	}
	b.peers, b.reviews = append(b.peers, p), append(b.reviews, req)
	b.announce()
	return a.DeepCopy(), nil
}

// Reviews are those that were accepted, in order.
func (b *Backend) Reviews() []control.ReviewRequest {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.reviews)
}

// Status implements control.Backend.
func (b *Backend) Status(context.Context) (*control.Status, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	st := b.Fixed
	if st.Now.IsZero() {
		st.Now = b.now()
	}
	for _, a := range b.activations {
		st.Activations = append(st.Activations, *a.DeepCopy())
	}
	return &st, nil
}

// Timeline implements control.Backend.
func (b *Backend) Timeline(_ context.Context, since time.Time, fn func(control.TimelineEntry) error) error {
	for _, e := range b.Entries {
		if e.Time.Before(since) {
			continue
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return b.TimelineErr
}

// Objects implements control.Backend.
func (b *Backend) Objects(context.Context) (*control.Objects, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &b.Manifests, nil
}

var _ control.Backend = (*Backend)(nil)
