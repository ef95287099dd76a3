package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/admission"
	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// newScheme knows all kinds that are read or written.
func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(s))
	utilruntime.Must(gwv1.Install(s))
	utilruntime.Must(v1alpha1.AddToScheme(s))
	return s
}

// watched are the kinds that are read, and whether the controller does without.
var watched = []struct {
	obj      client.Object
	optional bool
}{
	{obj: &corev1.Namespace{}}, {obj: &corev1.Service{}}, {obj: &discoveryv1.EndpointSlice{}}, {obj: &corev1.Secret{}}, {obj: &corev1.ConfigMap{}},
	{obj: &gwv1.GatewayClass{}}, {obj: &gwv1.Gateway{}}, {obj: &gwv1.HTTPRoute{}}, {obj: &gwv1.GRPCRoute{}, optional: true}, {obj: &gwv1.ReferenceGrant{}, optional: true},
	{obj: &gwv1.ListenerSet{}, optional: true}, {obj: &gwv1.BackendTLSPolicy{}, optional: true},
	{obj: &v1alpha1.EmergencyPolicy{}}, {obj: &v1alpha1.Activation{}},
}

// policies of admission are watched too, by their name.
var admissionKinds = []client.Object{
	&admissionv1.MutatingAdmissionPolicy{}, &admissionv1.MutatingAdmissionPolicyBinding{},
	&admissionv1.ValidatingAdmissionPolicy{}, &admissionv1.ValidatingAdmissionPolicyBinding{},
}

// newCache watches no more than the controller's Roles let it: Secrets and
// ConfigMaps in the listed namespaces, admission policies by name, and what the other
// replicas say.
func newCache(cfg *rest.Config, scheme *runtime.Scheme, mapper meta.RESTMapper, o Options) (cache.Cache, error) {
	in := map[string]cache.Config{}
	for _, ns := range o.Config.SecretNamespaces {
		in[ns] = cache.Config{}
	}
	byName := cache.ByObject{Field: fields.OneTermEqualSelector("metadata.name", admission.Name)}
	by := map[client.Object]cache.ByObject{&corev1.Secret{}: {Namespaces: in}, &corev1.ConfigMap{}: {Namespaces: in}}
	by[&coordinationv1.Lease{}] = cache.ByObject{
		Namespaces: map[string]cache.Config{o.Namespace: {}}, Label: labels.SelectorFromSet(labels.Set{replicaLabel: "true"}),
	}
	for _, obj := range admissionKinds {
		by[obj] = byName
	}
	return cache.New(cfg, cache.Options{
		Scheme: scheme, Mapper: mapper, ByObject: by, ReaderFailOnMissingInformer: true,
		DefaultTransform: dropManagedFields,
	})
}

// dropManagedFields saves half of the memory. Those of admission policies say when
// they were changed.
func dropManagedFields(o any) (any, error) {
	switch o.(type) {
	case *admissionv1.MutatingAdmissionPolicy, *admissionv1.MutatingAdmissionPolicyBinding,
		*admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding:
		return o, nil
	}
	if obj, ok := o.(metav1.Object); ok {
		obj.SetManagedFields(nil)
	}
	return o, nil
}

// present are the kinds to watch: without the optional ones that the API server
// does not have.
func present(mapper meta.RESTMapper, scheme *runtime.Scheme) (kinds []client.Object, err error) {
	for _, w := range watched {
		gvk, err := apiutil.GVKForObject(w.obj, scheme)
		if err != nil {
			return nil, err
		}
		switch _, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version); {
		case err == nil:
			kinds = append(kinds, w.obj)
		case !meta.IsNoMatchError(err):
			return nil, err
		case !w.optional:
			return nil, fmt.Errorf("the API server has no kind %s of %s: install its CustomResourceDefinition (Gateway API v1.6 or later, or those in the directory crds of the chart)", gvk.Kind, gvk.GroupVersion())
		}
	}
	return kinds, nil
}

// watch follows the cluster. Each set is complete: none comes before all kinds
// were read once. Who reads updates gets the newest.
type watch struct {
	updates chan *source.Set
	// seen is told of every object as it came, on the goroutine of its kind.
	seen func(key source.ObjectKey, obj client.Object)

	mu     sync.Mutex
	picker *picker
	synced bool
	// last is what was last good, until the cluster was read.
	last *source.Set
	// run counts the runs, and stale are the objects of those before that this one
	// has not seen yet.
	runs  int
	stale map[source.ObjectKey]bool
	wake  chan struct{}
}

func newWatch(seen func(source.ObjectKey, client.Object)) *watch {
	return &watch{updates: make(chan *source.Set), seen: seen, picker: newPicker(), wake: make(chan struct{}, 1)}
}

// run begins to watch kinds, until ctx ends, and returns when all were read. It may be
// called again after that.
func (w *watch) run(ctx context.Context, c cache.Cache, kinds []client.Object) error {
	run := w.begin()
	var read []toolscache.InformerSynced
	for _, k := range kinds {
		informer, err := c.GetInformer(ctx, k, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watch %T: %w", k, err)
		}
		handled, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { w.put(run, o, false) },
			UpdateFunc: func(_, o any) { w.put(run, o, false) },
			DeleteFunc: func(o any) { w.put(run, o, true) },
		})
		if err != nil {
			return fmt.Errorf("watch %T: %w", k, err)
		}
		read = append(read, handled.HasSynced)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), read...) {
		return errors.Join(ctx.Err(), errors.New("not all kinds could be read"))
	}
	w.done()
	return nil
}

// begin is the number of a run.
func (w *watch) begin() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.runs++
	w.stale = make(map[source.ObjectKey]bool, len(w.picker.all))
	for key := range w.picker.all {
		w.stale[key] = true
	}
	return w.runs
}

// done is when all kinds were read: what a run before has seen and this one has not is
// gone since.
func (w *watch) done() {
	w.mu.Lock()
	for key := range w.stale {
		w.picker.put(key, nil)
	}
	w.synced, w.stale, w.last = true, nil, nil
	w.mu.Unlock()
	w.poke()
}

// restore hands on what was last good, if the cluster was not read meanwhile.
func (w *watch) restore(set *source.Set) {
	w.mu.Lock()
	if !w.synced {
		w.last = set
	}
	w.mu.Unlock()
	w.poke()
}

func (w *watch) put(run int, o any, gone bool) {
	if t, is := o.(toolscache.DeletedFinalStateUnknown); is {
		o = t.Obj
	}
	obj, ok := o.(client.Object)
	if !ok {
		return
	}
	key, ok := source.KeyOf(obj)
	if !ok {
		return
	}
	if gone {
		obj = nil
	}
	w.mu.Lock()
	if run != w.runs {
		w.mu.Unlock()
		return // a late word of watches that have ended
	}
	delete(w.stale, key)
	w.picker.put(key, obj)
	w.mu.Unlock()
	w.seen(key, obj)
	w.poke()
}

func (w *watch) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// together is how long what belongs together may take to come: an object and what
// it names are often written at once, and each translation has a price.
const together = time.Millisecond

// publish hands sets on until ctx ends.
func (w *watch) publish(ctx context.Context) {
	defer close(w.updates)
	var next *source.Set
	for {
		var out chan *source.Set
		if next != nil {
			out = w.updates
		}
		select {
		case <-ctx.Done():
			return
		case out <- next:
			next = nil
		case <-w.wake:
			select {
			case <-time.After(together):
			case <-ctx.Done():
				return
			}
			if set, news := w.take(); news {
				next = set
			}
		}
	}
}

func (w *watch) take() (*source.Set, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.synced {
		set := w.last
		w.last = nil
		return set, set != nil
	}
	return w.picker.take()
}
