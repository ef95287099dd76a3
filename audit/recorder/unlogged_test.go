package recorder

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/spool"
)

// left is how many entries strangers may have from now on.
func (l *lab) left(n int) {
	l.tell(func() { l.gateway(gw).strangers = strangers{left: float64(n), at: time.Now()} })
}

func (m *memory) all() []merkle.Draft {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.entries)
}

// killed has the log hold n of its entries only, as if the recorder had been killed
// when that many were on the disk, and starts another one, in which strangers have
// no entries left.
func (l *lab) killed(entries []merkle.Draft, n int) {
	l.t.Helper()
	if err := l.Close(); err != nil {
		l.t.Fatal(err)
	}
	l.ledger = &memory{cursors: map[string]string{}}
	var recent []merkle.Entry
	for _, d := range entries[:n] {
		if err := l.ledger.Append(l.t.Context(), d); err != nil {
			l.t.Fatal(err)
		}
		recent = append(recent, merkle.Entry{Kind: d.Kind, Data: d.Data})
	}
	l.broke = true
	l.start(recent)
}

// told is how many requests and connections the log tells of, one by one or as a
// number, and how many of them by gRPC alone.
func (m *memory) told() (requests, connections, rescued int) {
	for _, e := range of[audit.RequestEntry](m, audit.KindRequest) {
		if e.Type == audit.TypeEnd {
			requests++
		}
		if e.Via == viaGRPC {
			rescued++
		}
	}
	connections = len(of[audit.ConnectionEntry](m, audit.KindConnection))
	for _, e := range of[audit.Limited](m, audit.KindLimited) {
		requests, connections = requests+int(e.Requests), connections+int(e.Connections)
	}
	return requests, connections, rescued
}

// anyLines are some of everything that a spool can have, with names from first on.
func anyLines(random *rand.Rand, first, n int) (rows []*spool.Row, requests, connections int) {
	for i := first; i < first+n; i++ {
		name := fmt.Sprint(i)
		switch random.IntN(8) {
		default:
			rows, requests = append(rows, strangersOf(i, i+1)...), requests+1
		case 0:
			row := ended("e1", name)
			row.Request.Issuer = "https://issuer.example"
			rows, requests = append(rows, row), requests+1
		case 1:
			rows = append(rows, nil) // no row
		case 2:
			rows = append(rows, opened(name, "https://issuer.example"))
		case 3:
			rows = append(rows, opened(name, ""))
		case 4:
			rows, connections = append(rows, &spool.Row{
				Type: spool.TypeConnection, Epoch: "e1", Connection: "alone" + name, Closed: &audit.ConnectionEntry{V: 1}}), connections+1
		}
	}
	return rows, requests, connections
}

func opened(key, issuer string) *spool.Row {
	return &spool.Row{Type: spool.TypeOpen, Epoch: "e1", Key: key, Connection: "c-" + key, Request: &audit.RequestEntry{
		V: 1, Key: key, Type: audit.TypeOpen, Epoch: "e1", Issuer: issuer}}
}

func TestAKillAtAnyPointNeitherLosesNorDoublesWhatHasNoEntry(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			l := newLab(t)
			defer func() { l.end() }()
			requests, connections, byGRPC := 0, 0, 0
			for i := range 8 {
				rows, more, alone := anyLines(random, 100*i, 1+random.IntN(15))
				requests, connections = requests+more, connections+alone
				l.left(random.IntN(4))
				l.lines.put(rows...)
				if random.IntN(2) == 0 {
					l.Request(grpcRow("e1", fmt.Sprint("only by grpc ", requests)))
					byGRPC++
				}
				l.count(counted(requests + byGRPC))
				time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
			}
			time.Sleep(6 * time.Second)
			entries := l.ledger.all()
			for n := 0; n <= len(entries); n++ {
				l.count(Counters{}) // until it has read what is there
				l.killed(entries, n)
				time.Sleep(time.Second)
				_, _, rescued := l.ledger.told()
				l.count(counted(requests + rescued))
				time.Sleep(10 * time.Second)
				got, alone, _ := l.ledger.told()
				if got != requests+rescued || alone != connections {
					t.Fatalf("seed %d, killed after %d of %d entries: %d requests and %d connections, want %d and %d",
						seed, n, len(entries), got, alone, requests+rescued, connections)
				}
				for _, g := range of[audit.Gap](l.ledger, audit.KindGap) {
					t.Fatalf("seed %d, killed after %d of %d entries: %+v", seed, n, len(entries), g)
				}
				// What is really missing is.
				l.count(counted(requests + rescued + 5))
				time.Sleep(10 * time.Second)
				if g := of[audit.Gap](l.ledger, audit.KindGap); len(g) != 1 || g[0].Lost != 5 {
					t.Fatalf("seed %d, killed after %d of %d entries: five are missing, gaps %+v", seed, n, len(entries), g)
				}
			}
		})
	}
}

func counted(n int) Counters {
	return Counters{Epoch: "e1", Chains: map[string]Requests{"http-80": {Total: uint64(n)}}}
}

// What Envoy says of a request's end is the client's to choose: it can reset the
// stream, which replaces the details. And it need not end.
func TestAFloodOfStrangersIsBoundedHoweverTheyLeave(t *testing.T) {
	inLab(t, func(l *lab) {
		const most = strangersBurst + 100
		row := func(i int) (r *spool.Row) {
			switch i % 3 {
			case 0:
				return opened(fmt.Sprint(i), "")
			case 1:
				r = ended("e1", fmt.Sprint(i))
				r.Request.Status, r.Request.Details = 429, "http2.remote_reset"
			default:
				r = ended("e1", fmt.Sprint(i))
			}
			return r
		}
		for i := range most + 2000 {
			l.lines.put(row(i))
		}
		known := opened("known", "https://issuer.example")
		l.lines.put(known)
		time.Sleep(time.Second)
		if n := len(of[audit.RequestEntry](l.ledger, audit.KindRequest)); n > most || n < strangersBurst {
			t.Errorf("%d entries", n)
		}
		var last audit.RequestEntry
		for _, e := range l.ledger.all() {
			if e.Kind == audit.KindRequest {
				if err := json.Unmarshal(e.Data, &last); err != nil {
					t.Fatal(err)
				}
			}
		}
		if last.Key != known.Key {
			t.Error("who has a token has no entry")
		}
	})
}
