package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/echo"
	"github.com/breakglass-gateway/breakglass-gateway/internal/token"
)

// world is one serve with its manifests, backend and clients.
type world struct {
	config     config
	setting    setting
	dir        string
	door       string
	metrics    string
	backend    string // address
	echo       *echo.Server
	serve      *exec.Cmd
	control    *control.Client
	bearer     string
	n          atomic.Int64
	firstStart float64
	opening    time.Duration // of what is to reach its deadline soon
	gaps       uint64        // in the audit log, so far
	failed     bool
}

const issuerURL = "https://sso.example.com"

// start serves in a setting, and waits until all that is to be open is.
func start(c config, s setting) (w *world, err error) {
	e := &echo.Server{Name: "bench", Interval: 5 * time.Millisecond}
	if err := e.Start("127.0.0.1:0"); err != nil {
		return nil, err
	}
	return startWith(c, s, e.Addr(), e)
}

func startWith(c config, s setting, backend string, e *echo.Server) (w *world, err error) {
	w = &world{config: c, setting: s, backend: backend, echo: e, opening: 1500 * time.Millisecond}
	defer func() {
		if err != nil {
			w.failed = w.serve != nil
			w.stop()
		}
	}()
	if w.dir, err = os.MkdirTemp("", "breakglass-bench-"); err != nil {
		return nil, err
	}
	if w.door, err = freeAddress(); err != nil {
		return nil, err
	}
	if w.metrics, err = freeAddress(); err != nil {
		return nil, err
	}
	if err := w.write(); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := w.startServe(); err != nil {
		return nil, err
	}
	if err := w.awaitOpen(); err != nil {
		return nil, err
	}
	w.firstStart = millis(time.Since(began))
	return w, w.pace()
}

// pace finds how long it takes to open what is to reach its deadline in one
// round, which must all be open before the first deadline.
func (w *world) pace() error {
	v := w.visitor(target)
	defer v.close()
	began := time.Now()
	a, err := w.breakGlass(target, time.Minute)
	if err != nil {
		return err
	}
	if _, _, err := v.until(true, patience); err != nil {
		return err
	}
	w.opening += 2 * deadlineTargets * time.Since(began)
	if err := w.revokeName(a.Name); err != nil {
		return err
	}
	_, _, err = v.until(false, patience)
	return err
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

// write makes the manifests: one policy, one Gateway, one backend, a file for each
// route, and the activations that last for the whole run.
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
	if err := os.MkdirAll(w.path("config"), 0o700); err != nil {
		return err
	}
	_, doorPort, _ := net.SplitHostPort(w.door)
	_, backendPort, _ := net.SplitHostPort(w.backend)
	files := map[string]string{"base.yaml": fmt.Sprintf(base, strings.Join(strings.Fields(string(keys)), ""), cmp.Or(w.setting.mode, "Standard"), doorPort, backendPort)}
	// With an empty data directory only what has an end of its own may open.
	notAfter := fmt.Sprintf(", duration: 3h, notAfter: %q", time.Now().Add(3*time.Hour).UTC().Format(time.RFC3339))
	var open []string
	for _, route := range w.openRoutes() {
		open = append(open, activation(fmt.Sprintf("open-%d", route), route, notAfter))
	}
	if len(open) > 0 {
		files["open.yaml"] = documents(open)
	}
	for name, text := range files {
		if err := os.WriteFile(w.path("config", name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	for i := range w.setting.Routes {
		if err := w.writeRoute(i, 0); err != nil {
			return err
		}
	}
	return nil
}

// writeRoute writes a route's manifest; another edition is another spec.
func (w *world) writeRoute(i, edition int) error {
	return os.WriteFile(w.path("config", fmt.Sprintf("route-%d.yaml", i)), fmt.Appendf(nil, route, i, host(i), edition), 0o600)
}

// startServe and wait until it is ready.
func (w *world) startServe() error {
	if err := w.spawnServe(); err != nil {
		return err
	}
	return w.awaitReady()
}

func (w *world) spawnServe() error {
	log, err := os.OpenFile(w.path("serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	w.serve = exec.Command(w.config.binary, "serve", "--config", w.path("config"), "--data-dir", w.path("data"), "--envoy", w.config.envoy, "--metrics-address", w.metrics)
	w.serve.Stdout, w.serve.Stderr = log, log
	w.serve.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return w.serve.Start()
}

func (w *world) awaitReady() (err error) {
	for end := time.Now().Add(2 * patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		res, err := http.Get("http://" + w.metrics + "/readyz")
		if err != nil {
			continue // it does not listen yet
		}
		res.Body.Close()
		if res.StatusCode == http.StatusOK {
			w.control, err = control.Dial(control.SocketPath(w.path("data")))
			return err
		}
	}
	return fmt.Errorf("serve was not ready within %s: see %s", 2*patience, w.path("serve.log"))
}

func (w *world) endServe() error {
	if err := w.serve.Process.Kill(); err != nil {
		return err
	}
	_ = w.serve.Wait() // killed
	return nil
}

func (w *world) stop() {
	if w.serve != nil && w.serve.Process != nil {
		_ = w.serve.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = w.serve.Wait()
	}
	if w.echo != nil {
		_ = w.echo.Close() // so are its clients
	}
	if w.failed {
		fmt.Fprintf(os.Stderr, "bench: logs and journal are in %s\n", w.dir)
		return
	}
	_ = os.RemoveAll(w.dir) // a leftover in a temporary directory
}

// envoyPID of the one Envoy.
func (w *world) envoyPID() (int, error) {
	files, err := filepath.Glob(w.path("data", "run", "envoy", "*", "envoy.json"))
	if err != nil || len(files) != 1 {
		return 0, errors.Join(fmt.Errorf("records of an Envoy: %v", files), err)
	}
	return recordedPID(files[0])
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
  audit: {mode: %s}
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
  hostnames: [%s]
  rules:
  - matches: [{path: {value: /x}, method: GET}]
    filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-edition, value: "%d"}]}}]
    backendRefs: [{name: backend, port: 80}]
`
