//go:build envoy

package dataplane

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestEnvoyAcceptsTheBootstrap(t *testing.T) {
	c, err := envoyConfig(t).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.prepareDir(); err != nil {
		t.Fatal(err)
	}
	b, err := c.bootstrap()
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFile(c.file(fileBootstrap), b); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(c.EnvoyPath, "--mode", "validate", "-c", c.file(fileBootstrap)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, b)
	}
	if strings.Contains(string(out), "[warning]") {
		t.Errorf("Envoy warns:\n%s", out)
	}
	version, warning, err := Version(context.Background(), c.EnvoyPath)
	if err != nil || warning != "" {
		t.Errorf("Version = %q, %q, %v", version, warning, err)
	}
}

func TestEnvoyStartsBecomesReadyAndStops(t *testing.T) {
	c := withDeadman(t, envoyConfig(t))
	began := time.Now()
	e := start(t, c)
	ready(t, e)
	t.Logf("ready after %v", time.Since(began))

	s := e.State()
	if !alive(s.PID) || s.Adopted || s.Restarts != 0 || s.LastError != "" || time.Since(s.StartedAt) > time.Minute {
		t.Errorf("state %+v", s)
	}
	select {
	case <-e.Changed():
	default:
		t.Error("Changed said nothing")
	}
	if !e.Ready(context.Background()) {
		t.Error("Ready is false")
	}
	info, err := e.Admin(context.Background(), http.MethodGet, "/server_info")
	if err != nil || !bytes.Contains(info, []byte(c.NodeID)) {
		t.Errorf("server info: %v\n%s", err, info)
	}
	if _, err := e.Admin(context.Background(), http.MethodGet, "/nonsense"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("nonsense: %v", err)
	}
	entries, err := os.ReadDir(e.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		want := os.FileMode(0o600)
		if entry.Name() == SpoolDir {
			want = 0o700
		}
		if mode := statMode(t, filepath.Join(e.Dir(), entry.Name())); mode != want {
			t.Errorf("%s has mode %o", entry.Name(), mode)
		}
	}
	stop(t, e)
	if alive(s.PID) || locked(t, c, fileEnvoyLock) || locked(t, c, fileServeLock) {
		t.Error("something is left after Stop")
	}
	if s := e.State(); s.PID != 0 || s.Ready {
		t.Errorf("state after Stop: %+v", s)
	}
	stop(t, e) // once more does nothing
	e.Detach()
}

func TestEnvoyInheritsNothingButItsLock(t *testing.T) {
	// As from a shell: a descriptor that is not close-on-exec.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.Readlink("/proc/self/fd/" + fdName(w))
	if err != nil {
		t.Fatal(err)
	}
	e := start(t, envoyConfig(t))
	ready(t, e)
	dir := filepath.Join("/proc", itoa(e.State().PID), "fd")
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	lock := 0
	for _, fd := range fds {
		target, _ := os.Readlink(filepath.Join(dir, fd.Name()))
		if target == pipe {
			t.Errorf("descriptor %s is our pipe", fd.Name())
		}
		if strings.HasSuffix(target, ".lock") {
			lock++
			if filepath.Base(target) != fileEnvoyLock {
				t.Errorf("descriptor %s is %s", fd.Name(), target)
			}
		}
	}
	if lock != 1 {
		t.Errorf("%d lock files are open in Envoy, want 1", lock)
	}
	env, err := os.ReadFile(filepath.Join("/proc", itoa(e.State().PID), "environ"))
	if err != nil || string(env) != envEpoch+"="+e.State().Epoch+"\x00LANG=C\x00" {
		t.Errorf("environment %q, %v", env, err)
	}
	sid, err := unix.Getsid(e.State().PID)
	if err != nil || sid != e.State().PID {
		t.Errorf("session %d, %v, want its own", sid, err)
	}
}

func TestAKilledEnvoyIsBack(t *testing.T) {
	e := start(t, envoyConfig(t))
	for i := range 3 {
		ready(t, e)
		pid := e.State().PID
		killed := time.Now()
		killPID(t, pid)
		eventually(t, "another Envoy is ready", func() bool { s := e.State(); return s.Ready && s.PID != pid && s.Restarts == i+1 })
		t.Logf("back and ready after %v", time.Since(killed))
		if s := e.State(); !strings.Contains(s.LastError, itoa(pid)) || !strings.Contains(s.LastError, "killed") {
			t.Errorf("last error %q", s.LastError)
		}
	}
}

func TestAnEnvoyThatCannotStartSaysWhyAndIsTriedAgain(t *testing.T) {
	c := envoyConfig(t)
	envoy := c.EnvoyPath
	c.EnvoyPath = filepath.Join(shortDir(t), "envoy")
	script := func(line string) {
		t.Helper()
		if err := os.WriteFile(c.EnvoyPath+".new", []byte("#!/bin/sh\n"+line+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(c.EnvoyPath+".new", c.EnvoyPath); err != nil {
			t.Fatal(err)
		}
	}
	script("echo 'error while loading shared libraries: libx.so' >&2; exit 127")
	e := start(t, c)
	eventually(t, "the error is told", func() bool {
		s := e.State()
		return strings.Contains(s.LastError, "exit status 127") && strings.Contains(s.LastError, "libx.so") && s.Restarts > 1
	})
	// A bootstrap that Envoy refuses has a cause too.
	script("exec " + envoy + " --config-yaml '{admin: 5}' \"$@\"")
	eventually(t, "Envoy's own message is told", func() bool { return strings.Contains(e.State().LastError, "admin") })
	t.Log(e.State().LastError)
	script("exec " + envoy + " \"$@\"")
	ready(t, e)
}

func TestARestartedControlPlaneIsFoundQuickly(t *testing.T) {
	c := envoyConfig(t)
	c.XDSSocket += "2"
	ads := serveADS(t, c.XDSSocket)
	e := start(t, c)
	ready(t, e)
	stat := func(want string) func() bool {
		return func() bool {
			b, err := e.Admin(context.Background(), http.MethodGet, "/stats?filter=^control_plane.connected_state$")
			return err == nil && strings.Contains(string(b), ": "+want)
		}
	}
	eventually(t, "connected", stat("1"))
	ads.Stop()
	eventually(t, "not connected", stat("0"))
	// Down for long enough that a growing back-off would show.
	down := time.Now().Add(3 * time.Second)
	eventually(t, "3 s have passed", func() bool { return time.Now().After(down) })
	up := time.Now()
	serveADS(t, c.XDSSocket)
	eventually(t, "connected again", stat("1"))
	t.Logf("reconnected after %v", time.Since(up))
	if time.Since(up) > 5*time.Second { // ten times the longest interval
		t.Error("the back-off of the bootstrap is not in force")
	}
}

func TestAPortInUseIsTold(t *testing.T) {
	c := envoyConfig(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c.XDSSocket += "2"
	serveADS(t, c.XDSSocket, tcpListener(t, l.Addr().(*net.TCPAddr).Port))
	e := start(t, c)
	eventually(t, "the state tells", func() bool {
		s := e.State().LastError
		return strings.Contains(s, l.Addr().String()) && strings.Contains(s, "Address already in use")
	})
	t.Log(e.State().LastError)
}

func tcpListener(t *testing.T, port int) *discovery.Resource {
	t.Helper()
	pack := func(m proto.Message) *anypb.Any {
		a, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	proxy := &tcpproxyv3.TcpProxy{StatPrefix: "x", ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: ClusterALS}}
	listener := &listenerv3.Listener{
		Name:            "edge",
		EnableReusePort: wrapperspb.Bool(false),
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address:       "127.0.0.1",
			PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
		}}},
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "tcp", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(proxy)},
		}}}},
	}
	return &discovery.Resource{Name: "edge", Version: "1", Resource: pack(listener)}
}

func TestALargeLogIsRotated(t *testing.T) {
	c := envoyConfig(t)
	e := start(t, c)
	ready(t, e)
	if err := os.Truncate(c.file(fileLog), maxLog); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new log", func() bool {
		_, err := os.Stat(c.file(fileLog) + ".1")
		return err == nil && e.logSize() < maxLog
	})
	if mode := statMode(t, c.file(fileLog)); mode != 0o600 {
		t.Errorf("mode %o", mode)
	}
	if s := e.State(); s.LastError != "" || !s.Ready {
		t.Errorf("state %+v", s)
	}
}

func TestSweepEndsOnlyOrphansOfGatewaysThatAreGone(t *testing.T) {
	c := envoyConfig(t)
	gone, kept, attached := c, c, c
	gone.Name, kept.Name, attached.Name = "a/gone", "a/kept", "a/attached"
	gone.NodeID, kept.NodeID, attached.NodeID = gone.Name, kept.Name, attached.Name
	pids := map[string]int{}
	for _, c := range []Config{gone, kept, attached} {
		e := start(t, c)
		pids[c.Name] = e.State().PID
		if c.Name != attached.Name {
			e.Detach()
		}
		t.Cleanup(func() { _, _ = sweepOne(context.Background(), c.dir(), nil) })
	}
	names, err := Names(c.Dir)
	if slices.Sort(names); err != nil || fmt.Sprint(names) != "[a/attached a/gone a/kept]" {
		t.Errorf("names %v, %v", names, err)
	}
	epoch := readRecord(gone.dir()).Epoch
	var told exits
	tell := func(name, epoch string, clean bool) { told.add(name+" "+epoch, clean) }
	swept, err := Sweep(context.Background(), c.Dir, []string{kept.Name}, tell, testLog())
	told.want(t, gone.Name+" "+epoch+" true")
	if err != nil || len(swept) != 1 || swept[0] != DirName(gone.Name) {
		t.Errorf("swept %v, %v", swept, err)
	}
	for name, want := range map[string]bool{gone.Name: false, kept.Name: true, attached.Name: true} {
		if alive(pids[name]) != want {
			t.Errorf("%s alive: %v, want %v", name, !want, want)
		}
	}
	if swept, err := Sweep(context.Background(), c.Dir+"-none", nil, nil, testLog()); err != nil || swept != nil {
		t.Errorf("a run directory that is missing: %v, %v", swept, err)
	}
}
