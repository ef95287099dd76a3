package xds

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// maxNames and maxName bound the named subscriptions of one stream, per type, and
// each name in bytes.
const (
	maxNames = 200_000
	maxName  = 4 << 10
)

// stream is what one delta stream is about: what Envoy asked for, what it holds
// and what it should hold. It is a state machine without goroutines, locks or a
// clock of its own: set, request and tick tell it what happened, next asks it
// for the response to send now.
//
// Work is by key. Whatever may change the answer for a key marks it dirty, and
// settle decides anew for each dirty key, from want, subs and held alone: send,
// refresh, remove, wait or nothing.
type stream struct {
	view       *view
	stats      *counters
	log        *slog.Logger
	ackTimeout time.Duration

	now  time.Time
	want *snapshot.Snapshot // nil: the node is unknown, send nothing
	subs map[string]*subscription
	held map[snapshot.Key]*held

	dirty    map[snapshot.Key]struct{}
	lanes    [len(order)]lane
	queued   map[snapshot.Key]int       // the lane that a key is in
	waiting  map[snapshot.Key]*wait     // wanted, but a need is not acknowledged
	waiters  map[snapshot.Key]keySet    // by need
	leaving  map[snapshot.Key]time.Time // to be removed, since
	inflight map[string]*response       // by nonce
	seq      uint64                     // of the last response
	due      []deadline                 // ends of waits, in order
	leases   keySet                     // of want, those that end by themselves
}

type keySet map[snapshot.Key]struct{}

// subscription is what Envoy asked for of one type.
type subscription struct {
	idx      int // in types
	asked    bool
	wildcard bool
	greeted  bool // a response went out since the wildcard began
	names    map[string]struct{}
	inflight int // responses with content that were not answered yet
	waiting  int // updates of held resources that wait for a need
}

// held is a resource that Envoy has or may have.
type held struct {
	sent    string // version last sent or reported by Envoy, "" if not known
	gone    bool   // its removal was sent
	gen     uint64 // the response that last changed it
	acked   string // version last acknowledged
	settled bool   // the response gen was acknowledged
	force   bool   // Envoy asked for it again
	alone   bool   // suspected of spoiling a response: send it on its own
	refused string // version that Envoy refused
	reason  string // its words
	// again is when a refused version is sent once more. Zero: never.
	again time.Time
	lease
}

type deadline struct {
	at  time.Time
	key snapshot.Key
}

func newStream(v *view, c *counters, log *slog.Logger, ackTimeout time.Duration) *stream {
	s := &stream{
		view: v, stats: c, log: log, ackTimeout: ackTimeout,
		subs: map[string]*subscription{}, held: map[snapshot.Key]*held{},
		dirty: keySet{}, leases: keySet{}, queued: map[snapshot.Key]int{},
		waiting: map[snapshot.Key]*wait{}, waiters: map[snapshot.Key]keySet{},
		leaving: map[snapshot.Key]time.Time{}, inflight: map[string]*response{},
	}
	for i, typ := range types {
		s.subs[typ] = &subscription{idx: i, names: map[string]struct{}{}}
	}
	return s
}

// set makes snap the wanted state. The same snapshot again changes nothing.
func (s *stream) set(snap *snapshot.Snapshot, now time.Time) {
	s.now = now
	if snap == s.want {
		return
	}
	old := s.want
	if old == nil || snap == nil { // the node became known or unknown
		for k := range s.held {
			s.mark(k)
		}
	}
	s.want = snap
	s.markChanges(old)
	s.settle()
}

// markChanges looks at what differs from old, and at leases that have ended.
func (s *stream) markChanges(old *snapshot.Snapshot) {
	for k := range s.want.Differences(old) {
		was, is := old.Get(k), s.want.Get(k)
		if is != nil && !is.Expires.IsZero() {
			s.leases[k] = struct{}{}
		} else {
			delete(s.leases, k)
		}
		if !same(was, is) {
			s.mark(k)
			s.markWaiters(k)
		}
	}
	for k := range s.leases {
		if s.ended(s.want.Get(k)) {
			s.mark(k)
			s.markWaiters(k)
		}
	}
}

func same(a, b *snapshot.Resource) bool {
	return a == b || a != nil && b != nil && a.Version == b.Version && a.Expires.Equal(b.Expires) && slices.Equal(a.Needs, b.Needs)
}

// wanted returns the resource that Envoy should have under k now, nil for none.
// An ended lease is not wanted, whatever the snapshot says.
func (s *stream) wanted(k snapshot.Key) *snapshot.Resource {
	r := s.want.Get(k)
	if r == nil || s.ended(r) {
		return nil
	}
	return r
}

// tick is to be called when wakeAt has come.
func (s *stream) tick(now time.Time) {
	s.now = now
	for len(s.due) > 0 && !s.due[0].at.After(now) {
		s.mark(s.due[0].key)
		s.due = s.due[1:]
	}
	s.settle()
}

// wakeAt is the next instant at which time alone changes something.
func (s *stream) wakeAt() time.Time {
	if len(s.due) == 0 {
		return time.Time{}
	}
	return s.due[0].at
}

// refuses reports whether Envoy has refused this very version of r, and there is
// no reason to think that it would not again.
func (h *held) refuses(r *snapshot.Resource, now time.Time) bool {
	return h != nil && h.refused != "" && h.refused == r.Version && (h.again.IsZero() || now.Before(h.again))
}

// alarm has tick look at k again after the ACK timeout.
func (s *stream) alarm(k snapshot.Key) {
	s.due = append(s.due, deadline{s.now.Add(s.ackTimeout), k})
}

// request takes in a request: a subscription, an ACK, a NACK, or several of these.
func (s *stream) request(req *discovery.DeltaDiscoveryRequest, now time.Time) error {
	s.now = now
	sub := s.subs[req.GetTypeUrl()]
	if sub == nil {
		s.log.Debug("request for a type that is not served", "typeUrl", bound(req.GetTypeUrl()))
		return nil
	}
	if nonce := req.GetResponseNonce(); nonce != "" {
		s.answered(nonce, req.GetErrorDetail())
	}
	first := !sub.asked
	sub.asked = true
	s.unsubscribe(req.GetTypeUrl(), sub, req.GetResourceNamesUnsubscribe())
	if err := s.subscribe(req.GetTypeUrl(), sub, req.GetResourceNamesSubscribe(), first); err != nil {
		return err
	}
	if first {
		s.reported(req.GetTypeUrl(), req.GetInitialResourceVersions())
	}
	s.settle()
	return nil
}

// subscribe adds names; "*" is all resources of the type, and so is a first
// request without names ("legacy wildcard"). A resource that is asked for again
// is sent again, whatever was sent before: Envoy may have dropped it.
func (s *stream) subscribe(typ string, sub *subscription, names []string, first bool) error {
	if first && len(names) == 0 && !named(typ) {
		names = []string{"*"}
	}
	for _, name := range names {
		if name == "*" {
			s.subscribeAll(typ, sub)
			continue
		}
		if len(name) > maxName {
			return status.Errorf(codes.InvalidArgument, "a name of %d bytes, want at most %d", len(name), maxName)
		}
		if len(sub.names) >= maxNames {
			return status.Errorf(codes.ResourceExhausted, "more than %d names of %s", maxNames, typ)
		}
		sub.names[name] = struct{}{}
		s.again(snapshot.Key{Type: typ, Name: name})
	}
	return nil
}

func (s *stream) subscribeAll(typ string, sub *subscription) {
	sub.wildcard, sub.greeted = true, false
	for k := range s.held {
		if k.Type == typ {
			s.again(k)
		}
	}
	if s.want == nil {
		return
	}
	for r := range s.want.All() {
		if r.Type == typ {
			s.mark(r.Key)
		}
	}
}

// again has k sent again: Envoy asks for what it does not have.
func (s *stream) again(k snapshot.Key) {
	if h := s.held[k]; h != nil {
		h.force, h.settled, h.acked = true, false, ""
		h.refused, h.reason = "", ""
		s.view.setAcked(k, "")
	}
	s.mark(k)
	s.markWaiters(k)
}

// unsubscribe drops names. Envoy forgets what it is no longer subscribed to, so
// nothing needs to be removed there.
func (s *stream) unsubscribe(typ string, sub *subscription, names []string) {
	for _, name := range names {
		if name == "*" {
			s.unsubscribeAll(typ, sub)
			continue
		}
		delete(sub.names, name)
		k := snapshot.Key{Type: typ, Name: name}
		if s.subscribed(k) { // by wildcard: Envoy is told of it again
			s.again(k)
			continue
		}
		s.forget(k)
	}
}

func (s *stream) unsubscribeAll(typ string, sub *subscription) {
	sub.wildcard = false
	for k := range s.held {
		if k.Type == typ && !s.subscribed(k) {
			s.forget(k)
		}
	}
	if s.want == nil {
		return
	}
	// What waits for a resource that Envoy is not subscribed to any more and never
	// got may be ready without it.
	for r := range s.want.All() {
		if r.Type == typ && !s.subscribed(r.Key) {
			s.mark(r.Key)
			s.markWaiters(r.Key)
		}
	}
}

// reported takes in what Envoy says it holds when it reconnects.
func (s *stream) reported(typ string, versions map[string]string) {
	for name, version := range versions {
		k := snapshot.Key{Type: typ, Name: name}
		if !s.subscribed(k) {
			continue
		}
		s.held[k] = &held{sent: version, acked: version, settled: true}
		s.view.setAcked(k, version)
		s.mark(k)
		s.markWaiters(k)
	}
	if len(versions) > 0 {
		s.subs[typ].greeted = true // it is past its start, an empty response says nothing
	}
}

func (s *stream) subscribed(k snapshot.Key) bool {
	sub := s.subs[k.Type]
	if sub == nil {
		return false
	}
	_, ok := sub.names[k.Name]
	return ok || sub.wildcard
}

// forget drops what is known of k in Envoy.
func (s *stream) forget(k snapshot.Key) {
	delete(s.held, k)
	delete(s.leaving, k)
	s.view.setAcked(k, "")
	s.mark(k)
	s.markWaiters(k)
}

func (s *stream) mark(k snapshot.Key) { s.dirty[k] = struct{}{} }

func (s *stream) markWaiters(need snapshot.Key) {
	for k := range s.waiters[need] {
		s.mark(k)
	}
}

// settle decides for every dirty key, in a fixed order so that equal snapshots
// make equal traffic.
func (s *stream) settle() {
	for len(s.dirty) > 0 {
		keys := slices.SortedFunc(maps.Keys(s.dirty), func(a, b snapshot.Key) int {
			if c := strings.Compare(a.Type, b.Type); c != 0 {
				return c
			}
			return strings.Compare(a.Name, b.Name)
		})
		clear(s.dirty)
		for _, k := range keys {
			s.place(k)
		}
	}
}
