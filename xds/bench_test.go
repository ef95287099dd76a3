package xds

import (
	"fmt"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// One opening more among many: what the server itself takes of the time from
// Set to the last ACK.
func BenchmarkOneMoreOpening(b *testing.B) {
	for _, n := range []int{100, 5000} {
		b.Run(fmt.Sprintf("open=%d", n), func(b *testing.B) {
			now := time.Now()
			end := now.Add(time.Hour)
			var rs []*snapshot.Resource
			for i := range n {
				rs = append(rs, opening(fmt.Sprintf("r%d", i), end)...)
			}
			without := snap(rs...)
			with := snap(append(rs, opening("new", end)...)...)
			s := newStream(newView(), &counters{}, quiet, DefaultAckTimeout)
			for _, typ := range []string{snapshot.Cluster, snapshot.Listener, snapshot.ScopedRoute} {
				_ = s.request(&discovery.DeltaDiscoveryRequest{TypeUrl: typ}, now)
			}
			s.set(without, now)
			settleAll(s, now)
			for b.Loop() {
				s.set(with, now)
				settleAll(s, now)
				s.set(without, now)
				settleAll(s, now)
			}
		})
	}
}

// settleAll acknowledges everything until there is nothing more to send.
func settleAll(s *stream, now time.Time) {
	for m := s.next(now); m != nil; m = s.next(now) {
		_ = s.request(&discovery.DeltaDiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce()}, now)
	}
}
