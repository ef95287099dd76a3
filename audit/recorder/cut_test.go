package recorder

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/spool"
)

// say writes what the journal holds of an activation of one opening.
func (l *lab) say(name, opening string, deadline, endedAt time.Time) {
	l.t.Helper()
	r := map[string]any{"namespace": "pay", "name": name, "deadline": deadline,
		"targets": map[string]any{"HTTPRoute/r": map[string]any{"openings": map[string]string{"#0": opening}}}}
	if !endedAt.IsZero() {
		r["endedAt"] = endedAt
	}
	data, err := json.Marshal(map[string]any{"event": "any", "record": r})
	if err != nil {
		l.t.Fatal(err)
	}
	if err := l.journal.Append(context.Background(), audit.Entry{Kind: audit.KindActivation, Data: data}); err != nil {
		l.t.Fatal(err)
	}
}

// abortedNow is a stream that has just ended as if the backend had closed it.
func abortedNow(key, opening string) *spool.Row {
	row := ended("e1", key)
	row.Request.Opening, row.Request.ResponseFlags = opening, "UC"
	row.Request.Start, row.Request.DurationMs = time.Now().Add(-time.Minute), 60_000
	return row
}

func (l *lab) wantCut(want ...string) {
	l.t.Helper()
	var got []string
	for _, e := range of[audit.RequestEntry](l.ledger, audit.KindRequest) {
		got = append(got, e.Key+" "+e.Cut)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		l.t.Errorf("got %q, want %q", got, want)
	}
}

func TestAStreamOfAnOpeningThatEndedWasCut(t *testing.T) {
	inLab(t, func(l *lab) {
		deadline := time.Now().Add(time.Hour)
		l.say("a", "o1", deadline, time.Time{})
		l.lines.put(abortedNow("backend's own doing", "o1"))
		time.Sleep(time.Second)
		l.wantCut("backend's own doing ")

		// What closes is recorded a moment after it has closed.
		closed := time.Now()
		l.lines.put(abortedNow("revoked", "o1"))
		time.Sleep(100 * time.Millisecond)
		l.wantCut("backend's own doing ")
		l.say("a", "o1", deadline, closed)
		time.Sleep(100 * time.Millisecond)
		l.wantCut("backend's own doing ", "revoked closed")
	})
}

func TestAStreamLivesAsLongAsAnyHolderOfItsOpening(t *testing.T) {
	inLab(t, func(l *lab) {
		l.say("a", "o1", time.Now().Add(time.Minute), time.Time{})
		l.say("b", "o1", time.Now().Add(2*time.Minute), time.Time{})
		time.Sleep(90 * time.Second)
		l.lines.put(abortedNow("between", "o1"))
		time.Sleep(30 * time.Second)
		// Nobody said that the deadline passed: this process was not there.
		l.lines.put(abortedNow("after", "o1"))
		l.drain()
		time.Sleep(time.Second)
		l.wantCut("between ", "after closed")
	})
}

func TestOpeningsAreKnownAfterARestart(t *testing.T) {
	inLab(t, func(l *lab) {
		l.say("a", "o1", time.Now().Add(time.Minute), time.Time{})
		l.drain()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		l.lines.put(abortedNow("at the deadline", "o1"))
		l.start(nil)
		time.Sleep(time.Second)
		l.wantCut("at the deadline closed")
		if n := len(of[struct{}](l.ledger, audit.KindActivation)); n != 1 {
			t.Errorf("%d entries of the journal's one", n)
		}
	})
}
