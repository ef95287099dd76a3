package source

import (
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
)

// file is what is known of one file. It is not changed once it is in use.
type file struct {
	path string
	// stat of the version that was last looked at.
	stat stat
	// racy: the file was looked at so soon after a change that a second one may
	// bear the same times.
	racy bool
	docs []placed
	// problem is why docs are of an earlier version, if they are.
	problem *Problem
	// modified and owner belong to docs.
	modified time.Time
	owner    uint32
}

// place is where a candidate stands.
type place struct {
	file *file
	doc  placed
	cand *candidate
}

func (p place) origin() Origin {
	return Origin{File: p.file.path, Line: p.doc.line + p.cand.line, Modified: p.file.modified, OwnerUID: p.file.owner}
}

// holding is an object in use.
type holding struct {
	kind   *kind
	obj    object
	origin Origin
	// gone is when the object was first not found, zero while it is there.
	gone time.Time
}

// state turns files into Sets. All work is on what changed: the keys of the
// files that were replaced, and those whose time to be gone has come.
type state struct {
	// vanish is how long an object must be gone to be believed gone.
	vanish time.Duration

	files  map[string]*file
	places map[ObjectKey][]place
	held   map[ObjectKey]*holding
	gone   map[ObjectKey]bool // keys of held whose gone is set

	touched     map[ObjectKey]bool
	keyProblems map[ObjectKey][]Problem
	// fileProblems belong to a file, not to an object.
	fileProblems map[string][]Problem
	treeProblems []Problem

	set *Set
}

func newState(vanish time.Duration) *state {
	return &state{
		vanish: vanish,
		files:  map[string]*file{}, places: map[ObjectKey][]place{},
		held: map[ObjectKey]*holding{}, gone: map[ObjectKey]bool{},
		touched: map[ObjectKey]bool{}, keyProblems: map[ObjectKey][]Problem{},
		fileProblems: map[string][]Problem{},
		set:          newSet(),
	}
}

// replace puts f in the place of what was known of the file at path. nil: there
// is no such file.
func (s *state) replace(path string, f *file) {
	if old := s.files[path]; old != nil {
		for _, d := range old.docs {
			for _, c := range d.objects {
				s.touched[c.key] = true
				rest := slices.DeleteFunc(s.places[c.key], func(p place) bool { return p.file == old })
				if s.places[c.key] = rest; len(rest) == 0 {
					delete(s.places, c.key)
				}
			}
		}
	}
	delete(s.fileProblems, path)
	if f == nil {
		delete(s.files, path)
		return
	}
	s.files[path] = f
	var problems []Problem
	if f.problem != nil {
		problems = append(problems, *f.problem)
	}
	for _, d := range f.docs {
		problems = append(problems, at(d.problems, path, d.line)...)
		for _, c := range d.objects {
			s.touched[c.key] = true
			s.places[c.key] = append(s.places[c.key], place{f, d, c})
		}
	}
	if len(problems) > 0 {
		s.fileProblems[path] = problems
	}
}

// at places problems of a document in its file.
func at(ps []Problem, path string, line int) []Problem {
	ps = slices.Clone(ps)
	for i := range ps {
		ps[i].File, ps[i].Line = path, ps[i].Line+line
	}
	return ps
}

// settle decides what is in use now, and returns a new Set if that differs from
// the last one, else nil.
func (s *state) settle(now time.Time) *Set {
	for key := range s.gone {
		s.touched[key] = true
	}
	next := *s.set
	copied := map[*kind]*bool{}
	origins, changed := false, false
	for key := range s.touched {
		k, before, after := s.decide(key, now)
		if k == nil {
			continue
		}
		var was, is object
		var originWas, originIs Origin
		if before != nil {
			was, originWas = before.obj, before.origin
		}
		if after != nil {
			is, originIs = after.obj, after.origin
		}
		if was != is {
			if copied[k] == nil {
				copied[k] = new(bool)
			}
			k.set(&next, key, is, copied[k])
		}
		if was == is && originWas == originIs {
			continue
		}
		changed = true
		if !origins {
			next.Origins, origins = maps.Clone(next.Origins), true
		}
		if delete(next.Origins, key); after != nil {
			next.Origins[key] = after.origin
		}
	}
	clear(s.touched)
	problems := s.problems()
	if !changed && slices.Equal(problems, s.set.Problems) {
		return nil
	}
	next.Problems = problems
	s.set = &next
	return &next
}

func (s *state) problems() []Problem {
	all := slices.Clone(s.treeProblems)
	for _, ps := range s.fileProblems {
		all = append(all, ps...)
	}
	for _, ps := range s.keyProblems {
		all = append(all, ps...)
	}
	return sortProblems(all)
}

// decide says what is in use under key: what was, and what is.
func (s *state) decide(key ObjectKey, now time.Time) (k *kind, before, after *holding) {
	delete(s.keyProblems, key)
	before = s.held[key]
	places := s.places[key]
	switch len(places) {
	case 0:
		after = s.leave(before, now)
	case 1:
		after = s.take(key, before, places[0])
	default:
		s.keyProblems[key] = duplicates(key, places)
		after = s.leave(before, now)
	}
	delete(s.gone, key)
	switch {
	case after == nil:
		delete(s.held, key)
	default:
		s.held[key] = after
		if !after.gone.IsZero() {
			s.gone[key] = true
		}
		return after.kind, before, after
	}
	if before != nil {
		return before.kind, before, nil
	}
	return nil, nil, nil
}

// leave is for an object that is not there: it stays in use until it has been
// gone for a while.
func (s *state) leave(h *holding, now time.Time) *holding {
	switch {
	case h == nil:
		return nil
	case h.gone.IsZero():
		left := *h
		left.gone = now
		h = &left
	}
	if now.Sub(h.gone) >= s.vanish {
		return nil
	}
	return h
}

// take is for an object that is there once.
func (s *state) take(key ObjectKey, h *holding, p place) *holding {
	c := p.cand
	taken := &holding{kind: c.kind, obj: c.obj, origin: p.origin()}
	switch {
	case c.obj == nil:
		return s.refuse(key, h, p, c.problems)
	case h == nil || h.obj == c.obj:
		return taken
	case equality.Semantic.DeepEqual(h.obj, c.obj):
		taken.obj = h.obj
		return taken
	}
	var f findings
	checkTransition(c.obj, h.obj, c.kind, &f)
	if len(f.list) > 0 {
		return s.refuse(key, h, p, f.problems(key.String(), c.node, c.line))
	}
	return taken
}

// refuse keeps the last good version of an object that is wrong now, except
// that what closes is honoured all the same.
func (s *state) refuse(key ObjectKey, h *holding, p place, problems []Problem) *holding {
	problems = at(problems, p.file.path, p.doc.line)
	var kept *holding
	if h != nil {
		k := *h
		k.gone = time.Time{}
		if p.cand.closes {
			k.obj = closed(h.obj)
			for i := range problems {
				problems[i].Remedy += "; it is closed all the same"
			}
		}
		kept = &k
		for i := range problems {
			problems[i].LastGood = true
		}
	}
	s.keyProblems[key] = problems
	return kept
}

func duplicates(key ObjectKey, places []place) []Problem {
	places = slices.Clone(places)
	slices.SortFunc(places, func(a, b place) int {
		return compareProblems(Problem{File: a.file.path, Line: a.origin().Line}, Problem{File: b.file.path, Line: b.origin().Line})
	})
	var ps []Problem
	for i, p := range places {
		other := places[0]
		if i == 0 {
			other = places[1]
		}
		o, there := p.origin(), other.origin()
		ps = append(ps, Problem{
			File: o.File, Line: o.Line, Object: key.String(),
			Message: "is also at " + Problem{File: there.File, Line: there.Line}.Error() + ", so that neither is used",
			Remedy:  "remove one of them",
		})
	}
	return ps
}

// goneFiles are the files that objects were last seen in that are gone now, and
// when to look for them again.
func (s *state) goneFiles() (paths map[string]bool, next time.Time) {
	paths = map[string]bool{}
	for key := range s.gone {
		h := s.held[key]
		paths[h.origin.File] = true
		if due := h.gone.Add(s.vanish); next.IsZero() || due.Before(next) {
			next = due
		}
	}
	return paths, next
}

// paths of the known files, sorted.
func (s *state) paths() []string { return slices.Sorted(maps.Keys(s.files)) }
