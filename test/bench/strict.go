package main

import (
	"fmt"
	"slices"
)

// strict is what audit.mode Strict costs: the same load on two serves that differ in
// it alone, in turn.
type strict struct {
	Rows []*strictRow `json:"rows"`
}

// strictRow is one number of connections: of the rounds of each the median, and the
// least, which is that of the moment in which the machine had least else to do.
type strictRow struct {
	Connections int `json:"connections"`
	Standard    strictFigures
	Strict      strictFigures
}

type strictFigures struct {
	P50       float64 `json:"p50us"`
	P99       float64 `json:"p99us"`
	PerSecond float64 `json:"perSecond"`
	LeastP50  float64 `json:"leastP50us"`
	LeastP99  float64 `json:"leastP99us"`
	Most      float64 `json:"mostPerSecond"`
	EnvoyCPU  float64 `json:"envoyCPUus"`
	ServeCPU  float64 `json:"serveCPUus"`
}

// strictFigure is how much Strict may add to the median of one request after the
// other, in µs.
const strictFigure = 500

func (c config) strict() (*strict, error) {
	backend, err := startWireBackend()
	if err != nil {
		return nil, err
	}
	defer backend.stop()
	out := &strict{}
	var rivals []rival
	var request []byte
	for _, mode := range []string{"Standard", "Strict"} {
		w, err := startWith(c, setting{Routes: 100, Open: 50, mode: mode}, backend.addr(), nil)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", mode, err)
		}
		defer w.stop()
		envoy, err := w.envoyPID()
		if err != nil {
			return nil, err
		}
		rivals = append(rivals, rival{name: mode, door: w.door, envoy: envoy, serve: w.serve.Process.Pid, request: w.request(w.openRoutes()[0], "/x")})
	}
	connections, err := numbers("connections", c.connections)
	if err != nil {
		return nil, err
	}
	fmt.Print(strictHead)
	for _, n := range connections {
		rounds, err := compareRounds(rivals, max(3, c.rounds/2), n, request, func(door string, n int, request []byte) (loader, error) { return newWireLoad(door, n, string(request)) })
		if err != nil {
			return nil, fmt.Errorf("%d connections: %w", n, err)
		}
		row := &strictRow{Connections: n, Standard: figuresOf(rounds[0]), Strict: figuresOf(rounds[1])}
		row.print() // a busy disk may end what follows: then requests are refused
		out.Rows = append(out.Rows, row)
	}
	return out, nil
}

func figuresOf(rounds []*costRow) strictFigures {
	sorted := func(of func(*costRow) float64) []float64 {
		var all []float64
		for _, r := range rounds {
			all = append(all, of(r))
		}
		slices.Sort(all)
		return all
	}
	p50, p99 := sorted(func(r *costRow) float64 { return r.P50 }), sorted(func(r *costRow) float64 { return r.P99 })
	rate := sorted(func(r *costRow) float64 { return r.PerSecond })
	envoy, serve := sorted(func(r *costRow) float64 { return r.EnvoyCPU }), sorted(func(r *costRow) float64 { return r.ServeCPU })
	middle := len(rounds) / 2
	return strictFigures{
		P50: p50[middle], P99: p99[middle], PerSecond: rate[middle], LeastP50: p50[0], LeastP99: p99[0], Most: rate[len(rate)-1],
		EnvoyCPU: envoy[middle], ServeCPU: serve[middle],
	}
}

const strictHead = `
### What audit.mode Strict adds

Medians of rounds in turn; in brackets the best round.

| connections | | p50 µs | p99 µs | requests/s | CPU of Envoy, µs a request | of serve | added at p50 |
|---|---|---|---|---|---|---|---|
`

func (r *strictRow) print() {
	for _, x := range []struct {
		name string
		f    strictFigures
	}{{"Standard", r.Standard}, {"Strict", r.Strict}} {
		added := ""
		if x.name == "Strict" {
			least := r.Strict.LeastP50 - r.Standard.LeastP50
			added = fmt.Sprintf("%.0f (%.0f)", r.Strict.P50-r.Standard.P50, least)
			if r.Connections == 1 {
				added += fmt.Sprintf(", best < %d: %s", strictFigure, okOrMissed(least < strictFigure))
			}
		}
		fmt.Printf("| %d | %s | %.0f (%.0f) | %.0f (%.0f) | %.0f (%.0f) | %.0f | %.0f | %s |\n", r.Connections, x.name,
			x.f.P50, x.f.LeastP50, x.f.P99, x.f.LeastP99, x.f.PerSecond, x.f.Most, x.f.EnvoyCPU, x.f.ServeCPU, added)
	}
}

func strictRun(c config) (err error) {
	r := newReport(c)
	fmt.Printf("%s\n", r.Machine)
	if r.Strict, err = c.strict(); err != nil {
		return err
	}
	return r.write(c.json)
}
