package conformance

import (
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

// record is what happened in each test, for the summary.
type record struct {
	mu    sync.Mutex
	tests map[string]*happened
}

type happened struct {
	Name     string   `json:"name"`
	Features []string `json:"features"`
	// Result is passed, failed or skipped.
	Result string `json:"result"`
	// Sent counts requests by how their token travelled.
	Sent map[string]int `json:"sent,omitempty"`
	// Refused counts answers 401 and UNAUTHENTICATED.
	Refused int `json:"refused,omitempty"`
}

func newRecord() *record { return &record{tests: map[string]*happened{}} }

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
	switch {
	case t.Failed():
		h.Result = "failed"
	case t.Skipped():
		h.Result = "skipped"
	default:
		h.Result = "passed"
	}
}

// open are the tests that sent traffic and passed.
func (r *record) open() (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.tests {
		if len(h.Sent) > 0 && h.Result == "passed" {
			names = append(names, h.Name)
		}
	}
	return names
}

func (r *record) write(file string) error {
	if file == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	text, err := json.MarshalIndent(r.tests, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
