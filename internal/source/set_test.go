package source

import (
	"slices"
	"testing"
)

// TestEveryKindIsComparedAndFound: a kind that is read and that Differences or
// Object forgot would change without a word in the log.
func TestEveryKindIsComparedAndFound(t *testing.T) {
	for _, k := range kinds {
		key := ObjectKey{Kind: k.name, Name: "a"}
		if k.namespaced {
			key.Namespace = "n"
		}
		old, set := newSet(), newSet()
		o := k.newObj()
		k.set(set, key, o, new(bool))
		if got := set.Differences(old); !slices.Equal(got, []ObjectKey{key}) {
			t.Errorf("%s: %v differs, want %v", k.name, got, key)
		}
		if got := set.Object(key); got != any(o) {
			t.Errorf("%s: found %v", k.name, got)
		}
		if got := old.Object(key); got != nil {
			t.Errorf("%s: found %v where there is none", k.name, got)
		}
	}
}
