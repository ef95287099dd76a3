// Package diff says what a change of manifests would open or close, in a
// reviewer's words: not which lines differ, but who could reach what through
// which door for how long, before and after.
//
// Each side is described as facts about objects; what differs between the facts is
// the change. A fact that only the new side has, or that ranks higher there, widens.
package diff

import (
	"cmp"
	"slices"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/internal/posture"
)

// Effect of a change.
type Effect string

// The effects, the one a reviewer must not miss first.
const (
	Widens  Effect = "widens"
	Changes Effect = "changes" // it is for the reviewer to say
	Narrows Effect = "narrows"
)

// Kind of a change of an object.
type Kind string

// The kinds.
const (
	Added   Kind = "added"
	Removed Kind = "removed"
	Changed Kind = "changed"
	// Window is of an Activation that is open now.
	Window Kind = "window"
)

// Change is what changes of one object.
type Change struct {
	Object string `json:"object"`
	Kind   Kind   `json:"kind"`
	Facts  []Fact `json:"facts"`
}

// Fact is one thing that is different.
type Fact struct {
	Effect Effect `json:"effect"`
	// Topic says what of the object it is about: "could be opened by".
	Topic string `json:"topic"`
	Was   string `json:"was,omitempty"`
	Is    string `json:"is,omitempty"`
}

// Report is all that changes.
type Report struct {
	Changes []Change `json:"changes"`
}

// Count the facts of an effect.
func (r *Report) Count(e Effect) int {
	n := 0
	for _, c := range r.Changes {
		for _, f := range c.Facts {
			if f.Effect == e {
				n++
			}
		}
	}
	return n
}

// Compare two postures.
func Compare(before, after *posture.Posture) *Report {
	was, is := describe(before), describe(after)
	r := &Report{Changes: []Change{}}
	var names []string
	for name := range was {
		names = append(names, name)
	}
	for name := range is {
		if was[name] == nil {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(order(a), order(b)), cmp.Compare(a, b)) })
	for _, name := range names {
		c := Change{Object: name, Kind: Changed}
		switch {
		case was[name] == nil:
			c.Kind = Added
		case is[name] == nil:
			c.Kind = Removed
		}
		c.Facts = compare(was[name], is[name])
		if len(c.Facts) > 0 {
			r.Changes = append(r.Changes, c)
		}
	}
	return r
}

// about is what is known of one object, by topic.
type about struct {
	topics []string // in the order in which they are told
	sets   map[string]*set
	levels map[string]level
}

// set is a topic with many values: each one more is one more way in.
type set struct {
	items []string
	any   bool // no bound at all, which is wider than any item
}

// level is a topic with one value. A higher rank is wider; equal ranks with
// another text are neither.
type level struct {
	rank int64
	text string
}

func newAbout() *about { return &about{sets: map[string]*set{}, levels: map[string]level{}} }

func (a *about) note(topic string) {
	if !slices.Contains(a.topics, topic) {
		a.topics = append(a.topics, topic)
	}
}

// has notes values of a topic.
func (a *about) has(topic string, items ...string) {
	a.note(topic)
	s := a.sets[topic]
	if s == nil {
		s = &set{}
		a.sets[topic] = s
	}
	for _, i := range items {
		if !slices.Contains(s.items, i) {
			s.items = append(s.items, i)
		}
	}
}

// bounded notes a topic that bounds by its values, and not at all without any.
func (a *about) bounded(topic string, items []string) {
	a.has(topic, items...)
	a.sets[topic].any = len(items) == 0
}

// is notes the one value of a topic.
func (a *about) is(topic string, rank int64, text string) {
	a.note(topic)
	a.levels[topic] = level{rank, text}
}

// flag notes something that is either so, which is wider, or not.
func (a *about) flag(topic string, on bool) {
	if on {
		a.is(topic, 1, "yes")
		return
	}
	a.is(topic, 0, "no")
}

// compare what is known of an object; nil: there is none.
func compare(was, is *about) []Fact {
	var topics []string
	for _, a := range []*about{is, was} {
		if a == nil {
			continue
		}
		for _, t := range a.topics {
			if !slices.Contains(topics, t) {
				topics = append(topics, t)
			}
		}
	}
	if was == nil {
		was = newAbout()
	}
	if is == nil {
		is = newAbout()
	}
	var facts []Fact
	for _, t := range topics {
		facts = append(facts, compareSets(t, was.sets[t], is.sets[t])...)
		facts = append(facts, compareLevels(t, was, is)...)
	}
	return facts
}

func compareSets(topic string, was, is *set) []Fact {
	if was == nil {
		was = &set{}
	}
	if is == nil {
		is = &set{}
	}
	switch {
	case is.any && was.any:
		return nil
	case is.any:
		return []Fact{{Widens, topic, list(was.items), "any"}}
	case was.any:
		return []Fact{{Narrows, topic, "any", list(is.items)}}
	}
	var facts []Fact
	for _, i := range is.items {
		if !slices.Contains(was.items, i) {
			facts = append(facts, Fact{Effect: Widens, Topic: topic, Is: i})
		}
	}
	for _, i := range was.items {
		if !slices.Contains(is.items, i) {
			facts = append(facts, Fact{Effect: Narrows, Topic: topic, Was: i})
		}
	}
	return facts
}

func list(items []string) string { return cmp.Or(strings.Join(items, ", "), "none") }

func compareLevels(topic string, was, is *about) []Fact {
	w, had := was.levels[topic]
	i, has := is.levels[topic]
	f := Fact{Topic: topic, Was: w.text, Is: i.text}
	switch {
	case had == has && w == i:
		return nil
	case has && !had:
		f.Effect = Widens
		if len(was.topics) == 0 && i.rank == 0 {
			return nil // of an object that comes, the strict settings are no news
		}
	case had && !has:
		f.Effect = Narrows
		if len(is.topics) == 0 && w.rank == 0 {
			return nil // likewise of one that goes
		}
	default:
		f.Effect = map[int]Effect{1: Widens, 0: Changes, -1: Narrows}[cmp.Compare(i.rank, w.rank)]
	}
	return []Fact{f}
}
