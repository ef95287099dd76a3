// Package xds serves snapshots to Envoy: a delta ADS server.
//
// One snapshot per node is the complete desired state of one Envoy. The server
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
	"log/slog"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

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
	stats      counters

	mu    sync.RWMutex
	nodes map[string]*node
}

// node is one Envoy by its id. It exists while it has a snapshot or a stream.
type node struct {
	want   *snapshot.Snapshot // nil: unknown
	stream *conn              // the newest stream, nil: not connected
}

// conn is what the rest of the server knows of a stream.
type conn struct {
	view       *view
	wake       chan struct{} // capacity 1: the snapshot of the node changed
	superseded chan struct{} // closed when a newer stream of the node took over
}

// New makes a Server with nothing to serve.
func New(o Options) *Server {
	s := &Server{
		now: o.Now, ackTimeout: o.AckTimeout, log: o.Log, onChange: o.OnChange,
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
	if s.onChange == nil {
		s.onChange = func(string) {}
	}
	return s
}

// ServerOptions are what the grpc.Server given to Register needs: without them
// an Envoy that holds some 30,000 resources cannot reconnect.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.MaxRecvMsgSize(maxRequestBytes)}
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
		n = &node{}
		s.nodes[id] = n
	}
	n.want = snap
	if n.stream == nil {
		s.drop(id, n)
		return
	}
	select {
	case n.stream.wake <- struct{}{}:
	default: // it will see the newest snapshot when it gets there
	}
}

// Remove forgets the snapshot of a node. Its Envoy keeps what it has and its
// stream stays open: Set an empty snapshot to withdraw everything.
func (s *Server) Remove(id string) { s.Set(id, nil) }

// Delivery is the live view of what the Envoy of a node acknowledged. It may be
// asked for, and kept, before the node is known.
func (s *Server) Delivery(id string) snapshot.Delivery { return delivery{s, id} }

func (s *Server) wanted(id string) *snapshot.Snapshot {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if n := s.nodes[id]; n != nil {
		return n.want
	}
	return nil
}

// attach makes c the stream of a node and ends an older one: after a network
// fault the server may see the old one as alive for minutes.
func (s *Server) attach(id string, c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[id]
	if n == nil {
		n = &node{}
		s.nodes[id] = n
	}
	if n.stream != nil {
		close(n.stream.superseded)
	}
	n.stream = c
}

// detach reports whether c was still the stream of the node.
func (s *Server) detach(id string, c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[id]
	if n == nil || n.stream != c {
		return false
	}
	n.stream = nil
	s.drop(id, n)
	return true
}

// drop forgets a node that has neither snapshot nor stream, so that foreign
// node ids do not pile up.
func (s *Server) drop(id string, n *node) {
	if n.want == nil && n.stream == nil {
		delete(s.nodes, id)
	}
}
