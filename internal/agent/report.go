package agent

import (
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// reportType is the type_url of a report.
const reportType = "breakglass.dev/agent.v1.Report"

// reportEvery is how often the controller hears from an agent at the least.
const reportEvery = 5 * time.Second

// report is what the controller is told; the package documentation says what each
// is.
type report struct {
	failing string
	ready   bool
	epoch   string
}

func (a *agent) encode(r report) ([]byte, error) {
	b, err := proto.Marshal(&discovery.DeltaDiscoveryRequest{
		TypeUrl: reportType,
		Node: &corev3.Node{Id: a.node, Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"failing": structpb.NewStringValue(r.failing),
			"time":    structpb.NewStringValue(time.Now().UTC().Format(time.RFC3339Nano)),
			"ready":   structpb.NewBoolValue(r.ready),
			"epoch":   structpb.NewStringValue(r.epoch),
		}}},
	})
	if err != nil {
		return nil, fmt.Errorf("encode a report: %w", err)
	}
	return b, nil
}

// now is the present report, and what is closed when there is another.
func (a *agent) now() (report, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.report, a.changed
}

// set makes r the present report.
func (a *agent) set(r report, why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.why = why
	if r != a.report {
		a.report = r
		close(a.changed)
		a.changed = make(chan struct{})
	}
}
