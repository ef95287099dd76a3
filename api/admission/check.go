package admission

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Margin is how long after a change of the policies an Activation is not yet
// trusted: an API server looks for changed policies once a second, and one of
// several may learn of the change later than the others.
const Margin = 5 * time.Second

// Report says whether the policies are in force.
type Report struct {
	// Problems, one sentence each, in a fixed order. None: they are in force.
	Problems []string
	// Since is when the newest of the four objects was made or changed, as far as
	// they tell. Zero if one is missing.
	Since time.Time
	// Revision names this state of the four objects. A revision that is not the
	// last one seen was changed since, whatever Since says: those who may write a
	// policy may also write its managedFields.
	Revision string
}

// InForce reports whether all four objects are there as expected.
func (r Report) InForce() bool { return len(r.Problems) == 0 }

// Trusts reports whether an Activation that was made at t went through the
// policies.
func (r Report) Trusts(t time.Time) bool {
	return r.InForce() && !t.Before(r.Since.Add(Margin))
}

// Check compares what was found of those for Activations with what is expected.
func Check(found Objects) Report { return Activations.Check(found) }

// Check compares what was found with what is expected.
func (s Set) Check(found Objects) Report {
	want := s.Expected()
	var r Report
	var revision []string
	for _, o := range []struct {
		kind        string
		found, want metav1.Object
	}{
		{"MutatingAdmissionPolicy", object(found.Mutating), want.Mutating},
		{"MutatingAdmissionPolicyBinding", object(found.MutatingBinding), want.MutatingBinding},
		{"ValidatingAdmissionPolicy", object(found.Validating), want.Validating},
		{"ValidatingAdmissionPolicyBinding", object(found.ValidatingBinding), want.ValidatingBinding},
	} {
		if o.found == nil {
			r.Problems = append(r.Problems, fmt.Sprintf("the %s %s is missing: install the Helm chart again", o.kind, s.Name))
			revision = append(revision, "-")
			continue
		}
		if o.found.GetName() != s.Name {
			r.Problems = append(r.Problems, fmt.Sprintf("the %s %s has another name than %s", o.kind, o.found.GetName(), s.Name))
		}
		if o.found.GetDeletionTimestamp() != nil {
			r.Problems = append(r.Problems, fmt.Sprintf("the %s %s is being deleted: install the Helm chart again", o.kind, s.Name))
		}
		if at := differs("spec", specOf(o.found), specOf(o.want)); at != "" {
			r.Problems = append(r.Problems, fmt.Sprintf("the %s %s is not as this release wants it: %s: install the Helm chart again", o.kind, s.Name, at))
		}
		if changed := changedAt(o.found); changed.After(r.Since) {
			r.Since = changed
		}
		revision = append(revision, fmt.Sprintf("%s/%d", o.found.GetUID(), o.found.GetGeneration()))
	}
	if slices.Contains(revision, "-") {
		r.Since = time.Time{}
	}
	r.Revision = strings.Join(revision, ",")
	return r
}

// object makes a nil pointer a nil interface.
func object[T any, P interface {
	*T
	metav1.Object
}](p P) metav1.Object {
	if p == nil {
		return nil
	}
	return p
}

// changedAt is when the object was last made or changed by anybody but the
// controllers that write its status.
func changedAt(o metav1.Object) time.Time {
	at := o.GetCreationTimestamp().Time
	for _, f := range o.GetManagedFields() {
		if f.Subresource == "" && f.Time != nil && f.Time.After(at) {
			at = f.Time.Time
		}
	}
	return at
}

// specOf is the spec as JSON has it, where a nil and an empty list are one, and
// fields that this release does not know are not there.
func specOf(o metav1.Object) any {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err) // it came from JSON
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		panic(err) // it was just written
	}
	return m["spec"]
}

// differs says where found is first not what is wanted, in words; "" if nowhere.
func differs(at string, found, want any) string {
	switch w := want.(type) {
	case map[string]any:
		f, ok := found.(map[string]any)
		if !ok {
			break
		}
		keys := map[string]bool{}
		for k := range w {
			keys[k] = true
		}
		for k := range f {
			keys[k] = true
		}
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			if d := differs(at+"."+k, f[k], w[k]); d != "" {
				return d
			}
		}
		return ""
	case []any:
		f, ok := found.([]any)
		if !ok {
			break
		}
		for i := range min(len(f), len(w)) {
			if d := differs(fmt.Sprintf("%s[%d]", at, i), f[i], w[i]); d != "" {
				return d
			}
		}
		if len(f) != len(w) {
			return fmt.Sprintf("%s has %d entries and should have %d", at, len(f), len(w))
		}
		return ""
	}
	switch {
	case reflect.DeepEqual(found, want):
		return ""
	case found == nil:
		return at + " is missing"
	case want == nil:
		return at + " should not be there"
	}
	return at + " was changed"
}
