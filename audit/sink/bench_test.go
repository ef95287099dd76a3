package sink

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// How fast a sink that was away catches up, with a receiver on this host that takes
// everything: entries of a request each.
func BenchmarkASinkCatchesUp(b *testing.B) {
	const entries = 50_000
	logDir := filepath.Join(b.TempDir(), "log")
	l := openLog(b, logDir, merkle.Options{})
	var drafts []merkle.Draft
	for n := range entries {
		drafts = append(drafts, merkle.Draft{Kind: "request", Data: fmt.Appendf(nil, `{"v":1,"key":"k%d","type":"end","gateway":"prod/door","epoch":"e","n":%d,"streamID":"s%d","start":"2026-11-26T01:00:00Z","durationMs":1.5,"method":"GET","host":"db.example.com","path":"/table?q=redacted","status":200,"bytesIn":0,"bytesOut":17,"route":"prod/db","rule":"0","activations":["prod/a"],"role":"oncall","incident":"INC-4711","issuer":"https://idp.example.com","subject":"alice@example.com","jti":"0123456789abcdef","clientAddress":"192.0.2.7:4711","upstreamAddress":"10.0.0.1:5432"}`, n, n+1, n)})
	}
	for len(drafts) > 0 {
		n := min(1000, len(drafts))
		if err := l.Append(context.Background(), drafts[:n]...); err != nil {
			b.Fatal(err)
		}
		drafts = drafts[n:]
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer receiver.Close()
	out := filepath.Join(b.TempDir(), "out.jsonl")
	for name, s := range map[string]Sink{
		"JSONLines":            {JSONLines: &JSONLines{Path: out}},
		"JSONLinesOCSF":        {JSONLines: &JSONLines{Path: out + ".ocsf"}, Encoding: OCSF},
		"OTLP":                 {OTLP: &OTLP{Endpoint: receiver.URL}},
		"CloudEvents":          {CloudEvents: &CloudEvents{URL: receiver.URL}},
		"CloudEventsInBatches": {CloudEvents: &CloudEvents{URL: receiver.URL, Mode: "Batch"}},
		"AlarmsOnly":           {Alertmanager: &Alertmanager{URL: receiver.URL}, From: FromBeginning},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s.Name = "a"
				p := defaultPace
				sinks := start(b, Options{Dir: logDir, StateDir: b.TempDir(), Config: Config{Sinks: []Sink{s}}, pace: &p})
				for sinks.Status()[0].Next < l.Size() {
					time.Sleep(time.Millisecond)
				}
				stop(b, sinks)
			}
			b.ReportMetric(float64(entries)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
