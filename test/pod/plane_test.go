//go:build envoy

package pod

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/pki"
	"github.com/breakglass-gateway/breakglass-gateway/internal/render"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/test/testbed"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
	"github.com/breakglass-gateway/breakglass-gateway/xds"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

const (
	node       = "pay/door/pod-1"
	serverName = "breakglass-controller.breakglass-system.svc"
	reportType = "breakglass.dev/agent.v1.Report"
)

// plane stands in for the controller.
type plane struct {
	authority *pki.Authority
	signer    *pki.Authority // of its own certificate
	name      string         // in it
	address   string
	snapshot  *snapshot.Snapshot

	mu      sync.Mutex
	server  *grpc.Server
	xds     *xds.Server
	streams []*heard
}

// heard is what came over one stream.
type heard struct {
	identity string
	first    string // type of the first request
	nodes    map[string]bool
	reports  []map[string]any
	at       time.Time
}

// newPlane makes one that has every Activation among the manifests of w open.
func newPlane(w *testbed.World) *plane {
	GinkgoHelper()
	authority, _, err := (*pki.Authority)(nil).Rotate(time.Now())
	Expect(err).NotTo(HaveOccurred())
	p := &plane{authority: authority, signer: authority, name: serverName}
	p.translate(w)
	p.start("127.0.0.1:0")
	DeferCleanup(func() { p.stop() })
	return p
}

func (p *plane) translate(w *testbed.World) {
	GinkgoHelper()
	set := source.Load(w.Config)
	Expect(set.Problems).To(BeEmpty())
	now := time.Now()
	requests := map[types.NamespacedName]activation.Record{}
	for key, a := range set.Activations {
		requests[key] = activation.New(a, activation.Control, "", now)
	}
	set.Activations = nil
	out, _, err := render.Settle(translator.Input{Objects: set.Objects, Now: now, Requests: requests})
	Expect(err).NotTo(HaveOccurred())
	g := out.Gateways[types.NamespacedName{Namespace: "pay", Name: "door"}]
	Expect(g).NotTo(BeNil())
	Expect(g.LastDeadline.IsZero()).To(Equal(len(requests) == 0))
	p.snapshot = g.Snapshot
}

func (p *plane) start(address string) {
	GinkgoHelper()
	leaf, err := p.signer.Issue(pki.Server(p.name), time.Now())
	Expect(err).NotTo(HaveOccurred())
	pair, err := pki.KeyPair(leaf)
	Expect(err).NotTo(HaveOccurred())
	var sock net.Listener
	Eventually(func() error {
		var err error
		sock, err = net.Listen("tcp", address)
		return err
	}).Should(Succeed())
	config := pki.ServerConfig(func() (*tls.Certificate, *x509.CertPool) { return pair, p.authority.Pool() })
	p.mu.Lock()
	defer p.mu.Unlock()
	p.address = sock.Addr().String()
	p.xds = xds.New(xds.Options{})
	p.xds.Set(node, p.snapshot)
	p.server = grpc.NewServer(append(xds.ServerOptions(), grpc.Creds(credentials.NewTLS(config)), grpc.StreamInterceptor(p.intercept))...)
	p.xds.Register(p.server)
	go func(s *grpc.Server) { _ = s.Serve(sock) }(p.server) // ends with stop
}

// stop as if it was killed.
func (p *plane) stop() {
	p.mu.Lock()
	s := p.server
	p.mu.Unlock()
	s.Stop()
}

func (p *plane) intercept(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	h := &heard{nodes: map[string]bool{}, at: time.Now()}
	caller, ok := peer.FromContext(s.Context())
	if info, isTLS := caller.AuthInfo.(credentials.TLSInfo); ok && isTLS {
		namespace, name, err := pki.Identity(&info.State)
		if err != nil {
			return err
		}
		h.identity = namespace + "/" + name
	}
	p.mu.Lock()
	p.streams = append(p.streams, h)
	p.mu.Unlock()
	return handle(srv, &listening{s, p, h})
}

type listening struct {
	grpc.ServerStream
	plane *plane
	heard *heard
}

func (l *listening) RecvMsg(m any) error {
	if err := l.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	req := m.(*discovery.DeltaDiscoveryRequest)
	l.plane.mu.Lock()
	defer l.plane.mu.Unlock()
	if l.heard.first == "" {
		l.heard.first = req.GetTypeUrl()
	}
	l.heard.nodes[req.GetNode().GetId()] = true
	if req.GetTypeUrl() == reportType {
		l.heard.reports = append(l.heard.reports, req.GetNode().GetMetadata().AsMap())
	}
	return nil
}

// connections so far.
func (p *plane) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.streams)
}

// last is a copy of what came over the last stream.
func (p *plane) last() heard {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.streams) == 0 {
		return heard{}
	}
	return *p.streams[len(p.streams)-1]
}

// told is the last report, or nothing.
func (p *plane) told() map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.streams) - 1; i >= 0; i-- {
		if r := p.streams[i].reports; len(r) > 0 {
			return r[len(r)-1]
		}
	}
	return nil
}

// failures that were reported.
func (p *plane) failures() (out []any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.streams {
		for _, r := range s.reports {
			if r["failing"] != "" {
				out = append(out, r["failing"])
			}
		}
	}
	return out
}
