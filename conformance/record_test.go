package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

// happening is the record of this run.
var happening = &record{tests: map[string]*happened{}}

// record is what happened in each test, for the summary.
type record struct {
	mu    sync.Mutex
	tests map[string]*happened
}

const (
	passed  = "passed"
	failed  = "failed"
	skipped = "skipped"
)

type happened struct {
	Name     string   `json:"name"`
	Features []string `json:"features"`
	Result   string   `json:"result"`
	Seconds  float64  `json:"seconds"`
	// Sent counts requests by how their token travelled.
	Sent map[string]int `json:"sent,omitempty"`
	// Refused counts answers 401 and UNAUTHENTICATED.
	Refused int `json:"refused,omitempty"`

	began time.Time
}

// of returns what is known of the test with this full name, such as TestConformance/HTTPRouteCORS/0_request. The caller
// has the lock.
func (r *record) of(fullName string) *happened {
	name := fullName
	if parts := strings.Split(fullName, "/"); len(parts) > 1 {
		name = parts[1]
	}
	h := r.tests[name]
	if h == nil {
		h = &happened{Name: name, Sent: map[string]int{}}
		r.tests[name] = h
	}
	return h
}

func (r *record) sent(test, how string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(test).Sent[how]++
}

func (r *record) refused(test string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(test).Refused++
}

// result is called after each test of the suite.
func (r *record) result(t *testing.T, test suite.ConformanceTest, _ *suite.ConformanceTestSuite) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.of(t.Name())
	for _, f := range test.Features {
		h.Features = append(h.Features, string(f))
	}
	if !h.began.IsZero() {
		h.Seconds = time.Since(h.began).Round(10 * time.Millisecond).Seconds()
	}
	defer func() {
		if *logFile != "" && h.Result != skipped {
			fmt.Fprintf(os.Stderr, "%6.1f s  %s  %s\n", h.Seconds, h.Result, h.Name)
		}
	}()
	switch {
	case t.Failed():
		h.Result = failed
	case t.Skipped():
		h.Result = skipped
	default:
		h.Result = passed
	}
}

// ran are the tests that were not skipped, by name.
func (r *record) ran() []*happened {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*happened
	for _, h := range r.tests {
		if h.Result == passed || h.Result == failed {
			all = append(all, h)
		}
	}
	slices.SortFunc(all, func(a, b *happened) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// locks are, of a run without tokens, the tests that send traffic and did not fail, and the number of those that did.
// What sends traffic is what sent some, and what did in another run.
func (r *record) locks(other string) (open []string, closed int, err error) {
	traffic := map[string]bool{}
	for _, h := range r.ran() {
		traffic[h.Name] = len(h.Sent) > 0
	}
	if other != "" {
		text, err := os.ReadFile(other)
		if err != nil {
			return nil, 0, err
		}
		var tests []happened
		if err := json.Unmarshal(text, &tests); err != nil {
			return nil, 0, fmt.Errorf("%s: %w", other, err)
		}
		for _, h := range tests {
			traffic[h.Name] = traffic[h.Name] || len(h.Sent) > 0
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, sends := range traffic {
		switch {
		case !sends:
		case r.tests[name] != nil && r.tests[name].Result == failed:
			closed++
		default:
			open = append(open, name)
		}
	}
	slices.Sort(open)
	if closed == 0 && len(open) == 0 {
		err = errors.New("no test sent traffic")
	}
	return open, closed, err
}

// failures are the tests that failed, for who does not read the log.
func (r *record) failures() (lines []string) {
	for _, h := range r.ran() {
		if h.Result == failed {
			lines = append(lines, "failed: "+h.Name)
		}
	}
	return lines
}

// write writes the files of a run.
func (r *record) write(took time.Duration) error {
	var errs []error
	if *facts != "" {
		text, err := json.MarshalIndent(r.ran(), "", "  ")
		errs = append(errs, err, os.WriteFile(*facts, append(text, '\n'), 0o644))
	}
	if *summary != "" {
		errs = append(errs, os.WriteFile(*summary, []byte(r.table(took)), 0o644))
	}
	return errors.Join(errs...)
}
