package sink

import (
	"context"
	"time"
)

// deliverer brings records to a receiver.
type deliverer interface {
	// deliver brings records, in order, and returns of how many, from the first, the
	// receiver has said that it has them. All, if there is no error.
	deliver(ctx context.Context, records []record) (int, error)
	close() error
}

// marker is a deliverer that has a word in the cursor.
type marker interface {
	// resume is told of the mark in the cursor before the first delivery; mark is
	// asked for a new one whenever the cursor is written, also before that.
	resume(mark string) error
	mark() string
}

// refusedError: the receiver was reached, and will not take what it was sent,
// however often.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// latest is how long a receiver can put us off.
const latest = 10 * time.Minute

// laterError: the receiver says when to come again.
type laterError struct {
	err   error
	after time.Duration
}

func (e *laterError) Error() string { return e.err.Error() }
func (e *laterError) Unwrap() error { return e.err }

func newDeliverer(s *Sink, now func() time.Time) deliverer {
	switch {
	case s.JSONLines != nil:
		return &jsonLines{path: s.JSONLines.Path}
	case s.Alertmanager != nil:
		return newAlertmanager(s.Alertmanager, now)
	case s.CloudEvents != nil:
		return newCloudEvents(s.CloudEvents, now)
	default:
		return newOTLP(s.OTLP, now)
	}
}
