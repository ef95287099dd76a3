package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/examples"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/echo"
	"github.com/breakglass-gateway/breakglass-gateway/internal/token"
)

// issuers of the examples' policy.
var issuers = map[string]string{
	"sso":     "https://sso.example.com",
	"offline": "https://breakglass.example.com/offline",
}

// tour is the world of the demo.
type tour struct {
	opts     Options
	out      io.Writer
	dir      string
	ports    *strings.Replacer // ports of the examples that are taken here
	door     string            // host:port of the Gateway
	backends map[string]*echo.Server
	keys     map[string]*token.Key
	serve    *exec.Cmd
	control  *control.Client

	step, checks, failed int
}

// backendPorts are where the examples expect their backends.
var backendPorts = map[string]string{"db-failover": "18081", "deployer": "18082", "diagnostics": "18083"}

const doorPort = "18080"

// prepare lays out the examples, makes keys, starts the backends and serve.
func (t *tour) prepare(ctx context.Context) error {
	t.title("A break-glass repository, served by a real Envoy, without a cluster")
	if err := t.choosePorts(); err != nil {
		return err
	}
	if err := t.writeConfig(); err != nil {
		return err
	}
	t.backends = map[string]*echo.Server{}
	for name, port := range backendPorts {
		b := &echo.Server{Name: name, Interval: 5 * time.Millisecond}
		if err := b.Start("127.0.0.1:" + t.ports.Replace(port)); err != nil {
			return err
		}
		t.backends[name] = b
	}
	t.say("   $ breakglass serve --config %s --data-dir %s", t.configDir(), t.dataDir())
	if err := t.startServe(ctx); err != nil {
		return err
	}
	s, err := t.control.Status(ctx)
	if err != nil {
		return err
	}
	t.check(s.Ready && len(s.Problems) == 0, "ready: %d routes dormant, Envoy pid %d", len(s.Routes), s.Gateways[0].Envoy.PID)
	return nil
}

// choosePorts keeps the ports of the examples, but for those that are taken.
func (t *tour) choosePorts() error {
	var pairs []string
	for _, port := range append([]string{doorPort}, values(backendPorts)...) {
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				return err
			}
			_, free, _ := net.SplitHostPort(l.Addr().String())
			pairs = append(pairs, port, free)
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	t.ports = strings.NewReplacer(pairs...)
	t.door = "127.0.0.1:" + t.ports.Replace(doorPort)
	return nil
}

func values(m map[string]string) []string {
	var out []string
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// writeConfig copies the examples and puts fresh public keys beside them.
func (t *tour) writeConfig() error {
	repo, err := fs.Sub(examples.FS, "repo")
	if err != nil {
		return err
	}
	err = fs.WalkDir(repo, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(t.configDir(), path)
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		text, err := fs.ReadFile(repo, path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, []byte(t.ports.Replace(string(text))), 0o600)
	})
	if err != nil {
		return fmt.Errorf("copy the examples: %w", err)
	}
	t.keys = map[string]*token.Key{}
	keys := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: issuer-keys, namespace: breakglass}\ndata:\n"
	for _, name := range []string{"sso", "offline"} {
		public, err := token.Keygen(t.keyFile(name), "ES256")
		if err != nil {
			return err
		}
		if t.keys[name], err = token.LoadKey(t.keyFile(name)); err != nil {
			return err
		}
		keys += fmt.Sprintf("  %s.json: '%s'\n", name, strings.Join(strings.Fields(string(public)), ""))
	}
	return os.WriteFile(filepath.Join(t.configDir(), "keys.yaml"), []byte(keys), 0o600)
}

// startServe starts the control plane and waits until it is ready.
func (t *tour) startServe(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(t.dir, "serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"serve", "--config", t.configDir(), "--data-dir", t.dataDir(), "--metrics-address", ""}
	if t.opts.EnvoyPath != "" {
		args = append(args, "--envoy", t.opts.EnvoyPath)
	}
	t.serve = exec.Command(t.opts.Self, args...)
	t.serve.Stdout, t.serve.Stderr = log, log
	// Its own process group: Ctrl-C is for the demo, which then stops it in order.
	t.serve.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := t.serve.Start(); err != nil {
		return fmt.Errorf("start serve: %w", err)
	}
	return t.until(ctx, 20*time.Second, "serve to be ready", func() bool {
		c, err := control.Dial(control.SocketPath(t.dataDir()))
		if err != nil {
			return false
		}
		t.control = c
		s, err := c.Status(ctx)
		return err == nil && s.Ready
	})
}

// until polls for a condition.
func (t *tour) until(ctx context.Context, limit time.Duration, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %v for %s", limit, what)
		case <-tick.C:
		}
	}
	return nil
}

// close stops everything.
func (t *tour) close() error {
	var errs []error
	if t.serve != nil && t.serve.Process != nil {
		_ = t.serve.Process.Signal(syscall.SIGTERM) // it may have ended
		done := make(chan error, 1)
		go func() { done <- t.serve.Wait() }()
		select {
		case err := <-done:
			errs = append(errs, err)
		case <-time.After(15 * time.Second):
			errs = append(errs, errors.New("serve did not stop within 15 s"), t.serve.Process.Kill())
		}
	}
	for _, b := range t.backends {
		errs = append(errs, b.Close())
	}
	return errors.Join(errs...)
}
