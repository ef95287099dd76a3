//go:build envoy

package dataplane

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// TestMain lets the test binary be the other processes too: a control plane
// that can be killed, and a deadman.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "control-plane" {
		controlPlane(os.Args[2])
	}
	if len(os.Args) > 3 && os.Args[1] == "deadman" && os.Args[2] == "--dir" {
		if err := RunDeadman(context.Background(), os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// helperConfig is what the control plane process is told.
type helperConfig struct {
	Config   Config
	Deadline time.Time
}

// controlPlane runs an Envoy, prints its process id, and then waits to be
// killed, or for the end of its input: then it stops its Envoy.
func controlPlane(arg string) {
	var h helperConfig
	exit := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.Unmarshal([]byte(arg), &h); err != nil {
		exit(err)
	}
	e, err := Start(context.Background(), h.Config)
	if err != nil {
		exit(err)
	}
	e.SetLife(Life{Until: h.Deadline})
	fmt.Println(e.State().PID)
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := e.Stop(context.Background()); err != nil {
		exit(err)
	}
	os.Exit(0)
}

// envoyConfig is a Config with a control plane behind it.
func envoyConfig(t *testing.T) Config {
	t.Helper()
	c := testConfig(t)
	c.EnvoyPath = os.Getenv("BREAKGLASS_ENVOY")
	if c.EnvoyPath == "" {
		t.Fatal("BREAKGLASS_ENVOY is not set: run `make test-envoy`")
	}
	c.Concurrency = 1
	serveADS(t, c.XDSSocket)
	// Whatever a test does, nothing of it outlives the test.
	t.Cleanup(func() {
		lock, err := os.Stat(c.file(fileEnvoyLock))
		if err != nil {
			return
		}
		if p := findEnvoyOf(c.dir(), lock); p != nil {
			_ = p.end(context.Background(), 0)
			p.release()
		}
	})
	return c
}

// withDeadman makes the test binary c's deadman.
func withDeadman(t *testing.T, c Config) Config {
	t.Helper()
	c.DeadmanArgs = []string{self(t), "deadman", "--dir"}
	t.Cleanup(func() {
		eventually(t, "the deadman ends when nothing is left to watch", func() bool { return !locked(t, c, fileDeadmanLock) })
	})
	return c
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// start starts and, at the end of the test, stops an Envoy.
func start(t *testing.T, c Config) *Envoy {
	t.Helper()
	e, err := Start(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, e) })
	return e
}

func stop(t *testing.T, e *Envoy) {
	t.Helper()
	if err := e.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

// startElsewhere starts an Envoy by a control plane in another process.
func startElsewhere(t *testing.T, c Config, deadline time.Time) (controlPlane *exec.Cmd, envoyPID int) {
	t.Helper()
	arg, err := json.Marshal(helperConfig{c, deadline})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self(t), "control-plane", string(arg))
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(cmd) })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the control plane process said nothing: %v", err)
	}
	if envoyPID, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	return cmd, envoyPID
}

// kill is SIGKILL, and waits until the process is gone.
func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// eventually polls for a condition. The limit is long because it is met only
// when something is broken.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not so after 20 s: %s", what)
}

func ready(t *testing.T, e *Envoy) {
	t.Helper()
	eventually(t, "Envoy is ready", func() bool { return e.State().Ready })
}

func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

func locked(t *testing.T, c Config, name string) bool {
	t.Helper()
	l, err := isLocked(c.file(name))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func killPID(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// ads answers every first request of a type with what it has, which is nothing
// but for listeners. One without a body is removed.
type ads struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	listeners []*discovery.Resource
}

func serveADS(t *testing.T, socket string, listeners ...*discovery.Resource) *grpc.Server {
	t.Helper()
	_ = os.Remove(socket)
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(s, &ads{listeners: listeners})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return s
}

func (a *ads) DeltaAggregatedResources(stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	seen := map[string]bool{}
	for {
		req, err := stream.Recv()
		if err != nil {
			return nil
		}
		if seen[req.TypeUrl] {
			continue
		}
		seen[req.TypeUrl] = true
		resp := &discovery.DeltaDiscoveryResponse{TypeUrl: req.TypeUrl, Nonce: req.TypeUrl}
		if strings.HasSuffix(req.TypeUrl, ".Listener") {
			for _, l := range a.listeners {
				if l.Resource == nil {
					resp.RemovedResources = append(resp.RemovedResources, l.Name)
					continue
				}
				resp.Resources = append(resp.Resources, l)
			}
		}
		if err := stream.Send(resp); err != nil {
			return nil
		}
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func testLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

func fdName(f *os.File) string { return itoa(int(f.Fd())) }
