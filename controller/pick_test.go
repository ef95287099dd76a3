package controller

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// draw is a random object of a kind, in its meta and in what it names.
func drawObject(t *rapid.T, kind string) client.Object {
	name := func(what string) string { return rapid.SampledFrom([]string{"x", "y"}).Draw(t, what) }
	meta := metav1.ObjectMeta{Namespace: name("namespace"), Name: name("name"), UID: "uid"}
	if rapid.IntRange(0, 3).Draw(t, "label") == 0 {
		meta.Labels = map[string]string{"l": name("value")}
	}
	if rapid.IntRange(0, 5).Draw(t, "being deleted") == 0 {
		meta.DeletionTimestamp = &metav1.Time{Time: installed}
	}
	// What the loop does not look at.
	meta.ResourceVersion = fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "resourceVersion"))
	meta.Annotations = map[string]string{"of-somebody": meta.ResourceVersion}
	refs := func() (out []gwv1.HTTPBackendRef) {
		for range rapid.IntRange(0, 2).Draw(t, "refs") {
			r := gwv1.HTTPBackendRef{}
			if r.Name = gwv1.ObjectName(name("ref")); rapid.Bool().Draw(t, "elsewhere") {
				r.Namespace = new(gwv1.Namespace(name("ref namespace")))
			}
			out = append(out, r)
		}
		return out
	}
	switch kind {
	case "Namespace":
		meta.Namespace = ""
		return &corev1.Namespace{ObjectMeta: meta}
	case "Service":
		return &corev1.Service{ObjectMeta: meta, Status: corev1.ServiceStatus{Conditions: []metav1.Condition{{Type: meta.ResourceVersion}}}}
	case "EndpointSlice":
		meta.Labels = map[string]string{discoveryv1.LabelServiceName: name("service")}
		return &discoveryv1.EndpointSlice{ObjectMeta: meta}
	case "Secret":
		return &corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{"k": []byte(name("data"))}}
	case "ConfigMap":
		return &corev1.ConfigMap{ObjectMeta: meta}
	case "HTTPRoute":
		r := &gwv1.HTTPRoute{ObjectMeta: meta}
		for range rapid.IntRange(0, 2).Draw(t, "rules") {
			r.Spec.Rules = append(r.Spec.Rules, gwv1.HTTPRouteRule{BackendRefs: refs()})
		}
		return r
	case "Gateway":
		g := &gwv1.Gateway{ObjectMeta: meta}
		for _, r := range refs() {
			g.Spec.Listeners = append(g.Spec.Listeners, gwv1.Listener{TLS: &gwv1.ListenerTLSConfig{CertificateRefs: []gwv1.SecretObjectReference{{Name: r.Name, Namespace: r.Namespace}}}}, gwv1.Listener{})
		}
		for i, r := range refs() {
			v := &gwv1.FrontendTLSValidation{CACertificateRefs: []gwv1.ObjectReference{{Kind: "ConfigMap", Name: r.Name, Namespace: r.Namespace}}}
			if g.Spec.TLS == nil {
				g.Spec.TLS = &gwv1.GatewayTLSConfig{Frontend: &gwv1.FrontendTLSConfig{}}
			}
			if f := g.Spec.TLS.Frontend; i == 0 && rapid.Bool().Draw(t, "default") {
				f.Default.Validation = v
			} else {
				f.PerPort = append(f.PerPort, gwv1.TLSPortConfig{TLS: gwv1.TLSConfig{Validation: v}})
			}
		}
		for _, r := range refs() {
			if g.Spec.TLS == nil {
				g.Spec.TLS = &gwv1.GatewayTLSConfig{}
			}
			g.Spec.TLS.Backend = &gwv1.GatewayBackendTLS{ClientCertificateRef: &gwv1.SecretObjectReference{Name: r.Name, Namespace: r.Namespace}}
		}
		return g
	case "ListenerSet":
		set := &gwv1.ListenerSet{ObjectMeta: meta}
		for _, r := range refs() {
			set.Spec.Listeners = append(set.Spec.Listeners, gwv1.ListenerEntry{TLS: &gwv1.ListenerTLSConfig{CertificateRefs: []gwv1.SecretObjectReference{{Name: r.Name, Namespace: r.Namespace}}}}, gwv1.ListenerEntry{})
		}
		return set
	case "BackendTLSPolicy":
		p := &gwv1.BackendTLSPolicy{ObjectMeta: meta}
		for _, r := range refs() {
			p.Spec.Validation.CACertificateRefs = append(p.Spec.Validation.CACertificateRefs, gwv1.LocalObjectReference{Kind: "ConfigMap", Name: r.Name})
		}
		return p
	case "EmergencyPolicy":
		meta.Namespace = ""
		p := &v1alpha1.EmergencyPolicy{ObjectMeta: meta}
		for range rapid.IntRange(0, 2).Draw(t, "issuers") {
			ref := &v1alpha1.KeySetReference{Namespace: name("key namespace"), Name: name("keys")}
			i := v1alpha1.Issuer{JWKS: v1alpha1.JWKSSource{SecretRef: ref}}
			if rapid.Bool().Draw(t, "ConfigMap") {
				i.JWKS = v1alpha1.JWKSSource{ConfigMapRef: ref}
			}
			p.Spec.Issuers = append(p.Spec.Issuers, i)
		}
		return p
	}
	return &v1alpha1.Activation{ObjectMeta: meta}
}

var pickedKinds = []string{"Namespace", "Service", "EndpointSlice", "Secret", "ConfigMap", "HTTPRoute", "Gateway", "ListenerSet", "BackendTLSPolicy", "EmergencyPolicy", "Activation"}

// relevant is the plain model: all that is there and not being deleted, but of some
// kinds only what is named.
func relevant(there map[source.ObjectKey]client.Object) map[source.ObjectKey]client.Object {
	named := map[source.ObjectKey]bool{}
	for key, obj := range there {
		if obj.GetDeletionTimestamp() == nil || key.Kind == "Namespace" {
			for _, r := range referencesOf(obj) {
				named[r] = true
			}
		}
	}
	out := maps.Clone(there)
	maps.DeleteFunc(out, func(key source.ObjectKey, obj client.Object) bool {
		if obj.GetDeletionTimestamp() != nil && key.Kind != "Namespace" {
			return true
		}
		switch key.Kind {
		case "EndpointSlice":
			return !named[source.ObjectKey{Kind: "Service", Namespace: key.Namespace, Name: obj.GetLabels()[discoveryv1.LabelServiceName]}]
		case "Service", "Secret", "ConfigMap":
			return !named[key]
		}
		return false
	})
	return out
}

// TestThePickerHasWhatConcernsTheLoopAndNothingElse puts and deletes random objects, in
// any order, and compares with the model.
func TestThePickerHasWhatConcernsTheLoopAndNothingElse(t *testing.T) {
	kept := 0
	rapid.Check(t, func(t *rapid.T) {
		p := newPicker()
		there, had := map[source.ObjectKey]client.Object{}, p.set
		changed := map[source.ObjectKey]bool{} // since the last take
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			obj := drawObject(t, rapid.SampledFrom(pickedKinds).Draw(t, "kind"))
			key, _ := source.KeyOf(obj)
			if was := there[key]; was == nil || !same(trim(was), trim(obj)) || was.GetDeletionTimestamp() != nil {
				changed[key] = true
			}
			if rapid.IntRange(0, 3).Draw(t, "gone") == 0 {
				changed[key] = true
				delete(there, key)
				p.put(key, nil)
			} else {
				there[key] = obj
				p.put(key, obj)
			}
			if rapid.Bool().Draw(t, "more at once") {
				continue
			}
			set, news := p.take()
			if !news && set != had {
				t.Fatal("another set without news")
			}
			want := relevant(there)
			all := 0
			for _, o := range set.All() {
				all++
				w := want[o.Key]
				if w == nil {
					t.Fatalf("%s is there and concerns nobody", o.Key)
				}
				is := o.Object.(client.Object)
				if !same(is, trim(w)) {
					t.Fatalf("%s is %+v, want %+v", o.Key, is, trim(w))
				}
				if before, ok := had.Object(o.Key).(client.Object); ok && before != is && !changed[o.Key] {
					t.Fatalf("%s is another pointer, and nothing of it changed", o.Key)
				}
			}
			if all != len(want) {
				t.Fatalf("%d objects, want %d", all, len(want))
			}
			had = set
			clear(changed)
			kept += all
		}
	})
	if kept == 0 {
		t.Error("nothing was ever picked: the test proves nothing")
	}
}

// TestAnEndpointSliceThatIsAnotherServicesNowIsGone: its addresses may be those of
// somebody else by then.
func TestAnEndpointSliceThatIsAnotherServicesNowIsGone(t *testing.T) {
	p := newPicker()
	put := func(obj client.Object) {
		key, _ := source.KeyOf(obj)
		p.put(key, obj)
	}
	put(&gwv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "db"}, Spec: gwv1.HTTPRouteSpec{Rules: []gwv1.HTTPRouteRule{{
		BackendRefs: []gwv1.HTTPBackendRef{{BackendRef: gwv1.BackendRef{BackendObjectReference: gwv1.BackendObjectReference{Name: "db"}}}},
	}}}})
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "s", Labels: map[string]string{discoveryv1.LabelServiceName: "db"}}}
	put(slice)
	if set, _ := p.take(); len(set.EndpointSlices) != 1 {
		t.Fatalf("%v", set.EndpointSlices)
	}
	slice = slice.DeepCopy()
	slice.Labels[discoveryv1.LabelServiceName] = "other"
	put(slice)
	if set, _ := p.take(); len(set.EndpointSlices) != 0 {
		t.Errorf("still there: %v", set.EndpointSlices)
	}
}

func TestAFinalizerKeepsNoActivation(t *testing.T) {
	p := newPicker()
	a := &v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "a", Finalizers: []string{"x/y"}}}
	key, _ := source.KeyOf(a)
	p.put(key, a)
	p.take()
	a = a.DeepCopy()
	a.DeletionTimestamp = &metav1.Time{Time: installed}
	p.put(key, a)
	if set, _ := p.take(); len(set.Activations) > 0 {
		t.Error("an Activation that is being deleted is there")
	}
}

// TestWhatWentWhileNobodyWatchedIsGone: the watches began anew, and nobody tells of what
// was deleted in between.
func TestWhatWentWhileNobodyWatchedIsGone(t *testing.T) {
	w := newWatch(func(source.ObjectKey, client.Object) {})
	activation := func(name string) *v1alpha1.Activation {
		return &v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name}}
	}
	first := w.begin()
	w.put(first, activation("gone"), false)
	w.put(first, activation("stays"), false)
	if _, news := w.take(); news {
		t.Fatal("a set before all was read")
	}
	w.done()
	if set, _ := w.take(); len(set.Activations) != 2 {
		t.Fatalf("%v", set.Activations)
	}
	second := w.begin()
	w.put(second, activation("stays"), false)
	w.put(first, activation("late"), false)
	w.done()
	if set, _ := w.take(); len(set.Activations) != 1 || set.Activations[pay("stays")] == nil {
		t.Errorf("%v", set.Activations)
	}
}

// TestWhatWasLastGoodNeverComesAfterWhatIs: it is read from disk while the API server is
// slow, which may answer in that very moment.
func TestWhatWasLastGoodNeverComesAfterWhatIs(t *testing.T) {
	old := source.NewSet(nil)
	w := newWatch(func(source.ObjectKey, client.Object) {})
	w.restore(old)
	if set, news := w.take(); !news || set != old {
		t.Fatal("what was last good does not come")
	}
	run := w.begin()
	w.restore(old)
	w.put(run, &v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "a"}}, false)
	w.done()
	if set, news := w.take(); !news || set == old {
		t.Error("what was last good comes instead of what is")
	}
	w.restore(old)
	if set, news := w.take(); news || set == old {
		t.Error("what was last good comes after what is")
	}
}

func TestAGatewayNamesTheAuthoritiesOfItsClients(t *testing.T) {
	validation := func(name, namespace string) gwv1.TLSConfig {
		ref := gwv1.ObjectReference{Kind: "ConfigMap", Name: gwv1.ObjectName(name)}
		if namespace != "" {
			ref.Namespace = new(gwv1.Namespace(namespace))
		}
		return gwv1.TLSConfig{Validation: &gwv1.FrontendTLSValidation{CACertificateRefs: []gwv1.ObjectReference{ref}}}
	}
	g := &gwv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "doors", Name: "main"}, Spec: gwv1.GatewaySpec{TLS: &gwv1.GatewayTLSConfig{Frontend: &gwv1.FrontendTLSConfig{
		Default: validation("ca", ""), PerPort: []gwv1.TLSPortConfig{{Port: 8443, TLS: validation("other", "vault")}, {Port: 9443}},
	}}}}
	want := []source.ObjectKey{{Kind: "ConfigMap", Namespace: "doors", Name: "ca"}, {Kind: "ConfigMap", Namespace: "vault", Name: "other"}}
	if got := referencesOf(g); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}
