package ship

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// source is a log that tests bring by hand.
type byHand struct {
	t    *testing.T
	s    *service
	log  *merkle.Log
	name string
	head head
}

func newByHand(t *testing.T, s *service, origin string) *byHand {
	t.Helper()
	l, err := merkle.Open(filepath.Join(t.TempDir(), "log"), merkle.Options{Log: quiet, Origin: origin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // nothing is read of it any more
	name, err := Name(l.Origin(), l.Keys())
	if err != nil {
		t.Fatal(err)
	}
	log, key, _ := strings.Cut(name, " ")
	return &byHand{t: t, s: s, log: l, name: name, head: head{Log: log, Key: key, Session: "s1", Size: 1000, Keys: l.Keys(), Checkpoint: string(l.Checkpoint())}}
}

func (b *byHand) do(method, query string, body io.Reader) (int, answer) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.s.http.URL+Path+query, body)
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := b.s.http.Client().Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, a
}

func (b *byHand) ask(session string) (int, answer) {
	b.t.Helper()
	return b.do(http.MethodGet, "?"+url.Values{"log": {b.head.Log}, "key": {b.head.Key}, "session": {session}}.Encode(), nil)
}

func line(seq uint64, kind, data string) string {
	e := merkle.Entry{Seq: seq, Kind: kind, Data: json.RawMessage(data)}
	e.Time = e.Time.AddDate(2025, 0, 0)
	return string(e.Line()) + "\n"
}

func request(seq uint64) string { return line(seq, "request", `{"gateway":"pay/door"}`) }

func (b *byHand) bring(h head, lines ...string) (int, answer) {
	b.t.Helper()
	first, err := json.Marshal(h)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(http.MethodPost, "", bytes.NewReader(append(append(first, '\n'), strings.Join(lines, "")...)))
}

func (h head) at(from uint64) head { h.From = from; return h }

func TestWhatIsNotTheirsOrNotInOrderIsRefusedAndNothingOfItTaken(t *testing.T) {
	s := newService(t)
	b := newByHand(t, s, podOrigin)
	if status, a := b.ask("s1"); status != 200 || a.Known || a.Next != 0 {
		t.Fatalf("%d %+v", status, a)
	}
	if status, a := b.bring(b.head, request(0), request(1)); status != 200 || a.Next != 2 {
		t.Fatalf("%d %+v", status, a)
	}
	size := s.log.Size()
	change := func(f func(*head)) head { h := b.head.at(2); f(&h); return h }
	other := newByHand(t, s, podOrigin)
	for name, c := range map[string]struct {
		head  head
		lines []string
		want  int
	}{
		"entries that are there already":        {b.head.at(0), []string{request(0)}, 409},
		"entries after a hole":                  {b.head.at(3), []string{request(3)}, 409},
		"a hole backwards":                      {change(func(h *head) { h.From, h.Hole = 1, true }), []string{request(1)}, 409},
		"another session":                       {change(func(h *head) { h.Session = "s0" }), []string{request(2)}, 409},
		"a hole within":                         {b.head.at(2), []string{request(2), request(4)}, 400},
		"another seq than it says":              {b.head.at(2), []string{request(3)}, 400},
		"a line in another form":                {b.head.at(2), []string{strings.Replace(request(2), `{"v":1,`, `{ "v":1,`, 1)}, 400},
		"a line that does not end":              {b.head.at(2), []string{strings.TrimSuffix(request(2), "\n")}, 400},
		"no JSON":                               {b.head.at(2), []string{"nonsense\n"}, 400},
		"more than the log has":                 {change(func(h *head) { h.Size = 2 }), []string{request(2)}, 400},
		"an end before the end":                 {change(func(h *head) { h.End = true }), []string{request(2)}, 400},
		"a decision":                            {b.head.at(2), []string{line(2, "activation", `{"event":"opened"}`)}, 403},
		"an alarm":                              {b.head.at(2), []string{line(2, "alarm", `{}`)}, 403},
		"a source":                              {b.head.at(2), []string{line(2, "source", `{}`)}, 403},
		"a kind that nobody knows":              {b.head.at(2), []string{line(2, "novel", `{}`)}, 403},
		"a request of another Gateway":          {b.head.at(2), []string{line(2, "request", `{"gateway":"pay/other"}`)}, 403},
		"a request of none":                     {b.head.at(2), []string{line(2, "request", `{}`)}, 403},
		"another Gateway, and then its own":     {b.head.at(2), []string{line(2, "request", `{"gateway":"pay/other","gateway":"pay/door"}`)}, 403},
		"another Gateway to whoever reads case": {b.head.at(2), []string{line(2, "request", `{"gateway":"pay/other","Gateway":"pay/door"}`)}, 403},
		"a gap of another Gateway to some":      {b.head.at(2), []string{line(2, "gap", `{"GATEWAY":"pay/door","lost":1}`)}, 403},
		"a gap of another Gateway":              {b.head.at(2), []string{line(2, "gap", `{"gateway":"pay/other"}`)}, 403},
		"a log of another Gateway":              {change(func(h *head) { h.Log = "breakglass.dev/log/pay/other/pod-1" }), []string{request(2)}, 403},
		"a log of a Gateway whose name goes on": {change(func(h *head) { h.Log = "breakglass.dev/log/pay/door2/pod-1" }), nil, 403},
		"a log below a pod":                     {change(func(h *head) { h.Log = "breakglass.dev/log/pay/door/pod-1/x" }), nil, 403},
		"a log without a pod":                   {change(func(h *head) { h.Log = "breakglass.dev/log/pay/door" }), nil, 403},
		"a controller's log":                    {change(func(h *head) { h.Log = "breakglass.dev/log/0123456789abcdef" }), nil, 403},
		"a name with a space":                   {change(func(h *head) { h.Log = podOrigin + " x" }), nil, 403},
		"no hash of a key":                      {change(func(h *head) { h.Key = "x" }), nil, 400},
		"another log's keys":                    {change(func(h *head) { h.Keys = other.log.Keys() }), nil, 400},
		"a checkpoint that nobody signed":       {change(func(h *head) { h.Checkpoint = strings.Replace(h.Checkpoint, "\n0\n", "\n9\n", 1) }), nil, 400},
		"another log's checkpoint":              {change(func(h *head) { h.Checkpoint = string(other.log.Checkpoint()) }), nil, 400},
		"a batch that is too long":              {b.head.at(2), []string{strings.Repeat(line(2, "problem", `"`+strings.Repeat("x", 1<<20-10)+`"`), 9)}, 400},
	} {
		status, a := b.bring(c.head, c.lines...)
		if status != c.want || a.Error == "" {
			t.Errorf("%s: status %d, want %d: %+v", name, status, c.want, a)
		}
		if status == 409 && a.Next != 2 {
			t.Errorf("%s: entry %d is next, and it is entry 2", name, a.Next)
		}
	}
	var many []string
	for n := range uint64(maxEntries + 1) {
		many = append(many, request(2+n))
	}
	h := b.head.at(2)
	h.Size = 5000
	if status, _ := b.bring(h, many...); status != 400 {
		t.Errorf("%d entries at once: %d", len(many), status)
	}
	if got := s.log.Size(); got != size {
		t.Errorf("%d entries were recorded", got-size)
	}
	if status, a := b.bring(b.head.at(2), request(2)); status != 200 || a.Next != 3 {
		t.Errorf("what is right: %d %+v", status, a)
	}
}

func TestAControllerBringsDecisionsAndNoLogOfAGateway(t *testing.T) {
	s := newService(t)
	s.id = Identity{Name: "controller system/c-0"}
	b := newByHand(t, s, "breakglass.dev/log/0123456789abcdef")
	if status, _ := b.ask("s1"); status != 200 {
		t.Fatal(status)
	}
	if status, a := b.bring(b.head, line(0, "activation", `{"event":"opened"}`), line(1, "alarm", `{}`), line(2, "policy", `{}`)); status != 200 || a.Next != 3 {
		t.Fatalf("%d %+v", status, a)
	}
	if status, _ := b.bring(b.head.at(3), line(3, "source", `{}`)); status != 403 {
		t.Errorf("a source of its own making: %d", status)
	}
	if status, _ := newByHand(t, s, podOrigin).ask("s1"); status != 403 {
		t.Errorf("a log of a Gateway's pod: %d", status)
	}
}

func TestAnOlderConnectionDoesNotInterleave(t *testing.T) {
	s := newService(t)
	b := newByHand(t, s, podOrigin)
	b.ask("old")
	old := b.head
	old.Session = "old"
	if status, _ := b.bring(old, request(0)); status != 200 {
		t.Fatal(status)
	}
	b.ask("new")
	if status, _ := b.bring(old.at(1), request(1)); status != 409 {
		t.Errorf("the older connection brings entries: %d", status)
	}
	fresh := b.head.at(1)
	fresh.Session = "new"
	if status, a := b.bring(fresh, request(1)); status != 200 || a.Next != 2 {
		t.Errorf("%d %+v", status, a)
	}
	// Another process of the service knows of none.
	s.restart()
	if status, a := b.bring(fresh.at(2), request(2)); status != 409 || a.Next != 2 {
		t.Errorf("%d %+v", status, a)
	}
}

func TestAHoleThatIsSaidIsAGap(t *testing.T) {
	s := newService(t)
	b := newByHand(t, s, podOrigin)
	b.ask("s1")
	b.bring(b.head, request(0))
	h := b.head.at(5)
	h.Hole = true
	if status, a := b.bring(h, request(5)); status != 200 || a.Next != 6 {
		t.Fatalf("%d %+v", status, a)
	}
	gaps := s.entries("gap")
	if len(gaps) != 1 || !strings.Contains(string(gaps[0].Data), `"lost":4`) {
		t.Errorf("%+v", gaps)
	}
}

func TestALogThatIsNotKnownAndDoesNotBeginAtItsBeginningHasAGap(t *testing.T) {
	s := newService(t)
	b := newByHand(t, s, podOrigin)
	b.ask("s1")
	if status, a := b.bring(b.head.at(3), request(3)); status != 200 || a.Next != 4 {
		t.Fatalf("%d %+v", status, a)
	}
	if gaps := s.entries("gap"); len(gaps) != 1 || !strings.Contains(string(gaps[0].Data), `"lost":3`) {
		t.Errorf("%+v", gaps)
	}
}

func TestThereIsNoRoomForMoreSourcesThanTheLogHasCursors(t *testing.T) {
	s := newService(t)
	server, _ := s.current()
	for n := range maxSources {
		src := server.get(fmt.Sprintf("other-%d 00000000", n))
		src.state, src.identity = stateBegun, "somebody else"
	}
	b := newByHand(t, s, podOrigin)
	b.ask("s1")
	if status, a := b.bring(b.head, request(0)); status != 503 || !strings.Contains(a.Error, "too many") {
		t.Fatalf("%d %+v", status, a)
	}
	server.mu.Lock()
	server.sources["other-7 00000000"].state = stateEnded
	server.mu.Unlock()
	if status, _ := b.bring(b.head, request(0)); status != 200 {
		t.Errorf("there is room, and: %d", status)
	}
	// Nobody takes all of it.
	for n := range maxOfOne {
		server.get(fmt.Sprintf("other-%d 00000000", n)).identity = gateway.Name
	}
	c := newByHand(t, s, "breakglass.dev/log/pay/door/pod-2")
	c.ask("s1")
	server.get("other-1000 00000000").state = stateEnded
	if status, _ := c.bring(c.head, request(0)); status != 503 {
		t.Errorf("more than %d of one identity: %d", maxOfOne, status)
	}
}
