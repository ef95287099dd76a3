package xds

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// refuse makes an Envoy refuse one version of a resource.
func refuse(r *snapshot.Resource, reason string) func(snapshot.Key, string) string {
	return func(k snapshot.Key, version string) string {
		if k == r.Key && version == r.Version {
			return reason
		}
		return ""
	}
}

func TestOneBadResourceDoesNotSpoilNineGoodOnes(t *testing.T) {
	for _, typ := range []string{snapshot.Cluster, snapshot.Listener, snapshot.ScopedRoute, snapshot.Secret, snapshot.ExtensionConfig} {
		t.Run(short(typ), func(t *testing.T) {
			inLab(t, func(l *lab) {
				var rs []*snapshot.Resource
				var names []string
				for i := range 10 {
					rs = append(rs, res(typ, fmt.Sprintf("r%d", i), "first"))
					names = append(names, fmt.Sprintf("r%d", i))
				}
				bad := rs[4]
				e := newEnvoy(t)
				e.bad = refuse(bad, "no such thing")
				l.server.Set(nodeID, snap(rs...))
				e.connect(l)
				defer e.end()
				if named(typ) {
					e.subscribe(typ, names...)
				}
				synctest.Wait()
				d := l.server.Delivery(nodeID)
				for _, r := range rs {
					version, message := d.Rejected(r.Key)
					if r == bad {
						if version != r.Version || message != "no such thing" || d.Acked(r.Key) != "" {
							t.Errorf("bad one: Rejected = %q %q, Acked = %q", version, message, d.Acked(r.Key))
						}
						continue
					}
					if version != "" || d.Acked(r.Key) != r.Version || e.holds(r.Key) != r.Version {
						t.Errorf("%s: Rejected = %q %q, Acked = %q", r.Name, version, message, d.Acked(r.Key))
					}
				}
				// It is not sent again until it changes, and then alone.
				e.takeLog()
				rs[0] = res(typ, "r0", "second")
				l.server.Set(nodeID, snap(rs...))
				time.Sleep(time.Minute)
				if log := e.takeLog(); len(log) != 1 {
					t.Errorf("arrived %v, want the changed one only", log)
				}
				rs[4] = res(typ, "r4", "fixed")
				l.server.Set(nodeID, snap(rs...))
				synctest.Wait()
				if v, m := d.Rejected(bad.Key); v != "" || d.Acked(bad.Key) != rs[4].Version {
					t.Errorf("fixed one: Rejected = %q %q", v, m)
				}
			})
		})
	}
}

func TestARefusedUpdateLeavesThePreviousVersionAndCanBeTakenBack(t *testing.T) {
	inLab(t, func(l *lab) {
		good, bad := res(snapshot.Cluster, "a", "good"), res(snapshot.Cluster, "a", "bad")
		e := newEnvoy(t)
		e.bad = refuse(bad, "bad")
		l.server.Set(nodeID, snap(good))
		e.connect(l)
		defer e.end()
		synctest.Wait()
		d := l.server.Delivery(nodeID)
		l.server.Set(nodeID, snap(bad))
		synctest.Wait()
		if v, _ := d.Rejected(cA); v != bad.Version || d.Acked(cA) != good.Version {
			t.Errorf("Rejected = %q, Acked = %q", v, d.Acked(cA))
		}
		l.server.Set(nodeID, snap(good))
		synctest.Wait()
		if v, _ := d.Rejected(cA); v != "" || d.Acked(cA) != good.Version {
			t.Errorf("Rejected = %q, Acked = %q", v, d.Acked(cA))
		}
		l.server.Set(nodeID, snap(bad))
		synctest.Wait()
		l.server.Set(nodeID, snap())
		synctest.Wait()
		if v, _ := d.Rejected(cA); v != "" || d.Acked(cA) != "" || e.holds(cA) != "" {
			t.Errorf("after removal: Rejected = %q, Acked = %q", v, d.Acked(cA))
		}
	})
}

func TestWhatNeedsARefusedResourceIsRejectedAtOnceAndNotSent(t *testing.T) {
	inLab(t, func(l *lab) {
		end := time.Now().Add(time.Minute)
		rs := opening("a", end)
		e := newEnvoy(t)
		e.bad = refuse(rs[0], "Proto constraint validation failed")
		l.server.Set(nodeID, snap(append(rs, opening("b", end)...)...))
		e.connect(l)
		defer e.end()
		synctest.Wait()
		d := l.server.Delivery(nodeID)
		for _, k := range []snapshot.Key{lA, sA} {
			if _, m := d.Rejected(k); !strings.Contains(m, `needs Cluster "a"`) || !strings.Contains(m, "Proto constraint") {
				t.Errorf("Rejected(%v) = %q", k, m)
			}
		}
		if d.Acked(key(snapshot.Route, "b")) == "" {
			t.Error("the other opening was held up")
		}
		for _, line := range e.takeLog() {
			if line == "+Listener a" || line == "+RouteConfiguration a" {
				t.Errorf("sent: %s", line)
			}
		}
		rs[0] = res(snapshot.Cluster, "a", "fixed")
		l.server.Set(nodeID, snap(append(rs, opening("b", end)...)...))
		synctest.Wait()
		if d.Acked(rA) == "" {
			t.Error("it did not go on after the fix")
		}
	})
}

func TestAReconnectTriesARefusedResourceAgain(t *testing.T) {
	inLab(t, func(l *lab) {
		bad := res(snapshot.Cluster, "a", "")
		e := newEnvoy(t)
		e.bad = refuse(bad, "not now")
		l.server.Set(nodeID, snap(bad))
		e.connect(l)
		synctest.Wait()
		e.disconnect()
		if v, _ := l.server.Delivery(nodeID).Rejected(cA); v != "" {
			t.Error("rejected without an Envoy")
		}
		e.bad = nil
		e.connect(l)
		defer e.end()
		synctest.Wait()
		if l.server.Delivery(nodeID).Acked(cA) != bad.Version {
			t.Error("not sent again")
		}
	})
}

func TestForeignWordsAreBoundedAndPrintable(t *testing.T) {
	for _, in := range []string{
		strings.Repeat("x", 100_000), strings.Repeat("é", 100_000), "\x1b[31mred\r\nline\x00", "\xff\xfe", "",
		strings.Repeat("\xf0\x9f", 5000),
	} {
		out := bound(in)
		if len(out) > maxMessage || !utf8.ValidString(out) || strings.ContainsAny(out, "\x1b\r\n\x00") {
			t.Errorf("bound(%.20q) = %.40q (%d bytes)", in, out, len(out))
		}
	}
}

// Found by the property test.
func TestARejectionEndsWithTheVersionItIsAbout(t *testing.T) {
	inLab(t, func(l *lab) {
		e := newEnvoy(t)
		e.badBody = badMark
		held, waits := res(snapshot.Listener, "a", "held"), res(snapshot.Listener, "a", "waits", cA)
		l.server.Set(nodeID, snap(held))
		e.connect(l)
		defer e.end()
		synctest.Wait()
		d := l.server.Delivery(nodeID)
		l.server.Set(nodeID, snap(res(snapshot.Cluster, "a", badMark), waits))
		synctest.Wait()
		if v, _ := d.Rejected(lA); v != waits.Version {
			t.Fatalf("Rejected = %q", v)
		}
		l.server.Set(nodeID, snap(held)) // Envoy has it: there is nothing to send
		synctest.Wait()
		if v, m := d.Rejected(lA); v != "" {
			t.Errorf("Rejected = %q %q", v, m)
		}
	})
	t.Run("and comes back with it", func(t *testing.T) {
		inLab(t, func(l *lab) {
			e := newEnvoy(t)
			e.badBody = badMark
			bad := res(snapshot.Listener, "a", badMark)
			l.server.Set(nodeID, snap(bad))
			e.connect(l)
			defer e.end()
			synctest.Wait()
			l.server.Set(nodeID, snap(res(snapshot.Cluster, "a", badMark), res(snapshot.Listener, "a", "waits", cA)))
			synctest.Wait()
			l.server.Set(nodeID, snap(bad))
			synctest.Wait()
			if v, _ := l.server.Delivery(nodeID).Rejected(lA); v != bad.Version {
				t.Errorf("Rejected = %q", v)
			}
		})
	})
}

// A port that is taken is free again one day, and the listener is the same.
func TestAListenerWhosePortIsTakenIsSentAgain(t *testing.T) {
	inLab(t, func(l *lab) {
		r := res(snapshot.Listener, "port", "1")
		e := newEnvoy(t)
		var free atomic.Bool
		taken := refuse(r, "error adding listener: cannot bind '127.0.0.1:80': Address already in use")
		e.bad = func(k snapshot.Key, version string) string {
			if free.Load() {
				return ""
			}
			return taken(k, version)
		}
		l.server.Set(nodeID, snap(r))
		e.connect(l)
		defer e.end()
		synctest.Wait()
		if v, _ := l.server.Delivery(nodeID).Rejected(r.Key); v != r.Version {
			t.Fatal("the refusal is not reported")
		}
		free.Store(true)
		<-time.After(2 * DefaultAckTimeout) // of the bubble's clock
		synctest.Wait()
		if v := l.server.Delivery(nodeID).Acked(r.Key); v != r.Version {
			t.Error("the listener was not sent again")
		}
	})
}
