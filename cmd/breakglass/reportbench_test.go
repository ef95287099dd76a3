package main

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/internal/report/reporttest"
)

// BenchmarkReport makes reports of an incident of 100,000 requests, or of as many as
// BREAKGLASS_BENCH_REQUESTS says, verification included.
func BenchmarkReport(b *testing.B) {
	n := 100_000
	if s := os.Getenv("BREAKGLASS_BENCH_REQUESTS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	dir := filepath.Join(b.TempDir(), "log")
	if err := reporttest.Requests(n).Write(b.Context(), dir); err != nil {
		b.Fatal(err)
	}
	for _, form := range [][]string{{"html"}, {"html", "--requests", "all"}, {"markdown"}, {"json"}} {
		name := form[0]
		if len(form) > 1 {
			name += "-all"
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				args := append([]string{"report", "--data-dir", dir, "--incident", "INC-4711", "-o"}, form...)
				if code := execute(b.Context(), args, nil, io.Discard, os.Stderr); code != exitOK {
					b.Fatalf("exit code %d", code)
				}
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/report")
		})
	}
}
