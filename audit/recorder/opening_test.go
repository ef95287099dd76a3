package recorder

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// slow has the lab's log opened again, which takes until the returned function is
// called, and then fails with its error if there is one.
func (l *lab) slow(free func() int64) (done func(error)) {
	l.t.Helper()
	if err := l.Close(); err != nil {
		l.t.Fatal(err)
	}
	opened := make(chan error)
	open := func() (Ledger, []merkle.Entry, error) {
		if err := <-opened; err != nil {
			return nil, nil, err
		}
		return l.ledger, nil, nil
	}
	var err error
	if l.Recorder, err = New(open, l.journal, Options{Log: quiet, Now: time.Now, OnChange: l.changed, free: free}); err != nil {
		l.t.Fatal(err)
	}
	return func(err error) {
		opened <- err
		synctest.Wait()
	}
}

func (l *lab) wantState(problem string, opening bool) {
	l.t.Helper()
	if p, o := l.State(); o != opening || (p == "") != (problem == "") || !strings.Contains(p, problem) {
		l.t.Errorf("%q, opening %v; want %q, %v", p, o, problem, opening)
	}
}

func TestALogThatTakesLongToOpenIsBeingOpenedAndNotFailing(t *testing.T) {
	inLab(t, func(l *lab) {
		done := l.slow(nil)
		l.wantState("is being opened", true)
		time.Sleep(openingMost - beginWait - time.Millisecond)
		l.wantState("is being opened", true)
		told := l.told()
		done(nil)
		l.wantState("", false)
		if l.told() == told {
			t.Error("nobody is told")
		}
		time.Sleep(time.Minute)
		l.wantState("", false)
		l.ledger.fail(errors.New("no space"))
		l.lines.put(ended("e1", "a"))
		l.Attach(Source{Gateway: gw, Open: l.lines.open, Counters: func(context.Context) (Counters, error) { return Counters{}, nil }})
		time.Sleep(time.Second)
		l.wantState("no space", false)
		l.ledger.fail(nil)
	})
}

func TestALogThatIsNotOpenAfterThirtySecondsIsFailing(t *testing.T) {
	inLab(t, func(l *lab) {
		done := l.slow(nil)
		time.Sleep(openingMost - beginWait - time.Millisecond)
		told := l.told()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		l.wantState("for more than 30s", false)
		if l.told() == told {
			t.Error("nobody is told")
		}
		done(nil)
		l.wantState("", false)
	})
}

func TestALogThatCannotBeOpenedIsFailingAtOnceAndStaysSoWhileItIsTriedAgain(t *testing.T) {
	inLab(t, func(l *lab) {
		done := l.slow(nil)
		l.wantState("is being opened", true)
		told := l.told()
		done(errors.New("line 3 was edited"))
		l.wantState("line 3 was edited", false)
		if l.told() == told {
			t.Error("nobody is told")
		}
		time.Sleep(reopen + housekeeping) // it is being opened again
		l.wantState("line 3 was edited", false)
		done(nil)
		l.wantState("", false)
	})
}

// Envoy loses lines on a full disk, and nobody else looks while the log is opened.
func TestADiskThatIsAlmostFullIsNotWaitedForWhileTheLogIsBeingOpened(t *testing.T) {
	inLab(t, func(l *lab) {
		var free atomic.Int64
		free.Store(math.MaxInt64)
		done := l.slow(free.Load)
		l.wantState("is being opened", true)
		told := l.told()
		free.Store(minFree - 1)
		time.Sleep(stalled)
		l.wantState("almost full", false)
		if l.told() == told {
			t.Error("nobody is told")
		}
		free.Store(enoughFree)
		time.Sleep(stalled)
		l.wantState("is being opened", true)
		done(nil)
		l.wantState("", false)
	})
}
