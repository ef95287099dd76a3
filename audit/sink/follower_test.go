package sink

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// hook is a receiver of batches of CloudEvents that drops what it has.
type hook struct {
	*httptest.Server

	mu     sync.Mutex
	lines  [][]byte // of entries, each once, in the order of arrival
	types  []string // of all events, each once
	ids    map[string]bool
	again  int                                              // events that it had
	answer func(w http.ResponseWriter, events []event) bool // true: it has answered, and takes nothing
}

func newHook(t testing.TB) *hook {
	h := &hook{ids: map[string]bool{}}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *hook) answers(f func(w http.ResponseWriter, events []event) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = f
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	var events []event
	switch {
	case err != nil:
	case r.Header.Get("ce-id") != "":
		events = []event{{ID: r.Header.Get("ce-id"), Type: r.Header.Get("ce-type"), Data: b}}
	default:
		err = json.Unmarshal(b, &events)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	answer := h.answer
	h.mu.Unlock()
	if answer != nil && answer(w, events) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range events {
		if h.ids[e.ID] {
			h.again++
			continue
		}
		h.ids[e.ID] = true
		h.types = append(h.types, e.Type)
		if !strings.HasSuffix(e.Type, ".checkpoint") {
			h.lines = append(h.lines, e.Data)
		}
	}
}

func (h *hook) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.lines)
}

func (h *hook) got() [][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.lines)
}

func hookConfig(name, url string, kinds ...string) Sink {
	return Sink{Name: name, Kinds: kinds, CloudEvents: &CloudEvents{URL: url, Mode: "Batch"}}
}

// world is a log and what follows it.
type world struct {
	dir string
	log *merkle.Log
	Options
	states states
}

func newWorld(t testing.TB, sinks ...Sink) *world {
	dir := t.TempDir()
	w := &world{dir: dir}
	w.Dir, w.StateDir, w.Config = filepath.Join(dir, "log"), filepath.Join(dir, "sinks"), Config{Sinks: sinks}
	w.OnState = w.states.add
	w.log = openLog(t, w.Dir, merkle.Options{SegmentBytes: 8000, Retention: -1})
	return w
}

func all(t testing.TB, w *world, h *hook) {
	t.Helper()
	eventually(t, "all entries are there", func() bool { return h.count() == int(w.log.Size()) })
	if !same(h.got(), logLines(t, w.Dir)) {
		t.Error("the lines that arrived are not those of the log, in order")
	}
}

func answerWith(code int) func(http.ResponseWriter, []event) bool {
	return func(w http.ResponseWriter, _ []event) bool { w.WriteHeader(code); return true }
}

func TestWhatAReceiverDoesNotTakeItGetsLater(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, []event) bool{
		"500": answerWith(500), "429": answerWith(429), "401": answerWith(401), "404": answerWith(404),
		"no answer": func(w http.ResponseWriter, _ []event) bool { panic(http.ErrAbortHandler) },
		"redirect": func(w http.ResponseWriter, _ []event) bool {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(302)
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHook(t)
			w := newWorld(t, hookConfig("a", h.URL))
			h.answers(answer)
			start(t, w.Options)
			add(t, w.log, "request", 0, 100)
			eventually(t, "it fails", func() bool { return slices.Contains(w.states.events(), audit.SinkFailing) })
			if s := w.states.last(); s.Sink != "a" || s.Reason == "" || s.Since.IsZero() || s.Behind == 0 {
				t.Errorf("%+v", s)
			}
			add(t, w.log, "request", 100, 200)
			h.answers(nil)
			all(t, w, h)
			eventually(t, "it works", func() bool { return w.states.last().Event == audit.SinkWorking })
		})
	}
}

func TestAReceiverThatHangsIsGivenUpAndAskedAgain(t *testing.T) {
	h := newHook(t)
	w := newWorld(t, hookConfig("a", h.URL))
	p := quick
	p.attempt = 500 * time.Millisecond
	w.pace = &p
	done := make(chan struct{})
	h.answers(func(w http.ResponseWriter, _ []event) bool { <-done; w.WriteHeader(503); return true })
	start(t, w.Options)
	add(t, w.log, "request", 0, 10)
	eventually(t, "it fails", func() bool { return slices.Contains(w.states.events(), audit.SinkFailing) })
	h.answers(nil)
	close(done)
	all(t, w, h)
}

func TestADeadReceiverHoldsUpNobody(t *testing.T) {
	dead, alive := newHook(t), newHook(t)
	done := make(chan struct{})
	defer close(done)
	dead.answers(func(http.ResponseWriter, []event) bool { <-done; return true })
	w := newWorld(t, hookConfig("dead", dead.URL), hookConfig("alive", alive.URL))
	start(t, w.Options)
	add(t, w.log, "request", 0, 500)
	all(t, w, alive)
}

func TestACrashBetweenDeliveryAndCursorDeliversAgainUnderTheSameIDs(t *testing.T) {
	h := newHook(t)
	w := newWorld(t, hookConfig("a", h.URL))
	for round := range 10 {
		s := start(t, w.Options)
		before, err := os.ReadFile(cursorFile(w.StateDir, "a"))
		if err != nil && round > 0 {
			t.Fatal(err)
		}
		add(t, w.log, "request", 50*round, 50*round+50)
		all(t, w, h)
		stop(t, s)
		if round > 0 && round%2 == 0 {
			// The cursor of before, as a crash leaves it.
			if err := os.WriteFile(cursorFile(w.StateDir, "a"), before, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := start(t, w.Options)
	add(t, w.log, "request", 0, 1)
	all(t, w, h)
	stop(t, s)
	if h.again == 0 {
		t.Error("nothing came again: the test shows nothing")
	}
}

func TestARestartGoesOnWhereItWas(t *testing.T) {
	h := newHook(t)
	w := newWorld(t, hookConfig("a", h.URL))
	for round := range 5 {
		s := start(t, w.Options)
		add(t, w.log, "request", 50*round, 50*round+50)
		all(t, w, h)
		stop(t, s)
	}
	// Checkpoints come again after a restart, entries do not.
	if h.again > 5 {
		t.Errorf("%d events came again", h.again)
	}
	if st, err := os.Stat(cursorFile(w.StateDir, "a")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
}

func TestASinkGetsItsKindsAndTheCheckpointsThatCoverThem(t *testing.T) {
	h := newHook(t)
	w := newWorld(t, hookConfig("a", h.URL, "gap", "alarm"))
	w.Config.Sinks[0].From = FromBeginning
	add(t, w.log, "request", 0, 200)
	add(t, w.log, "gap", 200, 203)
	add(t, w.log, "request", 203, 300)
	s := start(t, w.Options)
	eventually(t, "the gaps are there", func() bool { return h.count() == 3 })
	eventually(t, "nothing is behind", func() bool { return s.Status()[0].Next == w.log.Size() })
	for _, l := range h.got() {
		if !strings.Contains(string(l), `"kind":"gap"`) {
			t.Errorf("%s", l)
		}
	}
	if h.types[len(h.types)-1] != "dev.breakglass.log.checkpoint" {
		t.Errorf("no checkpoint follows: %v", h.types)
	}
}

func TestASinkBeginsNowOrAtTheBeginningAndSoItStays(t *testing.T) {
	h := newHook(t)
	now := hookConfig("a", h.URL)
	now.From = FromNow
	w := newWorld(t, now)
	add(t, w.log, "request", 0, 100)
	eventually(t, "it is signed", func() bool { n, _ := logSize(w.Dir); return n == w.log.Size() })
	size := w.log.Size()
	s := start(t, w.Options)
	eventually(t, "the cursor is made", func() bool { _, err := os.Stat(cursorFile(w.StateDir, "a")); return err == nil })
	stop(t, s)
	// What comes while nobody delivers is not before the beginning.
	add(t, w.log, "request", 100, 110)
	start(t, w.Options)
	eventually(t, "the new ones are there", func() bool { return h.count() == int(w.log.Size()-size) })
	if !same(h.got(), logLines(t, w.Dir)[size:]) {
		t.Error("they are others")
	}
}

func TestALogThatComesLaterIsFollowed(t *testing.T) {
	h := newHook(t)
	dir := t.TempDir()
	w := &world{dir: dir}
	w.Dir, w.StateDir, w.Config = filepath.Join(dir, "log"), filepath.Join(dir, "sinks"), Config{Sinks: []Sink{hookConfig("a", h.URL)}}
	w.OnState = w.states.add
	start(t, w.Options)
	w.log = openLog(t, w.Dir, merkle.Options{})
	add(t, w.log, "request", 0, 20)
	all(t, w, h)
	if e := w.states.events(); len(e) > 0 {
		t.Errorf("it said %v of a log that was not there yet", e)
	}
}

func TestOneEntryThatIsRefusedKeepsNothingAfterItAndIsSaid(t *testing.T) {
	h := newHook(t)
	w := newWorld(t, hookConfig("a", h.URL))
	h.answers(func(w http.ResponseWriter, events []event) bool {
		for _, e := range events {
			if strings.Contains(string(e.Data), `{"n":33}`) {
				http.Error(w, "I do not like 33", http.StatusBadRequest)
				return true
			}
		}
		return false
	})
	start(t, w.Options)
	add(t, w.log, "request", 0, 100)
	eventually(t, "all the others are there", func() bool { return h.count() == int(w.log.Size())-1 })
	if !slices.ContainsFunc(w.states.all, func(s audit.Sink) bool {
		return s.Event == audit.SinkLost && strings.Contains(s.Reason, "is refused") && strings.Contains(s.Reason, "I do not like 33")
	}) {
		t.Errorf("%+v", w.states.all)
	}
}

func TestNothingIsPassedOverWhileEverythingIsRefused(t *testing.T) {
	h := newHook(t)
	w := newWorld(t, hookConfig("a", h.URL))
	h.answers(answerWith(http.StatusBadRequest))
	s := start(t, w.Options)
	add(t, w.log, "request", 0, 20)
	eventually(t, "it was refused often", func() bool { return s.Status()[0].Failures > 30 })
	h.answers(nil)
	all(t, w, h)
	if slices.Contains(w.states.events(), audit.SinkLost) {
		t.Errorf("%+v", w.states.all)
	}
}

func TestWhatRetentionRemovesBeforeItWasTakenIsSaid(t *testing.T) {
	h := newHook(t)
	w := newWorld(t, hookConfig("a", h.URL))
	s := start(t, w.Options)
	add(t, w.log, "request", 0, 10)
	all(t, w, h)
	stop(t, s)
	taken := h.count()
	add(t, w.log, "request", 10, 200)
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
	later := func() time.Time { return time.Now().Add(48 * time.Hour) }
	w.log = openLog(t, w.Dir, merkle.Options{SegmentBytes: 8000, Retention: time.Hour, Now: later})
	var first uint64
	eventually(t, "old entries are removed", func() bool {
		firsts, err := merkle.Segments(w.Dir)
		if err != nil || len(firsts) == 0 {
			return false
		}
		first = firsts[0]
		return first > uint64(taken)
	})
	start(t, w.Options)
	eventually(t, "the rest is there", func() bool { return h.count() == taken+int(w.log.Size()-first) })
	if s := w.states.all[0]; s.Event != audit.SinkLost || !strings.HasPrefix(s.Reason, fmt.Sprintf("%d entries, from %d on, were removed", int(first)-taken, taken)) {
		t.Errorf("%+v, the log begins with %d, %d were taken", s, first, taken)
	}
}

func TestALogInThePlaceOfAnotherIsSaid(t *testing.T) {
	h := newHook(t)
	w := newWorld(t, hookConfig("a", h.URL))
	s := start(t, w.Options)
	add(t, w.log, "request", 0, 30)
	all(t, w, h)
	stop(t, s)
	closeAndRemove(t, w)
	before := h.count()
	w.log = openLog(t, w.Dir, merkle.Options{})
	add(t, w.log, "request", 0, 5)
	start(t, w.Options)
	eventually(t, "all of the new one is there", func() bool { return h.count() == before+int(w.log.Size()) })
	if s := w.states.all[0]; s.Event != audit.SinkLost || !strings.Contains(s.Reason, "is no longer there") {
		t.Errorf("%+v", s)
	}
}

func closeAndRemove(t testing.TB, w *world) {
	t.Helper()
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(w.Dir); err != nil {
		t.Fatal(err)
	}
}

// A log that somebody wrote anew with its own key has the same name, and is another.
func TestALogThatWasRewrittenOrCutBackIsNotFollowedAndThatIsSaid(t *testing.T) {
	for name, entries := range map[string]int{"rewritten and longer": 60, "cut back": 5} {
		t.Run(name, func(t *testing.T) {
			h := newHook(t)
			w := newWorld(t, hookConfig("a", h.URL))
			s := start(t, w.Options)
			add(t, w.log, "request", 0, 30)
			all(t, w, h)
			stop(t, s)
			before := h.count()
			key, err := os.ReadFile(filepath.Join(w.Dir, "audit.key"))
			if err != nil {
				t.Fatal(err)
			}
			closeAndRemove(t, w)
			if err := os.Mkdir(w.Dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(w.Dir, "audit.key"), key, 0o600); err != nil {
				t.Fatal(err)
			}
			w.log = openLog(t, w.Dir, merkle.Options{})
			add(t, w.log, "request", 1000, 1000+entries)
			eventually(t, "it is signed", func() bool { n, _ := logSize(w.Dir); return n == w.log.Size() })
			start(t, w.Options)
			eventually(t, "it fails", func() bool { return slices.Contains(w.states.events(), audit.SinkFailing) })
			if s := w.states.last(); !strings.Contains(s.Reason, "not the one that this sink has taken") {
				t.Errorf("%+v", s)
			}
			if h.count() != before {
				t.Error("it was delivered as if it were the same log")
			}
		})
	}
}

func TestWhatIsSkippedCountsAsTaken(t *testing.T) {
	h := newHook(t)
	w := newWorld(t, hookConfig("a", h.URL))
	w.Skip = func(e merkle.Entry) bool { return e.Seq%2 == 1 }
	s := start(t, w.Options)
	add(t, w.log, "request", 0, 31)
	eventually(t, "nothing is behind", func() bool { return s.Status()[0].Next == w.log.Size() })
	if h.count() != int(w.log.Size()+1)/2 {
		t.Errorf("%d of %d", h.count(), w.log.Size())
	}
}

func TestStatesAreToldOfAtMostOncePerCalm(t *testing.T) {
	h := newHook(t)
	w := newWorld(t, hookConfig("a", h.URL))
	p := quick
	p.calm = time.Hour
	w.pace = &p
	s := start(t, w.Options)
	for round := range 5 {
		h.answers(answerWith(500))
		failures := s.Status()[0].Failures
		add(t, w.log, "request", round, round+1)
		eventually(t, "it fails", func() bool { return s.Status()[0].Failures > failures+5 })
		h.answers(nil)
		all(t, w, h)
	}
	eventually(t, "it works", func() bool { return s.Status()[0].Failing.IsZero() })
	if e := w.states.events(); !slices.Equal(e, []string{audit.SinkFailing, audit.SinkWorking}) {
		t.Errorf("%v", e)
	}
}

func TestACursorThatCannotBeReadIsNotGuessed(t *testing.T) {
	h := newHook(t)
	w := newWorld(t, hookConfig("a", h.URL))
	if err := os.MkdirAll(w.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cursorFile(w.StateDir, "a"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	add(t, w.log, "request", 0, 3)
	start(t, w.Options)
	eventually(t, "it fails", func() bool { return slices.Contains(w.states.events(), audit.SinkFailing) })
	if r := w.states.last().Reason; !strings.Contains(r, "remove "+cursorFile(w.StateDir, "a")) || h.count() > 0 {
		t.Errorf("%q, %d", r, h.count())
	}
}

func TestWhatWasRecordedLastIsDeliveredBeforeTheEnd(t *testing.T) {
	h, dead := newHook(t), newHook(t)
	dead.answers(answerWith(500))
	w := newWorld(t, hookConfig("a", h.URL), hookConfig("dead", dead.URL))
	p := quick
	p.grace, p.quiet = 10*time.Second, 300*time.Millisecond
	w.pace = &p
	s := start(t, w.Options)
	add(t, w.log, "request", 0, 10)
	all(t, w, h)
	add(t, w.log, "stop", 10, 11)
	if err := w.log.Close(); err != nil { // it signs what is last
		t.Fatal(err)
	}
	began := time.Now()
	stop(t, s)
	all(t, w, h)
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("the end took %v", d)
	}
}

func TestTheEndWaitsForNoReceiverThatHangs(t *testing.T) {
	h := newHook(t)
	done, asked := make(chan struct{}), make(chan struct{}, 100)
	defer close(done)
	h.answers(func(http.ResponseWriter, []event) bool { asked <- struct{}{}; <-done; return true })
	w := newWorld(t, hookConfig("a", h.URL))
	p := quick
	p.grace, p.attempt = 50*time.Millisecond, time.Minute
	w.pace = &p
	s := start(t, w.Options)
	add(t, w.log, "request", 0, 1)
	<-asked
	stop(t, s)
}

func TestLinesAreDeliveredByteForByte(t *testing.T) {
	for _, mode := range []string{"Binary", "Batch"} {
		h := newHook(t)
		w := newWorld(t, hookConfig("a", h.URL))
		w.Config.Sinks[0].CloudEvents.Mode = mode
		for _, data := range []string{`"<&>\u2028\u003c"`, `{"é":"\u00e9\ud83d\ude00"}`, `[1.0,1e400,-0]`, `null`} {
			if err := w.log.Append(t.Context(), merkle.Draft{Kind: "request", Data: json.RawMessage(data), Cursors: map[string]string{`"<a`: `\\>`}}); err != nil {
				t.Fatal(err)
			}
		}
		start(t, w.Options)
		all(t, w, h)
	}
}
