package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/internal/client"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control/controltest"
)

const kubeconfig = `apiVersion: v1
kind: Config
current-context: one
clusters:
- {name: one, cluster: {server: "https://one.invalid"}}
- {name: two, cluster: {server: "https://two.invalid"}}
contexts:
- {name: one, context: {cluster: one, user: me}}
- {name: two, context: {cluster: two, user: me, namespace: payments}}
users: [{name: me, user: {}}]
`

// Who is asked is who was named; else the serve that runs here; else the cluster
// of the kubeconfig. It is said unless it was named.
func TestWhoIsAsked(t *testing.T) {
	home := t.TempDir()
	systemDataDir = filepath.Join(home, "system")
	t.Cleanup(func() { systemDataDir = "/var/lib/breakglass" })
	config := filepath.Join(home, "kubeconfig")
	if err := os.WriteFile(config, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"HOME": home, "BREAKGLASS_DATA_DIR": "", "KUBECONFIG": config, "KUBERNETES_SERVICE_HOST": ""} {
		t.Setenv(name, value)
	}
	usual, other := defaultDataDir(), t.TempDir()
	for _, dir := range []string{usual, other} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	check := func(b backend, env, where, said string) {
		t.Helper()
		t.Setenv("BREAKGLASS_DATA_DIR", env)
		var errOut bytes.Buffer
		c, err := b.open(&errOut)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := c.Info().Where; got != where || errOut.String() != said {
			t.Errorf("asked %q and said %q, want %q and %q", got, errOut.String(), where, said)
		}
	}
	const one, two = "https://one.invalid (context one)", "https://two.invalid (context two)"
	check(backend{}, "", one, "Asking the API server: "+one+"\n")
	check(backend{context: "two"}, "", two, "")
	check(backend{kubeconfig: config}, other, one, "")
	socket := serving(t, usual)
	check(backend{}, "", socket, "Asking breakglass serve: "+socket+"\n")
	check(backend{context: "one"}, "", one, "")
	if _, err := (&backend{connection: connection{dataDir: other}}).open(&bytes.Buffer{}); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("a serve that was named and does not run: %v", err)
	}
	serving(t, other)
	check(backend{}, other, control.SocketPath(other), "")
}

func serving(t *testing.T, dir string) string {
	t.Helper()
	s, err := control.Listen(dir, &controltest.Backend{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = s.Serve(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return control.SocketPath(dir)
}

func TestWithoutAnybodyToAskTheRemedyIsSaid(t *testing.T) {
	home := t.TempDir()
	systemDataDir = filepath.Join(home, "system")
	t.Cleanup(func() { systemDataDir = "/var/lib/breakglass" })
	for name, value := range map[string]string{"HOME": home, "BREAKGLASS_DATA_DIR": "", "KUBECONFIG": filepath.Join(home, "none"), "KUBERNETES_SERVICE_HOST": ""} {
		t.Setenv(name, value)
	}
	_, err := (&backend{}).open(&bytes.Buffer{})
	if !errors.Is(err, client.ErrNoCluster) || !errors.Is(err, control.ErrNotRunning) || !strings.Contains(err.Error(), "--data-dir") || !strings.Contains(err.Error(), "--kubeconfig") {
		t.Error(err)
	}
}
