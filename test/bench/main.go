// Command bench measures a real `breakglass serve` on a real Envoy: how fast a
// route opens, how exactly it closes, and what others notice of it. It prints a
// table in Markdown, and JSON with -json. It reports; it judges nothing.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

type config struct {
	envoy, binary, json string
	rounds, routes      int
	audit               bool
}

func main() {
	var c config
	flag.StringVar(&c.envoy, "envoy", os.Getenv("BREAKGLASS_ENVOY"), "Envoy binary")
	flag.StringVar(&c.binary, "breakglass", "bin/breakglass", "breakglass binary")
	flag.StringVar(&c.json, "json", "", "also write the samples to this file")
	flag.IntVar(&c.rounds, "rounds", 50, "samples of each kind")
	flag.IntVar(&c.routes, "routes", 10, "routes that are loaded")
	flag.BoolVar(&c.audit, "audit", false, "instead: kill serve and Envoy under load, and count what the audit log has")
	flag.Parse()
	measure := run
	if c.audit {
		measure = auditRun
	}
	if err := measure(c); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// result is one kind of sample, in milliseconds.
type result struct {
	Name    string    `json:"name"`
	Samples []float64 `json:"samples"`
}

func (r *result) add(d time.Duration) {
	r.Samples = append(r.Samples, float64(d.Microseconds())/1000)
}

func run(c config) (err error) {
	w, err := start(c)
	if err != nil {
		return err
	}
	defer func() {
		w.failed = err != nil
		w.stop()
	}()
	m := &measurements{world: w, rounds: c.rounds}
	probe, err := w.probe()
	if err != nil {
		return err
	}
	for _, measure := range []func() error{m.apply, m.activate, m.revoke, m.deadlines} {
		if err := measure(); err != nil {
			return err
		}
	}
	asked, wrong := probe.end()
	if err := m.deadlinesKilled(); err != nil {
		return err
	}
	report(c, m.results, asked, wrong)
	if c.json == "" {
		return nil
	}
	b, err := json.MarshalIndent(map[string]any{"routes": c.routes, "cpus": runtime.NumCPU(), "results": m.results, "probeRequests": asked, "probeErrors": wrong}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(c.json, append(b, '\n'), 0o644)
}

func report(c config, results []*result, asked, wrong int) {
	fmt.Printf("%d routes loaded, %d CPUs, %s; milliseconds.\n\n", c.routes, runtime.NumCPU(), cpuModel())
	fmt.Println("| | samples | min | p50 | p95 | p99 | max |\n|---|---|---|---|---|---|---|")
	for _, r := range results {
		slices.Sort(r.Samples)
		at := func(q float64) float64 { return r.Samples[min(len(r.Samples)-1, int(q*float64(len(r.Samples))))] }
		fmt.Printf("| %s | %d | %.1f | %.1f | %.1f | %.1f | %.1f |\n", r.Name, len(r.Samples), at(0), at(0.5), at(0.95), at(0.99), at(1))
	}
	fmt.Printf("\nMeanwhile another open route was asked %d times, 100 times a second: %d wrong answers.\n", asked, wrong)
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
