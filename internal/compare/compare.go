// Package compare finds what differs between two maps of objects. Both are copied
// before they are changed, and so are the objects: the same pointer has the same
// content. No object is nil.
package compare

import (
	"iter"
	"reflect"
)

// Same reports whether two maps hold the same objects.
func Same[K comparable, V any](a, b map[K]*V) bool {
	if len(a) != len(b) {
		return false
	}
	for range Keys(a, b) {
		return false
	}
	return true
}

// Keys are those under which two maps do not hold the very same object, in no
// order. A map that is the same one needs no look.
func Keys[K comparable, V any](was, is map[K]*V) iter.Seq[K] {
	return func(yield func(K) bool) {
		if reflect.ValueOf(was).UnsafePointer() == reflect.ValueOf(is).UnsafePointer() {
			return
		}
		kept := 0
		for k, v := range is {
			old := was[k]
			if old != nil {
				kept++
			}
			if old != v && !yield(k) {
				return
			}
		}
		if kept == len(was) {
			return // nothing is gone
		}
		for k := range was {
			if is[k] == nil && !yield(k) {
				return
			}
		}
	}
}
