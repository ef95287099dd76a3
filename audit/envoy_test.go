//go:build envoy

package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// envoyConfig is a listener with two routes and the access log of the package
// documentation. %[1]s is the socket of the receiver, %[2]s the upstream's port.
const envoyConfig = `
node: {id: gw-node, cluster: c}
static_resources:
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: h
          use_remote_address: true
          access_log:
          - name: als
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig
              common_config:
                log_name: breakglass
                transport_api_version: V3
                buffer_size_bytes: 0
                grpc_service: {envoy_grpc: {cluster_name: als}}
                custom_tags:
                - {tag: bg.gateway, literal: {value: ops/gw}}
                - {tag: bg.connection, value: "%%CONNECTION_ID%%"}
                - {tag: bg.route, metadata: {kind: {route: {}}, metadata_key: {key: bg, path: [{key: route}]}}}
                - {tag: bg.opening, metadata: {kind: {route: {}}, metadata_key: {key: bg, path: [{key: opening}]}}}
                - {tag: bg.incident, metadata: {kind: {route: {}}, metadata_key: {key: bg, path: [{key: incident}]}}}
                - {tag: bg.activations, metadata: {kind: {route: {}}, metadata_key: {key: bg, path: [{key: activations}]}}}
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            virtual_hosts:
            - name: v
              domains: ["*"]
              routes:
              - name: dormant
                match: {prefix: /dormant}
                direct_response: {status: 404}
              - name: open
                match: {prefix: /open}
                metadata: {filter_metadata: {bg: {route: pay/db, incident: INC-1, opening: o1, activations: [pay/a, pay/b]}}}
                route: {cluster: up, prefix_rewrite: /x}
  clusters:
  - name: als
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: als
      endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: "%[1]s"}}}}]}]
  - name: up
    load_assignment:
      cluster_name: up
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %[2]s}}}}]}]
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
`

// arrivals hands entries to the test as they come.
type arrivals chan RequestEntry

func (a arrivals) Request(e RequestEntry) { a <- e }

// startEnvoy returns the address of the listener.
func startEnvoy(t *testing.T, conf string) string {
	t.Helper()
	path := os.Getenv("BREAKGLASS_ENVOY")
	if path == "" {
		t.Fatal("BREAKGLASS_ENVOY is not set")
	}
	cmd := exec.Command(path, "--config-yaml", conf, "--disable-hot-restart", "--concurrency", "1", "-l", "info")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	var said bytes.Buffer
	admin, ready := "", make([]byte, 1)
	for admin == "" || !bytes.Contains(said.Bytes(), []byte("starting main dispatch loop")) {
		if _, err := stderr.Read(ready); err != nil {
			t.Fatalf("envoy: %v: %s", err, said.String())
		}
		said.Write(ready)
		if _, rest, ok := strings.Cut(said.String(), "admin address: "); ok {
			admin, _, _ = strings.Cut(rest, "\n")
		}
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	res, err := http.Get("http://" + strings.TrimSpace(admin) + "/listeners?format=json")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var l struct {
		Statuses []struct {
			Address struct {
				Socket struct {
					Port int `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.NewDecoder(res.Body).Decode(&l); err != nil || len(l.Statuses) != 1 {
		t.Fatalf("listeners: %+v, %v", l, err)
	}
	return fmt.Sprintf("127.0.0.1:%d", l.Statuses[0].Address.Socket.Port)
}

func TestWhatARealEnvoySendsIsUnderstood(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	t.Cleanup(up.Close)
	got := make(arrivals, 100)
	r := NewReceiver(got, quiet)
	cc, _ := serve(t, r)
	_, port, _ := net.SplitHostPort(up.Listener.Addr().String())
	addr := startEnvoy(t, fmt.Sprintf(envoyConfig, strings.TrimPrefix(cc.Target(), "unix:"), port))

	ask := func(raw string) RequestEntry {
		t.Helper()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, raw)
		if _, err := io.ReadAll(c); err != nil {
			t.Fatal(err)
		}
		select {
		case e := <-got:
			return e
		case <-time.After(10 * time.Second):
			t.Fatalf("no entry for %q; %+v", raw, r.Stats())
			return RequestEntry{}
		}
	}

	e := ask("POST /open/a?k=secret&" + token + " HTTP/1.1\r\nhost: db.example\r\nauthorization: Bearer " + token +
		"\r\nx-request-id: mine\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc")
	if e.Key == "" || e.Key != e.StreamID || e.StreamID == "mine" || e.Type != TypeEnd ||
		e.Gateway != "ops/gw" || e.Node != "gw-node" || e.Route != "pay/db" || e.Incident != "INC-1" ||
		strings.Join(e.Activations, ",") != "pay/a,pay/b" || e.Method != "POST" || e.Host != "db.example" ||
		e.Path != "/open/a?k=redacted&redacted" || e.Status != 200 || e.BytesIn != 3 || e.BytesOut != 5 || e.Connection == "" ||
		e.UpstreamAddress != up.Listener.Addr().String() || e.UpstreamCluster != "up" || e.Denied != "" || e.DurationMs <= 0 ||
		time.Since(e.Start).Abs() > time.Minute || !strings.HasPrefix(e.ClientAddress, "127.0.0.1:") || e.Details != "via_upstream" {
		t.Errorf("open: %+v", e)
	}
	if e := ask("GET /dormant HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"); e.Status != 404 || e.Denied != "not open" || e.Route != "dormant" || e.Incident != "" {
		t.Errorf("dormant: %+v", e)
	}
	if e := ask("GET /none HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"); e.Status != 404 || e.Denied != "not open" || e.Route != "" {
		t.Errorf("none: %+v", e)
	}
	// Rejected before it had a stream id.
	if e := ask("GET / HTTP/1.1\r\nconnection: close\r\n\r\n"); e.Status != 400 || e.StreamID != "" || !strings.HasPrefix(e.Key, e.Connection+"@2") {
		t.Errorf("no host: %+v", e)
	}
	// Whatever bytes a client sends, the next entry still comes.
	for _, c := range []string{"\xff\xfe", "\xc3", "\x80\x81"} {
		e := ask("GET /open/" + c + " HTTP/1.1\r\nhost: h" + c + "\r\nuser-agent: " + c + "\r\nreferer: " + c + "\r\nconnection: close\r\n\r\n")
		t.Logf("%q: %d path %q host %q", c, e.Status, e.Path, e.Host)
	}
	if s := r.Stats(); s.Malformed != 0 {
		t.Errorf("stats %+v", s)
	}
}
