package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/echo"
	"github.com/breakglass-gateway/breakglass-gateway/internal/token"
)

// world is one serve with its manifests, backend and clients.
type world struct {
	config  config
	dir     string
	door    string
	backend *echo.Server
	serve   *exec.Cmd
	control *control.Client
	bearer  string
	n       int
	gaps    uint64 // in the audit log, so far
	failed  bool
}

const issuerURL = "https://sso.example.com"

func start(c config) (w *world, err error) {
	w = &world{config: c, backend: &echo.Server{Name: "bench", Interval: 2 * time.Millisecond}}
	defer func() {
		if err != nil {
			w.stop()
		}
	}()
	if w.dir, err = os.MkdirTemp("", "breakglass-bench-"); err != nil {
		return w, err
	}
	if err := w.backend.Start("127.0.0.1:0"); err != nil {
		return w, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return w, err
	}
	w.door = l.Addr().String()
	if err := errors.Join(l.Close(), w.write()); err != nil {
		return w, err
	}
	return w, w.startServe()
}

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

// write makes the manifests: one policy, one Gateway, one backend, many routes.
func (w *world) write() error {
	keys, err := token.Keygen(w.path("key"), "ES256")
	if err != nil {
		return err
	}
	key, err := token.LoadKey(w.path("key"))
	if err != nil {
		return err
	}
	w.bearer, err = token.Issue(key, token.Claims{
		Issuer: issuerURL, Subject: "bench", Audience: []string{"bench"}, TTL: time.Hour, Extra: map[string]any{"groups": []string{"bench"}},
	}, time.Now())
	if err != nil {
		return err
	}
	_, doorPort, _ := net.SplitHostPort(w.door)
	_, backendPort, _ := net.SplitHostPort(w.backend.Addr())
	files := map[string]string{"base.yaml": fmt.Sprintf(base, strings.Join(strings.Fields(string(keys)), ""), doorPort, backendPort)}
	for i := range w.config.routes {
		files[fmt.Sprintf("route-%d.yaml", i)] = fmt.Sprintf(route, i, i)
	}
	if err := os.MkdirAll(w.path("config"), 0o700); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(w.path("config", name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) startServe() error {
	log, err := os.OpenFile(w.path("serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	w.serve = exec.Command(w.config.binary, "serve", "--config", w.path("config"), "--data-dir", w.path("data"), "--envoy", w.config.envoy, "--metrics-address", "")
	w.serve.Stdout, w.serve.Stderr = log, log
	w.serve.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := w.serve.Start(); err != nil {
		return err
	}
	end := time.Now().Add(30 * time.Second)
	for time.Now().Before(end) {
		if w.control, err = control.Dial(control.SocketPath(w.path("data"))); err == nil {
			if s, err := w.control.Status(context.Background()); err == nil && s.Ready {
				return nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("serve was not ready within 30 s: see %s", w.path("serve.log"))
}

func (w *world) stop() {
	if w.serve != nil && w.serve.Process != nil {
		_ = w.serve.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = w.serve.Wait()
	}
	if w.failed {
		fmt.Fprintf(os.Stderr, "bench: logs and journal are in %s\n", w.dir)
		return
	}
	_ = os.RemoveAll(w.dir) // a leftover in a temporary directory
}

const base = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: emergency}
spec:
  controllerName: breakglass.dev/gateway-controller
  parametersRef: {group: breakglass.dev, kind: EmergencyPolicy, name: emergency}
---
apiVersion: breakglass.dev/v1alpha1
kind: EmergencyPolicy
metadata: {name: emergency}
spec:
  issuers: [{name: sso, issuer: https://sso.example.com, audiences: [bench], jwks: {inline: '%s'}}]
  roles: [{name: bench, grants: [{issuer: sso, claims: [{path: [groups], anyOf: [bench]}]}]}]
  limits: {maxOpen: 10000, maxPerDay: 10000}
  requests: {withToken: {perSecond: 1000000, burst: 1000000}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: door, namespace: bench}
spec:
  gatewayClassName: emergency
  listeners: [{name: http, port: %s, protocol: HTTP}]
---
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: bench}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: backend-1, namespace: bench, labels: {kubernetes.io/service-name: backend}}
addressType: IPv4
ports: [{name: http, port: %s}]
endpoints: [{addresses: [127.0.0.1]}]
`

const route = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route-%d, namespace: bench, labels: {breakglass.dev/role: bench}}
spec:
  parentRefs: [{name: door}]
  hostnames: [h%d.example.com]
  rules:
  - matches: [{path: {value: /x}, method: GET}]
    backendRefs: [{name: backend, port: 80}]
`
