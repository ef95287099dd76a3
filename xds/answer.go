package xds

import (
	"strings"
	"time"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// answered takes in the ACK or NACK of the response with that nonce.
func (s *stream) answered(nonce string, failure *statuspb.Status) {
	resp := s.inflight[nonce]
	if resp == nil {
		return // not ours, or answered twice
	}
	delete(s.inflight, nonce)
	sub := s.subs[resp.typ]
	if resp.content {
		sub.inflight--
	}
	c := &s.stats.byType[sub.idx]
	if failure == nil {
		c.acks.Add(1)
		took := s.now.Sub(resp.sentAt)
		for _, it := range resp.items {
			s.acked(resp, it, took)
		}
		return
	}
	c.nacks.Add(1)
	reason := bound(failure.GetMessage())
	if reason == "" {
		reason = "no reason given"
	}
	if len(resp.items) == 1 {
		s.refused(resp, resp.items[0], reason)
		return
	}
	s.log.Warn("envoy refused a response, sending its resources one by one",
		"type", short(resp.typ), "resources", len(resp.items), "reason", reason)
	for _, it := range resp.items {
		s.retryAlone(resp, it)
	}
}

// latest returns what is held under the item's key, unless a later response
// changed it: then its answer is the one that counts.
func (s *stream) latest(resp *response, it item) *held {
	h := s.held[it.key]
	if h == nil || resp.seq < h.gen {
		return nil
	}
	return h
}

func (s *stream) acked(resp *response, it item, took time.Duration) {
	h := s.latest(resp, it)
	if h == nil {
		return
	}
	if it.version == "" {
		s.forget(it.key)
		return
	}
	h.acked, h.settled, h.alone = it.version, true, false
	s.view.setAcked(it.key, it.version)
	if it.key.Type == snapshot.Route && resp.content {
		s.view.tried(it.key, it.version, "")
	}
	if h.started(resp.seq, took) {
		s.log.Debug("lease started late, sending it again", "name", it.key.Name, "took", took)
	}
	s.mark(it.key)
	s.markWaiters(it.key)
}

// retryAlone has an item of a refused response sent again on its own. Envoy may
// have taken none of the others either, and would not get them again.
func (s *stream) retryAlone(resp *response, it item) {
	h := s.latest(resp, it)
	if h == nil {
		return
	}
	h.alone = true
	switch {
	case it.version == "":
		h.gone = false
	case resp.seq == h.gen:
		h.sent = ""
	default: // a refreshed lease
		h.stale = true
	}
	s.mark(it.key)
}

func (s *stream) refused(resp *response, it item, reason string) {
	s.log.Warn("envoy refused a resource", "type", short(resp.typ), "name", bound(it.key.Name),
		"owner", s.owner(it), "removal", it.version == "", "reason", reason)
	h := s.latest(resp, it)
	if h == nil || it.version == "" {
		return // a refused removal stays acknowledged: Envoy still has the resource
	}
	h.refused, h.reason, h.settled, h.sent = it.version, reason, false, ""
	if it.key.Type == snapshot.Route {
		s.view.tried(it.key, it.version, reason)
	}
	h.again = time.Time{}
	if it.key.Type == snapshot.Listener && strings.Contains(reason, "cannot bind") {
		// Its port is taken, for now: the same version will be right later.
		h.again = s.now.Add(s.ackTimeout)
		s.alarm(it.key)
	}
	if resp.seq != h.gen {
		h.settled = h.acked == it.version // only a refreshed lease was refused
	}
	s.mark(it.key)
	s.markWaiters(it.key)
}

func (s *stream) owner(it item) string {
	if r := s.want.Get(it.key); r != nil {
		return r.Owner
	}
	return ""
}
