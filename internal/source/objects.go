package source

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// Object is one object of a Set, with where it was read.
type Object struct {
	Key    ObjectKey
	Object runtime.Object
	Origin Origin
}

// All objects of the Set, by kind (in the order of their use), namespace and name.
func (s *Set) All() []Object {
	keys := s.Differences(newSet())
	slices.SortFunc(keys, func(a, b ObjectKey) int {
		return cmp.Or(cmp.Compare(kindRank(a.Kind), kindRank(b.Kind)), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	all := make([]Object, len(keys))
	for i, k := range keys {
		all[i] = Object{Key: k, Object: kindByName[k.Kind].get(s, k), Origin: s.Origins[k]}
	}
	return all
}

func kindRank(name string) int {
	return slices.IndexFunc(kinds, func(k *kind) bool { return k.name == name })
}

func kindOfObject(o runtime.Object) *kind {
	for _, k := range kinds {
		if reflect.TypeOf(k.newObj()) == reflect.TypeOf(o) {
			return k
		}
	}
	return nil
}

// NewSet makes a Set of objects that did not come from files of this process: of
// a running serve, or of a cluster. They are taken as they are, since whoever
// has them in use has checked them.
func NewSet(objects []Object) *Set {
	s := newSet()
	for _, o := range objects {
		obj, ok := o.Object.(object)
		k := kindOfObject(o.Object)
		if !ok || k == nil {
			continue
		}
		copied := true
		k.set(s, o.Key, obj, &copied)
		s.Origins[o.Key] = o.Origin
	}
	return s
}

// Manifest is the object as a file would have it, in JSON: with the defaults of
// its schema, without what only a server sets.
func Manifest(o runtime.Object) ([]byte, error) {
	k := kindOfObject(o)
	if k == nil {
		return nil, fmt.Errorf("objects of type %T are not read here", o)
	}
	u, err := toMap(o)
	if err != nil {
		return nil, err
	}
	u["apiVersion"], u["kind"] = k.apiVersion(k.versions[0]), k.name
	return json.Marshal(u)
}

// ManifestYAML is Manifest in YAML, its keys sorted.
func ManifestYAML(o runtime.Object) ([]byte, error) {
	b, err := Manifest(o)
	if err != nil {
		return nil, err
	}
	return yaml.JSONToYAML(b)
}

// FromManifest is the object of a Manifest, not checked again.
func FromManifest(manifest []byte) (ObjectKey, runtime.Object, error) {
	var u map[string]any
	if err := json.Unmarshal(manifest, &u); err != nil {
		return ObjectKey{}, nil, err
	}
	var f findings
	k, _, key := identity(u, &f)
	if k == nil || key.Name == "" {
		return key, nil, errors.New("the object has no kind that is read here, or no name: use the CLI of the running serve's version")
	}
	o := k.newObj()
	if err := json.Unmarshal(manifest, o); err != nil {
		return key, nil, fmt.Errorf("%s: %w", key, err)
	}
	o.GetObjectKind().SetGroupVersionKind(k.gvk())
	return key, o, nil
}

// With is s with some objects replaced, or removed where they are nil. s stays as
// it is, and what did not change is the same pointer in both.
func (s *Set) With(changes map[ObjectKey]runtime.Object) *Set {
	out := &Set{Objects: s.Objects, Origins: s.Origins, Problems: s.Problems}
	copied := map[*kind]*bool{}
	for key, o := range changes {
		k := kindByName[key.Kind]
		if copied[k] == nil {
			copied[k] = new(bool)
		}
		obj, _ := o.(object) // nil removes
		k.set(out, key, obj, copied[k])
	}
	return out
}

// KeyOf is the key of an object of a kind that is read.
func KeyOf(o runtime.Object) (ObjectKey, bool) {
	k, obj := kindOfObject(o), o.(object)
	if k == nil {
		return ObjectKey{}, false
	}
	return ObjectKey{Kind: k.name, Namespace: obj.GetNamespace(), Name: obj.GetName()}, true
}
