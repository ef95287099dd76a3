//go:build envoy

package spool

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	internalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-jose/go-jose/v4"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
)

var quiet = slog.New(slog.DiscardHandler)

// rig is an Envoy with the listeners, filters, locks and logs of translator/lock;
// only what would come over ADS is put in place instead.
type rig struct {
	t           testing.TB
	logs        string // of "file" and "gRPC"; to see what they cost
	dir         string
	port, tls   int
	epoch       string
	cmd         *exec.Cmd
	exited      chan struct{}
	key         *ecdsa.PrivateKey
	cert        tls.Certificate
	upstream    *httptest.Server
	admin       *http.Client
	als         chan audit.RequestEntry
	leaseOpened time.Time
}

func (r *rig) Request(e audit.RequestEntry) { r.als <- e }

func newRig(t testing.TB, upstream http.Handler) *rig {
	t.Helper()
	return newRigOf(t, upstream, "file and gRPC")
}

func newRigOf(t testing.TB, upstream http.Handler, logs string) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "spool") // short: sockets
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, logs: logs, dir: dir, als: make(chan audit.RequestEntry, 1<<16), epoch: "epoch-1", leaseOpened: time.Now()}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(r.spool(), 0o700); err != nil {
		t.Fatal(err)
	}
	r.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	r.port, r.tls = freePort(t), freePort(t)
	r.cert = certificate(t, r.key)
	r.upstream = httptest.NewServer(upstream)
	t.Cleanup(func() { r.upstream.CloseClientConnections(); r.upstream.Close() })

	lis, err := net.Listen("unix", filepath.Join(dir, "als.sock"))
	must(t, err)
	srv := grpc.NewServer()
	audit.NewReceiver(r, quiet).Register(srv)
	go srv.Serve(lis)
	t.Cleanup(srv.Stop)
	r.admin = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "admin.sock"))
	}}}
	r.listeners(true)
	r.bootstrap()
	r.start()
	t.Cleanup(r.kill)
	return r
}

func (r *rig) spool() string { return filepath.Join(r.dir, "spool") }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func freePort(t testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func certificate(t testing.TB, key *ecdsa.PrivateKey) tls.Certificate {
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"db.example"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (r *rig) token(exp time.Time, claims map[string]any) string {
	r.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: r.key}, nil)
	must(r.t, err)
	all := map[string]any{"iss": "https://sso", "aud": "bg", "sub": "alice", "jti": "j-1", "groups": []string{"db"},
		"iat": time.Now().Unix(), "exp": exp.Unix()}
	for k, v := range claims {
		all[k] = v
	}
	b, err := json.Marshal(all)
	must(r.t, err)
	s, err := signer.Sign(b)
	must(r.t, err)
	out, err := s.CompactSerialize()
	must(r.t, err)
	return out
}

func packed(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(err)
	}
	return a
}

// static puts in place what ADS would bring: routes, keys, certificate.
func (r *rig) static(l *listenerv3.Listener) *listenerv3.Listener {
	jwks, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &r.key.PublicKey, Algorithm: "ES256"}}})
	must(r.t, err)
	jwt := lock.JWT([]lock.Issuer{{Name: "sso", Issuer: "https://sso", Audiences: []string{"bg"}, JWKS: string(jwks)}})
	often := lock.Rate{PerSecond: 1_000_000, Burst: 1_000_000}
	unlimited := lock.RequestLimits(lock.Limits{WithToken: often, WithoutToken: often, AllWithoutToken: often})
	open := lock.Lock{
		Deadline: r.leaseOpened.Add(time.Hour), Role: "db", Route: "pay/db", Rule: "#0", Opening: "o1",
		Activations: []string{"pay/a", "pay/b"}, Incidents: []string{"INC-1"},
		Grants: []lock.Grant{{Issuer: "https://sso", Audiences: []string{"bg"}, MaxTokenLifetime: 2 * time.Hour,
			Claims: []lock.Claim{{Path: []string{"groups"}, AnyOf: []string{"db"}}}}},
	}.Open("r1", &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/open"}},
		lock.Action{Forward: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: lock.ClusterName("o1", 0)}}})
	routes := lock.RouteConfiguration("s", []lock.VirtualHost{{Name: "v", Domains: []string{"*"}, Routes: []lock.Route{open}}})
	for _, fc := range l.FilterChains {
		h := &hcmv3.HttpConnectionManager{}
		http := fc.Filters[len(fc.Filters)-1]
		must(r.t, http.GetTypedConfig().UnmarshalTo(h))
		if !strings.Contains(r.logs, "gRPC") {
			h.AccessLog = h.AccessLog[:1]
		}
		if !strings.Contains(r.logs, "file") {
			h.AccessLog, h.AccessLogOptions, l.AccessLog = h.AccessLog[1:], nil, nil
		}
		h.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: routes}
		for _, f := range h.HttpFilters {
			switch f.GetName() {
			case lock.JWTResource:
				f.ConfigType = &hcmv3.HttpFilter_TypedConfig{TypedConfig: jwt.TypedConfig}
			case lock.LimitResource:
				f.ConfigType = &hcmv3.HttpFilter_TypedConfig{TypedConfig: unlimited.TypedConfig}
			}
		}
		http.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: packed(h)}
		if fc.TransportSocket == nil {
			continue
		}
		der, err := x509.MarshalECPrivateKey(r.key)
		must(r.t, err)
		inline := func(kind string, b []byte) *corev3.DataSource {
			return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})}}
		}
		fc.TransportSocket.ConfigType = &corev3.TransportSocket_TypedConfig{TypedConfig: packed(&tlsv3.DownstreamTlsContext{
			CommonTlsContext: &tlsv3.CommonTlsContext{AlpnProtocols: []string{"h2", "http/1.1"}, TlsCertificates: []*tlsv3.TlsCertificate{{
				CertificateChain: inline("CERTIFICATE", r.cert.Certificate[0]), PrivateKey: inline("EC PRIVATE KEY", der)}}},
		})}
	}
	return l
}

// listeners replaces what Envoy listens on; the lease is one of them.
func (r *rig) listeners(lease bool) {
	res := &discovery.DiscoveryResponse{VersionInfo: fmt.Sprint(lease)}
	all := []*listenerv3.Listener{
		r.static(lock.Listener([]string{"127.0.0.1"}, int32(r.port), int32(r.port), []lock.Chain{{Name: "plain"}})),
		r.static(lock.Listener([]string{"127.0.0.1"}, int32(r.tls), int32(r.tls), []lock.Chain{{Name: "tls", Secrets: []string{"x"}}})),
	}
	if lease {
		all = append(all, lock.Lease("o1"))
	}
	for _, l := range all {
		res.Resources = append(res.Resources, packed(l))
	}
	b, err := protojson.Marshal(res)
	must(r.t, err)
	tmp := filepath.Join(r.dir, "lds.tmp")
	must(r.t, os.WriteFile(tmp, b, 0o600))
	must(r.t, os.Rename(tmp, filepath.Join(r.dir, "lds.json")))
}

func (r *rig) bootstrap() {
	pipe := func(name string) *corev3.Address {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: filepath.Join(r.dir, name)}}}
	}
	h2 := &httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{}}}}}
	als := &clusterv3.Cluster{
		Name:                          lock.AccessLogCluster,
		TypedExtensionProtocolOptions: map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packed(h2)},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: lock.AccessLogCluster, Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: pipe("als.sock")}}}}}}},
	}
	up := netip.MustParseAddrPort(r.upstream.Listener.Addr().String())
	b := &bootstrapv3.Bootstrap{
		Node:  &corev3.Node{Id: "ops/gw", Cluster: "c"},
		Admin: &bootstrapv3.Admin{Address: pipe("admin.sock")},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{LdsConfig: &corev3.ConfigSource{
			ResourceApiVersion: corev3.ApiVersion_V3,
			ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{PathConfigSource: &corev3.PathConfigSource{
				Path: filepath.Join(r.dir, "lds.json"), WatchedDirectory: &corev3.WatchedDirectory{Path: r.dir}}},
		}},
		BootstrapExtensions: []*corev3.TypedExtensionConfig{{Name: "envoy.bootstrap.internal_listener", TypedConfig: packed(&internalv3.InternalListener{})}},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{
			als, lock.OriginalDst(), lock.Cluster("o1", 0, lock.Backend{Endpoints: []netip.AddrPort{up}}),
		}},
	}
	text, err := protojson.Marshal(b)
	must(r.t, err)
	must(r.t, os.WriteFile(filepath.Join(r.dir, "bootstrap.json"), text, 0o600))
}

// start runs Envoy as the dataplane does.
func (r *rig) start() {
	r.t.Helper()
	path := os.Getenv("BREAKGLASS_ENVOY")
	if path == "" {
		r.t.Fatal("BREAKGLASS_ENVOY is not set")
	}
	r.cmd = exec.Command(path, "-c", filepath.Join(r.dir, "bootstrap.json"), "--disable-hot-restart", "--concurrency", "2",
		"--drain-time-s", "0", "--drain-strategy", "immediate", "--file-flush-interval-msec", "1", "--file-flush-min-size-kb", "0", "-l", "warning",
		"--log-path", filepath.Join(r.dir, "envoy.log"))
	r.cmd.Dir = r.dir
	r.cmd.Env = append(os.Environ(), lock.EpochVariable+"="+r.epoch)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(r.t, r.cmd.Start())
	exited, cmd := make(chan struct{}), r.cmd
	r.exited = exited
	go func() { _ = cmd.Wait(); close(exited) }()
	for end := time.Now().Add(20 * time.Second); ; {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.tls)); err == nil {
			c.Close()
			return
		}
		select {
		case <-exited:
		default:
			if time.Now().Before(end) {
				<-time.After(5 * time.Millisecond) // nothing tells when a port opens
				continue
			}
		}
		said, _ := os.ReadFile(filepath.Join(r.dir, "envoy.log"))
		r.t.Fatalf("Envoy does not listen: %s", said)
	}
}

func (r *rig) kill() {
	_ = r.cmd.Process.Kill()
	<-r.exited
}

func (r *rig) reopen(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://envoy/reopen_logs", nil)
	if err != nil {
		return err
	}
	res, err := r.admin.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("reopen_logs: %s", res.Status)
	}
	return nil
}

// raw sends bytes on a connection of its own and reads until Envoy closes it.
func (r *rig) raw(request string) {
	r.t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		r.t.Error(err)
		return
	}
	defer c.Close()
	_, _ = io.WriteString(c, request) // Envoy may answer and close before it has all
	_ = c.SetReadDeadline(time.Now().Add(15 * time.Second))
	_, _ = io.Copy(io.Discard, c)
}
