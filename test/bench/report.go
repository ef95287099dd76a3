package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// report is the whole run.
type report struct {
	Machine string   `json:"machine"`
	Date    string   `json:"date"`
	Version string   `json:"version"`
	Scenes  []*scene `json:"settings"`
	Cost    *cost    `json:"cost,omitempty"`
	Strict  *strict  `json:"strict,omitempty"`
}

func newReport(c config) *report {
	version, err := exec.Command(c.binary, "version").Output()
	if err != nil {
		version = nil // it says so itself, if it cannot serve either
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return &report{
		Machine: fmt.Sprintf("%d CPUs (%s), %.0f GiB, Linux %s", runtime.NumCPU(), cpuModel(), memoryGiB(), strings.TrimSpace(string(kernel))),
		Date:    time.Now().UTC().Format(time.RFC3339), Version: strings.TrimSpace(string(version)),
	}
}

func (r *report) write(file string) error {
	if file == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// setting of a run.
type setting struct {
	Routes int `json:"routes"`
	Open   int `json:"open"`
	Churn  int `json:"changesPerSecond,omitempty"`
	rounds int
	mode   string // audit.mode; "": the default
}

// scene is what was measured in one setting.
type scene struct {
	setting
	Rows             []*row  `json:"rows"`
	Probed           int     `json:"probed"`
	Wrong            int     `json:"wrongAnswers"`
	Changes          int     `json:"changes,omitempty"`
	ServeMB          float64 `json:"serveMB"`
	EnvoyMB          float64 `json:"envoyMB"`
	FirstStartMillis float64 `json:"firstStartMillis"`
}

// row is one kind of sample, in milliseconds, and the figure that is wanted of a
// quantile; 0: none is.
type row struct {
	Name     string    `json:"name"`
	Figure   float64   `json:"figure,omitempty"`
	Quantile float64   `json:"quantile,omitempty"`
	OK       *bool     `json:"ok,omitempty"`
	Samples  []float64 `json:"samples"`
}

func (s *scene) row(name string, median float64) *row { return s.judge(name, median, 0.5) }

// judge makes a row of which a figure is wanted; with all routes open none is.
func (s *scene) judge(name string, figure, quantile float64) *row {
	if s.Open > 50 {
		figure = 0
	}
	r := &row{Name: name, Figure: figure, Quantile: quantile}
	s.Rows = append(s.Rows, r)
	return r
}

// firstAnswer is the median wanted of the first 200 after a change.
func (s *scene) firstAnswer() float64 {
	if s.Routes > 100 || s.Churn > 0 {
		return 20
	}
	return 10
}

func (r *row) add(d time.Duration) { r.Samples = append(r.Samples, millis(d)) }

// at a quantile, by the nearest rank.
func (r *row) at(q float64) float64 {
	return r.Samples[max(0, min(len(r.Samples)-1, int(q*float64(len(r.Samples)))))]
}

// verdict on the figure that is wanted.
func (r *row) verdict() string {
	if r.Figure == 0 || len(r.Samples) == 0 {
		return ""
	}
	ok := r.at(r.Quantile) <= r.Figure
	r.OK = &ok
	name := map[float64]string{0.5: "p50", 0.99: "p99", 1: "max"}[r.Quantile]
	return fmt.Sprintf("%s ≤ %.0f: %s", name, r.Figure, okOrMissed(ok))
}

func okOrMissed(ok bool) string {
	if ok {
		return "ok"
	}
	return "MISSED"
}

func (s *scene) print() {
	fmt.Printf("\n### %d routes loaded, %d open", s.Routes, s.Open)
	if s.Churn > 0 {
		fmt.Printf(", %d changes a second", s.Churn)
	}
	fmt.Print("\n\n| ms | samples | min | p50 | p95 | p99 | max | wanted |\n|---|---|---|---|---|---|---|---|\n")
	for _, r := range s.Rows {
		if len(r.Samples) == 0 {
			continue
		}
		slices.Sort(r.Samples)
		fmt.Printf("| %s | %d | %.1f | %.1f | %.1f | %.1f | %.1f | %s |\n", r.Name, len(r.Samples), r.at(0), r.at(0.5), r.at(0.95), r.at(0.99), r.at(1), r.verdict())
	}
	fmt.Println()
	if s.Probed > 0 {
		fmt.Printf("Meanwhile other routes, open and closed, were asked %d times, 100 times a second: %d wrong answers (0: %s). ", s.Probed, s.Wrong, okOrMissed(s.Wrong == 0))
	}
	if s.Changes > 0 {
		fmt.Printf("%d changes of other routes. ", s.Changes)
	}
	fmt.Printf("In memory: serve %.0f MB", s.ServeMB)
	if s.Open <= 50 {
		fmt.Printf(" (≤ 250: %s)", okOrMissed(s.ServeMB <= 250))
	}
	fmt.Printf(", Envoy %.0f MB. First start, with an empty data directory: %.0f ms.\n", s.EnvoyMB, s.FirstStartMillis)
}
