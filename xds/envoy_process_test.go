//go:build envoy

package xds

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// rig is a server on a unix socket, a real Envoy on it, and an upstream.
type rig struct {
	t        *testing.T
	dir      string
	socket   string
	port     int
	workers  int
	server   *Server
	grpc     *grpc.Server
	changed  chan struct{}
	envoy    *exec.Cmd
	exited   chan struct{}
	upstream string // host:port
	client   *http.Client
}

func newRig(t *testing.T, workers int) *rig {
	t.Helper()
	if os.Getenv("BREAKGLASS_ENVOY") == "" {
		t.Fatal("BREAKGLASS_ENVOY must name an Envoy binary")
	}
	r := &rig{t: t, dir: t.TempDir(), workers: workers, port: freePort(t)}
	r.socket = filepath.Join(r.dir, "xds.sock")
	r.upstream = startUpstream(t)
	r.client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: 16, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
		}}}
	r.startServer()
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		r.killEnvoy()
		r.grpc.Stop()
	})
	return r
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// startServer makes a server that knows nothing, as a restarted process does.
func (r *rig) startServer() {
	r.t.Helper()
	os.Remove(r.socket)
	lis, err := net.Listen("unix", r.socket)
	if err != nil {
		r.t.Fatal(err)
	}
	changed := make(chan struct{}, 1)
	r.changed = changed
	r.server = New(Options{Log: quiet, OnChange: func(string) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}})
	r.grpc = grpc.NewServer(ServerOptions()...)
	r.server.Register(r.grpc)
	go r.grpc.Serve(lis)
}

const bootstrapYAML = `
node: {id: "%s", cluster: breakglass}
admin: {address: {pipe: {path: "%s"}}}
dynamic_resources:
  ads_config: {api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}], set_node_on_first_message_only: true}
  lds_config: {ads: {}, resource_api_version: V3}
  cds_config: {ads: {}, resource_api_version: V3}
bootstrap_extensions:
- name: envoy.bootstrap.internal_listener
  typed_config: {"@type": type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: "%s"}}}}]}]}
`

func (r *rig) startEnvoy() {
	r.t.Helper()
	conf := filepath.Join(r.dir, "bootstrap.yaml")
	text := fmt.Sprintf(bootstrapYAML, nodeID, filepath.Join(r.dir, "admin.sock"), r.socket)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	logFile, err := os.OpenFile(filepath.Join(r.dir, "envoy.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer logFile.Close()
	r.envoy = exec.Command(os.Getenv("BREAKGLASS_ENVOY"), "-c", conf, "--disable-hot-restart", "-l", "warning",
		"--concurrency", fmt.Sprint(r.workers), "--drain-time-s", "0", "--drain-strategy", "immediate")
	r.envoy.Stdout, r.envoy.Stderr = logFile, logFile
	r.envoy.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.envoy.Start(); err != nil {
		r.t.Fatal(err)
	}
	exited := make(chan struct{})
	r.exited = exited
	cmd := r.envoy
	go func() {
		cmd.Wait()
		close(exited)
	}()
}

func (r *rig) killEnvoy() {
	if r.envoy != nil {
		r.envoy.Process.Kill()
		<-r.exited
		r.envoy, r.exited = nil, nil
	}
}

func (r *rig) envoyLog() string {
	b, _ := os.ReadFile(filepath.Join(r.dir, "envoy.log"))
	return string(b[max(0, len(b)-4000):])
}

// until waits until cond holds, looking again whenever Delivery changed.
func (r *rig) until(what string, cond func(snapshot.Delivery) bool) {
	r.t.Helper()
	d := r.server.Delivery(nodeID)
	timeout := time.After(30 * time.Second)
	for !cond(d) {
		select {
		case <-r.changed:
		case <-r.exited:
			r.t.Fatalf("waiting for %s: envoy exited:\n%s", what, r.envoyLog())
		case <-timeout:
			r.t.Fatalf("waiting for %s: timeout; envoy says:\n%s", what, r.envoyLog())
		}
	}
}

func (r *rig) untilAcked(s *snapshot.Snapshot) {
	r.t.Helper()
	r.until("all ACKs", func(d snapshot.Delivery) bool {
		for want := range s.All() {
			k := want.Key
			if d.Acked(k) != want.Version {
				return false
			}
		}
		return true
	})
}

// get asks for a host through Envoy: 0 is a failed request.
func (r *rig) get(host string) int {
	resp, err := r.client.Get("http://" + host + "/")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// untilStatus asks until the answer is want; what came before is returned.
func (r *rig) untilStatus(host string, want int) (before map[int]int) {
	r.t.Helper()
	before = map[int]int{}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		got := r.get(host)
		if got == want {
			return before
		}
		before[got]++
	}
	r.t.Fatalf("%s never answered %d: %v; envoy says:\n%s", host, want, before, r.envoyLog())
	return nil
}

// startUpstream serves "/" at once and "/stream" as a byte each millisecond.
func startUpstream(t *testing.T) string {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/stream", func(w http.ResponseWriter, req *http.Request) {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := w.Write([]byte(".")); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-tick.C:
			case <-req.Context().Done():
				return
			}
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	srv := &http.Server{Handler: mux}
	go srv.Serve(lis)
	t.Cleanup(func() { srv.Close() })
	return lis.Addr().String()
}

// openStream is a response that goes on until it is cut.
type openStream struct {
	mu   sync.Mutex
	last time.Time // of a byte
	n    int
	end  chan struct{}
}

func (r *rig) openStream(host string) *openStream {
	r.t.Helper()
	resp, err := r.client.Transport.RoundTrip(mustRequest("http://" + host + "/stream"))
	if err != nil || resp.StatusCode != 200 {
		r.t.Fatalf("stream: %v %v", resp, err)
	}
	s := &openStream{end: make(chan struct{})}
	go func() {
		defer close(s.end)
		defer resp.Body.Close()
		buf := make([]byte, 256)
		for {
			n, err := resp.Body.Read(buf)
			if n > 0 {
				s.mu.Lock()
				s.last, s.n = time.Now(), s.n+n
				s.mu.Unlock()
			}
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *openStream) lastByte() (time.Time, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.n
}

func (s *openStream) open() bool {
	select {
	case <-s.end:
		return false
	default:
		return true
	}
}

func mustRequest(url string) *http.Request {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		panic(err)
	}
	return req
}

// fromYAML makes a resource; text may use NAME and UPSTREAM.
func (r *rig) fromYAML(name string, m proto.Message, text string, needs ...snapshot.Key) *snapshot.Resource {
	r.t.Helper()
	text = strings.NewReplacer("NAME", name, "UPSTREAM_HOST", "127.0.0.1",
		"UPSTREAM_PORT", r.upstream[strings.LastIndexByte(r.upstream, ':')+1:], "UPSTREAM", r.upstream,
		"PORT", fmt.Sprint(r.port)).Replace(text)
	j, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		r.t.Fatal(err)
	}
	if err := protojson.Unmarshal(j, m); err != nil {
		r.t.Fatalf("%s: %v", name, err)
	}
	res, err := snapshot.New("type.googleapis.com/"+string(m.ProtoReflect().Descriptor().FullName()), name, m)
	if err != nil {
		r.t.Fatal(err)
	}
	res.Needs = needs
	return res
}
