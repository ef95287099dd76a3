package xds

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

func TestAnUnknownEnvoyKeepsWhatItHasUntilItIsKnown(t *testing.T) {
	inLab(t, func(l *lab) {
		e := newEnvoy(t)
		d := l.server.Delivery(nodeID)
		if d.Connected() || d.Acked(cA) != "" {
			t.Error("connected before it connected")
		}
		e.have[cA] = got{version: "from before"}
		e.connect(l)
		defer e.end()
		time.Sleep(time.Hour)
		equalLog(t, e.takeLog())
		if !d.Connected() || e.ended {
			t.Error("the stream is not held open")
		}
		l.server.Set(nodeID, snap(res(snapshot.Listener, "l", "")))
		equalLog(t, e.takeLog(), "+Listener l", "-Cluster a")
		l.server.Remove(nodeID)
		equalLog(t, e.takeLog())
		l.server.Set(nodeID, snap())
		equalLog(t, e.takeLog(), "-Listener l")
	})
}

func TestTheNewestStreamOfANodeWins(t *testing.T) {
	inLab(t, func(l *lab) {
		old, e := newEnvoy(t), newEnvoy(t)
		l.server.Set(nodeID, snap(res(snapshot.Cluster, "a", "1")))
		old.connect(l)
		defer func() { old.end() }()
		synctest.Wait()
		e.connect(l)
		defer func() { e.end() }()
		synctest.Wait()
		if !old.ended || status.Code(old.err) != codes.Aborted {
			t.Errorf("the older stream ended with %v", old.err)
		}
		old.takeLog()
		l.server.Set(nodeID, snap(res(snapshot.Cluster, "a", "2")))
		equalLog(t, old.takeLog())
		if d := l.server.Delivery(nodeID); !d.Connected() || d.Acked(cA) != e.holds(cA) || e.ended {
			t.Error("the newer stream does not serve")
		}
		if n := l.server.Stats().Streams; n != 1 {
			t.Errorf("%d streams, want 1", n)
		}
	})
}

func TestTwoNodesDoNotSeeEachOther(t *testing.T) {
	inLab(t, func(l *lab) {
		a, b := newEnvoy(t), newEnvoy(t)
		b.id = "other"
		a.connect(l)
		defer a.end()
		b.connect(l)
		defer b.end()
		synctest.Wait()
		l.server.Set("other", snap(res(snapshot.Cluster, "b", "")))
		equalLog(t, b.takeLog(), "+Cluster b")
		equalLog(t, a.takeLog())
	})
}

func TestOnReconnectWhatIsGoneIsRemovedAtOnce(t *testing.T) {
	inLab(t, func(l *lab) {
		end := time.Now().Add(time.Minute)
		e := newEnvoy(t)
		l.server.Set(nodeID, snap(append(opening("a", end), res(snapshot.Listener, "http", ""))...))
		e.connect(l)
		synctest.Wait()
		e.disconnect()
		e.takeLog()
		l.server.Set(nodeID, snap(res(snapshot.Listener, "http", "")))
		e.connect(l)
		defer e.end()
		synctest.Wait()
		if m := e.matches(snap(res(snapshot.Listener, "http", ""))); m != "" {
			t.Error(m)
		}
		for _, line := range e.takeLog() {
			if line == "+Listener http" {
				t.Error("an unchanged listener was sent again")
			}
		}
	})
}

func TestANamedResourceThatIsNotThereIsNotDenied(t *testing.T) {
	inLab(t, func(l *lab) {
		jwt := key(snapshot.ExtensionConfig, "jwt")
		e := newEnvoy(t)
		l.server.Set(nodeID, snap())
		e.connect(l)
		defer e.end()
		e.subscribe(jwt.Type, "jwt")
		time.Sleep(time.Minute)
		equalLog(t, e.takeLog())
		l.server.Set(nodeID, snap(res(jwt.Type, "jwt", "")))
		equalLog(t, e.takeLog(), "+TypedExtensionConfig jwt")
		// Asked for again: sent again.
		e.subscribe(jwt.Type, "jwt")
		equalLog(t, e.takeLog(), "+TypedExtensionConfig jwt")
		l.server.Set(nodeID, snap())
		equalLog(t, e.takeLog(), "-TypedExtensionConfig jwt")
	})
}

func TestOnChangeTellsOfEveryChangeAndOfNoOther(t *testing.T) {
	inLab(t, func(l *lab) {
		count := func() int {
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			n := l.changes
			l.changes = 0
			return n
		}
		e := newEnvoy(t)
		e.connect(l)
		if count() != 1 {
			t.Error("connecting is one change")
		}
		s := snap(res(snapshot.Cluster, "a", ""))
		l.server.Set(nodeID, s)
		if count() != 1 {
			t.Error("an ACK is one change")
		}
		l.server.Set(nodeID, snap(res(snapshot.Cluster, "a", "")))
		if count() != 0 {
			t.Error("nothing changed")
		}
		e.disconnect()
		if count() != 1 {
			t.Error("disconnecting is one change")
		}
	})
}

func TestStatsCount(t *testing.T) {
	inLab(t, func(l *lab) {
		bad := res(snapshot.Cluster, "b", "")
		e := newEnvoy(t)
		e.bad = refuse(bad, "bad")
		l.server.Set(nodeID, snap(res(snapshot.Cluster, "a", ""), bad))
		e.connect(l)
		synctest.Wait()
		l.server.Set(nodeID, snap())
		synctest.Wait()
		s := l.server.Stats()
		want := TypeStats{Acks: 3, Nacks: 2, Resources: 4, Removed: 2} // a suspect leaves alone
		if got := s.Types[snapshot.Cluster]; got != want || s.Streams != 1 || s.StreamsOpened != 1 {
			t.Errorf("got %+v of %+v, want %+v", got, s, want)
		}
		e.disconnect()
		if n := l.server.Stats().Streams; n != 0 {
			t.Errorf("%d streams after the end", n)
		}
	})
}

func TestAStreamWithoutAUsableNodeIsRefused(t *testing.T) {
	for name, id := range map[string]string{"empty": "", "long": strings.Repeat("x", maxNodeID+1)} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				e := newEnvoy(t)
				e.id = id
				e.connect(l)
				defer e.end()
				synctest.Wait()
				if status.Code(e.err) != codes.InvalidArgument {
					t.Errorf("ended with %v", e.err)
				}
				if n := len(l.server.nodes); n != 0 {
					t.Errorf("%d nodes are remembered", n)
				}
			})
		})
	}
}

func TestStateOfTheWorldIsUnimplemented(t *testing.T) {
	inLab(t, func(l *lab) {
		cc := l.dial()
		defer cc.Close()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		st, err := discovery.NewAggregatedDiscoveryServiceClient(cc).StreamAggregatedResources(ctx)
		if err == nil {
			_, err = st.Recv()
		}
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("got %v", err)
		}
	})
}

// Set returns and closings are noticed although Envoy reads nothing at all.
func TestASlowEnvoyBlocksNobody(t *testing.T) {
	inLab(t, func(l *lab) {
		cc := l.dial()
		defer cc.Close()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		st, err := discovery.NewAggregatedDiscoveryServiceClient(cc).DeltaAggregatedResources(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = st.Send(&discovery.DeltaDiscoveryRequest{Node: &corev3.Node{Id: nodeID}, TypeUrl: snapshot.Cluster})
		for i := range 50 { // far more than gRPC buffers
			l.server.Set(nodeID, snap(res(snapshot.Cluster, "a", strings.Repeat(string(rune('a'+i%26)), 100_000+i))))
			synctest.Wait()
		}
		var last string
		n := 0
		for want := l.server.wanted(nodeID, nil).Get(cA).Version; last != want; n++ {
			m, err := st.Recv()
			if err != nil {
				t.Fatal(err)
			}
			last = m.GetResources()[0].GetVersion()
		}
		if n > 25 {
			t.Errorf("%d responses were queued: they do not coalesce", n)
		}
	})
}

func TestAnEnvoyThatAnswersNothingIsCutOff(t *testing.T) {
	inLab(t, func(l *lab) {
		e := newEnvoy(t)
		e.connect(l)
		defer e.end()
		e.withhold(types[:]...)
		for i := range maxUnanswered + 10 {
			l.server.Set(nodeID, snap(leaseOf("a", time.Now().Add(time.Hour+time.Duration(i)))))
			synctest.Wait()
		}
		if status.Code(e.err) != codes.ResourceExhausted {
			t.Errorf("ended with %v", e.err)
		}
	})
}

// Requests that no Envoy sends are survived, and the books stay right.
func TestForeignRequestsDoNoHarm(t *testing.T) {
	for name, shortest := range map[string]int{"leases end": -500, "leases last": 1_000_000_000} {
		// 132, 306 and 494 once left a scope behind whose wildcard need was given up.
		for _, seed := range []uint64{1, 2, 3, 132, 306, 494} {
			t.Run(fmt.Sprint(name, " ", seed), func(t *testing.T) { playForeign(t, shortest, seed) })
		}
	}
}

func playForeign(t *testing.T, shortest int, seed uint64) {
	s := newStream(newView(), &counters{}, quiet, DefaultAckTimeout)
	r := rand.New(rand.NewPCG(seed, 2))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	names := func() []string {
		var out []string
		for range r.IntN(3) {
			out = append(out, pick("*", "a", "b", "", "\xff", strings.Repeat("n", 300)))
		}
		return out
	}
	now := time.Unix(1000, 0)
	for step := range 20_000 {
		now = now.Add(time.Duration(r.IntN(300)) * time.Millisecond)
		switch r.IntN(4) {
		case 0:
			var rs []*snapshot.Resource
			for _, n := range []string{"a", "b"} {
				if r.IntN(2) == 0 {
					rs = append(rs, opening(n, now.Add(time.Duration(r.IntN(2000)+shortest)*time.Millisecond))...)
				}
			}
			s.set(snap(rs...), now)
			if r.IntN(20) == 0 {
				s.set(nil, now)
			}
		case 1:
			s.tick(now)
		default:
			req := &discovery.DeltaDiscoveryRequest{
				TypeUrl:                  pick(append(types[:], "", "x", "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment")...),
				ResourceNamesSubscribe:   names(),
				ResourceNamesUnsubscribe: names(),
				InitialResourceVersions:  map[string]string{pick("a", "b", ""): pick("", "v")},
				ResponseNonce:            pick("", "1", "-1", "999999999999999999999", nonceOf(s, r), nonceOf(s, r), nonceOf(s, r)),
			}
			if r.IntN(3) == 0 {
				req.ErrorDetail = &statuspb.Status{Message: pick("", "no", strings.Repeat("x", 5000))}
			}
			if err := s.request(req, now); err != nil {
				t.Fatal(err)
			}
		}
		s.next(now)
		if shortest > 0 {
			s.tick(now)
			if problem := books(s); problem != "" {
				t.Fatal(step, problem)
			}
		}
	}
	if err := s.request(&discovery.DeltaDiscoveryRequest{TypeUrl: snapshot.Secret,
		ResourceNamesSubscribe: []string{strings.Repeat("n", maxName+1)}}, now); status.Code(err) != codes.InvalidArgument {
		t.Errorf("an overlong name: %v", err)
	}
	if err := s.request(nil, now); err != nil {
		t.Error(err)
	}
}

// books says what is inconsistent in the state of s, "" if nothing is: counters
// against what they count, and for every key, what was decided when something
// changed against what would be decided now.
func books(s *stream) string {
	var live [len(order)]int
	for _, i := range s.queued {
		live[i]++
	}
	for i := range s.lanes {
		if s.lanes[i].live != live[i] {
			return fmt.Sprintf("lane %d has %d keys, says %d", i, live[i], s.lanes[i].live)
		}
	}
	inflight, waiting := map[string]int{}, map[string]int{}
	for _, resp := range s.inflight {
		if resp.content {
			inflight[resp.typ]++
		}
	}
	for k, w := range s.waiting {
		if w.update && !w.rejected {
			waiting[k.Type]++
		}
	}
	for _, typ := range types {
		if sub := s.subs[typ]; sub.inflight != inflight[typ] || sub.waiting != waiting[typ] {
			return fmt.Sprintf("%s: %d in flight, says %d; %d wait, says %d", typ, inflight[typ], sub.inflight, waiting[typ], sub.waiting)
		}
	}
	all := keySet{}
	for k := range s.held {
		all[k] = struct{}{}
	}
	if s.want != nil {
		for r := range s.want.All() {
			k := r.Key
			all[k] = struct{}{}
		}
	}
	for k := range all {
		act := s.decide(k)
		at, queued := s.queued[k]
		if act == nothing && queued && order[at].act != remove {
			continue // a need of it changed; it is decided again before it is sent
		}
		if queued != (act != nothing) || queued && at != laneOf[k.Type][act] {
			return fmt.Sprintf("%v: decided %v, queued %v in %d", k, act, queued, at)
		}
	}
	return ""
}

func nonceOf(s *stream, r *rand.Rand) string {
	all := slices.Sorted(maps.Keys(s.inflight))
	if len(all) == 0 {
		return ""
	}
	return all[r.IntN(len(all))]
}
