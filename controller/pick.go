package controller

import (
	"maps"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// picker keeps what concerns the loop of what the cluster has: a cluster changes all
// the time, and each change that the loop sees is a translation and is on record.
// It is not for concurrent use.
type picker struct {
	all map[source.ObjectKey]client.Object
	// refs are what each object names, and named how many name an object.
	refs  map[source.ObjectKey][]source.ObjectKey
	named map[source.ObjectKey]int
	// changes since the last take.
	changes map[source.ObjectKey]runtime.Object
	set     *source.Set
}

func newPicker() *picker {
	return &picker{
		all: map[source.ObjectKey]client.Object{}, refs: map[source.ObjectKey][]source.ObjectKey{}, named: map[source.ObjectKey]int{},
		changes: map[source.ObjectKey]runtime.Object{}, set: source.NewSet(nil),
	}
}

// onlyIfNamed are the kinds of which only those concern us that something of ours
// names.
var onlyIfNamed = map[string]bool{"Service": true, "EndpointSlice": true, "Secret": true, "ConfigMap": true}

// put takes in an object as it is now, nil if it is gone.
func (p *picker) put(key source.ObjectKey, obj client.Object) {
	if obj != nil && obj.GetDeletionTimestamp() != nil && key.Kind != "Namespace" {
		obj = nil // a finalizer of somebody else keeps no door open
	}
	if obj == nil {
		delete(p.all, key)
		p.refer(key, nil)
		p.change(key, nil)
		return
	}
	obj = trim(obj)
	if old := p.all[key]; old != nil && same(old, obj) {
		return
	}
	p.all[key] = obj
	p.refer(key, referencesOf(obj))
	p.let(key, obj) // also out: an EndpointSlice may be another Service's now
}

func (p *picker) concerns(key source.ObjectKey, obj client.Object) bool {
	return !onlyIfNamed[key.Kind] || p.named[nameOf(key, obj)] > 0
}

// nameOf is the key that others name an object by: EndpointSlices are named by their
// Service.
func nameOf(key source.ObjectKey, obj client.Object) source.ObjectKey {
	if key.Kind == "EndpointSlice" {
		return source.ObjectKey{Kind: "Service", Namespace: key.Namespace, Name: obj.GetLabels()[discoveryv1.LabelServiceName]}
	}
	return key
}

func (p *picker) change(key source.ObjectKey, obj runtime.Object) {
	if obj == nil && p.set.Object(key) == nil {
		delete(p.changes, key)
		return
	}
	p.changes[key] = obj
}

// refer notes what key names now, and lets in or out what that concerns.
func (p *picker) refer(key source.ObjectKey, now []source.ObjectKey) {
	before := p.refs[key]
	if delete(p.refs, key); len(now) > 0 {
		p.refs[key] = now
	}
	moved := map[source.ObjectKey]bool{}
	for _, r := range now {
		if p.named[r]++; p.named[r] == 1 {
			moved[r] = true
		}
	}
	for _, r := range before {
		if p.named[r]--; p.named[r] == 0 {
			delete(p.named, r)
			moved[r] = true
		}
	}
	if len(moved) == 0 {
		return
	}
	p.move(moved)
}

// move lets in or out the objects of these names. EndpointSlices are found by going
// through all of them: a route rarely names another Service.
func (p *picker) move(names map[source.ObjectKey]bool) {
	services := false
	for name := range names {
		services = services || name.Kind == "Service"
		if obj := p.all[name]; obj != nil {
			p.let(name, obj)
		}
	}
	if !services {
		return
	}
	for key, obj := range p.all {
		if key.Kind == "EndpointSlice" && names[nameOf(key, obj)] {
			p.let(key, obj)
		}
	}
}

func (p *picker) let(key source.ObjectKey, obj client.Object) {
	if p.concerns(key, obj) {
		p.change(key, obj)
		return
	}
	p.change(key, nil)
}

// take returns the set of now, and whether it is another than before.
func (p *picker) take() (*source.Set, bool) {
	if len(p.changes) == 0 {
		return p.set, false
	}
	p.set = p.set.With(p.changes)
	clear(p.changes)
	return p.set, true
}

// trim is obj without what the loop does not look at.
func trim(obj client.Object) client.Object {
	meta := metav1.ObjectMeta{
		Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID(), Generation: obj.GetGeneration(),
		CreationTimestamp: obj.GetCreationTimestamp(), Labels: obj.GetLabels(), Annotations: ours(obj.GetAnnotations()),
	}
	switch o := obj.(type) {
	case *corev1.Namespace:
		return &corev1.Namespace{ObjectMeta: meta}
	case *corev1.Service:
		return &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Type: o.Spec.Type, Ports: o.Spec.Ports}}
	case *corev1.Secret:
		meta.Annotations = nil
		return &corev1.Secret{ObjectMeta: meta, Type: o.Type, Data: o.Data}
	case *corev1.ConfigMap:
		return &corev1.ConfigMap{ObjectMeta: meta, Data: o.Data}
	case *discoveryv1.EndpointSlice:
		return &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: o.AddressType, Ports: o.Ports, Endpoints: readiness(o.Endpoints)}
	case *gwv1.GatewayClass:
		return &gwv1.GatewayClass{ObjectMeta: meta, Spec: o.Spec}
	case *gwv1.Gateway:
		return &gwv1.Gateway{ObjectMeta: meta, Spec: o.Spec}
	case *gwv1.ListenerSet:
		return &gwv1.ListenerSet{ObjectMeta: meta, Spec: o.Spec}
	case *gwv1.HTTPRoute:
		return &gwv1.HTTPRoute{ObjectMeta: meta, Spec: o.Spec}
	case *gwv1.GRPCRoute:
		return &gwv1.GRPCRoute{ObjectMeta: meta, Spec: o.Spec}
	case *gwv1.BackendTLSPolicy:
		return &gwv1.BackendTLSPolicy{ObjectMeta: meta, Spec: o.Spec}
	case *gwv1.ReferenceGrant:
		return &gwv1.ReferenceGrant{ObjectMeta: meta, Spec: o.Spec}
	case *v1alpha1.EmergencyPolicy:
		return &v1alpha1.EmergencyPolicy{ObjectMeta: meta, Spec: o.Spec}
	case *v1alpha1.Activation:
		return &v1alpha1.Activation{ObjectMeta: meta, Spec: o.Spec, Status: o.Status}
	}
	return obj
}

func ours(annotations map[string]string) map[string]string {
	out := maps.Clone(annotations)
	maps.DeleteFunc(out, func(k, _ string) bool { return k != v1alpha1.LintIgnoreAnnotation })
	if len(out) == 0 {
		return nil
	}
	return out
}

func readiness(endpoints []discoveryv1.Endpoint) []discoveryv1.Endpoint {
	out := make([]discoveryv1.Endpoint, len(endpoints))
	for i, e := range endpoints {
		out[i] = discoveryv1.Endpoint{Addresses: e.Addresses, Conditions: discoveryv1.EndpointConditions{Ready: e.Conditions.Ready}}
	}
	return out
}

func same(a, b client.Object) bool {
	return reflect.TypeOf(a) == reflect.TypeOf(b) && equality.Semantic.DeepEqual(a, b)
}
