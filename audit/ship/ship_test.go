package ship

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

func TestEntriesAreBroughtOnceAndInOrderAndTheEndIsSaid(t *testing.T) {
	s := newService(t)
	p := newPod(t, s, podOrigin)
	p.add(3)
	p.confirmed()
	if err := p.log.RotateKey(); err != nil {
		t.Fatal(err)
	}
	p.add(5000)
	p.confirmed()
	p.add(1)
	p.end()
	s.same(p)
	events := s.events()
	if events[0] != "begun 0" || !strings.HasPrefix(events[len(events)-1], "ended 5") || !slices.ContainsFunc(events, func(e string) bool { return strings.HasPrefix(e, "checkpoint") }) {
		t.Errorf("%v", events)
	}
	for _, e := range s.entries(audit.KindRequest) {
		log, _, at, ok := Origin(e)
		if !ok || !strings.HasPrefix(log, podOrigin+" ") || at.After(e.Time) || string(e.Data) != `{"gateway":"pay/door","type":"end"}` || len(e.Cursors) != 1 {
			t.Fatalf("%+v", e)
		}
	}
	sound(t, s.dir)
}

// All pods of a fleet have one certificate. One of them can take another's place for a
// moment, but not unseen, and nothing is lost where it belongs.
func TestEntriesOfSomebodyElseInThisLogsNameAreFound(t *testing.T) {
	s := newService(t)
	p := newPod(t, s, podOrigin)
	p.add(3)
	p.confirmed()
	p.kill()
	name, err := Name(p.log.Origin(), p.log.Keys())
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := strings.Cut(name, " ")
	next, _ := p.client.Confirmed()
	thief := &byHand{t: t, s: s, head: head{Log: podOrigin, Key: key, Session: "thief", From: next, Size: next + 2}}
	if status, a := thief.ask("thief"); status != 200 || a.Next != next {
		t.Fatalf("%d %+v", status, a)
	}
	if status, a := thief.bring(thief.head, request(next), request(next+1)); status != 200 {
		t.Fatalf("%d %+v", status, a)
	}
	p.start(s)
	p.add(5)
	for end := time.Now().Add(20 * time.Second); !strings.Contains(p.client.Stats().Failing, "in its name"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v", p.client.Stats())
		}
	}
	if got, _ := p.client.Confirmed(); got > next {
		t.Errorf("%d entries count as brought, and %d were", got, next)
	}
}

func TestLongNamesAndManyKeysAreNoReasonToRefuseALog(t *testing.T) {
	s := newService(t)
	name := strings.Repeat("g", 253)
	s.id = Identity{Name: "gateway pay/" + name, Gateway: strings.Repeat("n", 63) + "/" + name}
	p := &pod{t: t, dir: t.TempDir(), origin: "breakglass.dev/log/" + s.id.Gateway + "/" + strings.Repeat("p", 63)}
	p.start(s)
	for range maxKeys + 5 {
		if err := p.log.RotateKey(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.log.Append(t.Context(), merkle.Draft{Kind: "request", Data: json.RawMessage(`{"gateway":"` + s.id.Gateway + `"}`)}); err != nil {
		t.Fatal(err)
	}
	p.end()
	s.same(p)
}

func TestWhatComesAgainGoesOnWhereItWas(t *testing.T) {
	s := newService(t)
	p := newPod(t, s, podOrigin)
	for range 5 {
		p.add(7)
		p.kill()
		p.start(s)
		s.restart()
		p.add(3)
	}
	p.end()
	p.start(s)
	p.add(1)
	p.end()
	s.same(p)
	if got := s.events(); len(got) != 4 || got[0] != "begun 0" || !strings.HasPrefix(got[1], "ended ") || !strings.HasPrefix(got[2], "begun ") || !strings.HasPrefix(got[3], "ended ") {
		t.Errorf("%v", got)
	}
	sound(t, s.dir)
}

// faults at random: an answer that never comes although the entries were recorded, a
// request that never arrives, a service and a pod that are killed in the midst of it.
func TestWhateverDiesEachEntryIsThereOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		before, after := rapid.Float64Range(0, 0.4).Draw(rt, "cut before"), rapid.Float64Range(0, 0.4).Draw(rt, "cut after")
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{"add", "add", "many", "kill pod", "kill service", "both", "rotate", "end"}), 1, 10).Draw(rt, "steps")
		s := newService(t)
		dice := rand.New(rand.NewPCG(seed, 1))
		var lock atomic.Int32
		s.setFault(func(_ *http.Request, served bool) bool {
			for !lock.CompareAndSwap(0, 1) {
			}
			defer lock.Store(0)
			if served {
				return dice.Float64() < after
			}
			return dice.Float64() < before
		})
		p := &pod{t: t, dir: t.TempDir(), origin: podOrigin, size: 2000}
		p.start(s)
		for _, step := range steps {
			switch step {
			case "add":
				p.add(1)
			case "many":
				p.add(40)
			case "kill pod", "both":
				p.kill()
				if step == "both" {
					s.restart()
				}
				p.start(s)
			case "kill service":
				s.restart()
			case "rotate":
				if err := p.log.RotateKey(); err != nil {
					rt.Fatal(err)
				}
			case "end":
				p.end()
				p.start(s)
			}
		}
		p.end()
		s.same(p)
		sound(t, s.dir)
	})
}

func TestASourceThatIsSilentIsLostAndWhatItHadIsAGap(t *testing.T) {
	s := newService(t)
	var ahead atomic.Int64
	s.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	p := newPod(t, s, podOrigin)
	p.add(3)
	p.confirmed()
	// It says that it has more, and is gone before it has brought it.
	s.setFault(func(r *http.Request, served bool) bool { return r.Method == http.MethodGet })
	server, _ := s.current()
	server.sources[p.clientName(t)].said = 10
	p.kill()
	ahead.Store(int64(59 * time.Second))
	server.Look(t.Context())
	if got := s.events(); len(got) != 1 {
		t.Fatalf("it is lost too soon: %v", got)
	}
	ahead.Store(int64(61 * time.Second))
	server.Look(t.Context())
	server.Look(t.Context())
	var g audit.Gap
	gaps := s.entries(audit.KindGap)
	if len(gaps) != 1 || json.Unmarshal(gaps[0].Data, &g) != nil || g.Lost != 6 || !g.AtLeast || g.Gateway != "pay/door" || !strings.Contains(g.Reason, podOrigin) {
		t.Fatalf("%+v", gaps)
	}
	if got := s.events(); !slices.Equal(got, []string{"begun 0", "lost 4"}) {
		t.Errorf("%v", got)
	}
	if st := server.Stats(); st.Sources["lost"] != 1 || st.Gaps != 1 || st.Missing != 6 {
		t.Errorf("%+v", st)
	}
	ahead.Store(int64(25 * time.Hour))
	if st := server.Stats(); st.Sources["lost"] != 0 {
		t.Errorf("an alert goes on for ever: %+v", st)
	}
	ahead.Store(int64(61 * time.Second))
	// One that ended is never lost, and one that was lost comes again.
	s.setFault(nil)
	p.start(s)
	p.add(2)
	p.end()
	ahead.Store(int64(time.Hour))
	server.Look(t.Context())
	if got := s.events(); !slices.Equal(got, []string{"begun 0", "lost 4", "begun 4", "ended 6"}) {
		t.Errorf("%v", got)
	}
	s.same(p)
}

func (p *pod) clientName(t *testing.T) string {
	t.Helper()
	name, err := Name(p.log.Origin(), p.log.Keys())
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestASourceWhoseCursorWasDroppedIsNotDoubledWhenItComesAgain(t *testing.T) {
	for name, c := range map[string]struct{ restart, clean bool }{
		"it ended": {false, true}, "it ended, and the service is another process": {true, true}, "it was killed": {false, false}, "it was killed, and the service too": {true, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			p := newPod(t, s, podOrigin)
			p.add(5)
			p.confirmed()
			if c.clean {
				p.end()
			} else {
				p.kill()
				server, _ := s.current()
				s.now = func() time.Time { return time.Now().Add(2 * time.Minute) }
				server.Look(t.Context())
			}
			drop(t, s, p.clientName(t))
			if got := s.log.Cursors(); len(got) != 2 {
				t.Fatalf("its cursors are not dropped: %v", got)
			}
			if c.restart {
				s.restart()
			}
			p.start(s)
			p.add(2)
			p.end()
			s.same(p)
		})
	}
}

// drop makes the service need the room of a source.
func drop(t *testing.T, s *service, name string) {
	t.Helper()
	server, _ := s.current()
	server.mu.Lock()
	for n := range maxSources - 1 {
		src := server.get(strings.Repeat("x", n%7) + "other " + string(rune('a'+n%26)) + time.Duration(n).String())
		src.state, src.since = stateBegun, time.Now()
	}
	server.mu.Unlock()
	other := newPod(t, s, "breakglass.dev/log/pay/door/pod-2")
	other.add(1)
	other.confirmed()
	other.kill()
	server.mu.Lock()
	defer server.mu.Unlock()
	for n, src := range server.sources {
		if strings.Contains(n, "other ") {
			src.state = ""
		}
	}
	if src := server.sources[name]; src != nil && src.known {
		t.Fatal("it was not dropped")
	}
}

func TestALogThatBeginsLateIsBroughtFromWhereItBegins(t *testing.T) {
	s := newService(t)
	p := newPod(t, s, podOrigin)
	p.add(5)
	p.confirmed()
	// The service's log is lost: another one begins.
	if err := s.log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	s.http.CloseClientConnections()
	s.start()
	p.add(5)
	p.confirmed()
	p.end()
	s.same(p)
	if _, err := os.Stat(filepath.Join(p.dir, "shipped")); err != nil {
		t.Error(err)
	}
}
