//go:build envoy

package oracle

import "math/rand/v2"

// dice are thrown by a seed: each part of a world has its own, so that what is
// drawn does not depend on how fast the machine is.
type dice struct{ *rand.Rand }

func throw(seed uint64, part int) dice { return dice{rand.New(rand.NewPCG(seed, uint64(part)))} }

// chance of so many in a hundred.
func (d dice) chance(percent int) bool { return d.IntN(100) < percent }

// from a to b, both included.
func (d dice) from(a, b int) int { return a + d.IntN(b-a+1) }

func one[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }

// some of them, at least one, in a random order.
func some[T any](d dice, most int, of ...T) []T {
	var out []T
	for _, i := range d.Perm(len(of))[:d.from(1, min(most, len(of)))] {
		out = append(out, of[i])
	}
	return out
}
