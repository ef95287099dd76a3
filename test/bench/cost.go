package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// costRound is short, and the rivals are asked in turn: what else the machine does
// in a second falls on each alike.
const costRound = 200 * time.Millisecond

// cost is what a request pays: the same load on a plain Envoy and on ours.
type cost struct {
	Ends []*costEnds `json:"ends"`
}

// costEnds are figures with one kind of client and backend.
type costEnds struct {
	Name string     `json:"name"`
	Rows []*costRow `json:"rows"`
}

// costRow is one Envoy at one number of connections: medians of rounds.
type costRow struct {
	Connections int     `json:"connections"`
	Name        string  `json:"name"`
	P50         float64 `json:"p50us"`
	P99         float64 `json:"p99us"`
	PerSecond   float64 `json:"perSecond"`
	EnvoyCPU    float64 `json:"envoyCPUus"` // a request
	ServeCPU    float64 `json:"serveCPUus"`
}

// loader asks until a time is over.
type loader interface {
	run(d time.Duration) (*wireResult, error)
	close()
}

// rival is an Envoy that is compared.
type rival struct {
	name, door   string
	envoy, serve int    // process ids
	request      []byte // nil: that of all
}

func (c config) cost() (*cost, error) {
	all := &cost{}
	thin, err := startWireBackend()
	if err != nil {
		return nil, err
	}
	defer thin.stop()
	ends, err := c.costWith("epoll", thin.addr(), func(door string, n int, request []byte) (loader, error) { return newWireLoad(door, n, string(request)) })
	if err != nil {
		return nil, err
	}
	all.Ends = append(all.Ends, ends)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })}
	go func() { _ = server.Serve(l) }() // ends with Close
	defer server.Close()
	ends, err = c.costWith("net/http", l.Addr().String(), newHTTPLoad)
	all.Ends = append(all.Ends, ends)
	return all, err
}

func (c config) costWith(name, backend string, load func(door string, n int, request []byte) (loader, error)) (_ *costEnds, err error) {
	w, err := startWith(c, setting{Routes: 100, Open: 50}, backend, nil)
	if err != nil {
		return nil, err
	}
	defer func() {
		w.failed = err != nil
		w.stop()
	}()
	plain, err := startPlain(c, backend)
	if err != nil {
		return nil, err
	}
	defer plain.stop()
	envoy, err := w.envoyPID()
	if err != nil {
		return nil, err
	}
	rivals := []rival{
		{name: "plain", door: plain.door, envoy: plain.pid()},
		{name: "plain, with a file log", door: plain.logged, envoy: plain.pid()},
		{name: "all locks, audit log", door: w.door, envoy: envoy, serve: w.serve.Process.Pid},
		{name: "no Envoy", door: backend}, // what client and backend can do alone
	}
	ends := &costEnds{Name: name}
	for _, n := range []int{1, 16, 32} {
		rows, err := compare(rivals, max(3, c.rounds/2), n, w.request(w.openRoutes()[0], "/x"), load)
		if err != nil {
			return nil, fmt.Errorf("%s, %d connections: %w", name, n, err)
		}
		ends.Rows = append(ends.Rows, rows...)
	}
	return ends, nil
}

// compare the rivals, in turn: medians.
func compare(rivals []rival, turns, connections int, request []byte, load func(string, int, []byte) (loader, error)) ([]*costRow, error) {
	rounds, err := compareRounds(rivals, turns, connections, request, load)
	if err != nil {
		return nil, err
	}
	var rows []*costRow
	for i, r := range rivals {
		middle := func(of func(*costRow) float64) float64 {
			var all []float64
			for _, row := range rounds[i] {
				all = append(all, of(row))
			}
			slices.Sort(all)
			return all[len(all)/2]
		}
		rows = append(rows, &costRow{
			Connections: connections, Name: r.name,
			P50:       middle(func(r *costRow) float64 { return r.P50 }),
			P99:       middle(func(r *costRow) float64 { return r.P99 }),
			PerSecond: middle(func(r *costRow) float64 { return r.PerSecond }),
			EnvoyCPU:  middle(func(r *costRow) float64 { return r.EnvoyCPU }),
			ServeCPU:  middle(func(r *costRow) float64 { return r.ServeCPU }),
		})
	}
	return rows, nil
}

// compareRounds of the rivals, in turn.
func compareRounds(rivals []rival, turns, connections int, request []byte, load func(string, int, []byte) (loader, error)) ([][]*costRow, error) {
	rounds := make([][]*costRow, len(rivals))
	for range turns {
		for i, r := range rivals {
			asks := request
			if r.request != nil {
				asks = r.request
			}
			l, err := load(r.door, connections, asks)
			if err != nil {
				return nil, err
			}
			row, err := r.round(l)
			l.close()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.name, err)
			}
			rounds[i] = append(rounds[i], row)
		}
	}
	return rounds, nil
}

// round warms the connections up, asks, and waits until serve has kept the
// entries, so that the next one does not pay for it.
func (r rival) round(l loader) (*costRow, error) {
	if _, err := l.run(costRound / 5); err != nil {
		return nil, err
	}
	r.rest()
	envoy, serve := cpuTime(r.envoy), cpuTime(r.serve)
	got, err := l.run(costRound)
	if err != nil {
		return nil, err
	}
	envoy = cpuTime(r.envoy) - envoy
	r.rest()
	serve = cpuTime(r.serve) - serve
	n := float64(len(got.took))
	return &costRow{
		P50: micros(got.at(0.5)), P99: micros(got.at(0.99)), PerSecond: got.perSecond(),
		EnvoyCPU: micros(envoy) / n, ServeCPU: micros(serve) / n,
	}, nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// rest until serve does next to nothing.
func (r rival) rest() {
	if r.serve == 0 {
		return
	}
	for before, end := cpuTime(r.serve), time.Now().Add(2*time.Second); time.Now().Before(end); {
		time.Sleep(30 * time.Millisecond)
		now := cpuTime(r.serve)
		if now-before < 2*time.Millisecond {
			return
		}
		before = now
	}
}

// httpLoad is net/http's client, as many times as there are connections.
type httpLoad struct {
	clients []*http.Client
	request *http.Request
}

func newHTTPLoad(door string, n int, request []byte) (loader, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+door+"/x", nil)
	if err != nil {
		return nil, err
	}
	for line := range strings.SplitSeq(string(request), "\r\n") {
		switch name, value, _ := strings.Cut(line, ": "); name {
		case "host":
			req.Host = value
		case "authorization":
			req.Header.Set(name, value)
		}
	}
	l := &httpLoad{request: req}
	for range n {
		l.clients = append(l.clients, &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableCompression: true}})
	}
	return l, nil
}

func (l *httpLoad) close() {
	for _, c := range l.clients {
		c.CloseIdleConnections()
	}
}

func (l *httpLoad) run(d time.Duration) (*wireResult, error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	r := &wireResult{}
	began := time.Now()
	for _, c := range l.clients {
		wg.Go(func() {
			var took []time.Duration
			var err error
			for err == nil && time.Since(began) < d {
				start := time.Now()
				err = ask(c, l.request.Clone(context.Background()))
				took = append(took, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			r.took, failed = append(r.took, took...), errors.Join(failed, err)
		})
	}
	wg.Wait()
	r.elapsed = time.Since(began)
	slices.Sort(r.took)
	return r, failed
}

func ask(c *http.Client, req *http.Request) error {
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", res.Status)
	}
	return nil
}

func (c *cost) print() {
	fmt.Print("\n### What a request pays\n\n")
	for _, e := range c.Ends {
		fmt.Printf("Client and backend on %s, on the same cores:\n\n", e.Name)
		fmt.Print("| connections | | p50 µs | p99 µs | requests/s | CPU of Envoy, µs a request | of serve | p50 ≤ 1.3 | requests ≥ 0.7 |\n|---|---|---|---|---|---|---|---|---|\n")
		var plain *costRow
		for _, r := range e.Rows {
			ratios := "| | |"
			if r.Name == "plain" {
				plain = r
			} else {
				slower, rate := r.P50/plain.P50, r.PerSecond/plain.PerSecond
				ratios = fmt.Sprintf("| %.2f | %.2f |", slower, rate)
				if r.ServeCPU > 0 {
					ratios = fmt.Sprintf("| %.2f: %s | %.2f: %s |", slower, okOrMissed(slower <= 1.3), rate, okOrMissed(rate >= 0.7))
				}
			}
			fmt.Printf("| %d | %s | %.0f | %.0f | %.0f | %.0f | %.0f %s\n", r.Connections, r.Name, r.P50, r.P99, r.PerSecond, r.EnvoyCPU, r.ServeCPU, ratios)
		}
		fmt.Println()
	}
}
