package xds

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// ttl is the time to live that came last, and how many times it came.
func (e *fakeEnvoy) ttl(k snapshot.Key) time.Duration {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.have[k].ttl
}

func TestALeaseCarriesTheTimeItHasLeftWhenItIsSent(t *testing.T) {
	inLab(t, func(l *lab) {
		e := newEnvoy(t)
		end := time.Now().Add(time.Minute)
		e.withhold(snapshot.Cluster)
		l.server.Set(nodeID, snap(opening("a", end)...))
		e.connect(l)
		defer e.end()
		time.Sleep(1500 * time.Millisecond)
		e.release()
		if got := e.ttl(lA); got != 58500*time.Millisecond {
			t.Errorf("ttl %v, want 58.5s", got)
		}
		if got := e.ttl(cA); got != 0 {
			t.Errorf("the cluster has a ttl of %v", got)
		}
		e.takeLog()
		// Longer: same version, new time, nothing else.
		version := e.holds(lA)
		l.server.Set(nodeID, snap(opening("a", end.Add(time.Minute))...))
		equalLog(t, e.takeLog(), "+Listener a")
		if got := e.ttl(lA); got != 118500*time.Millisecond || e.holds(lA) != version {
			t.Errorf("ttl %v, want 118.5s", got)
		}
		// The same again: nothing.
		l.server.Set(nodeID, snap(opening("a", end.Add(time.Minute))...))
		equalLog(t, e.takeLog())
	})
}

func TestALeaseWhoseAckIsLateIsSentAgainAtMostFiveTimes(t *testing.T) {
	inLab(t, func(l *lab) {
		e := newEnvoy(t)
		end := time.Now().Add(time.Minute)
		l.server.Set(nodeID, snap())
		e.connect(l)
		defer e.end()
		e.takeLog()
		answerAfter := func(d time.Duration) {
			time.Sleep(d)
			e.release()
		}
		for name, end := range map[string]time.Time{"": end, "longer": end.Add(time.Second)} {
			e.withhold(snapshot.Listener)
			l.server.Set(nodeID, snap(leaseOf("a", end)))
			equalLog(t, e.takeLog(), "+Listener a")
			for i := range maxLate {
				e.mu.Lock()
				held := e.held
				e.held = nil
				e.mu.Unlock()
				time.Sleep(lateAck + time.Millisecond)
				e.mu.Lock()
				e.send(held[0])
				e.mu.Unlock()
				equalLog(t, e.takeLog(), "+Listener a")
				if got := e.ttl(lA); got != time.Until(end) {
					t.Errorf("%s resend %d: ttl %v, want %v", name, i, got, time.Until(end))
				}
			}
			answerAfter(time.Second)
			equalLog(t, e.takeLog())
		}
		// An answer in time: not again.
		e.withhold(snapshot.Listener)
		l.server.Set(nodeID, snap(leaseOf("a", end.Add(-time.Second))))
		equalLog(t, e.takeLog(), "+Listener a")
		answerAfter(lateAck)
		equalLog(t, e.takeLog())
	})
}

func TestAReconnectSendsEveryLeaseAndNothingElseThatIsUnchanged(t *testing.T) {
	inLab(t, func(l *lab) {
		e := newEnvoy(t)
		end := time.Now().Add(time.Minute)
		l.server.Set(nodeID, snap(opening("a", end)...))
		e.connect(l)
		synctest.Wait()
		e.disconnect()
		e.takeLog()
		// Shortened while Envoy was away.
		l.server.Set(nodeID, snap(opening("a", end.Add(-time.Second))...))
		time.Sleep(10 * time.Second)
		e.connect(l)
		defer e.end()
		equalLog(t, e.takeLog(), "+Listener a")
		if got := e.ttl(lA); got != 49*time.Second {
			t.Errorf("ttl %v, want 49s", got)
		}
		if l.server.Delivery(nodeID).Acked(rA) == "" {
			t.Error("what Envoy reports does not count as acknowledged")
		}
	})
}

func TestAnEndedLeaseIsNeverResurrected(t *testing.T) {
	end := func() time.Time { return time.Now().Add(time.Minute) }
	t.Run("reconnect", func(t *testing.T) {
		inLab(t, func(l *lab) {
			e := newEnvoy(t)
			l.server.Set(nodeID, snap(leaseOf("a", end())))
			e.connect(l)
			synctest.Wait()
			e.disconnect()
			e.takeLog()
			time.Sleep(time.Minute) // exactly at the deadline
			e.connect(l)
			equalLog(t, e.takeLog())
			e.disconnect()
			// An Envoy whose clock is behind still holds it: it has to let go.
			e.have[lA] = got{version: leaseOf("a", end()).Version}
			e.connect(l)
			defer e.end()
			equalLog(t, e.takeLog(), "-Listener a")
		})
	})
	t.Run("new envoy", func(t *testing.T) {
		inLab(t, func(l *lab) {
			e := newEnvoy(t)
			l.server.Set(nodeID, snap(leaseOf("a", end())))
			time.Sleep(time.Minute)
			e.connect(l)
			defer e.end()
			equalLog(t, e.takeLog())
		})
	})
	t.Run("late ack", func(t *testing.T) {
		inLab(t, func(l *lab) {
			e := newEnvoy(t)
			e.withhold(snapshot.Listener)
			l.server.Set(nodeID, snap(leaseOf("a", end())))
			e.connect(l)
			defer e.end()
			equalLog(t, e.takeLog(), "+Listener a")
			time.Sleep(time.Minute)
			e.release()
			time.Sleep(time.Minute)
			for _, line := range e.takeLog() {
				if line == "+Listener a" {
					t.Error("sent again")
				}
			}
		})
	})
	t.Run("need acknowledged too late", func(t *testing.T) {
		inLab(t, func(l *lab) {
			e := newEnvoy(t)
			e.withhold(snapshot.Cluster)
			l.server.Set(nodeID, snap(opening("a", end())...))
			e.connect(l)
			defer e.end()
			time.Sleep(time.Minute)
			e.release()
			equalLog(t, e.takeLog(), "+Cluster a")
			if _, m := l.server.Delivery(nodeID).Rejected(sA); m == "" {
				t.Error("no word why the scope is not there")
			}
		})
	})
	t.Run("set again after the end", func(t *testing.T) {
		inLab(t, func(l *lab) {
			e := newEnvoy(t)
			at := end()
			l.server.Set(nodeID, snap(leaseOf("a", at)))
			e.connect(l)
			defer e.end()
			e.takeLog()
			time.Sleep(2 * time.Minute)
			equalLog(t, e.takeLog())
			l.server.Set(nodeID, snap(leaseOf("a", at)))
			equalLog(t, e.takeLog(), "-Listener a")
		})
	})
}

func TestALeaseThatEndsInTheQueueIsNotSent(t *testing.T) {
	now := time.Unix(1000, 0)
	s := newStream(newView(), &counters{}, quiet, DefaultAckTimeout)
	s.subs[snapshot.Listener].wildcard = true
	a, b := leaseOf("a", now.Add(time.Second)), leaseOf("b", now.Add(time.Hour))
	s.held[lA] = &held{sent: "old", acked: "old", settled: true}
	s.set(snap(a, b), now)
	// a can only go now, and first: it is a closing.
	m := s.next(now.Add(time.Second))
	if len(m.GetRemovedResources()) != 1 || len(m.GetResources()) != 0 {
		t.Fatalf("got %v", m)
	}
	m = s.next(now.Add(time.Second))
	if len(m.GetResources()) != 1 || m.GetResources()[0].GetName() != "b" {
		t.Fatalf("got %v", m)
	}
	if m = s.next(now.Add(time.Second)); m != nil {
		t.Fatalf("got %v", m)
	}
}
