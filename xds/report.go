package xds

import (
	"cmp"
	"slices"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// ReportType is the type URL of requests in which an agent tells of itself, in
// node.metadata: it is no subscription, and gets no answer.
const ReportType = "breakglass.dev/agent.v1.Report"

// Fields of a report's metadata.
const (
	ReportFailing = "failing" // why entries cannot be kept; "": they can
	ReportTime    = "time"    // of the agent's clock, RFC 3339
	ReportReady   = "ready"   // whether Envoy takes requests
	ReportEpoch   = "epoch"   // of the Envoy process
)

// Report is what the agent of an Envoy has told last.
type Report struct {
	Failing string
	Ready   bool
	Epoch   string
	// Skew is by how much the agent's clock, which Envoy reads too, is ahead of the
	// server's; what the report took to come makes it look late.
	Skew time.Duration
}

// maxReportField bounds what is kept of a field, in bytes.
const maxReportField = 512

func reportOf(req *discovery.DeltaDiscoveryRequest, now time.Time) Report {
	f := req.GetNode().GetMetadata().GetFields()
	text := func(name string) string {
		s := bound(f[name].GetStringValue())
		return s[:min(len(s), maxReportField)]
	}
	r := Report{Failing: text(ReportFailing), Ready: f[ReportReady].GetBoolValue(), Epoch: text(ReportEpoch)}
	at, err := time.Parse(time.RFC3339Nano, text(ReportTime))
	if err != nil {
		r.Failing = cmp.Or(r.Failing, "the agent does not tell its time")
		return r
	}
	r.Skew = at.Sub(now)
	return r
}

// noticeable is a change of skew that is told.
const noticeable = 100 * time.Millisecond

// told takes in a report, and says whether it says anything new.
func (s *Server) told(c *conn, r Report) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, was := c.report, c.reported
	c.report, c.reported = r, true
	d := r.Skew - old.Skew
	r.Skew, old.Skew = 0, 0
	return !was || r != old || d > noticeable || d < -noticeable
}

// Envoy is one Envoy of a node that is connected.
type Envoy struct {
	ID string
	// Held: it is given nothing, because what it does would not be recorded.
	Held bool
	Report
}

// Envoys of a node that are connected, by their ids.
func (s *Server) Envoys(id string) []Envoy {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := s.nodes[id]
	if n == nil {
		return nil
	}
	var out []Envoy
	for envoy, c := range n.streams {
		out = append(out, Envoy{ID: envoy, Held: s.held(n, c), Report: c.report})
	}
	slices.SortFunc(out, func(a, b Envoy) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
