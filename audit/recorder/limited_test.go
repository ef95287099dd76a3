package recorder

import (
	"fmt"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/spool"
)

// sum of all that the log has no entry of, and that there is no gap.
func (l *lab) limited() (n numbers) {
	l.t.Helper()
	for _, e := range of[audit.Limited](l.ledger, audit.KindLimited) {
		n.refused, n.requests, n.connections = n.refused+e.Refused, n.requests+e.Requests, n.connections+e.Connections
	}
	if g := of[audit.Gap](l.ledger, audit.KindGap); len(g) != 0 {
		l.t.Errorf("gaps %+v", g)
	}
	if p := of[audit.Problem](l.ledger, audit.KindProblem); len(p) != 0 {
		l.t.Errorf("problems %+v", p)
	}
	return n
}

func (l *lab) restart() {
	l.t.Helper()
	if err := l.Close(); err != nil {
		l.t.Error(err)
	}
	l.start(nil)
}

func strangersOf(from, to int) (rows []*spool.Row) {
	for i := from; i < to; i++ {
		row := ended("e1", fmt.Sprint("s", i))
		row.Request.Status, row.Request.Denied = 401, "token: Jwt is missing"
		rows = append(rows, row)
	}
	return rows
}

func TestWhatTheRateLimitRefusesIsANumberInTheLog(t *testing.T) {
	inLab(t, func(l *lab) {
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {9, 1}}, Limited: 6})
		l.lines.put(ended("e1", "a"), ended("e1", "b"))
		time.Sleep(5 * time.Second)
		if n := l.limited(); n != (numbers{refused: 6}) {
			t.Errorf("after 5 s: %+v", n)
		}
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {1009, 0}}, Limited: 1006})
		l.lines.put(ended("e1", "c"))
		time.Sleep(time.Second)
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {1010, 0}}, Limited: 1007})
		time.Sleep(20 * time.Second)
		entries := of[audit.Limited](l.ledger, audit.KindLimited)
		if n := l.limited(); n != (numbers{refused: 1007}) || len(entries) != 3 {
			t.Errorf("%+v in %d entries", n, len(entries))
		}
		if e := entries[1]; !e.Since.Before(e.Until) || e.Until.Sub(e.Since) > 6*time.Second || e.Epoch != "e1" || e.Gateway != gw {
			t.Errorf("%+v", e)
		}

		// Another recorder says none of it again.
		l.restart()
		time.Sleep(20 * time.Second)
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {1011, 0}}, Limited: 1008})
		time.Sleep(20 * time.Second)
		if n := l.limited(); n.refused != 1008 {
			t.Errorf("after a restart: %+v", n)
		}
	})
}

func TestAGapIsAGapAlsoInAFlood(t *testing.T) {
	inLab(t, func(l *lab) {
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {100, 0}}, Limited: 95})
		l.lines.put(ended("e1", "a"), ended("e1", "b"), ended("e1", "c"))
		time.Sleep(10 * time.Second)
		if g := of[audit.Gap](l.ledger, audit.KindGap); len(g) != 1 || g[0].Lost != 2 {
			t.Errorf("gaps %+v", g)
		}
	})
}

func TestAFloodOfStrangersIsCountedAndThoseWithATokenHaveTheirEntries(t *testing.T) {
	inLab(t, func(l *lab) {
		const more = 500
		l.lines.put(strangersOf(0, strangersBurst+more)...)
		for i := range more {
			known := ended("e1", fmt.Sprint("known", i))
			known.Request.Subject, known.Request.Status = "alice", 200
			l.lines.put(known, &spool.Row{Type: spool.TypeConnection, Epoch: "e1", Connection: fmt.Sprint(i), Closed: &audit.ConnectionEntry{V: 1}})
		}
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {strangersBurst + 2*more, 0}}})
		time.Sleep(30 * time.Second)
		entries := len(of[audit.RequestEntry](l.ledger, audit.KindRequest))
		n := l.limited()
		if entries+int(n.requests) != strangersBurst+2*more || n.requests < more-100 || n.requests > more || n.connections < more-100 {
			t.Errorf("%d entries, and %+v without", entries, n)
		}

		// The number survives, to the one.
		l.restart()
		l.lines.put(strangersOf(20_000, 20_010)...)
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {strangersBurst + 2*more + 10, 0}}})
		time.Sleep(30 * time.Second)
		if again := l.limited(); again != n || len(of[audit.RequestEntry](l.ledger, audit.KindRequest)) != entries+10 {
			t.Errorf("after a restart: %+v, before %+v", again, n)
		}
	})
}
