package xds

import (
	"strconv"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

const (
	// A response carries at most maxBatch resources or about maxBatchBytes.
	maxBatch      = 500
	maxBatchBytes = 1 << 20
	// maxInflight is how many unanswered responses of one type there may be before
	// nothing is added any more. It keeps an Envoy that is slow, or that is sent
	// hundreds of suspects one by one, from falling further and further behind.
	// Removals, leases and updates, which may close, are not bound by it.
	maxInflight = 64
	// maxUnanswered bounds all unanswered responses of a stream. An Envoy that is
	// that far behind is cut off: when it reconnects it is told what it lacks.
	maxUnanswered = 10_000
)

// response is one that went out and was not answered yet.
type response struct {
	seq    uint64
	typ    string
	items  []item
	sentAt time.Time
	// content tells a response that changes something from one that is only
	// about leases or that all is there.
	content bool
}

type item struct {
	key     snapshot.Key
	version string // "" for a removal
}

// next makes the response to send now, nil if there is none.
func (s *stream) next(now time.Time) *discovery.DeltaDiscoveryResponse {
	s.now = now
	for i := 0; i < len(order); i++ {
		if keys := s.take(i, nil); len(keys) > 0 {
			m := s.build(i, keys)
			s.settle()
			return m
		}
		if len(s.dirty) > 0 { // take found something to decide anew
			s.settle()
			i = -1
		}
	}
	return s.greet()
}

// take takes keys out of lane i, as many as fit into one response after taken.
// What it finds to be not ready any more is marked dirty instead.
func (s *stream) take(i int, taken []snapshot.Key) []snapshot.Key {
	o, l := &order[i], &s.lanes[i]
	sub := s.subs[o.typ]
	if l.live == 0 || (o.act == add && sub.inflight >= maxInflight) {
		return taken
	}
	bytes := 0
	for len(l.keys) > 0 && len(taken) < maxBatch && bytes < maxBatchBytes {
		k := l.keys[0]
		if !s.in(k, i) {
			l.keys = l.keys[1:]
			continue
		}
		if o.act == remove && !s.mayLeave(k, o.after) {
			break // those behind it left later
		}
		alone := s.alone(k)
		if alone && len(taken) > 0 {
			break
		}
		// It was put here when it was ready. Meanwhile its lease may have ended, or
		// a need of it may have changed.
		if o.act != remove && s.decide(k) != o.act {
			s.unqueue(k)
			s.mark(k)
			continue
		}
		bytes += s.size(k)
		s.unqueue(k)
		taken = append(taken, k)
		if alone {
			break
		}
	}
	return taken
}

// build makes the response for keys of lane i and records what it changes.
func (s *stream) build(i int, keys []snapshot.Key) *discovery.DeltaDiscoveryResponse {
	o := &order[i]
	s.seq++
	m := &discovery.DeltaDiscoveryResponse{TypeUrl: o.typ, Nonce: strconv.FormatUint(s.seq, 10)}
	resp := &response{seq: s.seq, typ: o.typ, sentAt: s.now, content: o.act != refresh}
	for _, k := range keys {
		if o.act == remove {
			m.RemovedResources = append(m.RemovedResources, s.removing(k, resp))
		} else {
			m.Resources = append(m.Resources, s.sending(k, o.act, resp))
		}
	}
	// A scope that takes over the key of a removed one must come in the same
	// response: before it, it is a conflict; after it, requests in between are
	// refused.
	if o.act == remove && o.typ == snapshot.ScopedRoute && !s.alone(keys[0]) {
		for _, act := range []action{update, add} {
			all := s.take(laneOf[o.typ][act], keys)
			for _, k := range all[len(keys):] {
				m.Resources = append(m.Resources, s.sending(k, act, resp))
			}
			keys = all
		}
	}
	s.record(m.GetNonce(), resp, len(m.GetResources()), len(m.GetRemovedResources()))
	return m
}

// size is about what k takes in a response, in bytes.
func (s *stream) size(k snapshot.Key) int {
	r := s.wanted(k)
	if r == nil {
		return len(k.Name)
	}
	return len(r.Body.GetValue())
}

// alone reports whether k must be the only resource of its response.
func (s *stream) alone(k snapshot.Key) bool {
	h := s.held[k]
	return h != nil && h.alone
}

func (s *stream) record(nonce string, resp *response, resources, removed int) {
	sub := s.subs[resp.typ]
	s.inflight[nonce] = resp
	sub.greeted = true
	if resp.content {
		sub.inflight++
	}
	c := &s.stats.byType[sub.idx]
	c.resources.Add(uint64(resources))
	c.removed.Add(uint64(removed))
}

func (s *stream) removing(k snapshot.Key, resp *response) string {
	h := s.held[k]
	h.sent, h.gone, h.gen, h.settled = "", true, resp.seq, false
	h.force, h.refused, h.reason, h.lease = false, "", "", lease{}
	s.view.setGone(k)
	resp.items = append(resp.items, item{key: k})
	return k.Name
}

func (s *stream) sending(k snapshot.Key, act action, resp *response) *discovery.Resource {
	r, h := s.wanted(k), s.held[k]
	if h == nil {
		h = &held{}
		s.held[k] = h
	}
	if act != refresh {
		if h.gone {
			h.acked = "" // its removal is under way: Envoy does not have it
			s.view.setAcked(k, "")
		}
		h.sent, h.gone, h.gen, h.settled, h.force = r.Version, false, resp.seq, false, false
	}
	h.expires, h.stale = r.Expires, false
	m := &discovery.Resource{Name: k.Name, Version: r.Version, Resource: r.Body}
	if !r.Expires.IsZero() {
		h.ttlSeq = resp.seq
		m.Ttl = durationpb.New(r.Expires.Sub(s.now))
	}
	resp.items = append(resp.items, item{k, r.Version})
	return m
}

// greet answers a wildcard subscription that has nothing to be sent with an empty
// response: a starting Envoy waits for its first one of each type. While a
// resource of the type may still become ready, it is kept waiting, so that it
// does not report itself live without it.
func (s *stream) greet() *discovery.DeltaDiscoveryResponse {
	if s.want == nil {
		return nil
	}
	for _, typ := range types {
		sub := s.subs[typ]
		if !sub.wildcard || sub.greeted || s.pending(typ) || s.expected(typ) {
			continue
		}
		s.seq++
		m := &discovery.DeltaDiscoveryResponse{TypeUrl: typ, Nonce: strconv.FormatUint(s.seq, 10)}
		s.record(m.GetNonce(), &response{seq: s.seq, typ: typ, sentAt: s.now}, 0, 0)
		return m
	}
	return nil
}

func (s *stream) expected(typ string) bool {
	for k, w := range s.waiting {
		if k.Type == typ && !w.rejected {
			return true
		}
	}
	return false
}
