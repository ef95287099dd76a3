package engine

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
)

// requested fills the audit log of l with so many requests of this moment, in
// segments of that size (0: as they are in use).
func (l *Engine) requested(t testing.TB, n int, segmentBytes int64) {
	t.Helper()
	log, err := merkle.Open(l.logDir(), merkle.Options{Log: slog.New(slog.DiscardHandler), SegmentBytes: segmentBytes})
	if err != nil {
		t.Fatal(err)
	}
	const batch = 1000
	for from := 0; from < n; from += batch {
		var drafts []merkle.Draft
		for i := from; i < min(n, from+batch); i++ {
			e := entry(audit.KindRequest, audit.RequestEntry{
				V: 1, Key: fmt.Sprintf("4e9b42a8-f81e-45aa-94ee-%012d", i), Type: audit.TypeEnd, Gateway: "pay/door", Epoch: "3fa91c22", N: uint64(i + 1),
				Connection: "17", Start: time.Now(), Method: "GET", Host: "db.example.com", Path: "/state/replication", Status: 200, BytesOut: 1270,
				Route: "pay/db", Rule: "failover", Role: "db", Opening: "4f9b42a8f81e45aa", Activations: []string{"pay/inc-1"}, Incident: "INC-1",
				Issuer: "https://sso.example.com", Subject: "alice", JTI: "0f5c", ClientAddress: "10.1.2.3:44321", UpstreamAddress: "10.0.0.1:9000",
			})
			drafts = append(drafts, merkle.Draft{Kind: e.Kind, Data: e.Data, Cursors: map[string]string{"spool/pay/door": fmt.Sprintf("3fa91c22:%d", i)}})
		}
		if err := log.Append(t.Context(), drafts...); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
}

// A start waits for them.
func TestOfAFloodTheNewestEntriesAreRememberedOverAStartAndNoMore(t *testing.T) {
	l := begun(t)
	l.requested(t, 60_000, 8<<20)
	size := uint64(0)
	if err := merkle.Read(t.Context(), l.logDir(), merkle.Filter{}, func(e merkle.Entry) error { size = e.Seq + 1; return nil }); err != nil {
		t.Fatal(err)
	}
	log, got, err := recorder.OpenLog(l.logDir(), merkle.Options{Log: slog.New(slog.DiscardHandler), Now: time.Now})()
	if err != nil || len(got) != 50_000 || got[len(got)-1].Seq != size-1 {
		t.Fatalf("%d entries, %v", len(got), err)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}

// BenchmarkStartOnALog opens the log of a flood that is not over: 300,000 requests
// of the last moment, in four segments. At 2 s what is open would begin to be in
// doubt.
func BenchmarkStartOnALog(b *testing.B) {
	l := begun(b)
	l.requested(b, 300_000, 0)
	for b.Loop() {
		if err := l.openAudit(); err != nil {
			b.Fatal(err)
		}
		if p := l.recorder.Problem(); p != "" {
			b.Fatal(p)
		}
		if err := l.recorder.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
