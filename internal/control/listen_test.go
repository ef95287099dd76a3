package control_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control/controltest"
)

// deadSocket leaves a socket file that nobody answers on, as SIGKILL does.
func deadSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	dir := shortDir(t)
	deadSocket(t, control.SocketPath(dir))
	stop := startIn(t, dir, &controltest.Backend{})
	c, err := control.Dial(control.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
	stop()
	if _, err := os.Lstat(control.SocketPath(dir)); !os.IsNotExist(err) {
		t.Errorf("the socket stays after the end: %v", err)
	}
}

func TestSocketThatAnswersIsNotReplaced(t *testing.T) {
	dir := shortDir(t)
	l, err := net.Listen("unix", control.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, err = control.Listen(dir, &controltest.Backend{}, nil)
	if err == nil || !strings.Contains(err.Error(), "another process answers on it") {
		t.Errorf("got %v", err)
	}
	if _, err := net.Dial("unix", control.SocketPath(dir)); err != nil {
		t.Errorf("the other's socket is gone: %v", err)
	}
}

func TestTwoServersNeverShareADirectory(t *testing.T) {
	dir := shortDir(t)
	stop := startIn(t, dir, &controltest.Backend{})
	_, err := control.Listen(dir, &controltest.Backend{}, nil)
	if err == nil || !strings.Contains(err.Error(), "another `breakglass serve` uses data directory "+dir) {
		t.Errorf("got %v", err)
	}
	stop()
	startIn(t, dir, &controltest.Backend{})() // the directory is free again
}

func TestWhatCannotBeASocketSaysSo(t *testing.T) {
	long := filepath.Join(shortDir(t), strings.Repeat("d", 100))
	const tooLong = "the system takes at most 107: use a shorter --data-dir"
	if _, err := control.Listen(long, nil, nil); err == nil || !strings.Contains(err.Error(), tooLong) {
		t.Errorf("a long path: %v", err)
	}
	if _, err := os.Stat(long); !os.IsNotExist(err) {
		t.Error("a directory was made for a socket that cannot be")
	}
	if _, err := control.Dial(control.SocketPath(long)); err == nil || !strings.Contains(err.Error(), tooLong) {
		t.Errorf("dialing a long path: %v", err)
	}
	// Exactly as long as the system takes.
	edge := shortDir(t)
	edge = filepath.Join(edge, strings.Repeat("d", 107-len(edge)-len("//control.sock")))
	if n := len(control.SocketPath(edge)); n != 107 {
		t.Fatalf("the test is wrong: %d", n)
	}
	startIn(t, edge, &controltest.Backend{})()

	dir := shortDir(t)
	if err := os.WriteFile(control.SocketPath(dir), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(dir, nil, nil); err == nil || !strings.Contains(err.Error(), "not a socket is in the way") {
		t.Errorf("a file in the way: %v", err)
	}
}

func TestDataDirectoryIsOursAlone(t *testing.T) {
	parent := shortDir(t)
	mk := func(name string, files ...string) string {
		dir := filepath.Join(parent, name)
		if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // that is the test
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	for _, c := range []struct{ dir, err string }{
		{filepath.Join(parent, "new", "deep"), ""},
		{mk("empty"), ""},
		{mk("ours", "control.lock", "journal"), ""},
		{mk("other", "somebody.txt"), "is in use by something else"},
	} {
		err := control.PrepareDataDir(c.dir)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", c.dir, err)
			}
			continue
		}
		fi, statErr := os.Stat(c.dir)
		if err != nil || statErr != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v %v %v", c.dir, err, statErr, fi)
		}
	}
	if os.Getuid() == 0 {
		theirs := mk("theirs")
		if err := os.Chown(theirs, 4242, 4242); err != nil {
			t.Fatal(err)
		}
		if err := control.PrepareDataDir(theirs); err == nil || !strings.Contains(err.Error(), "belongs to uid 4242") {
			t.Errorf("somebody else's: %v", err)
		}
	}
}

// raw sends text and returns the code and the error of the answer.
func raw(t *testing.T, dir, text string) (int, *control.Error) {
	t.Helper()
	c, err := net.Dial("unix", control.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var wire struct{ Error *control.Error }
	if err := json.NewDecoder(resp.Body).Decode(&wire); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, wire.Error
}

func TestNothingElseIsServed(t *testing.T) {
	_, dir := start(t, &controltest.Backend{})
	for _, path := range []string{"/", "/debug/pprof/", "/debug/vars", "/metrics", "/v1/", "/v2/status"} {
		code, e := raw(t, dir, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
		if code != http.StatusNotImplemented || e.Code != control.UnknownEndpoint {
			t.Errorf("GET %s: %d %+v", path, code, e)
		}
	}
	post := func(body string) string {
		return fmt.Sprintf("POST /v1/activations HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	for _, body := range []string{"", "{", `{"activation":{"spec":{"rolee":"x"}}}`, `{"activation":{}} {}`, `{"activation":{}}`,
		`{"activation":{"spec":{"reason":"` + strings.Repeat("x", 1<<20) + `"}}}`} {
		code, e := raw(t, dir, post(body))
		if code != http.StatusUnprocessableEntity || e.Code != control.Invalid {
			t.Errorf("%.40s: %d %+v", body, code, e)
		}
	}
	if code, e := raw(t, dir, "GET /v1/timeline?since=yesterday HTTP/1.1\r\nHost: x\r\n\r\n"); code != 422 || !strings.Contains(e.Error(), "RFC 3339") {
		t.Errorf("a bad time: %d %+v", code, e)
	}
}

func TestServeEndsWhenItIsToldToBeforeItBegan(t *testing.T) {
	s, err := control.Listen(shortDir(t), &controltest.Backend{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Serve(ctx); err != nil {
		t.Error(err)
	}
}
