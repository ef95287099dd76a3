package recorder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/spool"
)

const gw = "payments/emergency"

// memory is a log in memory that can fail.
type memory struct {
	mu      sync.Mutex
	entries []merkle.Draft
	cursors map[string]string
	err     error
	hang    chan struct{} // not nil: an append waits for it
}

func (m *memory) Append(_ context.Context, drafts ...merkle.Draft) error {
	m.mu.Lock()
	hang := m.hang
	m.mu.Unlock()
	if hang != nil {
		<-hang
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.entries = append(m.entries, drafts...)
	for _, d := range drafts {
		for k, v := range d.Cursors {
			if m.cursors[k] = v; v == "" {
				delete(m.cursors, k)
			}
		}
	}
	return nil
}

func (m *memory) Cursors() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]string{}
	for k, v := range m.cursors {
		out[k] = v
	}
	return out
}

func (m *memory) Err() error   { return nil }
func (m *memory) Close() error { return nil }

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// of decodes the entries of a kind.
func of[T any](m *memory, kind string) []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []T
	for _, e := range m.entries {
		var v T
		if e.Kind == kind {
			if err := json.Unmarshal(e.Data, &v); err != nil {
				panic(err)
			}
			out = append(out, v)
		}
	}
	return out
}

// lines is a spool in memory. A position is the number of records before it.
type lines struct {
	mu        sync.Mutex
	records   []spool.Record
	at        int
	committed string
	changed   chan struct{}
}

func (l *lines) Read(most int) ([]spool.Record, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.records[l.at:min(l.at+most, len(l.records))]
	l.at += len(out)
	return out, l.at < len(l.records), nil
}

func (l *lines) Changed() <-chan struct{} { return l.changed }
func (l *lines) Bytes() int64             { return 0 }
func (l *lines) Close() error             { return nil }
func (l *lines) Committed(p string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.committed = p
	return nil
}

func (l *lines) put(rows ...*spool.Row) {
	l.mu.Lock()
	for _, row := range rows {
		rec := spool.Record{Row: row, Position: fmt.Sprint(len(l.records) + 1)}
		if row == nil {
			rec.Problem = "it is no row"
		}
		l.records = append(l.records, rec)
	}
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// open is a Source's Open.
func (l *lines) open(position string) (Tail, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = 0
	if position != "" {
		if _, err := fmt.Sscan(position, &l.at); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func ended(epoch, key string) *spool.Row {
	return &spool.Row{Type: spool.TypeEnd, Epoch: epoch, Key: key, Connection: "c-" + key, Request: &audit.RequestEntry{
		V: 1, Key: key, Type: audit.TypeEnd, Epoch: epoch, Node: gw}}
}

func grpcRow(epoch, key string) audit.RequestEntry { return *ended(epoch, key).Request }

// lab is a recorder with everything around it.
type lab struct {
	*Recorder
	t       *testing.T
	ledger  *memory
	lines   *lines
	journal *audit.Journal
	openErr error
	broke   bool // strangers have used up their entries

	mu       sync.Mutex
	counters Counters
	silent   error // not nil: instead of counters
	changes  int
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func newLab(t *testing.T) *lab {
	j, err := audit.Open(t.TempDir(), audit.Options{Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, ledger: &memory{cursors: map[string]string{}}, lines: &lines{changed: make(chan struct{}, 1)}, journal: j}
	l.start(nil)
	return l
}

func (l *lab) start(recent []merkle.Entry) {
	var err error
	open := func() (Ledger, []merkle.Entry, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.ledger, recent, l.openErr
	}
	if l.Recorder, err = New(open, l.journal, Options{Log: quiet, Now: time.Now, OnChange: l.changed}); err != nil {
		l.t.Fatal(err)
	}
	if l.broke {
		l.left(0)
	}
	l.Attach(Source{Gateway: gw, Open: l.lines.open, Counters: func(context.Context) (Counters, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.counters, l.silent
	}})
}

func (l *lab) count(c Counters) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counters = c
}

func (l *lab) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.silent = err
}

func (l *lab) changed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes++
}

func (l *lab) told() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changes
}

func (l *lab) failOpen(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.openErr = err
}

func (l *lab) end() {
	l.t.Helper()
	err := l.Close()
	if l.journal != nil {
		err = errors.Join(err, l.journal.Close())
	}
	if err != nil {
		l.t.Error(err)
	}
}

func (l *lab) drain() {
	l.t.Helper()
	if err := l.Drain(context.Background()); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) want(keys ...string) {
	l.t.Helper()
	var got []string
	n := map[string]uint64{}
	for _, e := range of[audit.RequestEntry](l.ledger, audit.KindRequest) {
		got = append(got, e.Key+e.Via)
		if n[e.Epoch]++; e.N != n[e.Epoch] || e.Gateway != gw {
			l.t.Errorf("request %s: number %d, want %d; gateway %q", e.Key, e.N, n[e.Epoch], e.Gateway)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(keys) {
		l.t.Errorf("requests %v, want %v", got, keys)
	}
}

// inLab runs f in a bubble. The journal is real, and its own work ends there too.
func inLab(t *testing.T, f func(l *lab)) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		f(l)
		l.end()
	})
}

// alone is a lab without a journal.
func alone(t *testing.T, f func(l *lab)) {
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t, ledger: &memory{cursors: map[string]string{}}, lines: &lines{changed: make(chan struct{}, 1)}}
		l.start(nil)
		f(l)
		l.end()
	})
}

func TestWithoutAJournalRequestsAreLoggedAsEver(t *testing.T) {
	alone(t, func(l *lab) {
		if was := l.JournalWas(); was.Known {
			t.Errorf("a journal is known: %+v", was)
		}
		l.Request(grpcRow("e1", "a"))
		l.lines.put(ended("e1", "a"))
		l.drain()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		l.lines.put(ended("e1", "b"))
		l.start(nil)
		l.drain()
		l.want("a", "b")
		if p := l.Problem(); p != "" {
			t.Error(p)
		}
	})
}

func TestWithoutAJournalWhatWasCutIsWhatOpenUntilSays(t *testing.T) {
	alone(t, func(l *lab) {
		l.lines.put(abortedNow("not known", "o1"))
		l.drain()
		l.OpenUntil("o1", time.Now().Add(time.Minute))
		l.lines.put(abortedNow("open still", "o1"))
		l.drain()
		l.OpenUntil("o1", time.Now())
		l.lines.put(abortedNow("withdrawn", "o1"))
		l.drain()
		begin := time.Now()
		l.lines.put(abortedNow("of another", "o3"))
		l.drain()
		if took := time.Since(begin); took > factAfter/2 {
			t.Errorf("a line waited %v for what nobody will say", took)
		}
		l.OpenUntil("o2", time.Now().Add(time.Minute))
		time.Sleep(time.Minute)
		l.lines.put(abortedNow("ended by itself", "o2"))
		l.drain()
		l.wantCut("not known ", "open still ", "withdrawn closed", "of another ", "ended by itself closed")
	})
}

func TestEachRequestOnceWhicheverWayItComes(t *testing.T) {
	inLab(t, func(l *lab) {
		l.Request(grpcRow("e1", "first by grpc"))
		l.lines.put(ended("e1", "first by grpc"), ended("e1", "first by line"))
		l.drain()
		l.Request(grpcRow("e1", "first by line"))
		time.Sleep(time.Second)
		l.want("first by grpc", "first by line")

		l.Request(grpcRow("e1", "only by grpc"))
		time.Sleep(time.Second)
		l.want("first by grpc", "first by line", "only by grpcals")
		l.lines.put(ended("e1", "only by grpc")) // much later
		l.drain()
		l.want("first by grpc", "first by line", "only by grpcals")
		if p := of[audit.Problem](l.ledger, audit.KindProblem); len(p) != 1 {
			t.Errorf("a late line is said: %v", p)
		}
	})
}

func TestNothingIsTakenTwiceOverRestarts(t *testing.T) {
	inLab(t, func(l *lab) {
		l.lines.put(ended("e1", "a"), ended("e1", "b"))
		l.Request(grpcRow("e1", "c"))
		if err := l.journal.Append(context.Background(), audit.Entry{Kind: audit.KindStart, Data: json.RawMessage(`{}`)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		var recent []merkle.Entry
		for _, d := range l.ledger.entries {
			recent = append(recent, merkle.Entry{Kind: d.Kind, Data: d.Data})
		}
		l.start(recent)
		l.Request(grpcRow("e1", "b"))
		l.lines.put(ended("e1", "c"), ended("e1", "d"))
		time.Sleep(time.Second)
		l.want("a", "b", "cals", "d")
		if s := of[struct{}](l.ledger, audit.KindStart); len(s) != 1 {
			t.Errorf("%d entries of the journal's one", len(s))
		}
	})
}

func TestALogThatCannotBeWrittenIsAProblemAndLosesNothing(t *testing.T) {
	inLab(t, func(l *lab) {
		l.ledger.fail(errors.New("no space"))
		l.lines.put(ended("e1", "a"))
		l.Request(grpcRow("e1", "b"))
		time.Sleep(time.Second)
		if l.Problem() == "" || l.lines.committed != "" {
			t.Errorf("problem %q, committed %q", l.Problem(), l.lines.committed)
		}
		l.ledger.fail(nil)
		time.Sleep(time.Second)
		l.want("a", "bals")
		if l.Problem() != "" || l.lines.committed != "1" {
			t.Errorf("problem %q, committed %q", l.Problem(), l.lines.committed)
		}
	})
}

func TestMissingRequestsAreSaidOnce(t *testing.T) {
	inLab(t, func(l *lab) {
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {3, 1}}})
		l.lines.put(ended("e1", "a"), ended("e1", "b"))
		time.Sleep(5 * time.Second)
		if g := of[audit.Gap](l.ledger, audit.KindGap); len(g) != 0 || l.Stats().Incomplete {
			t.Fatalf("nothing is missing: %+v", g)
		}
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {6, 1}}})
		time.Sleep(time.Second)
		if !l.Stats().Incomplete {
			t.Error("a difference is seen at once")
		}
		time.Sleep(10 * time.Second)
		g := of[audit.Gap](l.ledger, audit.KindGap)
		if len(g) != 1 || g[0].Lost != 3 || g[0].Counted != 5 || g[0].Recorded != 2 || g[0].AtLeast || l.Stats().Missing != 3 {
			t.Errorf("gaps %+v", g)
		}
		if p := of[audit.Problem](l.ledger, audit.KindProblem); len(p) != 0 {
			t.Errorf("problems %v", p)
		}
	})
}

func TestMoreThanEnvoyCountedIsSaid(t *testing.T) {
	inLab(t, func(l *lab) {
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {1, 0}}})
		l.lines.put(ended("e1", "a"), ended("e1", "forged"))
		time.Sleep(5 * time.Second)
		if p := of[audit.Problem](l.ledger, audit.KindProblem); len(p) != 1 {
			t.Errorf("problems %v", p)
		}
	})
}

func TestAKilledEnvoyLeavesAGapAndACleanOneNone(t *testing.T) {
	inLab(t, func(l *lab) {
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {3, 0}}})
		l.lines.put(ended("e1", "a"))
		time.Sleep(time.Second)
		l.count(Counters{})
		l.Request(grpcRow("e1", "b"))
		l.Exited(gw, "e1", false)
		l.lines.put(ended("e2", "c"))
		time.Sleep(5 * time.Second)
		l.want("a", "c", "bals")
		g := of[audit.Gap](l.ledger, audit.KindGap)
		if len(g) != 1 || g[0].Lost != 1 || g[0].Epoch != "e1" || !g[0].AtLeast || g[0].Recorded != 2 {
			t.Errorf("gaps %+v", g)
		}
		l.count(Counters{Epoch: "e2", Chains: map[string]Requests{"http-80": {1, 0}}})
		time.Sleep(time.Second)
		l.count(Counters{})
		l.Exited(gw, "e2", true)
		time.Sleep(5 * time.Second)
		if g := of[audit.Gap](l.ledger, audit.KindGap); len(g) != 1 {
			t.Errorf("gaps %+v", g)
		}
		if e := of[Epoch](l.ledger, KindEpoch); len(e) != 2 || e[0].Requests != 2 || e[0].Missing != 1 || e[1].Requests != 1 {
			t.Errorf("epochs %+v", e)
		}
		for name := range l.ledger.Cursors() {
			if name != "spool/"+gw {
				t.Errorf("cursor %s is left", name)
			}
		}
	})
}

func TestAConnectionWithoutARequestIsLogged(t *testing.T) {
	inLab(t, func(l *lab) {
		closed := func(id string, age time.Duration) *spool.Row {
			return &spool.Row{Type: spool.TypeConnection, Epoch: "e1", Connection: id, Closed: &audit.ConnectionEntry{V: 1, Connection: id, Start: time.Now().Add(-age)}}
		}
		time.Sleep(time.Second)
		l.lines.put(ended("e1", "a"), closed("c-a", 0), closed("c-b", 0), closed("c-c", time.Hour))
		l.drain()
		got := of[audit.ConnectionEntry](l.ledger, audit.KindConnection)
		if len(got) != 2 || got[0].Connection != "c-b" || got[0].Uncertain || !got[1].Uncertain {
			t.Errorf("connections %+v", got)
		}
	})
}

func TestALogThatCannotBeOpenedIsAProblemUntilItCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l.failOpen(errors.New("line 3 was edited"))
		l.start(nil)
		if l.Problem() == "" {
			t.Error("it is not said")
		}
		l.Request(grpcRow("e1", "a")) // its line will come
		l.lines.put(ended("e1", "a"), ended("e1", "b"))
		if err := l.journal.Append(context.Background(), audit.Entry{Kind: audit.KindStop, Data: json.RawMessage(`{}`)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		l.want()
		l.failOpen(nil)
		time.Sleep(reopenMost)
		l.want("a", "b")
		if s := of[struct{}](l.ledger, audit.KindStop); len(s) != 1 || l.Problem() != "" {
			t.Errorf("%d entries of the journal's one, problem %q", len(s), l.Problem())
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		locked := func() (Ledger, []merkle.Entry, error) { return nil, nil, fmt.Errorf("open: %w", merkle.ErrLocked) }
		if _, err := New(locked, l.journal, Options{Log: quiet, Now: time.Now}); err == nil {
			t.Error("a log that another process has was opened")
		}
		if err := l.journal.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAnotherJournalIsRecordedFromItsBeginning(t *testing.T) {
	inLab(t, func(l *lab) {
		if err := l.journal.Append(context.Background(), audit.Entry{Kind: audit.KindStart, Data: json.RawMessage(`{}`)}); err != nil {
			t.Fatal(err)
		}
		l.drain()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		for _, at := range []string{"another:7", l.journal.ID() + ":7"} {
			l.ledger.mu.Lock()
			l.ledger.cursors[journalCursor], l.ledger.entries = at, nil
			l.ledger.mu.Unlock()
			l.start(nil)
			l.drain()
			if s, p := of[struct{}](l.ledger, audit.KindStart), of[audit.Problem](l.ledger, audit.KindProblem); len(s) != 1 || len(p) != 1 {
				t.Errorf("after %s: %d entries of the journal's one, problems %v", at, len(s), p)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		l.start(nil)
		l.drain()
		if s := of[struct{}](l.ledger, audit.KindStart); len(s) != 1 {
			t.Errorf("taken again: %d", len(s))
		}
	})
}

func TestTwoRequestsOfOneKeyAreBothLogged(t *testing.T) {
	inLab(t, func(l *lab) {
		l.lines.put(ended("e1", "a"), ended("e1", "a"))
		l.Request(grpcRow("e1", "a"))
		l.Request(grpcRow("e1", "a"))
		time.Sleep(time.Second)
		l.want("a", "a")
	})
}

func TestWhatEnvoyForgetsIsNoLoss(t *testing.T) {
	inLab(t, func(l *lab) {
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {2, 0}, "http-81": {1, 0}}})
		l.lines.put(ended("e1", "a"), ended("e1", "b"), ended("e1", "c"))
		time.Sleep(time.Second)
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-81": {1, 0}}})
		time.Sleep(5 * time.Second)
		if p := of[audit.Problem](l.ledger, audit.KindProblem); len(p) != 0 {
			t.Errorf("problems %v", p)
		}
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-81": {2, 0}}})
		time.Sleep(10 * time.Second)
		if g := of[audit.Gap](l.ledger, audit.KindGap); len(g) != 1 || g[0].Lost != 1 {
			t.Errorf("gaps %+v", g)
		}
	})
}

func TestTheSpoolIsTidiedUpToWhatTheLogHasOnly(t *testing.T) {
	inLab(t, func(l *lab) {
		l.lines.put(ended("e1", "a"), &spool.Row{Type: spool.TypeConnection, Epoch: "e1", Connection: "c-a", Closed: &audit.ConnectionEntry{V: 1}})
		l.drain()
		if l.lines.committed != "1" {
			t.Errorf("committed %q, and the log's cursor is %q", l.lines.committed, l.ledger.Cursors()["spool/"+gw])
		}
	})
}

func TestADiskThatDoesNotAnswerIsAProblem(t *testing.T) {
	inLab(t, func(l *lab) {
		hang := make(chan struct{})
		l.ledger.mu.Lock()
		l.ledger.hang = hang
		l.ledger.mu.Unlock()
		l.lines.put(ended("e1", "a"))
		time.Sleep(time.Second)
		if p := l.Problem(); p != "" {
			t.Errorf("too soon: %q", p)
		}
		told := l.told()
		time.Sleep(5 * time.Second)
		if l.Problem() == "" || l.told() == told {
			t.Errorf("problem %q, told %d times", l.Problem(), l.told()-told)
		}
		l.ledger.mu.Lock()
		l.ledger.hang = nil
		l.ledger.mu.Unlock()
		close(hang)
		time.Sleep(time.Second)
		if p := l.Problem(); p != "" {
			t.Errorf("still a problem: %q", p)
		}
		l.want("a")
	})
}

// A backend that is dead is what an incident is about.
func TestABackendThatFailsAllTheTimeHidesNothing(t *testing.T) {
	inLab(t, func(l *lab) {
		l.say("a", "o1", time.Now().Add(time.Hour), time.Time{})
		var want []string
		for i := range 50 {
			l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {uint64(i), 0}}})
			row := abortedNow(fmt.Sprint(i), "o1")
			l.lines.put(row)
			want = append(want, row.Key)
			l.Request(*row.Request)
			if i == 10 {
				l.Request(grpcRow("e1", "only by grpc"))
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(of[audit.Gap](l.ledger, audit.KindGap)); n != 0 || l.Stats().Rescued != 1 {
			t.Errorf("%d gaps, %d rescued, while lines wait", n, l.Stats().Rescued)
		}
		for i := range 50 {
			l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {uint64(60 + i), 0}}}) // nine are missing
			l.lines.put(abortedNow(fmt.Sprint("more", i), "o1"))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if n := len(of[audit.Gap](l.ledger, audit.KindGap)); n == 0 {
			t.Error("what is missing is not noticed")
		}
		got := of[audit.RequestEntry](l.ledger, audit.KindRequest)
		if len(got) != 101 {
			t.Errorf("%d requests", len(got))
		}
		n := 0
		for _, e := range got {
			if e.Via == "" && n < len(want) {
				if e.Key != want[n] {
					t.Fatalf("request %s, want %s", e.Key, want[n])
				}
				n++
			}
		}
	})
}

func TestAnEnvoyThatEndedWithServeIsAccountedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.lines.put(ended("e1", "a"))
		time.Sleep(time.Second)
		l.Request(grpcRow("e1", "b"))
		l.Exited(gw, "e1", false)
		l.end()
		l.want("a", "bals")
		if e, g := of[Epoch](l.ledger, KindEpoch), of[audit.Gap](l.ledger, audit.KindGap); len(e) != 1 || e[0].Requests != 2 || len(g) != 1 {
			t.Errorf("epochs %+v, gaps %+v", e, g)
		}
	})
}

func TestAnEnvoyOfWhoseEndNobodyLivedToTellLeavesAGap(t *testing.T) {
	inLab(t, func(l *lab) {
		l.lines.put(ended("e1", "a"))
		time.Sleep(time.Second)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l.count(Counters{Epoch: "e2", Chains: map[string]Requests{"http-80": {0, 0}}})
		l.start(nil)
		time.Sleep(5 * time.Second)
		g := of[audit.Gap](l.ledger, audit.KindGap)
		if len(g) != 1 || g[0].Epoch != "e1" || !g[0].AtLeast || !g[0].Since.IsZero() {
			t.Errorf("gaps %+v", g)
		}
		if _, left := l.ledger.Cursors()["count/"+gw+" e1"]; left {
			t.Error("its cursor is left")
		}
	})
}

func TestWhatAnAdoptedEnvoyCountedBeforeIsNoFault(t *testing.T) {
	inLab(t, func(l *lab) {
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {1, 0}, "http-81": {1, 0}}})
		l.lines.put(ended("e1", "a"), ended("e1", "b"))
		time.Sleep(time.Second)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		// Meanwhile it forgot a chain, and could not write once.
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {1, 0}}, WriteFailed: 3})
		l.start(nil)
		time.Sleep(5 * time.Second)
		if p := of[audit.Problem](l.ledger, audit.KindProblem); len(p) != 0 || l.Problem() != "" {
			t.Errorf("problems %v, %q", p, l.Problem())
		}
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {1, 0}}, WriteFailed: 4})
		time.Sleep(time.Second)
		if l.Problem() == "" {
			t.Error("a write failed")
		}
	})
}

func TestAnEnvoyThatDoesNotAnswerIsNotTrusted(t *testing.T) {
	inLab(t, func(l *lab) {
		l.count(Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {0, 0}}})
		time.Sleep(time.Second)
		l.fail(errors.New("timeout"))
		time.Sleep(quietLong + time.Second)
		if !l.Stats().Incomplete || l.Problem() != "" {
			t.Errorf("incomplete %v, problem %q", l.Stats().Incomplete, l.Problem())
		}
		time.Sleep(tooQuiet)
		if l.Problem() == "" {
			t.Error("no problem")
		}
		l.fail(ErrNoProcess)
		time.Sleep(time.Second)
		if l.Problem() != "" || l.Stats().Incomplete {
			t.Errorf("incomplete %v, problem %q", l.Stats().Incomplete, l.Problem())
		}
	})
}
