package merkle

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// sinkEvery bounds how much a busy log sends: one checkpoint covers all before.
	sinkEvery   = time.Second
	sinkTimeout = 10 * time.Second
	sinkBackoff = time.Second
	sinkMost    = time.Minute
	// closeTimeout is what Close gives the sinks for the last checkpoint.
	closeTimeout = 3 * time.Second
)

// sink brings the newest checkpoint to a second place.
type sink struct {
	to   Sink
	log  *slog.Logger
	wake chan struct{}

	mu     sync.Mutex
	newest []byte
}

func newSink(to Sink, log *slog.Logger) *sink {
	return &sink{to: to, log: log, wake: make(chan struct{}, 1)}
}

func (s *sink) offer(checkpoint []byte) {
	s.mu.Lock()
	s.newest = checkpoint
	s.mu.Unlock()
	wake(s.wake)
}

// run delivers until closing, and then what is there once more.
func (s *sink) run(ctx context.Context, closing <-chan struct{}) {
	var delivered []byte
	backoff, failing, last := sinkBackoff, false, false
	for {
		if !last {
			select {
			case <-s.wake:
			case <-closing:
				last = true
			}
		}
		s.mu.Lock()
		newest := s.newest
		s.mu.Unlock()
		pause := time.Duration(0)
		if newest != nil && string(newest) != string(delivered) {
			err := s.deliver(ctx, newest)
			pause = sinkEvery
			switch {
			case err == nil:
				if delivered, backoff = newest, sinkBackoff; failing {
					s.log.Info("checkpoints are delivered again")
				}
			default:
				if !failing {
					s.log.Error("a checkpoint cannot be delivered; it is tried again", "error", err)
				}
				pause, backoff = backoff, min(2*backoff, sinkMost)
				wake(s.wake)
			}
			failing = err != nil
		}
		if last || ctx.Err() != nil {
			return
		}
		select {
		case <-time.After(pause):
		case <-closing:
			last = true
		}
	}
}

func (s *sink) deliver(ctx context.Context, checkpoint []byte) error {
	ctx, cancel := context.WithTimeout(ctx, sinkTimeout)
	defer cancel()
	return s.to(ctx, checkpoint)
}
