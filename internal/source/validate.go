package source

import (
	"reflect"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// serverOwned are the fields of metadata that an API server sets. A manifest
// that was exported from a cluster has them; a file cannot claim them.
var serverOwned = []string{
	"uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
	"deletionGracePeriodSeconds", "selfLink", "managedFields",
}

// identity finds kind and key of a decoded object. The kind is nil if the object
// is none that is read, the key empty if it has no name.
func identity(u map[string]any, f *findings) (k *kind, version string, key ObjectKey) {
	apiVersion, _ := u["apiVersion"].(string)
	name, _ := u["kind"].(string)
	switch {
	case name == "":
		f.add("kind", "is required", "add apiVersion and kind, or remove the document")
		return nil, "", key
	case apiVersion == "":
		f.add("apiVersion", "is required", "add it")
		return nil, "", key
	}
	k, version, message, remedy := kindOf(apiVersion, name)
	if k == nil {
		f.add("", message, remedy)
		return nil, "", key
	}
	metadata, ok := u["metadata"].(map[string]any)
	if !ok {
		f.add("metadata", "is required", "add metadata with a name")
		return k, version, key
	}
	if metadata["name"] == nil || metadata["name"] == "" {
		f.add("metadata.name", "is required", "add it")
		return k, version, key
	}
	if k.namespaced && (metadata["namespace"] == nil || metadata["namespace"] == "") {
		metadata["namespace"] = metav1.NamespaceDefault
	}
	for _, field := range []string{"name", "namespace"} {
		if _, text := metadata[field].(string); !text && metadata[field] != nil {
			f.wrongType("metadata."+field, metadata[field], "text")
		}
	}
	if len(f.list) > 0 {
		return k, version, key
	}
	key = ObjectKey{Kind: k.name, Name: metadata["name"].(string)}
	if k.namespaced {
		key.Namespace = metadata["namespace"].(string)
	}
	return k, version, key
}

// check turns a decoded object into one of its Go type. It returns nil and adds
// to f what is wrong, if anything is. u is changed.
func check(u map[string]any, k *kind, version string, proven bool, f *findings) object {
	before := len(f.list)
	delete(u, "status")
	metadata := u["metadata"].(map[string]any)
	for _, name := range serverOwned {
		delete(metadata, name)
	}
	o := k.newObj()
	switch {
	case k.crd == "":
		checkTypes(f, u, reflect.TypeOf(o), "")
	case proven:
		setDefaults(u, k, version, f)
	default:
		checkTypes(f, metadata, reflect.TypeFor[metav1.ObjectMeta](), "metadata")
		checkSchema(u, nil, k, version, f)
	}
	if len(f.list) > before {
		return nil
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u, o); err != nil {
		message := "cannot be decoded"
		if k.crd != "" { // else the error might quote a secret
			message += ": " + err.Error()
		}
		f.add("", message, "correct the value")
		return nil
	}
	o.GetObjectKind().SetGroupVersionKind(k.gvk())
	f.addErrors(validateMeta(o, k), nil)
	if k.finish != nil {
		k.finish(o, f)
	}
	if len(f.list) > before {
		return nil
	}
	return o
}

// checkSchema validates u, and the step from old to u if old is not nil.
func checkSchema(u, old map[string]any, k *kind, version string, f *findings) {
	s, err := schemaOf(k, version)
	if err != nil {
		f.add("", err.Error(), "report this as a defect")
		return
	}
	for _, path := range s.unknownFields(u) {
		f.addUnknown(path, s.structural)
	}
	s.setDefaults(u)
	f.addErrors(s.validate(u, old), s.structural)
}

// setDefaults is what is left to do for what was valid before.
func setDefaults(u map[string]any, k *kind, version string, f *findings) {
	s, err := schemaOf(k, version)
	if err != nil {
		f.add("", err.Error(), "report this as a defect")
		return
	}
	s.setDefaults(u)
}

func validateMeta(o object, k *kind) field.ErrorList {
	return apivalidation.ValidateObjectMetaAccessor(o, k.namespaced, k.newName, field.NewPath("metadata"))
}

// closes reports whether a document, however wrong it is otherwise, says that
// something be closed.
func closes(u map[string]any, k *kind) bool {
	spec, _ := u["spec"].(map[string]any)
	switch k.name {
	case "Activation":
		return spec["revoked"] == true
	case "EmergencyPolicy":
		return spec["suspended"] == true
	}
	return false
}

// closed returns o as it is but closed: the same pointer if it is so already.
func closed(o object) object {
	switch o := o.(type) {
	case *v1alpha1.Activation:
		if o.Spec.Revoked {
			return o
		}
		c := o.DeepCopy()
		c.Spec.Revoked = true
		return c
	case *v1alpha1.EmergencyPolicy:
		if o.Spec.Suspended {
			return o
		}
		c := o.DeepCopy()
		c.Spec.Suspended = true
		return c
	}
	return o
}

// transitions: whether an object of this kind is bound by what it was. Kinds but
// Activation may be replaced: a directory, unlike an API server, has no way to
// delete an object and create it anew.
func (k *kind) transitions() bool { return k.name == "Activation" }

// checkTransition applies the transition rules of the kind's CRD.
func checkTransition(o, old object, k *kind, f *findings) {
	if !k.transitions() {
		return
	}
	u, err := toMap(o)
	if err != nil {
		f.add("", err.Error(), "report this as a defect")
		return
	}
	was, err := toMap(old)
	if err != nil {
		f.add("", err.Error(), "report this as a defect")
		return
	}
	checkSchema(u, was, k, k.versions[0], f)
}

// toMap is the object as its manifest would be, without status.
func toMap(o runtime.Object) (map[string]any, error) {
	u, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, err
	}
	delete(u, "status")
	if metadata, ok := u["metadata"].(map[string]any); ok {
		for _, name := range serverOwned {
			delete(metadata, name)
		}
	}
	return u, nil
}
