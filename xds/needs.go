package xds

import (
	"fmt"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// maxNeedDepth bounds how far needs are followed through resources that Envoy
// has not asked for yet. Real chains are two deep (scope, route, cluster).
const maxNeedDepth = 8

// wait is a wanted resource with a need that Envoy has not acknowledged.
type wait struct {
	since    time.Time      // when unmet[0] became what it waits for
	unmet    []snapshot.Key // needs that are not acknowledged
	watched  []snapshot.Key // whatever unmet depends on: a change there decides anew
	rejected bool           // the wait is given up; it goes on by itself once the needs are met
	update   bool           // Envoy holds a previous version
}

// named reports whether Envoy asks for resources of a type by name, when another
// resource refers to them.
func named(typ string) bool {
	switch typ {
	case snapshot.Route, snapshot.ExtensionConfig, snapshot.Secret:
		return true
	}
	return false
}

// ready reports whether all needs of r are met. If not, k waits.
func (s *stream) ready(k snapshot.Key, r *snapshot.Resource) bool {
	w := &wait{since: s.now, update: s.held[k] != nil}
	s.need(w, r, 0)
	if len(w.unmet) == 0 {
		s.unwait(k)
		s.view.setRejected(k, "", "")
		return true
	}
	s.wait(k, r, w)
	return false
}

// need adds to w the needs of r that Envoy has not acknowledged in the wanted
// version. Envoy asks for a named resource only after it was sent what refers to
// it, so such a need that is not asked for is met when it could be sent at once.
func (s *stream) need(w *wait, r *snapshot.Resource, depth int) {
	for _, n := range r.Needs {
		w.watched = append(w.watched, n)
		need := s.wanted(n)
		switch {
		case need == nil || depth == maxNeedDepth:
			w.unmet = append(w.unmet, n)
		case named(n.Type) && !s.subscribed(n):
			s.need(w, need, depth+1)
		default:
			if h := s.held[n]; h == nil || !h.settled || h.acked != need.Version {
				w.unmet = append(w.unmet, n)
			}
		}
	}
}

// wait has k wait as w says, and rejects it when one of the needs is hopeless
// for now or the first has taken too long.
func (s *stream) wait(k snapshot.Key, r *snapshot.Resource, w *wait) {
	was := s.waiting[k]
	if was != nil && was.unmet[0] == w.unmet[0] {
		w.since = was.since
	} else {
		s.alarm(k)
	}
	message := ""
	for _, n := range w.unmet {
		if message = s.hopeless(n); message != "" {
			break
		}
	}
	if message == "" && !s.now.Before(w.since.Add(s.ackTimeout)) {
		message = fmt.Sprintf("needs %s, which Envoy did not acknowledge within %v", name(w.unmet[0]), s.ackTimeout)
		// The need itself is what is in the way: whoever made the snapshot can then
		// do without it. Its ACK clears this.
		if need := s.wanted(w.unmet[0]); need != nil {
			s.view.setRejected(w.unmet[0], need.Version, fmt.Sprintf("Envoy did not acknowledge it within %v", s.ackTimeout))
		}
	}
	w.rejected = message != ""

	s.dropWait(k)
	s.waiting[k] = w
	if w.update && !w.rejected {
		s.subs[k.Type].waiting++
	}
	for _, n := range w.watched {
		if s.waiters[n] == nil {
			s.waiters[n] = keySet{}
		}
		s.waiters[n][k] = struct{}{}
	}
	if w.rejected {
		s.view.setRejected(k, r.Version, bound(message))
	} else {
		s.view.setRejected(k, "", "")
	}
	// Only the flip is passed on, not each new wording: needs in a circle would
	// never come to rest.
	if w.rejected != (was != nil && was.rejected) {
		s.markWaiters(k)
	}
}

// hopeless says why waiting for n is of no use now, "" if it may be.
func (s *stream) hopeless(n snapshot.Key) string {
	r := s.wanted(n)
	if r == nil {
		return fmt.Sprintf("needs %s, which is not in the snapshot or has ended", name(n))
	}
	if h := s.held[n]; h != nil && h.refused == r.Version {
		return fmt.Sprintf("needs %s, which Envoy refused: %s", name(n), h.reason)
	}
	if w := s.waiting[n]; w != nil && w.rejected {
		_, message := s.rejection(n)
		return fmt.Sprintf("needs %s, which %s", name(n), message)
	}
	return ""
}

func (s *stream) rejection(k snapshot.Key) (version, message string) {
	s.view.mu.RLock()
	defer s.view.mu.RUnlock()
	r := s.view.rejected[k]
	return r.version, r.message
}

// unwait ends the wait of k, if there is one.
func (s *stream) unwait(k snapshot.Key) {
	w := s.waiting[k]
	if w == nil {
		return
	}
	s.dropWait(k)
	if w.rejected {
		s.markWaiters(k)
	}
}

func (s *stream) dropWait(k snapshot.Key) {
	w := s.waiting[k]
	if w == nil {
		return
	}
	delete(s.waiting, k)
	if w.update && !w.rejected {
		s.subs[k.Type].waiting--
	}
	for _, n := range w.watched {
		delete(s.waiters[n], k)
		if len(s.waiters[n]) == 0 {
			delete(s.waiters, n)
		}
	}
}

// name is a resource for people.
func name(k snapshot.Key) string { return fmt.Sprintf("%s %q", short(k.Type), k.Name) }
