package controller

import (
	"context"
	"log/slog"
	"reflect"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/compare"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// writers is how many statuses are written at one time.
const writers = 4

// statuses writes what the loop found to the API server, as long as this replica
// leads. An object is looked at when what is to be said of it may be something
// else, or when somebody changed it; it is written when it says something else.
type statuses struct {
	client client.Client // reads from the cache
	log    *slog.Logger
	leads  func() bool
	last   func() *outcome
	events events.EventRecorder

	wake          chan struct{}
	urgent, queue workqueue.TypedRateLimitingInterface[source.ObjectKey]

	mu   sync.Mutex
	told *outcome // whose differences are in the queue
	// passing is until when what is on its way to something else is not written.
	passing map[source.ObjectKey]time.Time
}

// passes is how long a status that is on its way to another may be left unwritten: an
// opening goes through several within milliseconds.
const passes = time.Second

func newStatuses(log *slog.Logger, leads func() bool, last func() *outcome, c client.Client, e events.EventRecorder) *statuses {
	queue := func() workqueue.TypedRateLimitingInterface[source.ObjectKey] {
		return workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[source.ObjectKey](5*time.Millisecond, 30*time.Second))
	}
	return &statuses{client: c, events: e, log: log, leads: leads, last: last, wake: make(chan struct{}, 1), passing: map[source.ObjectKey]time.Time{}, urgent: queue(), queue: queue()}
}

func (s *statuses) poke() {
	if s == nil {
		return // nothing can be written yet
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run writes until ctx ends.
func (s *statuses) run(ctx context.Context) {
	for range writers {
		go s.work(ctx, s.queue)
	}
	// Somebody waits for an Activation, and thousands of routes do not keep him.
	go s.work(ctx, s.urgent)
	go s.work(ctx, s.urgent)
	led := false
	for {
		select {
		case <-ctx.Done():
			s.queue.ShutDown()
			s.urgent.ShutDown()
			return
		case <-s.wake:
		}
		now := s.last()
		if led = s.leads(); now == nil || !led {
			s.forget()
			continue
		}
		s.enqueue(now)
	}
}

// forget has everything looked at once this replica leads again.
func (s *statuses) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = nil
}

// enqueue adds what differs from what was told last.
func (s *statuses) enqueue(now *outcome) {
	s.mu.Lock()
	old := s.told
	s.told = now
	s.mu.Unlock()
	if old == nil {
		old = &outcome{set: source.NewSet(nil), result: nil}
	}
	st := &now.result.Statuses
	for key, is := range st.Activations {
		if old.result != nil && is.Phase.Final() {
			if was := old.result.Statuses.Activations[key]; was.Phase == is.Phase && reviewState(was.Review) == reviewState(is.Review) {
				continue
			}
		}
		s.urgent.Add(source.ObjectKey{Kind: "Activation", Namespace: key.Namespace, Name: key.Name})
	}
	for name := range st.Policies {
		s.queue.Add(source.ObjectKey{Kind: "EmergencyPolicy", Name: name})
	}
	for name := range st.GatewayClasses {
		s.queue.Add(source.ObjectKey{Kind: "GatewayClass", Name: name})
	}
	for key := range st.Gateways {
		s.queue.Add(source.ObjectKey{Kind: "Gateway", Namespace: key.Namespace, Name: key.Name})
	}
	for key := range st.ListenerSets {
		s.queue.Add(source.ObjectKey{Kind: "ListenerSet", Namespace: key.Namespace, Name: key.Name})
	}
	var before map[activation.RouteKey]gwv1.RouteStatus
	if old.result != nil {
		before = old.result.Statuses.Routes
	}
	route := func(key activation.RouteKey) {
		s.queue.Add(source.ObjectKey{Kind: key.Kind, Namespace: key.Namespace, Name: key.Name})
	}
	different(before, st.Routes, route)
	for key := range compare.Keys(old.set.HTTPRoutes, now.set.HTTPRoutes) {
		route(activation.HTTPRoute(key))
	}
	for key := range compare.Keys(old.set.GRPCRoutes, now.set.GRPCRoutes) {
		route(activation.GRPCRoute(key))
	}
	s.enqueueTLSPolicies(old, now)
}

func reviewState(r *v1alpha1.ReviewStatus) v1alpha1.ReviewState {
	if r == nil {
		return ""
	}
	return r.State
}

// enqueueTLSPolicies adds those that are others, or of which something else is to be
// said. The translator copies the map when it changes it.
func (s *statuses) enqueueTLSPolicies(old, now *outcome) {
	policy := func(key types.NamespacedName) {
		s.queue.Add(source.ObjectKey{Kind: "BackendTLSPolicy", Namespace: key.Namespace, Name: key.Name})
	}
	for key := range compare.Keys(old.set.BackendTLSPolicies, now.set.BackendTLSPolicies) {
		policy(key)
	}
	var before map[types.NamespacedName]gwv1.PolicyStatus
	if old.result != nil {
		before = old.result.Statuses.BackendTLSPolicies
	}
	is := now.result.Statuses.BackendTLSPolicies
	if reflect.ValueOf(before).UnsafePointer() == reflect.ValueOf(is).UnsafePointer() {
		return
	}
	for _, m := range []map[types.NamespacedName]gwv1.PolicyStatus{before, is} {
		for key := range m {
			policy(key)
		}
	}
}

// different calls see for each route with another status. The translator copies the map
// when it changes it.
func different(before, is map[activation.RouteKey]gwv1.RouteStatus, see func(activation.RouteKey)) {
	if reflect.ValueOf(before).UnsafePointer() == reflect.ValueOf(is).UnsafePointer() {
		return
	}
	for key, now := range is {
		if was, known := before[key]; !known || !sameStatus(was, now) {
			see(key)
		}
	}
	for key := range before {
		if _, still := is[key]; !still {
			see(key)
		}
	}
}

// sameStatus reports whether the translator made no new status.
func sameStatus(a, b gwv1.RouteStatus) bool {
	return len(a.Parents) == len(b.Parents) && (len(a.Parents) == 0 || &a.Parents[0] == &b.Parents[0])
}

// seen looks at an object that somebody changed.
func (s *statuses) seen(key source.ObjectKey, obj client.Object) {
	if s == nil || obj == nil || !s.leads() {
		return
	}
	switch key.Kind {
	case "Activation":
		s.urgent.Add(key)
	case "EmergencyPolicy", "GatewayClass", "Gateway", "ListenerSet", "HTTPRoute", "GRPCRoute", "BackendTLSPolicy":
		s.queue.Add(key)
	}
}

func (s *statuses) work(ctx context.Context, queue workqueue.TypedRateLimitingInterface[source.ObjectKey]) {
	for {
		key, over := queue.Get()
		if over {
			return
		}
		err := s.write(ctx, key)
		queue.Done(key)
		if err == nil {
			queue.Forget(key)
			continue
		}
		if !apierrors.IsConflict(err) && ctx.Err() == nil {
			s.log.Warn("cannot write a status; trying again", "object", key.String(), "error", err)
		}
		queue.AddRateLimited(key)
	}
}

// write brings the status of one object up to date.
func (s *statuses) write(ctx context.Context, key source.ObjectKey) error {
	o := s.last()
	if o == nil || !s.leads() {
		return nil
	}
	obj := emptyOf(key)
	if err := s.client.Get(ctx, types.NamespacedName{Namespace: key.Namespace, Name: key.Name}, obj); err != nil {
		return client.IgnoreNotFound(err)
	}
	wanted := obj.DeepCopyObject().(client.Object)
	if !o.apply(key, wanted) {
		return nil
	}
	if transient(obj, wanted) && s.leave(key) {
		return nil
	}
	if err := s.client.Status().Patch(ctx, wanted, client.MergeFromWithOptions(obj, client.MergeFromWithOptimisticLock{})); err != nil {
		return client.IgnoreNotFound(err)
	}
	if is, ok := wanted.(*v1alpha1.Activation); ok {
		s.tell(obj.(*v1alpha1.Activation), is)
	}
	return nil
}

// leave reports whether a status on its way to another is left for now, and looks again
// when it is not any more.
func (s *statuses) leave(key source.ObjectKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	until, known := s.passing[key]
	switch {
	case !known:
		s.passing[key] = now.Add(passes)
		s.urgent.AddAfter(key, passes)
		return true
	case now.Before(until):
		return true
	}
	delete(s.passing, key)
	return false
}

func emptyOf(key source.ObjectKey) client.Object {
	switch key.Kind {
	case "Activation":
		return &v1alpha1.Activation{}
	case "EmergencyPolicy":
		return &v1alpha1.EmergencyPolicy{}
	case "GatewayClass":
		return &gwv1.GatewayClass{}
	case "Gateway":
		return &gwv1.Gateway{}
	case "GRPCRoute":
		return &gwv1.GRPCRoute{}
	case "ListenerSet":
		return &gwv1.ListenerSet{}
	case "BackendTLSPolicy":
		return &gwv1.BackendTLSPolicy{}
	}
	return &gwv1.HTTPRoute{}
}
