package compare

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestKeysAreThoseWithAnotherObject(t *testing.T) {
	objects := []*int{new(int), new(int), new(int)}
	rapid.Check(t, func(t *rapid.T) {
		gen := rapid.MapOf(rapid.IntRange(0, 5), rapid.SampledFrom(objects))
		a, b := gen.Draw(t, "a"), gen.Draw(t, "b")
		var want []int
		for k := range 6 {
			if a[k] != b[k] {
				want = append(want, k)
			}
		}
		got := slices.Sorted(Keys(a, b))
		if !slices.Equal(got, want) {
			t.Fatalf("%v and %v differ in %v, told %v", a, b, want, got)
		}
		if len(want) > 0 && Same(a, b) {
			t.Fatalf("%v and %v are not the same", a, b)
		}
		if c := maps.Clone(a); !Same(a, c) || !Same(a, a) {
			t.Fatal("a copy is not the same")
		}
	})
}
