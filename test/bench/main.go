// Command bench measures a real `breakglass serve` on a real Envoy: how fast a
// route opens, how exactly it closes, what others notice of it, what it takes of
// the machine, and what a request pays. It prints tables in Markdown, and JSON with
// -json. It reports, with the figure that is wanted beside; it judges nothing.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

type config struct {
	envoy, binary, json string
	routes, only        string
	connections         string
	rounds, open, churn int
	audit, strictly     bool
}

func main() {
	var c config
	flag.StringVar(&c.envoy, "envoy", os.Getenv("BREAKGLASS_ENVOY"), "Envoy binary")
	flag.StringVar(&c.binary, "breakglass", "bin/breakglass", "breakglass binary")
	flag.StringVar(&c.json, "json", "", "also write the report to this file, with all samples")
	flag.IntVar(&c.rounds, "rounds", 30, "samples of each kind")
	flag.StringVar(&c.routes, "routes", "1,100,1000,5000", "how many routes are loaded, one run for each")
	flag.IntVar(&c.open, "open", 50, "how many of them are open")
	flag.IntVar(&c.churn, "churn", 10, "changes a second to other routes, in a run more of the most routes; 0: no such run")
	flag.StringVar(&c.only, "only", "", "only these parts, separated by commas: latency, churn, all, cost (-audit: outage, serve, envoy)")
	flag.BoolVar(&c.audit, "audit", false, "instead: kill serve and Envoy under load, and count what the audit log has")
	flag.BoolVar(&c.strictly, "strict", false, "instead: what audit.mode Strict adds to a request")
	flag.StringVar(&c.connections, "connections", "1,16,64", "with -strict: how many connections ask, one run for each")
	flag.Parse()
	measure := run
	if c.audit {
		measure = auditRun
	}
	if c.strictly {
		measure = strictRun
	}
	if err := measure(c); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// wants reports whether a part of the run is to be done.
func (c config) wants(part string) bool {
	return c.only == "" || slices.Contains(strings.Split(c.only, ","), part)
}

// sizes are the numbers of routes, ascending.
func (c config) sizes() ([]int, error) { return numbers("routes", c.routes) }

// numbers of a flag, ascending.
func numbers(flag, text string) (out []int, err error) {
	for text := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 || n > 10_000 {
			return nil, fmt.Errorf("-%s: %q is not a number from 1 to 10000", flag, text)
		}
		out = append(out, n)
	}
	slices.Sort(out)
	return out, nil
}

func run(c config) error {
	sizes, err := c.sizes()
	if err != nil {
		return err
	}
	r := newReport(c)
	fmt.Printf("%s\n", r.Machine)
	most := sizes[len(sizes)-1]
	var settings []setting
	for _, n := range sizes {
		if c.wants("latency") {
			settings = append(settings, setting{Routes: n, Open: min(c.open, n), rounds: c.rounds})
		}
	}
	if c.wants("churn") && c.churn > 0 && most >= 2*reserved {
		settings = append(settings, setting{Routes: most, Open: min(c.open, most), Churn: c.churn, rounds: c.rounds})
	}
	if c.wants("all") && most > c.open {
		settings = append(settings, setting{Routes: most, Open: most, rounds: min(c.rounds, 10)})
	}
	for _, s := range settings {
		scene, err := c.measure(s)
		if err != nil {
			return fmt.Errorf("%d routes, %d open, %d changes a second: %w", s.Routes, s.Open, s.Churn, err)
		}
		r.Scenes = append(r.Scenes, scene)
		scene.print()
	}
	if c.wants("cost") {
		if r.Cost, err = c.cost(); err != nil {
			return fmt.Errorf("the cost of a request: %w", err)
		}
		r.Cost.print()
	}
	return r.write(c.json)
}

// measure everything in one setting.
func (c config) measure(s setting) (_ *scene, err error) {
	w, err := start(c, s)
	if err != nil {
		return nil, err
	}
	defer func() {
		w.failed = err != nil
		w.stop()
	}()
	m := &measurements{world: w, scene: &scene{setting: s, FirstStartMillis: w.firstStart}}
	probe, err := w.startProbe()
	if err != nil {
		return nil, err
	}
	churn, err := w.startChurn(s.Churn)
	if err != nil {
		return nil, err
	}
	for _, part := range []func() error{m.apply, m.activate, m.deadlines, m.memory, m.deadlinesKilled} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	if err := churn.end(); err != nil {
		return nil, err
	}
	m.scene.Changes = churn.changes
	m.scene.Probed, m.scene.Wrong = probe.end()
	if s.Churn > 0 {
		return m.scene, nil
	}
	return m.scene, m.cold()
}
