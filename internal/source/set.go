package source

import (
	"iter"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/internal/compare"
	"github.com/breakglass-gateway/breakglass-gateway/internal/objects"
)

// ObjectKey identifies an object across files and across the versions of its
// API group.
type ObjectKey struct {
	Kind      string
	Namespace string // empty for cluster-scoped kinds
	Name      string
}

// String is "Kind namespace/name", or "Kind name" without a namespace.
func (k ObjectKey) String() string {
	if k.Namespace == "" {
		return k.Kind + " " + k.Name
	}
	return k.Kind + " " + k.Namespace + "/" + k.Name
}

func (k ObjectKey) namespacedName() types.NamespacedName {
	return types.NamespacedName{Namespace: k.Namespace, Name: k.Name}
}

// Origin is where an object in use was read.
type Origin struct {
	File     string
	Line     int       // of the object's first line, from 1
	Modified time.Time // of the file, as the file system says
	OwnerUID uint32    // of the file
}

// Set is everything the directory holds at one time. It is not changed once it
// is published, and neither are the objects in it. An object that did not change
// is the same pointer as in the Set before.
type Set struct {
	objects.Objects

	// Origins of the objects above.
	Origins map[ObjectKey]Origin
	// Problems, sorted by file and line.
	Problems []Problem
}

func newSet() *Set {
	s := &Set{Origins: map[ObjectKey]Origin{}}
	for _, k := range kinds {
		k.empty(s)
	}
	return s
}

// shelf is where the objects of a kind stand in a Set.
type shelf struct {
	// empty makes the map of the kind.
	empty func(s *Set)
	// set stores an object, or removes it if it is nil. The map belongs to a
	// published Set, so that it is copied first unless copied says that it was.
	set func(s *Set, key ObjectKey, obj object, copied *bool)
	// get returns an object, nil if there is none.
	get func(s *Set, key ObjectKey) object
	// differences are the keys, without a kind, of what is not the same in both.
	differences func(old, s *Set) iter.Seq[ObjectKey]
}

// named is the shelf of a kind without namespaces.
func named[V any](of func(*Set) *map[string]*V) shelf {
	return shelve(of, func(k ObjectKey) string { return k.Name }, func(name string) ObjectKey { return ObjectKey{Name: name} })
}

// namespaced is the shelf of a kind with namespaces.
func namespaced[V any](of func(*Set) *map[types.NamespacedName]*V) shelf {
	return shelve(of, ObjectKey.namespacedName, func(n types.NamespacedName) ObjectKey {
		return ObjectKey{Namespace: n.Namespace, Name: n.Name}
	})
}

func shelve[K comparable, V any](of func(*Set) *map[K]*V, short func(ObjectKey) K, long func(K) ObjectKey) shelf {
	return shelf{
		empty: func(s *Set) { *of(s) = map[K]*V{} },
		set: func(s *Set, key ObjectKey, obj object, copied *bool) {
			m := of(s)
			if !*copied {
				*m, *copied = maps.Clone(*m), true
			}
			if v, ok := any(obj).(*V); ok {
				(*m)[short(key)] = v
				return
			}
			delete(*m, short(key))
		},
		get: func(s *Set, key ObjectKey) object {
			if v := (*of(s))[short(key)]; v != nil {
				return any(v).(object)
			}
			return nil
		},
		differences: func(old, s *Set) iter.Seq[ObjectKey] {
			return func(yield func(ObjectKey) bool) {
				for k := range compare.Keys(*of(old), *of(s)) {
					if !yield(long(k)) {
						return
					}
				}
			}
		},
	}
}

// Object returns the object under k, a pointer; nil if there is none.
func (s *Set) Object(k ObjectKey) any {
	row := kindByName[k.Kind]
	if row == nil {
		return nil
	}
	if o := row.get(s, k); o != nil {
		return o
	}
	return nil
}

// Differences are the keys of objects that are not the same in both sets, by kind
// and then in no order. It costs next to nothing for kinds in which nothing changed.
func (s *Set) Differences(old *Set) []ObjectKey {
	var keys []ObjectKey
	for _, k := range kinds {
		for key := range k.differences(old, s) {
			key.Kind = k.name
			keys = append(keys, key)
		}
	}
	return keys
}
