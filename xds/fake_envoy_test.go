package xds

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

const nodeID = "payments/emergency"

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// lab is a server and the connections to it, in a synctest bubble: time stands
// still until everything waits.
type lab struct {
	t       *testing.T
	server  *Server
	grpc    *grpc.Server
	listen  *bufconn.Listener
	changes int
	mu      sync.Mutex
}

// inLab runs f in a bubble with a server.
func inLab(t *testing.T, f func(l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stop()
		f(l)
	})
}

func newLab(t *testing.T) *lab { return newLabWith(t, Options{}) }

func newLabWith(t *testing.T, o Options) *lab {
	l := &lab{t: t}
	o.Log, o.OnChange = quiet, func(string) {
		l.mu.Lock()
		l.changes++
		l.mu.Unlock()
	}
	l.server = New(o)
	l.serve()
	return l
}

func (l *lab) serve() {
	l.listen = bufconn.Listen(4 << 20)
	l.grpc = grpc.NewServer(ServerOptions()...)
	l.server.Register(l.grpc)
	go l.grpc.Serve(l.listen)
}

func (l *lab) stop() {
	l.grpc.Stop()
	l.listen.Close()
}

func (l *lab) dial() *grpc.ClientConn {
	cc, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.listen.DialContext(ctx) }))
	if err != nil {
		l.t.Fatal(err)
	}
	return cc
}

// fakeEnvoy behaves as Envoy does on a delta stream: it asks for clusters,
// listeners and scopes by wildcard and for the routes its scopes name, applies
// all or nothing of a response, drops leases, and reports what it holds when it
// reconnects.
type fakeEnvoy struct {
	t  *testing.T
	id string
	// bad tells why Envoy refuses a resource, "" if it does not.
	bad func(k snapshot.Key, version string) string
	// badBody has it refuse resources with this in their body.
	badBody string
	// need is what must be there when a new version of a resource arrives.
	need       map[snapshot.Key][]snapshot.Key
	violations []string

	mu     sync.Mutex
	have   map[snapshot.Key]got
	named  map[snapshot.Key]bool // asked for by name
	pinned map[snapshot.Key]bool // of these, those that no scope need name
	hold   map[string]bool       // types whose answers are withheld
	held   []*discovery.DeltaDiscoveryRequest
	log    []string // what arrived: "+Cluster a", "-Listener b"
	sizes  []int    // resources per response
	stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	end    func()
	err    error
	ended  bool
}

type got struct {
	version string
	ttl     time.Duration
	at      time.Time // of arrival
}

func newEnvoy(t *testing.T) *fakeEnvoy {
	return &fakeEnvoy{t: t, id: nodeID, have: map[snapshot.Key]got{}, named: map[snapshot.Key]bool{}, pinned: map[snapshot.Key]bool{}, hold: map[string]bool{},
		need: map[snapshot.Key][]snapshot.Key{}}
}

// connect opens a stream and subscribes.
func (e *fakeEnvoy) connect(l *lab) {
	cc := l.dial()
	ctx, cancel := context.WithCancel(context.Background())
	st, err := discovery.NewAggregatedDiscoveryServiceClient(cc).DeltaAggregatedResources(ctx)
	if err != nil {
		e.t.Error(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	done := make(chan struct{})
	e.stream, e.held, e.err, e.ended = st, nil, nil, false
	e.end = func() {
		cancel()
		cc.Close()
		<-done
	}
	e.expire()
	for _, typ := range []string{snapshot.ExtensionConfig, snapshot.Cluster, snapshot.Listener, snapshot.ScopedRoute, snapshot.Route, snapshot.Secret} {
		req := &discovery.DeltaDiscoveryRequest{TypeUrl: typ, InitialResourceVersions: map[string]string{}}
		for k := range e.named {
			if k.Type == typ {
				req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, k.Name)
			}
		}
		if named(typ) && len(req.ResourceNamesSubscribe) == 0 {
			continue
		}
		for k, g := range e.have {
			if k.Type == typ {
				req.InitialResourceVersions[k.Name] = g.version
			}
		}
		e.send(req)
	}
	go func() {
		defer close(done)
		e.receive(st)
	}()
}

func (e *fakeEnvoy) disconnect() {
	e.end()
	synctest.Wait()
}

func (e *fakeEnvoy) send(req *discovery.DeltaDiscoveryRequest) {
	req.Node = &corev3.Node{Id: e.id}
	_ = e.stream.Send(req)
}

func (e *fakeEnvoy) receive(st discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient) {
	for {
		m, err := st.Recv()
		e.mu.Lock()
		if err != nil {
			if e.stream == st {
				e.err, e.ended = err, true
			}
			e.mu.Unlock()
			return
		}
		e.handle(m)
		e.mu.Unlock()
	}
}

func (e *fakeEnvoy) handle(m *discovery.DeltaDiscoveryResponse) {
	typ := m.GetTypeUrl()
	req := &discovery.DeltaDiscoveryRequest{TypeUrl: typ, ResponseNonce: m.GetNonce()}
	var why []string
	for _, n := range m.GetRemovedResources() {
		e.log = append(e.log, "-"+short(typ)+" "+n)
	}
	for _, r := range m.GetResources() {
		e.log = append(e.log, "+"+short(typ)+" "+r.GetName())
		if e.bad != nil {
			if w := e.bad(snapshot.Key{Type: typ, Name: r.GetName()}, r.GetVersion()); w != "" {
				why = append(why, w)
			}
		}
		if e.badBody != "" && isBad(r.GetResource().GetValue(), e.badBody) {
			why = append(why, r.GetName()+" is bad")
		}
	}
	e.sizes = append(e.sizes, len(m.GetResources()))
	if len(why) > 0 {
		req.ErrorDetail = &statuspb.Status{Code: int32(codes.InvalidArgument), Message: strings.Join(why, "; ")}
		e.answer(req)
		return
	}
	e.apply(m)
	e.answer(req)
	if typ == snapshot.ScopedRoute {
		e.routesOfScopes()
	}
}

func (e *fakeEnvoy) apply(m *discovery.DeltaDiscoveryResponse) {
	for _, n := range m.GetRemovedResources() {
		k := snapshot.Key{Type: m.GetTypeUrl(), Name: n}
		delete(e.have, k)
	}
	for _, r := range m.GetResources() {
		k := snapshot.Key{Type: m.GetTypeUrl(), Name: r.GetName()}
		if e.have[k].version != r.GetVersion() {
			for _, n := range e.need[k] {
				// Routes come after the scope that names them, on request.
				if _, ok := e.have[n]; !ok && n.Type != snapshot.Route {
					e.violations = append(e.violations, fmt.Sprintf("%v arrived before %v, which it needs", k, n))
				}
			}
		}
		e.have[k] = got{r.GetVersion(), r.GetTtl().AsDuration(), time.Now()}
		if k.Type == snapshot.ScopedRoute {
			scope := &routev3.ScopedRouteConfiguration{}
			if err := r.GetResource().UnmarshalTo(scope); err != nil {
				e.t.Error(err)
			}
			bodies.Store(r.GetVersion(), scope.GetRouteConfigurationName())
		}
	}
}

// bodies maps the version of a scope to the route it names.
var bodies sync.Map

// routesOfScopes subscribes to the routes that the scopes name, and forgets others.
func (e *fakeEnvoy) routesOfScopes() {
	want := map[snapshot.Key]bool{}
	for k, g := range e.have {
		if k.Type == snapshot.ScopedRoute {
			if n, ok := bodies.Load(g.version); ok {
				want[snapshot.Key{Type: snapshot.Route, Name: n.(string)}] = true
			}
		}
	}
	req := &discovery.DeltaDiscoveryRequest{TypeUrl: snapshot.Route}
	for k := range want {
		if !e.named[k] {
			e.named[k] = true
			req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, k.Name)
		}
	}
	for k := range e.named {
		if k.Type == snapshot.Route && !want[k] && !e.pinned[k] {
			delete(e.named, k)
			delete(e.have, k)
			req.ResourceNamesUnsubscribe = append(req.ResourceNamesUnsubscribe, k.Name)
		}
	}
	if len(req.ResourceNamesSubscribe)+len(req.ResourceNamesUnsubscribe) > 0 {
		e.send(req)
	}
}

func (e *fakeEnvoy) answer(req *discovery.DeltaDiscoveryRequest) {
	if e.hold[req.GetTypeUrl()] {
		e.held = append(e.held, req)
		return
	}
	e.send(req)
}

func isBad(body []byte, mark string) bool { return strings.Contains(string(body), mark) }

// subscribe asks for resources by name.
func (e *fakeEnvoy) subscribe(typ string, names ...string) {
	e.mu.Lock()
	for _, n := range names {
		k := snapshot.Key{Type: typ, Name: n}
		e.named[k], e.pinned[k] = true, true
	}
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: typ, ResourceNamesSubscribe: names})
	e.mu.Unlock()
	synctest.Wait()
}

// withhold keeps back the answers of these types from now on.
func (e *fakeEnvoy) withhold(types ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, typ := range types {
		e.hold[typ] = true
	}
}

// release sends the answers that were kept back.
func (e *fakeEnvoy) release() {
	e.mu.Lock()
	clear(e.hold)
	for _, req := range e.held {
		e.send(req)
	}
	e.held = nil
	e.mu.Unlock()
	synctest.Wait()
}

// expire drops the leases that ended.
func (e *fakeEnvoy) expire() {
	for k, g := range e.have {
		if g.ttl > 0 && time.Since(g.at) >= g.ttl {
			delete(e.have, k)
		}
	}
}

// takeLog returns what arrived since it was last asked.
func (e *fakeEnvoy) takeLog() []string {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.log
	e.log = nil
	return l
}

func (e *fakeEnvoy) holds(k snapshot.Key) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.expire()
	return e.have[k].version
}

func (e *fakeEnvoy) all() map[snapshot.Key]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.expire()
	m := map[snapshot.Key]string{}
	for k, g := range e.have {
		m[k] = g.version
	}
	return m
}

func equalLog(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("arrived\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// matches reports how what e holds differs from the snapshot, "" if it does not.
func (e *fakeEnvoy) matches(s *snapshot.Snapshot) string {
	want := map[snapshot.Key]string{}
	for r := range s.All() {
		k := r.Key
		e.mu.Lock()
		asked := !named(k.Type) || e.named[k]
		e.mu.Unlock()
		if asked && (r.Expires.IsZero() || time.Now().Before(r.Expires)) {
			want[k] = r.Version
		}
	}
	if have := e.all(); !maps.Equal(have, want) {
		return fmt.Sprintf("envoy holds %v, want %v", have, want)
	}
	return ""
}
