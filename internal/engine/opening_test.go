package engine

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// restarted is a loop that finds a window open in its journal, and a log that is
// not open until something is sent, which says why it cannot be.
func restarted(t *testing.T) (l *Engine, opened chan<- error) {
	t.Helper()
	l = started(t)
	l.noteSeq()
	l.set = source.Load("../../translator/testdata/httproute-live/in.yaml")
	for len(l.translate()) > 0 {
		for _, f := range l.result.Facts {
			l.records[f.Record.Key()] = f.Record
		}
	}
	if l.lastDeadline().IsZero() {
		t.Fatal("nothing is open")
	}
	if err := l.checkSeq(); err != nil {
		t.Fatal(err)
	}
	key, obj := asked("later")
	l.set.Activations[key] = obj
	answers := make(chan error)
	open := func() (recorder.Ledger, []merkle.Entry, error) {
		if err := <-answers; err != nil {
			return nil, nil, err
		}
		ledger, err := merkle.Open(l.logDir(), merkle.Options{Log: l.log})
		return ledger, nil, err
	}
	var err error
	if l.recorder, err = recorder.New(open, l.journal, recorder.Options{Log: slog.New(slog.DiscardHandler), Now: l.now, OnChange: l.Poke}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(answers)
		if err := l.recorder.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, answers
}

// translate as reconcile does, and return the events that would be recorded.
func (l *Engine) translate() (events []string) {
	l.result = l.translator.Translate(l.input(l.doubt()))
	for _, f := range l.result.Facts {
		events = append(events, string(f.Event))
	}
	return events
}

// lastDeadline is until when the one Gateway serves anything.
func (l *Engine) lastDeadline() (until time.Time) {
	for _, g := range l.result.Gateways {
		until = g.LastDeadline
	}
	return until
}

// wantWithheld says whether what is open is closed, and why what waits does.
func (l *Engine) wantWithheld(t *testing.T, withheld bool, reason string) {
	t.Helper()
	for _, e := range l.translate() {
		if e == "opened" {
			t.Error("something new opens")
		}
	}
	if closed := l.lastDeadline().IsZero(); closed != withheld {
		t.Errorf("what is open is closed: %v", closed)
	}
	waits := l.result.Statuses.Activations[types.NamespacedName{Namespace: "pay", Name: "later"}]
	if got := control.Condition(waits.Conditions, v1alpha1.ConditionLive).Reason; got != reason {
		t.Errorf("what is new waits because of %q, want %q: %+v", got, reason, waits)
	}
}

func TestALogThatOpensSlowlyClosesNothingForHalfAMinuteAndOpensNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, opened := restarted(t)
		l.wantWithheld(t, false, "AuditPending")
		if _, err := l.request(types.NamespacedName{Namespace: "pay", Name: "by-command"}, nil, control.Peer{}); err == nil {
			t.Error("an activation by command is taken")
		}
		time.Sleep(30 * time.Second)
		l.wantWithheld(t, true, "AuditFailing")
		opened <- nil
		synctest.Wait()
		if events := l.translate(); len(events) == 0 || l.failing() != "" || l.lastDeadline().IsZero() {
			t.Errorf("after it was opened: %v, failing %q, open until %v", events, l.failing(), l.lastDeadline())
		}
	})
}

func TestALogThatCannotBeOpenedClosesWhatIsOpenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, opened := restarted(t)
		l.wantWithheld(t, false, "AuditPending")
		opened <- errors.New("line 3 was edited")
		synctest.Wait()
		l.wantWithheld(t, true, "AuditFailing")
		time.Sleep(2 * time.Second) // it is being opened again
		l.wantWithheld(t, true, "AuditFailing")
	})
}

// The log may know that the journal was restored from a copy of before something
// was closed.
func TestWhileTheLogIsNotOpenNothingIsServedOfAJournalThatNothingElseVouchesFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := restarted(t)
		l.vouched = false
		l.wantWithheld(t, true, "AuditFailing")
		l.vouched, l.journalErr = true, errors.New("no space")
		l.wantWithheld(t, true, "AuditFailing")
	})
}

func TestOnlyANumberThatIsThereAndNotHigherVouchesForTheJournal(t *testing.T) {
	l := started(t)
	if err := l.checkSeq(); err != nil || l.vouched {
		t.Errorf("without the number: vouched %v, %v", l.vouched, err)
	}
	l.noteSeq()
	if err := l.checkSeq(); err != nil || !l.vouched {
		t.Errorf("with it: vouched %v, %v", l.vouched, err)
	}
	l.seq--
	if err := l.checkSeq(); err != nil || l.vouched || !l.forgetful {
		t.Errorf("with a higher one: vouched %v, forgetful %v, %v", l.vouched, l.forgetful, err)
	}
}
