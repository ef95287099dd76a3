//go:build cluster

package cluster

import (
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
)

// probes ask for a route all the time, through the load balancer.
type probes struct {
	door *door
	// may have a token: on fresh connections, and on one of HTTP/1.1 and one of HTTP/2 that they keep.
	may map[string]*testbed.Probe
	// stranger has none.
	stranger *testbed.Probe
}

func (d *door) probe(route string) *probes {
	GinkgoHelper()
	host, path := testbed.Host(route), "/api/probe"
	with := testbed.Request{Host: host, Path: path, Token: d.token()}
	return &probes{
		door: d,
		may: map[string]*testbed.Probe{
			"fresh":     d.client(false).Fresh().Probe(with, 60*time.Millisecond),
			"kept":      d.client(false).Probe(with, 30*time.Millisecond),
			"kept by 2": d.client(true).Probe(with, 30*time.Millisecond),
		},
		stranger: d.client(false).Fresh().Probe(testbed.Request{Host: host, Path: path}, 80*time.Millisecond),
	}
}

// stop them, and check that nobody was let in without a token or after the deadline.
func (p *probes) stop(deadline time.Time) {
	GinkgoHelper()
	count := func(r testbed.Reply) {
		if r.Status == 200 {
			p.door.answered++
		}
	}
	for _, r := range p.stranger.Stop() {
		count(r)
		Expect(r.Status).To(BeElementOf(0, 401, 404), "without a token: %+v", r)
	}
	for name, probe := range p.may {
		samples := probe.Stop()
		AddReportEntry("probes on "+name+" connections", testbed.Runs(samples), ReportEntryVisibilityFailureOrVerbose)
		for _, r := range samples {
			count(r)
			if r.Status == 200 {
				Expect(r.Start).To(BeTemporally("<", deadline), "%s: let in after the deadline %s", name, deadline)
			}
		}
	}
}

// calm checks that between two instants all with a token were let in, and all without one were asked for it.
func (p *probes) calm(from, to time.Time) {
	GinkgoHelper()
	between := func(probe *testbed.Probe) (out []testbed.Reply) {
		for _, r := range probe.Samples() {
			if r.Start.After(from) && r.End.Before(to) {
				out = append(out, r)
			}
		}
		return out
	}
	for name, probe := range p.may {
		samples := between(probe)
		Expect(samples).NotTo(BeEmpty(), name)
		for _, r := range samples {
			Expect(r.Status).To(Equal(200), "%s, at %s: %v %s; all: %s", name, r.Start, r.Err, r.Body, testbed.Runs(samples))
		}
	}
	for _, r := range between(p.stranger) {
		Expect(r.Status).To(Equal(401), "without a token, at %s: %v %s", r.Start, r.Err, r.Body)
	}
}

// failed is how many requests of those with a token were not let in before an instant.
func (p *probes) failed(before time.Time) (n int) {
	for _, probe := range p.may {
		for _, r := range probe.Samples() {
			if r.End.Before(before) && r.Status != 200 {
				n++
			}
		}
	}
	return n
}
