package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// plain is the same Envoy with what a request cannot do without: a listener, one
// static route to a static cluster, the router. A second listener also has a
// file access log, as Envoy has it by default.
type plain struct {
	dir          string
	door, logged string
	cmd          *exec.Cmd
}

func startPlain(c config, backend string) (p *plain, err error) {
	p = &plain{}
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	if p.dir, err = os.MkdirTemp("", "breakglass-plain-"); err != nil {
		return nil, err
	}
	if p.door, err = freeAddress(); err != nil {
		return nil, err
	}
	if p.logged, err = freeAddress(); err != nil {
		return nil, err
	}
	port := func(address string) string { _, text, _ := net.SplitHostPort(address); return text }
	log := `[{name: file, typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: ` + filepath.Join(p.dir, "access.log") + `}}]`
	text := "static_resources:\n  listeners:\n" + fmt.Sprintf(plainListener, "plain", port(p.door), "[]") + fmt.Sprintf(plainListener, "logged", port(p.logged), log) +
		fmt.Sprintf(plainCluster, port(backend))
	file := filepath.Join(p.dir, "envoy.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	// As serve starts its own.
	p.cmd = exec.Command(c.envoy, "-c", file, "--disable-hot-restart", "--concurrency", fmt.Sprint(min(runtime.NumCPU(), 4)),
		"-l", "warning", "--log-path", filepath.Join(p.dir, "envoy.log"))
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", p.logged); err == nil {
			return p, conn.Close()
		}
	}
	said, _ := os.ReadFile(filepath.Join(p.dir, "envoy.log"))
	return nil, errors.New("the plain Envoy does not listen after 20 s: " + string(said))
}

func (p *plain) pid() int { return p.cmd.Process.Pid }

func (p *plain) stop() {
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait() // killed
	}
	_ = os.RemoveAll(p.dir) // a leftover in a temporary directory
}

const plainListener = `
  - name: %[1]s
    address: {socket_address: {address: 127.0.0.1, port_value: %[2]s}}
    enable_reuse_port: false
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: %[1]s
          access_log: %[3]s
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: backend}}]}]}
          http_filters: [{name: envoy.filters.http.router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
`

const plainCluster = `
  clusters:
  - name: backend
    connect_timeout: 1s
    load_assignment: {cluster_name: backend, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}}]}]}
`
