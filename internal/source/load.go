package source

import (
	"fmt"
	"path/filepath"
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
)

// Load reads files and directories once, for validation offline. A path that
// does not exist is a Problem.
func Load(paths ...string) *Set {
	s := newScanner(0, nil)
	t := newTree(nil)
	for _, path := range paths {
		t.addRoot(filepath.Clean(path))
	}
	now := time.Now()
	s.apply(t, now)
	for path := range s.busy {
		// What is being written now is what there is to validate.
		s.busy[path] = now.Add(-maxBusy)
	}
	if len(s.busy) > 0 {
		s.apply(t, now)
	}
	s.state.settle(now)
	return s.state.set
}

// ValidateObject checks an object that did not come from a file as if it had,
// and sets the defaults of its schema in place. If old is given, it is the
// version that obj is to replace, and the transition rules apply. Metadata and
// status that a file could not claim are left as they are.
func ValidateObject(obj, old runtime.Object) []Problem {
	o, ok := obj.(object)
	if !ok {
		return []Problem{{Message: fmt.Sprintf("objects of type %T are not read here", obj), Remedy: "report this as a defect"}}
	}
	var k *kind
	for _, row := range kinds {
		if reflect.TypeOf(row.newObj()) == reflect.TypeOf(obj) {
			k = row
		}
	}
	if k == nil {
		return []Problem{{Message: fmt.Sprintf("objects of type %T are not read here", obj), Remedy: "report this as a defect"}}
	}
	var f findings
	key := validateTyped(o, old, k, &f)
	return f.problems(key.String(), noNode, 0)
}

func validateTyped(o object, old runtime.Object, k *kind, f *findings) ObjectKey {
	key := ObjectKey{Kind: k.name, Name: o.GetName()}
	full, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		f.add("", "cannot be encoded", "report this as a defect")
		return key
	}
	u, err := toMap(o)
	if err != nil {
		f.add("", "cannot be encoded", "report this as a defect")
		return key
	}
	u["apiVersion"], u["kind"] = k.apiVersion(k.versions[0]), k.name
	if _, _, got := identity(u, f); got.Name != "" {
		key = got
	}
	if len(f.list) > 0 {
		return key
	}
	checked := check(u, k, k.versions[0], false, f)
	if checked == nil {
		return key
	}
	if before, ok := old.(object); ok && !reflect.ValueOf(old).IsNil() {
		if checkTransition(checked, before, k, f); len(f.list) > 0 {
			return key
		}
	}
	// Back in place: what was checked, and what only a server may set.
	checkedMap, err := toMap(checked)
	if err != nil {
		f.add("", "cannot be encoded", "report this as a defect")
		return key
	}
	checkedMap["status"] = full["status"]
	restore(checkedMap, full)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(checkedMap, o); err != nil {
		f.add("", "cannot be decoded", "report this as a defect")
	}
	return key
}

func restore(u, full map[string]any) {
	to, _ := u["metadata"].(map[string]any)
	from, _ := full["metadata"].(map[string]any)
	for _, name := range serverOwned {
		if v, ok := from[name]; ok && to != nil {
			to[name] = v
		}
	}
	if u["status"] == nil {
		delete(u, "status")
	}
}
