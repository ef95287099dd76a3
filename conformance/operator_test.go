package conformance

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const (
	operatorName = "operator"
	roleName     = "conformance"
	// An Activation outlives the suite, and nothing else.
	openFor = "2h"
)

var (
	activations = schema.GroupVersionResource{Group: "breakglass.dev", Version: "v1alpha1", Resource: "activations"}
	routeKinds  = map[string]schema.GroupVersionResource{
		"HTTPRoute": {Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"},
		"GRPCRoute": {Group: "gateway.networking.k8s.io", Version: "v1", Resource: "grpcroutes"},
	}
)

// operator does what somebody on call does, and has no right but his: for each route that appears or is edited he makes
// an ordinary Activation.
type operator struct {
	t      *testing.T
	client dynamic.Interface

	mu sync.Mutex
	// latest is what was activated last, by the UID of the route.
	latest map[types.UID]activated
}

type activated struct {
	generation int64
	activation string
}

func operate(t *testing.T, admin *rest.Config) {
	config := rest.CopyConfig(admin)
	config.Impersonate.UserName = operatorName
	config.UserAgent = operatorName
	config.QPS, config.Burst = 200, 400
	c, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	o := &operator{t: t, client: c, latest: map[types.UID]activated{}}
	ctx, cancel := context.WithCancel(context.Background())
	factory := dynamicinformer.NewDynamicSharedInformerFactory(c, 0)
	watched := map[string]cache.SharedIndexInformer{}
	for kind, resource := range routeKinds {
		watched[kind] = factory.ForResource(resource).Informer()
		o.on(watched[kind], func(route *unstructured.Unstructured) { o.activate(ctx, kind, route, "") })
	}
	o.on(factory.ForResource(activations).Informer(), func(a *unstructured.Unstructured) { o.look(ctx, a, watched) })
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	t.Cleanup(func() {
		cancel()
		factory.Shutdown()
	})
}

func (o *operator) on(informer cache.SharedIndexInformer, do func(*unstructured.Unstructured)) {
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { do(object.(*unstructured.Unstructured)) },
		UpdateFunc: func(_, object any) { do(object.(*unstructured.Unstructured)) },
	})
	require.NoError(o.t, err)
}

// activate opens a route as it is now. An Activation is for the route as it was reviewed: after an edit it takes another
// one, and so it does if one met an older version of the route, which is the Activation `instead`.
func (o *operator) activate(ctx context.Context, kind string, route *unstructured.Unstructured, instead string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	last := o.latest[route.GetUID()]
	if route.GetDeletionTimestamp() != nil || last.generation >= route.GetGeneration() && (instead == "" || last.activation != instead) {
		return
	}
	made, err := o.client.Resource(activations).Namespace(route.GetNamespace()).Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "breakglass.dev/v1alpha1", "kind": "Activation",
		"metadata": map[string]any{"generateName": "conformance-", "annotations": map[string]any{routeUID: string(route.GetUID()), routeKind: kind}},
		"spec": map[string]any{
			"targetRefs": []any{map[string]any{"group": "gateway.networking.k8s.io", "kind": kind, "name": route.GetName()}},
			"role":       roleName, "incident": "CONFORMANCE", "reason": "the conformance suite", "duration": openFor,
		},
	}}, metav1.CreateOptions{})
	if err != nil {
		// The test that needs it fails and tells what it met; here is why.
		o.t.Logf("cannot activate %s %s/%s: %v", kind, route.GetNamespace(), route.GetName(), err)
		return
	}
	o.latest[route.GetUID()] = activated{generation: route.GetGeneration(), activation: made.GetName()}
}

// Of which route an Activation is: a name may be used again.
const (
	routeUID  = "conformance.example.test/route-uid"
	routeKind = "conformance.example.test/route-kind"
)

// look looks at what became of an Activation.
func (o *operator) look(ctx context.Context, a *unstructured.Unstructured, watched map[string]cache.SharedIndexInformer) {
	phase, _, _ := unstructured.NestedString(a.Object, "status", "phase")
	if phase != "Revoked" && phase != "Refused" {
		return
	}
	reason := liveReason(a)
	if phase == "Refused" {
		o.t.Logf("Activation %s/%s of %s: Refused, %s", a.GetNamespace(), a.GetName(), target(a), reason)
		return
	}
	kind := a.GetAnnotations()[routeKind]
	informer := watched[kind]
	if reason != "RouteChanged" || informer == nil {
		return
	}
	object, found, err := informer.GetStore().GetByKey(a.GetNamespace() + "/" + target(a))
	if err != nil || !found {
		return
	}
	if route := object.(*unstructured.Unstructured); string(route.GetUID()) == a.GetAnnotations()[routeUID] {
		o.activate(ctx, kind, route, a.GetName())
	}
}

func target(a *unstructured.Unstructured) string {
	refs, _, _ := unstructured.NestedSlice(a.Object, "spec", "targetRefs")
	if len(refs) == 0 {
		return ""
	}
	ref, _ := refs[0].(map[string]any)
	name, _ := ref["name"].(string)
	return name
}

func liveReason(a *unstructured.Unstructured) string {
	list, _, _ := unstructured.NestedSlice(a.Object, "status", "conditions")
	for _, c := range list {
		if condition, ok := c.(map[string]any); ok && condition["type"] == "Live" {
			reason, _ := condition["reason"].(string)
			return reason
		}
	}
	return ""
}
