package sink

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// Options of Start.
type Options struct {
	// Dir is the log. It need not be there yet.
	Dir string
	// StateDir has the cursors. It is made when it is not there.
	StateDir string
	Config   Config
	// Log defaults to slog.Default(), Now to time.Now.
	Log *slog.Logger
	Now func() time.Time
	// OnDelivered is told of each entry that a receiver has said that it has, in the
	// order of the log; after a crash again. OnState is told when a sink begins or
	// ceases to fail, and when it will never get something: at most about once a
	// minute. Both are called by the goroutine of that sink, which waits for them.
	OnDelivered func(sink string, e merkle.Entry, at time.Time)
	OnState     func(audit.Sink)
	// Skip, when not nil, is asked for each entry before it is delivered: those that
	// it is true for count as taken, and OnDelivered is not told of them.
	Skip func(e merkle.Entry) bool

	// pace is another in tests.
	pace *pace
}

// closeTimeout is what Close gives them after their grace.
const closeTimeout = time.Second

// Sinks are the sinks of one log at work.
type Sinks struct {
	dir       string
	followers []*follower
	stop      context.CancelFunc
	closing   chan struct{} // closed: what is there is delivered, and then it ends
	once      sync.Once
	ended     sync.WaitGroup
	grace     time.Duration
}

// Start begins to deliver, until ctx ends or Close is called. An error is of the
// options; what keeps a sink from its work is its state, and tried again.
func Start(ctx context.Context, o Options) (*Sinks, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.pace == nil {
		o.pace = &defaultPace
	}
	if err := o.Config.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		o.Log.Error("the directory of the sinks' cursors cannot be made", "dir", o.StateDir, "error", err)
	}
	ctx, stop := context.WithCancel(ctx)
	s := &Sinks{dir: o.Dir, stop: stop, closing: make(chan struct{}), grace: o.pace.grace}
	for i := range o.Config.Sinks {
		s.followers = append(s.followers, newFollower(&o, &o.Config.Sinks[i]))
	}
	w := newWatch(o.Dir)
	s.ended.Go(func() { w.run(ctx) })
	for _, f := range s.followers {
		s.ended.Go(func() { f.run(ctx, w, s.closing) })
	}
	return s, nil
}

// Close gives the sinks a moment for what was recorded last, and keeps the cursors.
// What was not taken is delivered after the next Start. Nothing else is waited for:
// no receiver that hangs, and no disk.
func (s *Sinks) Close() error {
	s.once.Do(func() { close(s.closing) })
	ended := make(chan struct{})
	go func() {
		for _, f := range s.followers {
			<-f.done
		}
		s.stop()
		s.ended.Wait()
		close(ended)
	}()
	late := time.AfterFunc(s.grace, s.stop)
	defer late.Stop()
	select {
	case <-ended:
	case <-time.After(s.grace + closeTimeout):
		return errors.New("close the sinks: one of them is held up by its disk")
	}
	var errs []error
	for _, f := range s.followers {
		errs = append(errs, f.closed)
	}
	return errors.Join(errs...)
}

// Past reports whether a sink has taken an entry, or will never be given it. It is
// false as long as it is not known where the sink is.
func (s *Sinks) Past(sink string, seq uint64) bool {
	for _, f := range s.followers {
		if f.sink.Name == sink {
			return f.state.next() > seq
		}
	}
	return false
}

// Placed waits until it is known where each sink is, but not longer than that: one
// whose cursor cannot be read is nowhere.
func (s *Sinks) Placed(ctx context.Context, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, f := range s.followers {
		for f.state.next() == 0 && ctx.Err() == nil {
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}
}
