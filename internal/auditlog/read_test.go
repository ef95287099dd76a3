package auditlog

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// fakeJudge believes the header User. bob may not.
type fakeJudge struct {
	down atomic.Bool
	bob  atomic.Bool // he may
}

func (j *fakeJudge) Who(_ context.Context, r *http.Request) (who authenticationv1.UserInfo, err error) {
	if who.Username = r.Header.Get("User"); who.Username == "" {
		return who, fmt.Errorf("%w: say it", ErrUnknown)
	}
	who.Groups = []string{"people"}
	return who, nil
}

func (j *fakeJudge) May(_ context.Context, who authenticationv1.UserInfo) (bool, string, error) {
	if j.down.Load() {
		return false, "", errors.New("the API server is down")
	}
	return who.Username != "bob" || j.bob.Load(), who.Username + " may not", nil
}

type bench struct {
	*Reading
	log    *merkle.Log
	judge  *fakeJudge
	server *httptest.Server
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	log, err := merkle.Open(dir, merkle.Options{Log: slog.New(slog.DiscardHandler), SegmentBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{log: log, judge: &fakeJudge{}}
	b.Reading = NewReading(ReadOptions{Dir: dir, Append: log.Append, Judge: b.judge, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	b.server = httptest.NewServer(b.Reading)
	t.Cleanup(func() { b.server.Close(); _ = log.Close() })
	return b
}

// put appends entries and waits until a checkpoint covers them.
func (b *bench) put(t *testing.T, kind string, data ...string) {
	t.Helper()
	for _, d := range data {
		if err := b.log.Append(t.Context(), merkle.Draft{Kind: kind, Data: json.RawMessage(d)}); err != nil {
			t.Fatal(err)
		}
	}
	b.signed(t)
}

func (b *bench) signed(t *testing.T) {
	t.Helper()
	for size := b.log.Size(); ; {
		h, err := signed(b.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if h.size >= size {
			return
		}
		time.Sleep(time.Millisecond) // it is signed ten times a second
	}
}

func (b *bench) get(t *testing.T, user, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.Header.Set("User", user)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// reads are the entries of reads in the log.
func (b *bench) reads(t *testing.T) (out []audit.Read) {
	t.Helper()
	err := merkle.Read(t.Context(), b.Dir, merkle.Filter{Match: func(e *merkle.Entry) bool { return e.Kind == audit.KindRead }}, func(e merkle.Entry) error {
		var r audit.Read
		out = append(out, r)
		return json.Unmarshal(e.Data, &out[len(out)-1])
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func lines(text string) []string { return strings.Split(strings.TrimSuffix(text, "\n"), "\n") }

func TestWhoMayReadGetsTheLogAndIsInIt(t *testing.T) {
	b := newBench(t)
	b.put(t, "request", `{"n":1}`, `{"n":2}`)
	code, text := b.get(t, "alice", "/v1/entries?kind=request")
	if code != 200 || len(lines(text)) != 2 || !strings.Contains(text, `"data":{"n":2}`) {
		t.Errorf("%d %s", code, text)
	}
	got := b.reads(t)
	if len(got) != 1 || got[0].By != "alice" || got[0].What != "/v1/entries?kind=request" || got[0].Refused != "" || !slices.Equal(got[0].Groups, []string{"people"}) {
		t.Errorf("the log says %+v", got)
	}
}

func TestWhoMayNotReadGetsNothingAndIsInTheLog(t *testing.T) {
	b := newBench(t)
	b.put(t, "request", `{"secret":1}`)
	for _, test := range []struct {
		user, path, header, why string
		down                    bool
		code                    int
	}{
		{user: "bob", path: "/v1/entries", code: 403, why: "bob may not"},
		{user: "bob", path: "/v1/copy", code: 403, why: "bob may not"},
		{user: "bob", path: "/v1/proof?seq=1", code: 403, why: "bob may not"},
		{path: "/v1/entries", code: 401, why: "nobody knows who asks: say it"},
		{user: "alice", path: "/v1/entries", down: true, code: 503, why: "the API server is down"},
	} {
		b.judge.down.Store(test.down)
		before := len(b.reads(t))
		code, text := b.get(t, test.user, test.path)
		if code != test.code || strings.Contains(text, "secret") || !strings.Contains(text, test.why) {
			t.Errorf("%+v: %d %s", test, code, text)
		}
		if got := b.reads(t); len(got) != before+1 || got[before].By != test.user || got[before].Refused != test.why || got[before].What != test.path {
			t.Errorf("%+v: the log says %+v", test, got)
		}
	}
}

func TestNobodyReadsAsSomebodyElse(t *testing.T) {
	b := newBench(t)
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/entries", nil)
	req.Header.Set("User", "alice")
	req.Header.Set("Impersonate-User", "root")
	w := httptest.NewRecorder()
	b.ServeHTTP(w, req)
	if w.Code != 403 || len(b.reads(t)) != 1 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestAReadThatCannotBeRecordedHandsOutNothing(t *testing.T) {
	b := newBench(t)
	b.put(t, "request", `{"secret":1}`)
	b.Append = func(context.Context, ...merkle.Draft) error { return errors.New("the disk is full") }
	for _, path := range []string{"/v1/entries", "/v1/copy", "/v1/proof?seq=1"} {
		if code, text := b.get(t, "alice", path); code != 503 || strings.Contains(text, "secret") || !strings.Contains(text, "the disk is full") {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
}

// What is asked for is in the log whole, or it is not asked for.
func TestNobodyHidesWhatHeAsksForBehindALongQuestion(t *testing.T) {
	b := newBench(t)
	b.put(t, "problem", `{"v":1,"file":"x","reason":"y"}`)
	code, text := b.get(t, "alice", "/v1/entries?from="+strings.Repeat("0", maxWhat)+"&incident=INC-1")
	if code != http.StatusRequestURITooLong || strings.Contains(text, "reason") {
		t.Errorf("%d %s", code, text)
	}
}

func TestRefusalsBeyondTheBoundAreCounted(t *testing.T) {
	b := newBench(t)
	now := time.Now()
	b.Now = func() time.Time { now = now.Add(200 * time.Millisecond); return now }
	for range 50 {
		if code, _ := b.get(t, "bob", "/v1/entries"); code != 403 {
			t.Fatalf("%d", code)
		}
	}
	got := b.reads(t)
	if len(got) < refusedBurst || len(got) > refusedBurst+2 {
		t.Fatalf("%d entries of 50 refusals", len(got))
	}
	now = now.Add(time.Hour)
	b.get(t, "bob", "/v1/entries")
	got = b.reads(t)
	if want := fmt.Sprintf("bob may not (and %d refusals before it that have no entry)", 50-len(got)+1); got[len(got)-1].Refused != want {
		t.Errorf("it says %q, want %q", got[len(got)-1].Refused, want)
	}
}

func TestOfTheEntriesThoseThatFitAreHandedOut(t *testing.T) {
	b := newBench(t)
	b.put(t, "request", `{"activations":["pay/db","pay/web"],"incident":"INC-1"}`, `{"activations":["shop/db"]}`, `{"denied":"x"}`)
	b.put(t, "activation", `{"record":{"namespace":"pay","name":"db","spec":{"incident":"INC-1"}}}`)
	b.put(t, "alarm", `{"labels":{"activation":"pay/db","incident":"INC-1"}}`)
	b.put(t, "request", `{"n":5}`)
	seqs := func(query string) (out []uint64) {
		t.Helper()
		code, text := b.get(t, "alice", "/v1/entries?"+query)
		if code != 200 {
			t.Fatalf("%s: %d %s", query, code, text)
		}
		for _, line := range lines(text) {
			var e merkle.Entry
			if line == "" {
				continue
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			if e.Kind != audit.KindRead {
				out = append(out, e.Seq)
			}
		}
		return out
	}
	soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano)
	for query, want := range map[string][]uint64{
		"":                                    {0, 1, 2, 3, 4, 5, 6},
		"from=3&to=5":                         {3, 4},
		"kind=activation&kind=alarm":          {4, 5},
		"activation=pay/db":                   {1, 4, 5},
		"activation=db":                       {1, 2, 4, 5},
		"incident=INC-1":                      {1, 4, 5},
		"incident=INC-1&activation=shop/db":   nil,
		"since=" + soon:                       nil,
		"until=" + soon + "&kind=alarm":       {5},
		"last=2&kind=request":                 {3, 6},
		"last=2&kind=request&to=6":            {2, 3},
		"last=100&activation=pay/web&to=1000": {1},
	} {
		if got := seqs(query); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	for _, query := range []string{"kinds=request", "from=x", "since=yesterday", "last=-1", "from=1&from=2", "follow=perhaps"} {
		if code, text := b.get(t, "alice", "/v1/entries?"+query); code != 400 {
			t.Errorf("%s: %d %s", query, code, text)
		}
	}
}

func TestTheNewestAreFoundInOlderSegmentsToo(t *testing.T) {
	b := newBench(t)
	var data []string
	for i := range 200 {
		data = append(data, fmt.Sprintf(`{"i":%d,"pad":%q}`, i, strings.Repeat("x", 100)))
	}
	b.put(t, "request", data...)
	if firsts, err := merkle.Segments(b.Dir); err != nil || len(firsts) < 4 {
		t.Fatalf("segments %v, error %v", firsts, err)
	}
	code, text := b.get(t, "alice", "/v1/entries?last=150&kind=request")
	got := lines(text)
	if code != 200 || len(got) != 150 || !strings.Contains(got[0], `"i":50,`) || !strings.Contains(got[149], `"i":199,`) {
		t.Errorf("%d, %d lines from %s to %s", code, len(got), got[0], got[len(got)-1])
	}
}

// follow reads lines of an answer that goes on.
func (b *bench) follow(t *testing.T, user, query string) <-chan string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.server.URL+"/v1/entries?follow=true&"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User", user)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan string, 1000)
	go func() {
		defer resp.Body.Close()
		defer close(out)
		for in := bufio.NewScanner(resp.Body); in.Scan(); {
			out <- in.Text()
		}
	}()
	return out
}

func TestWhoFollowsGetsWhatComesUntilHeMayNotReadAnyMore(t *testing.T) {
	b := newBench(t)
	b.judgeEvery = 20 * time.Millisecond
	b.judge.bob.Store(true)
	b.put(t, "request", `{"n":1}`, `{"n":2}`)
	got := b.follow(t, "bob", "kind=request&last=1")
	if line := <-got; !strings.Contains(line, `{"n":2}`) {
		t.Fatal(line)
	}
	b.put(t, "request", `{"n":3}`)
	if line := <-got; !strings.Contains(line, `{"n":3}`) {
		t.Fatal(line)
	}
	b.judge.bob.Store(false)
	if line := <-got; line != `{"error":"bob may not"}` {
		t.Error(line)
	}
	b.put(t, "request", `{"n":4}`)
	if line, more := <-got; more {
		t.Error(line)
	}
}

func TestACopyThatCannotBeContinuedIsToldWhy(t *testing.T) {
	b := newBench(t)
	b.put(t, "request", `{"n":1}`)
	h, err := signed(b.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]int{
		"":                                    200,
		"origin=" + h.origin + "&segment=0":   200,
		"origin=another":                      409,
		"origin=" + h.origin + "&segment=7":   410, // it was removed because of its age
		"origin=" + h.origin + "&size=999999": 409,
		"hashes=999999":                       409,
		"size=-1":                             400,
		"segments=0":                          400,
	} {
		code, text := b.get(t, "alice", "/v1/copy?"+query)
		if code != want || code > 400 && !strings.Contains(text, "copy into another directory") {
			t.Errorf("%s: %d %.200s", query, code, text)
		}
	}
}
