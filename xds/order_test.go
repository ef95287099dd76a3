package xds

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

var (
	cA = key(snapshot.Cluster, "a")
	lA = key(snapshot.Listener, "a")
	rA = key(snapshot.Route, "a")
	sA = key(snapshot.ScopedRoute, "a")
)

func TestAnOpeningGoesOutInTheOrderOfItsNeeds(t *testing.T) {
	inLab(t, func(l *lab) {
		e := newEnvoy(t)
		e.connect(l)
		defer e.end()
		synctest.Wait()
		e.withhold(snapshot.Cluster, snapshot.Listener, snapshot.Route)
		l.server.Set(nodeID, snap(opening("a", time.Now().Add(time.Minute))...))
		equalLog(t, e.takeLog(), "+Cluster a")
		e.release()
		equalLog(t, e.takeLog(), "+Listener a", "+ScopedRouteConfiguration a", "+RouteConfiguration a")
		d := l.server.Delivery(nodeID)
		for _, k := range []snapshot.Key{cA, lA, rA, sA} {
			if d.Acked(k) == "" {
				t.Errorf("%v is not acknowledged", k)
			}
		}
	})
}

func TestAClosingWaitsForNoAnswer(t *testing.T) {
	inLab(t, func(l *lab) {
		e := newEnvoy(t)
		end := time.Now().Add(time.Minute)
		l.server.Set(nodeID, snap(append(opening("a", end), opening("b", end)...)...))
		e.connect(l)
		defer e.end()
		e.takeLog()

		e.withhold(types[:]...)
		// An opening is under way and will not be answered.
		l.server.Set(nodeID, snap(slices.Concat(opening("a", end), opening("b", end), opening("c", end))...))
		equalLog(t, e.takeLog(), "+Cluster c")
		l.server.Set(nodeID, snap(slices.Concat(opening("b", end), opening("c", end))...))
		// The way to the route closes first, so that nobody sees a 503; then the
		// lease, and neither waits.
		equalLog(t, e.takeLog(), "-ScopedRouteConfiguration a", "-Listener a")
		if v := l.server.Delivery(nodeID).Acked(lA); v == "" {
			t.Error("the removal counts as done before its ACK")
		}
		e.release()
		if v := l.server.Delivery(nodeID).Acked(lA); v != "" {
			t.Error("the acknowledged removal still counts as there")
		}
	})
}

func TestAShorterLeaseWaitsForNoAnswer(t *testing.T) {
	inLab(t, func(l *lab) {
		e := newEnvoy(t)
		l.server.Set(nodeID, snap(opening("a", time.Now().Add(time.Minute))...))
		e.connect(l)
		defer e.end()
		e.takeLog()
		e.withhold(types[:]...)
		for i := range 3 {
			end := time.Now().Add(time.Duration(10-i) * time.Second)
			l.server.Set(nodeID, snap(opening("a", end)...))
			equalLog(t, e.takeLog(), "+Listener a")
			if got := e.have[lA].ttl; got != time.Until(end) {
				t.Errorf("ttl %v, want %v", got, time.Until(end))
			}
		}
	})
}

func TestARemovedClusterLeavesAfterItsRoute(t *testing.T) {
	inLab(t, func(l *lab) {
		e := newEnvoy(t)
		c2 := key(snapshot.Cluster, "c2")
		scope := res(snapshot.ScopedRoute, "a", "a", rA)
		l.server.Set(nodeID, snap(res(snapshot.Cluster, "a", ""), res(snapshot.Route, "a", "to a", cA), scope))
		e.connect(l)
		defer e.end()
		e.takeLog()

		e.withhold(snapshot.Cluster, snapshot.Route)
		l.server.Set(nodeID, snap(res(c2.Type, c2.Name, ""), res(snapshot.Route, "a", "to c2", c2), scope))
		equalLog(t, e.takeLog(), "+Cluster c2") // the route waits for it, the old cluster for the route
		e.withhold(snapshot.Route)
		e.mu.Lock()
		e.hold[snapshot.Cluster] = false
		for _, req := range e.held {
			e.send(req)
		}
		e.held = nil
		e.mu.Unlock()
		equalLog(t, e.takeLog(), "+RouteConfiguration a")
		e.release()
		equalLog(t, e.takeLog(), "-Cluster a")
	})
}

func TestARemovedClusterWaitsForTheRouteNoLongerThanTheTimeout(t *testing.T) {
	inLab(t, func(l *lab) {
		e := newEnvoy(t)
		scope := res(snapshot.ScopedRoute, "a", "a", rA)
		l.server.Set(nodeID, snap(res(snapshot.Cluster, "a", ""), res(snapshot.Route, "a", "to a", cA), scope))
		e.connect(l)
		defer e.end()
		e.takeLog()
		e.withhold(snapshot.Route)
		l.server.Set(nodeID, snap(res(snapshot.Route, "a", "404"), scope))
		equalLog(t, e.takeLog(), "+RouteConfiguration a")
		time.Sleep(DefaultAckTimeout - time.Millisecond)
		equalLog(t, e.takeLog())
		time.Sleep(time.Millisecond)
		equalLog(t, e.takeLog(), "-Cluster a")
	})
}

func TestAScopeThatTakesOverAKeyComesWithTheRemoval(t *testing.T) {
	inLab(t, func(l *lab) {
		e := newEnvoy(t)
		l.server.Set(nodeID, snap(res(snapshot.ScopedRoute, "a", "x")))
		e.connect(l)
		defer e.end()
		e.takeLog()
		before := len(e.sizes)
		l.server.Set(nodeID, snap(res(snapshot.ScopedRoute, "b", "x")))
		equalLog(t, e.takeLog(), "-ScopedRouteConfiguration a", "+ScopedRouteConfiguration b")
		if n := len(e.sizes) - before; n != 1 {
			t.Errorf("%d responses, want 1", n)
		}
	})
}

func TestANeedThatIsNotAcknowledgedRejectsItsDependantsAndNobodyElse(t *testing.T) {
	inLab(t, func(l *lab) {
		e := newEnvoy(t)
		e.connect(l)
		defer e.end()
		synctest.Wait()
		e.withhold(snapshot.Cluster)
		end := time.Now().Add(time.Minute)
		l.server.Set(nodeID, snap(append(opening("a", end), res(snapshot.Listener, "other", ""))...))
		equalLog(t, e.takeLog(), "+Cluster a", "+Listener other")
		d := l.server.Delivery(nodeID)
		if _, m := d.Rejected(lA); m != "" {
			t.Errorf("rejected before the timeout: %s", m)
		}
		time.Sleep(DefaultAckTimeout)
		synctest.Wait()
		if v, m := d.Rejected(lA); v == "" || !strings.Contains(m, `Cluster "a"`) {
			t.Errorf("Rejected(lease) = %q %q, want the need named", v, m)
		}
		if _, m := d.Rejected(sA); !strings.Contains(m, `needs Cluster "a"`) {
			t.Errorf("Rejected(scope) = %q, want the need named", m)
		}
		e.takeLog()
		e.release()
		equalLog(t, e.takeLog(), "+Listener a", "+ScopedRouteConfiguration a", "+RouteConfiguration a")
		if v, m := d.Rejected(lA); v != "" {
			t.Errorf("still rejected: %s", m)
		}
	})
}

func TestNeedsThatCannotBeMetEndInAMessage(t *testing.T) {
	a, b := key(snapshot.Cluster, "a"), key(snapshot.Cluster, "b")
	for name, tc := range map[string]struct {
		rs   []*snapshot.Resource
		want string
	}{
		"absent": {[]*snapshot.Resource{res(a.Type, "a", "", b)}, `needs Cluster "b", which is not in the snapshot or has ended`},
		"itself": {[]*snapshot.Resource{res(a.Type, "a", "", a)}, `needs Cluster "a", which`},
		"circle": {[]*snapshot.Resource{res(a.Type, "a", "", b), res(b.Type, "b", "", a)}, `needs Cluster "b", which`},
		"ended": {[]*snapshot.Resource{res(a.Type, "a", "", lA), leaseOf("a", time.Unix(1, 0))},
			`needs Listener "a", which is not in the snapshot or has ended`},
		"of no type": {[]*snapshot.Resource{res(a.Type, "a", "", key("x", "y")), {Key: key("x", "y"), Version: "1"}},
			`needs x "y", which Envoy did not acknowledge within 2s`},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				e := newEnvoy(t)
				l.server.Set(nodeID, snap(tc.rs...))
				e.connect(l)
				defer e.end()
				time.Sleep(DefaultAckTimeout)
				synctest.Wait()
				if _, m := l.server.Delivery(nodeID).Rejected(a); !strings.HasPrefix(m, tc.want) {
					t.Errorf("Rejected = %q, want %q", m, tc.want)
				}
				equalLog(t, e.takeLog())
			})
		})
	}
}

func TestAStartingEnvoyGetsAnEmptyResponseOnlyWhenNothingIsOnItsWay(t *testing.T) {
	inLab(t, func(l *lab) {
		e := newEnvoy(t)
		e.withhold(snapshot.Cluster)
		l.server.Set(nodeID, snap(res(snapshot.Cluster, "a", ""), res(snapshot.Listener, "a", "", cA)))
		e.connect(l)
		defer e.end()
		synctest.Wait()
		// Clusters, and the empty set of scopes. Listeners wait for the cluster.
		if got := fmt.Sprint(e.sizes); got != "[1 0]" {
			t.Errorf("sizes %v, want [1 0]", got)
		}
		e.release()
		if got := fmt.Sprint(e.sizes); got != "[1 0 1]" {
			t.Errorf("sizes %v, want [1 0 1]", got)
		}
	})
}

func TestManyResourcesComeInBoundedResponses(t *testing.T) {
	inLab(t, func(l *lab) {
		var rs []*snapshot.Resource
		for i := range 2*maxBatch + 1 {
			rs = append(rs, res(snapshot.Cluster, fmt.Sprintf("c%04d", i), ""))
		}
		for i := range 5 {
			rs = append(rs, res(snapshot.Listener, fmt.Sprintf("l%d", i), strings.Repeat("x", maxBatchBytes/2)))
		}
		s := snap(rs...)
		l.server.Set(nodeID, s)
		e := newEnvoy(t)
		e.connect(l)
		defer e.end()
		synctest.Wait()
		if m := e.matches(s); m != "" {
			t.Fatal(m)
		}
		for _, n := range e.sizes {
			if n > maxBatch {
				t.Errorf("a response of %d resources", n)
			}
		}
		if len(e.sizes) < 3+3 {
			t.Errorf("%d responses, want 3 of clusters and at least 3 of listeners", len(e.sizes))
		}
	})
}

func TestARemovedRouteLeavesAfterTheScopesThatNameIt(t *testing.T) {
	for name, answer := range map[string]func(e *fakeEnvoy){
		"acknowledged": (*fakeEnvoy).release,
		"timeout":      func(*fakeEnvoy) { time.Sleep(DefaultAckTimeout) },
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				e := newEnvoy(t)
				x := key(snapshot.Route, "x")
				l.server.Set(nodeID, snap(res(x.Type, "x", ""), res(snapshot.ScopedRoute, "s", "other")))
				e.connect(l)
				defer e.end()
				e.subscribe(x.Type, "x")
				e.takeLog()
				e.withhold(snapshot.ScopedRoute)
				l.server.Set(nodeID, snap())
				equalLog(t, e.takeLog(), "-ScopedRouteConfiguration s")
				answer(e)
				equalLog(t, e.takeLog(), "-RouteConfiguration x")
			})
		})
	}
}

// What is open already can be changed, and so closed, however many openings
// Envoy has not answered yet.
func TestUpdatesAreNotHeldUpByUnansweredAdditions(t *testing.T) {
	inLab(t, func(l *lab) {
		e := newEnvoy(t)
		rs := []*snapshot.Resource{res(snapshot.ScopedRoute, "open", "x")}
		l.server.Set(nodeID, snap(rs...))
		e.connect(l)
		defer e.end()
		e.takeLog()
		e.withhold(snapshot.ScopedRoute)
		for i := range 2 * maxInflight {
			rs = append(rs, res(snapshot.ScopedRoute, fmt.Sprintf("new%03d", i), "x"))
			l.server.Set(nodeID, snap(rs...))
			synctest.Wait()
		}
		if n := len(e.takeLog()); n != maxInflight {
			t.Errorf("%d additions are in flight, want %d", n, maxInflight)
		}
		rs[0] = res(snapshot.ScopedRoute, "open", "404")
		s := snap(rs...)
		l.server.Set(nodeID, s)
		equalLog(t, e.takeLog(), "+ScopedRouteConfiguration open")
		e.release()
		if m := e.matches(s); m != "" {
			t.Error(m)
		}
	})
}

func TestANeedThatIsWantedAsItWasSetsItsDependantsFree(t *testing.T) {
	inLab(t, func(l *lab) {
		e := newEnvoy(t)
		e.badBody = badMark
		c, dependant := res(cA.Type, "a", "good"), res(snapshot.Listener, "a", "", cA)
		l.server.Set(nodeID, snap(c))
		e.connect(l)
		defer e.end()
		e.takeLog()
		l.server.Set(nodeID, snap(res(cA.Type, "a", badMark), dependant))
		equalLog(t, e.takeLog(), "+Cluster a")
		time.Sleep(time.Minute)
		l.server.Set(nodeID, snap(res(cA.Type, "a", "fixed"), dependant))
		equalLog(t, e.takeLog(), "+Cluster a", "+Listener a")
	})
}

func TestWhatIsWantedAgainWhileItLeavesIsNotAcknowledged(t *testing.T) {
	inLab(t, func(l *lab) {
		e := newEnvoy(t)
		open := snap(opening("a", time.Now().Add(time.Minute))...)
		l.server.Set(nodeID, open)
		e.connect(l)
		defer e.end()
		synctest.Wait()
		e.withhold(snapshot.Listener)
		l.server.Set(nodeID, snap())
		synctest.Wait()
		d := l.server.Delivery(nodeID)
		if d.Acked(lA) == "" {
			t.Error("the removal counts as done before its ACK")
		}
		l.server.Set(nodeID, open)
		if v := d.Acked(lA); v != "" { // also before the stream has seen the new snapshot
			t.Errorf("Acked = %q while its removal is under way", v)
		}
		e.release()
		if d.Acked(lA) == "" || d.Acked(rA) == "" {
			t.Error("not opened again")
		}
	})
}
