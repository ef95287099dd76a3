package sink

import (
	"sync"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// state is how a sink is, for whoever asks, and says when that changes. The
// follower's goroutine writes it.
type state struct {
	f *follower

	mu sync.Mutex
	Status
	told    time.Time // when it was last told of a failure
	telling bool      // that it fails was told
	oldest  time.Time // of the piece that is being delivered
}

// Status is how one sink is.
type Status struct {
	Name string
	// Alarms: by this sink somebody may be told of alarms.
	Alarms bool
	// Next is the seq of the first entry that it has not taken.
	Next uint64
	// Failing since when, and why; zero: it works.
	Failing time.Time
	Reason  string
	// Delivered and Failures count since the start; LastSuccess is the last delivery.
	Delivered, Failures uint64
	LastSuccess         time.Time
}

func (s *state) begin(f *follower) {
	s.f = f
	s.Status = Status{Name: f.sink.Name, Alarms: f.sink.Alarms()}
}

// failed is told of each failure, and since when what failed was under way.
func (s *state) failed(err error, since time.Time) {
	s.mu.Lock()
	s.Failures++
	s.Reason = err.Error()
	if s.Failing.IsZero() {
		s.Failing = since
	}
	now := s.f.Now()
	tell := !s.telling && now.Sub(s.Failing) >= s.f.pace.patience && (s.told.IsZero() || now.Sub(s.told) >= s.f.pace.calm)
	if tell {
		s.telling, s.told = true, now
	}
	out := audit.Sink{V: 1, Sink: s.Name, Event: audit.SinkFailing, Reason: s.Reason, Since: s.Failing.UTC()}
	s.mu.Unlock()
	if !tell {
		return
	}
	s.f.log.Error("a sink fails; it is tried again", "error", err)
	s.tell(out)
}

// works is told of each success.
func (s *state) works() {
	s.mu.Lock()
	out := audit.Sink{V: 1, Sink: s.Name, Event: audit.SinkWorking, Since: s.Failing.UTC()}
	tell := s.telling
	s.telling, s.Failing, s.Reason = false, time.Time{}, ""
	s.mu.Unlock()
	if tell {
		s.f.log.Info("a sink works again")
		s.tell(out)
	}
}

// lost tells of what the sink will never get.
func (s *state) lost(what string) {
	s.f.log.Error("a sink will not get all of the log", "what", what)
	s.tell(audit.Sink{V: 1, Sink: s.Name, Event: audit.SinkLost, Reason: what})
}

func (s *state) tell(out audit.Sink) {
	if s.f.OnState == nil {
		return
	}
	if size, ok := logSize(s.f.Dir); ok && size > s.next() {
		out.Behind = size - s.next()
	}
	s.f.OnState(out)
}

func (s *state) read() (Status, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Status, s.oldest
}

func (s *state) next() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Next
}

func (s *state) reads(oldest time.Time) {
	s.mu.Lock()
	s.oldest = oldest
	s.mu.Unlock()
}

func (s *state) moved(next uint64) {
	s.mu.Lock()
	s.Next = next
	s.mu.Unlock()
}

func (s *state) delivered(n int, at time.Time) {
	s.mu.Lock()
	s.Delivered += uint64(n)
	s.LastSuccess = at
	s.mu.Unlock()
}
