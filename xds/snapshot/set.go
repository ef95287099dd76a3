package snapshot

import (
	"iter"
	"maps"
	"slices"
	"strings"
)

// Snapshot is all that one Envoy should have. It does not change. Successive
// snapshots share what they have in common, so that the difference between two of
// many thousand resources is found in a fraction of a millisecond. The zero value
// is empty.
type Snapshot struct {
	// groups of the resources that have one name, of whatever type.
	groups map[string]group
	size   int
}

// group is sorted by type and not changed once it is in use.
type group []*Resource

func (g group) get(typ string) *Resource {
	for _, r := range g {
		if r.Type == typ {
			return r
		}
	}
	return nil
}

// same reports whether g is h: not an equal one, but the very same.
func (g group) same(h group) bool {
	return len(g) == len(h) && (len(g) == 0 || &g[0] == &h[0])
}

// Of makes a snapshot of resources.
func Of(resources ...*Resource) *Snapshot {
	e := Edit(nil)
	for _, r := range resources {
		e.Put(r)
	}
	return e.Snapshot()
}

// Get returns the resource under k, nil for none.
func (s *Snapshot) Get(k Key) *Resource {
	if s == nil {
		return nil
	}
	return s.groups[k.Name].get(k.Type)
}

// Len is the number of resources.
func (s *Snapshot) Len() int {
	if s == nil {
		return 0
	}
	return s.size
}

// All resources, in no order.
func (s *Snapshot) All() iter.Seq[*Resource] {
	return func(yield func(*Resource) bool) {
		if s == nil {
			return
		}
		for _, g := range s.groups {
			for _, r := range g {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// Differences are the keys under which s and old do not have the very same
// resource, in no order. An equal one in another place in memory is a difference.
func (s *Snapshot) Differences(old *Snapshot) iter.Seq[Key] {
	return func(yield func(Key) bool) {
		if s == old {
			return
		}
		is, was := s.all(), old.all()
		kept := 0
		for name, g := range is {
			h, there := was[name]
			if there {
				kept++
			}
			if !g.same(h) && !g.differences(h, yield) {
				return
			}
		}
		if kept == len(was) {
			return // nothing is gone
		}
		for name, h := range was {
			if _, there := is[name]; !there && !group(nil).differences(h, yield) {
				return
			}
		}
	}
}

func (s *Snapshot) all() map[string]group {
	if s == nil {
		return nil
	}
	return s.groups
}

func (g group) differences(h group, yield func(Key) bool) bool {
	for _, r := range g {
		if h.get(r.Type) != r && !yield(r.Key) {
			return false
		}
	}
	for _, r := range h {
		if g.get(r.Type) == nil && !yield(r.Key) {
			return false
		}
	}
	return true
}

// Editor makes the next snapshot out of one.
type Editor struct {
	from   *Snapshot
	groups map[string]group // from's own until something differs
	size   int
	edited bool
}

// Edit begins with what s has; nil has nothing.
func Edit(s *Snapshot) *Editor {
	if s == nil {
		s = &Snapshot{}
	}
	return &Editor{from: s, groups: s.groups, size: s.size}
}

// Get returns the resource under k as it is now, nil for none.
func (e *Editor) Get(k Key) *Resource { return e.groups[k.Name].get(k.Type) }

// Put adds r or has it replace what is under its key. An equal resource that is
// there already stays, so that nothing differs.
func (e *Editor) Put(r *Resource) {
	g := e.groups[r.Name]
	old := g.get(r.Type)
	if old != nil && old.Equal(r) {
		return
	}
	e.own()
	next := make(group, 0, len(g)+1)
	for _, o := range g {
		if o != old {
			next = append(next, o)
		}
	}
	next = append(next, r)
	slices.SortFunc(next, func(a, b *Resource) int { return strings.Compare(a.Type, b.Type) })
	e.groups[r.Name] = next
	if old == nil {
		e.size++
	}
}

// Drop removes what is under k.
func (e *Editor) Drop(k Key) {
	g := e.groups[k.Name]
	if g.get(k.Type) == nil {
		return
	}
	e.own()
	e.size--
	if len(g) == 1 {
		delete(e.groups, k.Name)
		return
	}
	e.groups[k.Name] = slices.DeleteFunc(slices.Clone(g), func(r *Resource) bool { return r.Type == k.Type })
}

// own copies the map before the first change: the snapshot keeps its own.
func (e *Editor) own() {
	if e.edited {
		return
	}
	e.edited = true
	if e.groups = maps.Clone(e.groups); e.groups == nil {
		e.groups = map[string]group{}
	}
}

// Snapshot is the result: the one that the editor began with if nothing differs.
// The editor must not be used after it.
func (e *Editor) Snapshot() *Snapshot {
	if !e.edited {
		return e.from
	}
	return &Snapshot{groups: e.groups, size: e.size}
}

// Equal reports whether r and o are the same resource for Envoy and for people.
func (r *Resource) Equal(o *Resource) bool {
	return r == o || r != nil && o != nil && r.Key == o.Key && r.Version == o.Version && r.Expires.Equal(o.Expires) &&
		r.Owner == o.Owner && slices.Equal(r.Needs, o.Needs)
}
