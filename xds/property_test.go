package xds

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// step is one thing that happens to a server and its Envoy. Scripts are drawn
// first and played afterwards: rapid cannot fail from inside a bubble.
type step struct {
	name string
	play func(*theatre)
}

// theatre plays scripts.
type theatre struct {
	*lab
	e    *fakeEnvoy
	on   bool // connected
	want *snapshot.Snapshot
}

// world describes a snapshot: which of a few names exist and in what variant.
// Deadlines are relative to the Set.
type world struct {
	variant map[string]int // 0: absent, 1 and 2: good, 3: its cluster is bad, 4: its listener is bad, 5: its route is bad
	lease   map[string]time.Duration
	shared  int
	filter  int
	// crossed has two scopes swap their routes.
	crossed bool
}

var names = []string{"a", "b", "c", "d"}

func drawWorld(rt *rapid.T, worst int) world {
	w := world{variant: map[string]int{}, lease: map[string]time.Duration{}}
	for _, n := range names {
		w.variant[n] = rapid.IntRange(0, worst).Draw(rt, "variant")
		w.lease[n] = time.Duration(rapid.IntRange(1, 3000).Draw(rt, "lease")) * 100 * time.Millisecond
	}
	w.shared = rapid.IntRange(0, 2).Draw(rt, "shared")
	w.filter = rapid.IntRange(0, 2).Draw(rt, "filter")
	w.crossed = rapid.Bool().Draw(rt, "crossed")
	return w
}

const badMark = "bad"

func (w world) snapshot(now time.Time) *snapshot.Snapshot {
	var rs []*snapshot.Resource
	body := func(v, bad int) string {
		if v == bad {
			return badMark
		}
		return fmt.Sprint(v)
	}
	var filters []snapshot.Key
	if w.filter > 0 {
		f := res(snapshot.ExtensionConfig, "jwt", fmt.Sprint(w.filter))
		filters = append(filters, f.Key)
		rs = append(rs, f, res(snapshot.Listener, "http", "", f.Key))
	}
	for _, n := range names {
		v := w.variant[n]
		if v == 0 {
			continue
		}
		c := res(snapshot.Cluster, n, body(v, 3))
		l := res(snapshot.Listener, n, body(v, 4), c.Key)
		l.Expires = now.Add(w.lease[n])
		needs := append([]snapshot.Key{c.Key, l.Key}, filters...)
		if w.shared > 0 {
			s := res(snapshot.Cluster, "shared", fmt.Sprint(w.shared))
			needs = append(needs, s.Key)
			rs = append(rs, s)
		}
		r := res(snapshot.Route, n, body(v, 5), needs...)
		to := r.Key
		if other := map[string]string{"a": "b", "b": "a"}[n]; w.crossed && other != "" && w.variant[other] > 0 {
			to.Name = other
		}
		rs = append(rs, c, l, r, res(snapshot.ScopedRoute, n, to.Name, to))
	}
	return snap(rs...)
}

func (th *theatre) set(w world) {
	th.want = w.snapshot(time.Now())
	th.e.mu.Lock()
	for r := range th.want.All() {
		k := r.Key
		th.e.need[k] = r.Needs
	}
	th.e.mu.Unlock()
	th.server.Set(nodeID, th.want)
	synctest.Wait()
	if !th.on {
		return
	}
	// Closings wait for nothing: whatever Envoy withholds, they have arrived.
	for k := range th.e.all() {
		if k.Type == snapshot.Listener && th.want.Get(k) == nil {
			th.t.Errorf("%v was withdrawn and is still there", k)
		}
	}
}

func (th *theatre) connect() {
	if !th.on {
		th.e.connect(th.lab)
		th.on = true
	}
	synctest.Wait()
}

func (th *theatre) disconnect() {
	if th.on {
		th.e.disconnect()
		th.on = false
	}
}

// restart replaces the server by one that knows only the last snapshot.
func (th *theatre) restart() {
	was := th.on
	th.disconnect()
	th.stop()
	fresh := newLab(th.t)
	th.lab = fresh
	if th.want != nil {
		th.server.Set(nodeID, th.want)
	}
	if was {
		th.connect()
	}
}

func drawSteps(rt *rapid.T) []step {
	var steps []step
	n := rapid.IntRange(1, 25).Draw(rt, "steps")
	for range n {
		switch rapid.IntRange(0, 9).Draw(rt, "step") {
		case 0, 1, 2, 3:
			w := drawWorld(rt, 5)
			steps = append(steps, step{fmt.Sprintf("set %+v", w), func(th *theatre) { th.set(w) }})
		case 4:
			typ := rapid.SampledFrom(types[:]).Draw(rt, "type")
			steps = append(steps, step{"withhold " + short(typ), func(th *theatre) { th.e.withhold(typ) }})
		case 5:
			steps = append(steps, step{"release", func(th *theatre) {
				if th.on {
					th.e.release()
				}
			}})
		case 6:
			steps = append(steps, step{"disconnect", (*theatre).disconnect})
		case 7:
			steps = append(steps, step{"connect", (*theatre).connect})
		case 8:
			d := time.Duration(rapid.IntRange(1, 3000).Draw(rt, "ms")) * time.Millisecond
			steps = append(steps, step{"sleep " + d.String(), func(*theatre) { time.Sleep(d); synctest.Wait() }})
		case 9:
			steps = append(steps, step{"restart", (*theatre).restart})
		}
	}
	return steps
}

// play runs a script and then lets everything come to rest; it returns what is wrong.
func play(t *testing.T, steps []step, last world) (problem string) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnvoy(t)
		e.named[key(snapshot.ExtensionConfig, "jwt")] = true
		e.badBody = badMark
		th := &theatre{lab: newLab(t), e: e}
		defer func() { th.stop() }()
		for _, s := range steps {
			s.play(th)
		}
		th.connect()
		th.set(last)
		e.release()
		time.Sleep(2 * DefaultAckTimeout)
		synctest.Wait()
		problem = strings.Join(append(e.violations, settled(th)...), "\n")
		th.disconnect()
	})
	return problem
}

// settled compares Envoy and Delivery with the snapshot once all is at rest.
func settled(th *theatre) (problems []string) {
	d := th.server.Delivery(nodeID)
	for r := range th.want.All() {
		k := r.Key
		if !r.Expires.IsZero() && !time.Now().Before(r.Expires) {
			continue
		}
		if named(k.Type) && !th.e.named[k] {
			continue
		}
		version, message := d.Rejected(k)
		if hopelessIn(th.want, k, 0) {
			// It may be there from a time when its needs were good.
			there := d.Acked(k) == r.Version && th.e.holds(k) == r.Version && version == "" && !isBad(r.Body.GetValue(), badMark)
			if !there && (version != r.Version || message == "") {
				problems = append(problems, fmt.Sprintf("%v cannot be there: Rejected = %q %q", k, version, message))
			}
			continue
		}
		if d.Acked(k) != r.Version || th.e.holds(k) != r.Version || version != "" {
			problems = append(problems, fmt.Sprintf("%v: want %s, Acked = %s, Envoy holds %s, Rejected = %s %s",
				k, r.Version, d.Acked(k), th.e.holds(k), version, message))
		}
	}
	for k := range th.e.all() {
		if th.want.Get(k) == nil {
			problems = append(problems, fmt.Sprintf("%v is still there", k))
		}
	}
	return problems
}

// hopelessIn tells, from the snapshot alone, whether k is bad or needs what is.
func hopelessIn(s *snapshot.Snapshot, k snapshot.Key, depth int) bool {
	r := s.Get(k)
	if r == nil || !r.Expires.IsZero() && !time.Now().Before(r.Expires) || isBad(r.Body.GetValue(), badMark) {
		return true
	}
	for _, n := range r.Needs {
		if depth < 5 && hopelessIn(s, n, depth+1) {
			return true
		}
	}
	return false
}

func TestWhateverHappensEnvoyEndsUpWithTheSnapshot(t *testing.T) {
	check := func(worst int) func(rt *rapid.T) {
		return func(rt *rapid.T) {
			steps, last := drawSteps(rt), drawWorld(rt, worst)
			for n := range last.lease {
				last.lease[n] += time.Hour // what counts here is not when it ends
			}
			if problem := play(t, steps, last); problem != "" {
				var script []string
				for _, s := range steps {
					script = append(script, s.name)
				}
				rt.Fatalf("%s\nafter\n  %s\n  set %+v", problem, strings.Join(script, "\n  "), last)
			}
		}
	}
	t.Run("all good in the end", func(t *testing.T) { rapid.Check(t, check(2)) })
	t.Run("some bad in the end", func(t *testing.T) { rapid.Check(t, check(5)) })
}
