package ship

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// What a client and a service bring from one log to the other, over TLS, with
// entries of the size of a request's: there are so many that batches are full.
func BenchmarkShip(b *testing.B) {
	const entries = 50_000
	data := json.RawMessage(`{"gateway":"pay/door","type":"end","path":"` + strings.Repeat("x", 600) + `"}`)
	for b.Loop() {
		b.StopTimer()
		s := newService(b)
		p := &pod{t: b, dir: b.TempDir(), origin: podOrigin}
		p.start(s)
		p.kill()
		l, err := merkle.Open(p.dir+"/log", merkle.Options{Log: quiet})
		if err != nil {
			b.Fatal(err)
		}
		for range entries / 1000 {
			var drafts []merkle.Draft
			for range 1000 {
				drafts = append(drafts, merkle.Draft{Kind: "request", Data: data})
			}
			if err := l.Append(b.Context(), drafts...); err != nil {
				b.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		p.start(s)
		p.end()
	}
	b.ReportMetric(float64(entries)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}
