package xds

import (
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

type action int

const (
	nothing action = iota
	refresh        // send an unchanged lease for its time
	update         // send a new version of what Envoy has
	add            // send what Envoy does not have
	remove
)

// order is what goes out first when there is a choice. What closes comes first
// (a route that answers 404 from now on, then the lease behind it), then what may
// close (a filter config with a stricter rule), then what opens. What others may refer to leaves last.
// What has needs is in its lane only once they are met: they decide before this
// table does.
var order = [...]struct {
	typ string
	act action
	// after are the types whose pending changes hold up a removal, because their
	// previous versions may refer to what is removed.
	after []string
}{
	{typ: snapshot.Listener, act: refresh},
	{typ: snapshot.ScopedRoute, act: refresh},
	{typ: snapshot.Route, act: refresh},
	{typ: snapshot.Cluster, act: refresh},
	{typ: snapshot.ExtensionConfig, act: refresh},
	{typ: snapshot.Secret, act: refresh},
	{typ: snapshot.ScopedRoute, act: remove},
	{typ: snapshot.Route, act: update},
	// A lease that goes cuts streams. The route that led to it was told to answer
	// 404 in the message before, so that nobody sees a 503 in between; if that
	// route has to wait for something, the lease does not wait with it.
	{typ: snapshot.Listener, act: remove},
	{typ: snapshot.ExtensionConfig, act: update},
	{typ: snapshot.ScopedRoute, act: update},
	{typ: snapshot.Secret, act: update},
	{typ: snapshot.Cluster, act: update},
	{typ: snapshot.Listener, act: update},
	{typ: snapshot.Secret, act: add},
	{typ: snapshot.Cluster, act: add},
	{typ: snapshot.ExtensionConfig, act: add},
	{typ: snapshot.Listener, act: add},
	{typ: snapshot.Route, act: add},
	{typ: snapshot.ScopedRoute, act: add},
	{typ: snapshot.Route, act: remove, after: []string{snapshot.ScopedRoute, snapshot.Listener}},
	{typ: snapshot.ExtensionConfig, act: remove, after: []string{snapshot.Listener, snapshot.Route}},
	{typ: snapshot.Cluster, act: remove, after: []string{
		snapshot.Listener, snapshot.ScopedRoute, snapshot.Route, snapshot.ExtensionConfig}},
	{typ: snapshot.Secret, act: remove, after: []string{snapshot.Listener, snapshot.Cluster}},
}

// laneOf finds the place of a type and action in order.
var laneOf = func() map[string][remove + 1]int {
	m := map[string][remove + 1]int{}
	for i, l := range order {
		a := m[l.typ]
		a[l.act] = i
		m[l.typ] = a
	}
	return m
}()

// lane holds the keys that are ready for one entry of order, oldest first. An
// entry of keys counts only while queued says that its key is in this lane.
type lane struct {
	keys []snapshot.Key
	live int
}

// place decides what k needs now and puts it into that lane.
func (s *stream) place(k snapshot.Key) {
	act := s.decide(k)
	if act == remove {
		s.leave(k)
	} else if h := s.held[k]; act != nothing || h == nil || !h.gone {
		delete(s.leaving, k)
	}
	at, is := s.queued[k]
	if act == nothing {
		if is {
			s.unqueue(k)
		}
		return
	}
	to := laneOf[k.Type][act]
	if is && at == to {
		return
	}
	if is {
		s.unqueue(k)
	}
	l := &s.lanes[to]
	if len(l.keys) > 2*l.live+1024 {
		s.compact(to)
	}
	l.keys = append(l.keys, k)
	l.live++
	s.queued[k] = to
}

// decide is the whole policy for one key.
func (s *stream) decide(k snapshot.Key) action {
	h, r := s.held[k], s.wanted(k)
	if r == nil || !s.subscribed(k) {
		s.unwait(k)
		s.view.setRejected(k, "", "")
		return s.decideUnwanted(k)
	}
	if h.refuses(r, s.now) {
		s.unwait(k)
		s.view.setRejected(k, r.Version, h.reason)
		return nothing
	}
	if h != nil {
		h.refused, h.reason = "", ""
	}
	if h != nil && h.sent == r.Version && !h.gone && !h.force {
		s.unwait(k)
		s.view.setRejected(k, "", "")
		return h.decideLease(r)
	}
	switch {
	case !s.ready(k, r):
		return nothing
	case h != nil && h.acked != "" && !h.alone:
		return update
	}
	return add
}

// decideUnwanted is about what Envoy should not have. A named resource that was
// never sent is not answered with "does not exist": it may be on its way, and
// Envoy would stop waiting for it.
func (s *stream) decideUnwanted(k snapshot.Key) action {
	h := s.held[k]
	if s.want == nil || !s.subscribed(k) || h == nil || h.gone {
		return nothing
	}
	return remove
}

// leave starts the time for which a removal may be held up.
func (s *stream) leave(k snapshot.Key) {
	if _, ok := s.leaving[k]; ok {
		return
	}
	s.leaving[k] = s.now
	if len(order[laneOf[k.Type][remove]].after) > 0 {
		s.alarm(k)
	}
}

// mayLeave reports whether a removal need not wait any longer.
func (s *stream) mayLeave(k snapshot.Key, after []string) bool {
	if !s.now.Before(s.leaving[k].Add(s.ackTimeout)) {
		return true
	}
	for _, typ := range after {
		if s.pending(typ) {
			return false
		}
	}
	return true
}

// pending reports whether changes of a type are on their way to Envoy.
func (s *stream) pending(typ string) bool {
	sub, l := s.subs[typ], laneOf[typ]
	return sub.inflight > 0 || sub.waiting > 0 ||
		s.lanes[l[update]].live > 0 || s.lanes[l[add]].live > 0 || s.lanes[l[remove]].live > 0
}

func (s *stream) unqueue(k snapshot.Key) {
	i, ok := s.queued[k]
	if !ok {
		return
	}
	delete(s.queued, k)
	l := &s.lanes[i]
	if l.live--; l.live == 0 {
		l.keys = nil
	}
}

// compact drops the entries that do not count any more.
func (s *stream) compact(i int) {
	l, seen := &s.lanes[i], keySet{}
	keep := make([]snapshot.Key, 0, l.live)
	for _, k := range l.keys {
		if _, dup := seen[k]; !dup && s.in(k, i) {
			seen[k] = struct{}{}
			keep = append(keep, k)
		}
	}
	l.keys = keep
}

func (s *stream) in(k snapshot.Key, i int) bool {
	at, ok := s.queued[k]
	return ok && at == i
}
