// Package xds serves snapshots to Envoy: a delta ADS server.
//
// One snapshot per node is the complete desired state of its Envoys: of one, or of
// all replicas that Identify says belong to it. The server
// sends what differs from what that Envoy holds, in an order in which nothing
// is used before it exists and nothing closes late:
//
//   - A changed lease, an updated route and a removed Listener (every lease is
//     one) go out first, in this order, and wait for nothing: no ACK, no other
//     response in flight. Only gRPC flow control can hold them.
//   - A resource with Needs is sent once each need was acknowledged in the
//     version of the same snapshot. Its previous version stays meanwhile.
//   - What others may still refer to (Cluster, RouteConfiguration, extension
//     config, Secret) is removed once the changes of those others were
//     answered, or after AckTimeout.
//   - There is no barrier: a resource that Envoy refuses, or whose need is not
//     acknowledged, is reported by Delivery and holds up only what needs it.
//
// Versions are content hashes, so an Envoy that reconnects, also to a restarted
// server, is sent only what changed, plus every lease with the time it has left.
//
// Protocol: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
// (incremental variant, and "TTL").
package xds

import (
	"context"
	"log/slog"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// DefaultAckTimeout is how long a resource waits for another one's ACK before
// it is reported as rejected.
const DefaultAckTimeout = 2 * time.Second

// maxRequestBytes bounds one request. On reconnect an Envoy lists every
// resource it holds, about 100 bytes each, in one message per type.
const maxRequestBytes = 64 << 20

// Options of a Server. The zero value works.
type Options struct {
	// Now is the clock by which leases end. It must not go back. Default time.Now.
	Now func() time.Time
	// AckTimeout bounds every wait for an ACK. Default DefaultAckTimeout.
	AckTimeout time.Duration
	// Log defaults to slog.Default().
	Log *slog.Logger
	// Identify says which node an Envoy belongs to, and which of its Envoys it is.
	// Default: the node.id that it gives itself is both. An error ends the stream.
	Identify func(ctx context.Context, node *corev3.Node) (id, envoy string, err error)
	// Reports: each Envoy comes through an agent that keeps its audit log, and gets
	// nothing before the agent has told how that is. See Report.
	Reports bool
	// OnChange is called, without locks held, after the Delivery of a node
	// changed. It runs on the goroutine that serves the node's Envoy: it must be
	// cheap, for example a non-blocking send on a channel.
	OnChange func(node string)
}

// Server is a delta ADS server. Its methods are safe for concurrent use.
type Server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer // state of the world: Unimplemented

	now        func() time.Time
	ackTimeout time.Duration
	log        *slog.Logger
	onChange   func(node string)
	identify   func(context.Context, *corev3.Node) (node, envoy string, err error)
	reports    bool
	stats      counters

	mu    sync.RWMutex
	nodes map[string]*node
}

// node is what its Envoys have in common. It exists while it has a snapshot or a
// stream.
type node struct {
	want       *snapshot.Snapshot // nil: unknown
	unrecorded bool               // Envoys whose log cannot be kept serve nonetheless
	streams    map[string]*conn   // the newest of each Envoy
}

// conn is what the rest of the server knows of a stream.
type conn struct {
	view       *view
	wake       chan struct{} // capacity 1: the snapshot of the node changed
	superseded chan struct{} // closed when a newer stream of the same Envoy took over

	// Of Server.mu.
	report   Report
	reported bool
}

// New makes a Server with nothing to serve.
func New(o Options) *Server {
	s := &Server{
		now: o.Now, ackTimeout: o.AckTimeout, log: o.Log, onChange: o.OnChange,
		identify: o.Identify, reports: o.Reports,
		nodes: map[string]*node{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.ackTimeout <= 0 {
		s.ackTimeout = DefaultAckTimeout
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.identify == nil {
		s.identify = func(_ context.Context, n *corev3.Node) (node, envoy string, err error) {
			return n.GetId(), n.GetId(), nil
		}
	}
	if s.onChange == nil {
		s.onChange = func(string) {}
	}
	return s
}

// ServerOptions are what the grpc.Server given to Register needs: without them
// an Envoy that holds some 30,000 resources cannot reconnect, and an agent that asks
// every ten seconds whether the server is alive is turned away.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 2 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	}
}

// Register adds the AggregatedDiscoveryService to g. Make g with ServerOptions.
func (s *Server) Register(g *grpc.Server) {
	discovery.RegisterAggregatedDiscoveryServiceServer(g, s)
}

// Set makes snap the complete desired state of a node; snap must not change
// afterwards. It returns at once: it waits neither for the network nor for an
// ACK. A nil snap is as Remove.
func (s *Server) Set(id string, snap *snapshot.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[id]
	if n == nil {
		if snap == nil {
			return
		}
		n = &node{streams: map[string]*conn{}}
		s.nodes[id] = n
	}
	n.want = snap
	n.tell()
	s.drop(id, n)
}

// tell wakes the streams of a node.
func (n *node) tell() {
	for _, c := range n.streams {
		select {
		case c.wake <- struct{}{}:
		default: // it will see the newest snapshot when it gets there
		}
	}
}

// ServeUnrecorded says whether Envoys of a node serve although their agent cannot
// keep the audit log.
func (s *Server) ServeUnrecorded(id string, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[id]; n != nil && n.unrecorded != yes {
		n.unrecorded = yes
		n.tell()
	}
}

// Remove forgets the snapshot of a node. Its Envoy keeps what it has and its
// stream stays open: Set an empty snapshot to withdraw everything.
func (s *Server) Remove(id string) { s.Set(id, nil) }

// Delivery is the live view of what the Envoys of a node acknowledged, all of those
// that are connected and serve. It may be asked for, and kept, before the node is known.
func (s *Server) Delivery(id string) snapshot.Delivery { return delivery{s, id} }

// closed is what an Envoy has that must not serve.
var closed = &snapshot.Snapshot{}

func (s *Server) wanted(id string, c *conn) *snapshot.Snapshot {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := s.nodes[id]
	switch {
	case n == nil || n.want == nil, s.reports && !c.reported:
		return nil
	case s.held(n, c):
		return closed
	}
	return n.want
}

// held reports whether an Envoy must not serve: what goes through it would not be
// recorded.
func (s *Server) held(n *node, c *conn) bool {
	return s.reports && (!c.reported || c.report.Failing != "" && !n.unrecorded)
}

// attach makes c the stream of an Envoy and ends an older one: after a network
// fault the server may see the old one as alive for minutes.
func (s *Server) attach(id, envoy string, c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[id]
	if n == nil {
		n = &node{streams: map[string]*conn{}}
		s.nodes[id] = n
	}
	if old := n.streams[envoy]; old != nil {
		close(old.superseded)
	}
	n.streams[envoy] = c
}

// detach reports whether c was still the stream of the Envoy.
func (s *Server) detach(id, envoy string, c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[id]
	if n == nil || n.streams[envoy] != c {
		return false
	}
	delete(n.streams, envoy)
	s.drop(id, n)
	return true
}

// drop forgets a node that has neither snapshot nor stream, so that foreign
// node ids do not pile up.
func (s *Server) drop(id string, n *node) {
	if n.want == nil && len(n.streams) == 0 {
		delete(s.nodes, id)
	}
}
