package jwks

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var theKey = Key{Policy: "emergency", Issuer: "sso"}

// clock is a time that tests set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// stepped is a Fetcher whose loops wait until they are told.
type stepped struct {
	*Fetcher
	t     *testing.T
	clock *clock
	waits chan time.Duration // what a loop waits for, once it does
	steps chan struct{}
	logs  *lines
}

type lines struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func newStepped(t *testing.T, dir string, c *clock) *stepped {
	t.Helper()
	s := &stepped{t: t, clock: c, waits: make(chan time.Duration), steps: make(chan struct{}), logs: &lines{}}
	s.Fetcher = NewFetcher(dir, c.now, slog.New(slog.NewTextHandler(s.logs, nil)))
	s.wait = func(ctx context.Context, d time.Duration) bool {
		select {
		case s.waits <- d:
		case <-ctx.Done():
			return false
		}
		select {
		case <-s.steps:
			return true
		case <-ctx.Done():
			return false
		}
	}
	t.Cleanup(s.Close)
	return s
}

// attempted waits for the end of an attempt, and returns how long the loop waits now.
func (s *stepped) attempted() time.Duration {
	s.t.Helper()
	select {
	case d := <-s.waits:
		return d
	case <-time.After(20 * time.Second):
		s.t.Fatal("no attempt")
		return 0
	}
}

func (s *stepped) again() time.Duration {
	s.t.Helper()
	s.steps <- struct{}{}
	return s.attempted()
}

func (s *stepped) result() Result { return s.Snapshot()[theKey] }

func (s *stepped) want(src Source) { s.Set(map[Key]Source{theKey: src}) }

// switching answers with what it was last given.
func switching(first []byte) (http.HandlerFunc, func([]byte)) {
	var body atomic.Pointer[[]byte]
	body.Store(&first)
	return func(w http.ResponseWriter, _ *http.Request) {
		if b := *body.Load(); b != nil {
			_, _ = w.Write(b)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}, func(b []byte) { body.Store(&b) }
}

func kid(r Result) string {
	if r.Set == nil {
		return ""
	}
	return r.Set.Keys()[0].KeyID
}

func TestFetcherFollowsRotation(t *testing.T) {
	answer, become := switching(document(t, member(t, "p256-a", nil)))
	src, _ := serve(t, answer)
	s := newStepped(t, t.TempDir(), newClock())
	s.want(src)
	if d := s.attempted(); d < 270*time.Second || d > 330*time.Second {
		t.Errorf("waits %s, not about 5m", d)
	}
	first := s.result()
	if kid(first) != "p256-a" || first.Err != nil || first.Stale || !first.Expires.Equal(first.FetchedAt.Add(24*time.Hour)) {
		t.Fatalf("got %+v", first)
	}
	<-s.Changed()
	s.clock.add(time.Minute)
	s.again()
	same := s.result()
	if same.Set != first.Set || !same.FetchedAt.Equal(first.FetchedAt.Add(time.Minute)) {
		t.Error("the same keys are another set, or no younger")
	}
	become(document(t, member(t, "p256-b", nil)))
	s.again()
	if got := s.result(); kid(got) != "p256-b" {
		t.Errorf("got %+v", got)
	}
	<-s.Changed()
	if kid(first) != "p256-a" {
		t.Error("a snapshot has changed")
	}
}

func TestFetcherKeepsTheLastGoodUntilMaxStale(t *testing.T) {
	answer, become := switching(document(t, member(t, "p256-a", nil)))
	src, _ := serve(t, answer)
	src.MaxStale = duration("1h")
	s := newStepped(t, t.TempDir(), newClock())
	s.want(src)
	s.attempted()
	for what, body := range map[string][]byte{"503": nil, "garbage": []byte("<html>"), "empty": []byte(`{"keys":[]}`), "private": document(t, member(t, "p256-b", map[string]any{"d": "AA"}))} {
		become(body)
		s.clock.add(time.Minute)
		s.again()
		if got := s.result(); kid(got) != "p256-a" || !got.Stale || got.Err == nil {
			t.Errorf("%s: got %+v", what, got)
		}
	}
	s.clock.add(56*time.Minute - time.Nanosecond)
	if got := s.result(); kid(got) != "p256-a" {
		t.Errorf("too early: %+v", got)
	}
	s.clock.add(time.Nanosecond)
	if got := s.result(); got.Set != nil || got.Raw != nil || !got.Stale || !strings.Contains(got.Err.Error(), "older than jwks.remote.maxStale") {
		t.Errorf("too late: %+v", got)
	}
	become(document(t, member(t, "p256-c", nil)))
	s.again()
	if got := s.result(); kid(got) != "p256-c" || got.Stale || got.Err != nil {
		t.Errorf("not recovered: %+v", got)
	}
}

func TestFetcherBacksOff(t *testing.T) {
	answer, _ := switching(nil)
	src, _ := serve(t, answer)
	src.RefreshInterval = duration("30s")
	s := newStepped(t, "", newClock())
	s.want(src)
	d := s.attempted()
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		want *= time.Second
		if d < time.Second || d < want*9/10 || d > want*11/10 {
			t.Errorf("waits %s, want about %s", d, want)
		}
		d = s.again()
	}
	if got := s.result(); got.Set != nil || got.Err == nil || got.Stale || !got.Expires.IsZero() {
		t.Errorf("got %+v", got)
	}
	if n := strings.Count(s.logs.String(), "not refreshed"); n != 1 {
		t.Errorf("one failure was logged %d times", n)
	}
}

func TestFetcherTellsAnEmptyKeySetApart(t *testing.T) {
	src, _ := serve(t, answering([]byte(`{"keys":[]}`)))
	s := newStepped(t, "", newClock())
	s.want(src)
	s.attempted()
	if got := s.result(); !errors.Is(got.Err, ErrEmpty) {
		t.Errorf("got %v", got.Err)
	}
}

func TestSetIsIdempotentAndNeverWaits(t *testing.T) {
	var asked atomic.Int32
	src, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) { asked.Add(1); <-r.Context().Done() })
	src.Timeout = duration("30s")
	f := NewFetcher(t.TempDir(), newClock().now, slog.New(slog.DiscardHandler))
	other := Key{Policy: "emergency", Issuer: "other"}
	begun := time.Now()
	for range 100 {
		copied := src
		copied.RemoteJWKS = *src.DeepCopy()
		f.Set(map[Key]Source{theKey: copied, other: src})
	}
	if n := len(f.Snapshot()); n != 2 {
		t.Errorf("%d results", n)
	}
	f.Set(map[Key]Source{other: src})
	if _, there := f.Snapshot()[theKey]; there {
		t.Error("what is not wanted is still there")
	}
	f.Set(nil)
	f.Close()
	f.Close()
	f.Set(map[Key]Source{theKey: src})
	if n := len(f.Snapshot()); n != 0 {
		t.Errorf("%d results after Close", n)
	}
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("it waited for the network: %s", d)
	}
	if n := asked.Load(); n > 2 {
		t.Errorf("asked %d times", n)
	}
}

func TestAChangedSourceStartsAnew(t *testing.T) {
	a, _ := serve(t, answering(document(t, member(t, "p256-a", nil))))
	b, _ := serve(t, answering(document(t, member(t, "p256-b", nil), member(t, "rsa", nil))))
	s := newStepped(t, t.TempDir(), newClock())
	s.want(a)
	s.attempted()
	s.want(b)
	if got := s.result(); got.Set != nil {
		t.Errorf("keys of another uri: %+v", got)
	}
	s.attempted()
	if kid(s.result()) != "p256-b" {
		t.Error("not fetched")
	}
	b.Algorithms = append(b.Algorithms, "RS256")
	s.want(b)
	// From disk, by the algorithms of now.
	if got := s.result(); kid(got) != "rsa" || len(got.Set.Keys()) != 1 || !got.Stale {
		t.Errorf("got %+v", got)
	}
	s.attempted()
}

func TestFetcherUnderRace(t *testing.T) {
	src, _ := serve(t, answering(document(t, member(t, "p256-a", nil))))
	f := NewFetcher(t.TempDir(), newClock().now, slog.New(slog.DiscardHandler))
	f.wait = func(ctx context.Context, _ time.Duration) bool { return ctx.Err() == nil }
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 20 {
				copied := src
				if (i+n)%3 == 0 {
					copied.MaxStale = duration("2h")
				}
				f.Set(map[Key]Source{theKey: copied, {Policy: "p", Issuer: "i"}: src})
				for _, r := range f.Snapshot() {
					_, _ = r.Set.Envoy(), r.Set.Keys()
				}
			}
		})
	}
	all.Wait()
	f.Close()
	data, err := os.ReadFile(cachePath(f.dir, theKey))
	if err == nil && json.Unmarshal(data, &stored{}) != nil {
		t.Error("the file is torn")
	}
}
