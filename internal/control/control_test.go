package control_test

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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control/controltest"
)

// TestMain lets the test binary be a caller or a listener of another uid, or a
// server that dies.
func TestMain(m *testing.M) {
	if path := os.Getenv("CONTROL_TEST_LISTEN"); path != "" {
		l, err := net.Listen("unix", path)
		if err == nil {
			err = errors.Join(os.Chmod(path, 0o777), os.WriteFile(path+".ready", nil, 0o600)) //nolint:gosec // that is the test
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		_, _ = io.Copy(io.Discard, os.Stdin) // until the test is over
		_ = l.Close()
		os.Exit(0)
	}
	if dir := os.Getenv("CONTROL_TEST_PANIC"); dir != "" {
		s, err := control.Listen(dir, panicking{}, nil)
		if err == nil {
			err = s.Serve(context.Background())
		}
		fmt.Println("still alive:", err)
		os.Exit(0)
	}
	if path := os.Getenv("CONTROL_TEST_CALL"); path != "" {
		c, err := control.Dial(path)
		if err == nil {
			_, err = c.Status(context.Background())
		}
		fmt.Printf("%s|%v\n", control.CodeOf(err), err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// panicking is a backend with a bug.
type panicking struct{ control.Backend }

func (panicking) Status(context.Context) (*control.Status, error) { panic("boom") }

func TestPanicEndsTheProcess(t *testing.T) {
	dir := shortDir(t)
	server := exec.Command("/proc/self/exe")
	server.Env = append(os.Environ(), "CONTROL_TEST_PANIC="+dir)
	var out strings.Builder
	server.Stdout, server.Stderr = &out, &out
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	for {
		if c, err := control.Dial(control.SocketPath(dir)); err == nil {
			if _, err := c.Status(t.Context()); err == nil {
				t.Error("a call that panicked was answered")
			}
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := server.Wait(); err == nil || !strings.Contains(out.String(), "panic: boom") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// as is this test binary run by another user.
func as(uid uint32, env string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), env)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

// shortDir is a directory whose path leaves room for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bgc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// start serves b on a new data directory until the test ends.
func start(t *testing.T, b control.Backend) (*control.Client, string) {
	t.Helper()
	dir := shortDir(t)
	stop := startIn(t, dir, b)
	t.Cleanup(stop)
	c, err := control.Dial(control.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, dir
}

func startIn(t *testing.T, dir string, b control.Backend) (stop func()) {
	t.Helper()
	s, err := control.Listen(dir, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func activation(name string) v1alpha1.Activation {
	return v1alpha1.Activation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: name},
		Spec: v1alpha1.ActivationSpec{
			TargetRefs: []v1alpha1.TargetReference{{Kind: "HTTPRoute", Name: "db-failover"}},
			Role:       "db-failover", Reason: "test", Incident: "INC-1",
		},
	}
}

func key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "payments", Name: name}
}

func TestSocketAndDirectoryAreForTheirOwnerOnly(t *testing.T) {
	_, dir := start(t, &controltest.Backend{})
	for path, want := range map[string]fs.FileMode{dir: 0o700, control.SocketPath(dir): 0o600} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v", path, fi.Mode().Perm(), want)
		}
	}
}

func TestCallerIsWhoTheKernelSays(t *testing.T) {
	b := &controltest.Backend{}
	c, _ := start(t, b)
	req := control.ActivateRequest{Activation: activation("a")}
	req.Activation.Spec.RequestedBy, req.Activation.Spec.RevokedBy = "the CEO", "the CFO"
	req.Activation.Status.Phase = v1alpha1.PhaseLive
	req.Activation.Labels = map[string]string{"forged": "yes"}
	b.OnActivate = func(a *v1alpha1.Activation) (v1alpha1.ActivationStatus, error) {
		if a.Spec.RequestedBy != "" || a.Spec.RevokedBy != "" || a.Status.Phase != "" || a.Labels != nil {
			t.Errorf("the backend was handed what a client claims: %+v", a)
		}
		return v1alpha1.ActivationStatus{Phase: v1alpha1.PhasePending}, nil
	}
	a, err := c.Activate(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	p := b.Peers()[0]
	if p.UID != uint32(os.Getuid()) || p.GID != uint32(os.Getgid()) || p.PID != int32(os.Getpid()) {
		t.Errorf("peer %+v is not this process", p)
	}
	if os.Getuid() == 0 && !strings.HasPrefix(p.String(), "unix:user=root,uid=0") {
		t.Errorf("peer %s", p)
	}
	if a.Status.RequestedBy != p.String() {
		t.Errorf("requestedBy %q, want %q", a.Status.RequestedBy, p)
	}
}

func TestOtherUsersAreForbiddenEvenWithTheSocketInHand(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("needs root to become somebody else")
	}
	_, dir := start(t, &controltest.Backend{})
	call := func(uid uint32, path string) string {
		out, err := as(uid, "CONTROL_TEST_CALL="+path).CombinedOutput()
		if err != nil {
			t.Fatalf("as uid %d: %v: %s", uid, err, out)
		}
		return string(out)
	}
	path := control.SocketPath(dir)
	if out := call(12345, path); !strings.Contains(out, "is not yours: run this as root") {
		t.Errorf("behind a closed directory: %s", out)
	}
	// Somebody opened the doors of the file system.
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o666)); err != nil { //nolint:gosec // that is the test
		t.Fatal(err)
	}
	if out := call(12345, path); !strings.HasPrefix(out, "Forbidden|uid 12345 may not call: only root and uid 0") {
		t.Errorf("with the socket in hand: %s", out)
	}
	if out := call(0, path); !strings.HasPrefix(out, "|<nil>") {
		t.Errorf("root: %s", out)
	}
}

func TestClientDoesNotTalkToAStranger(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("needs root to become somebody else")
	}
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // that is the test
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	stranger := as(4242, "CONTROL_TEST_LISTEN="+path)
	in, err := stranger.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = stranger.Wait() }()
	for {
		if _, err := os.Stat(path + ".ready"); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	out, err := as(12345, "CONTROL_TEST_CALL="+path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "uid 4242 listens on it, which is neither root nor you (uid 12345)") {
		t.Errorf("a stranger's socket: %s %v", out, err)
	}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	b := &controltest.Backend{}
	c, _ := start(t, b)
	for _, want := range []*control.Error{
		control.Errorf(control.NotFound, "no route"),
		control.InvalidError("not valid", "spec.role: is required: name one", "spec.reason: say why"),
		control.Errorf(control.Refused, "role mismatch"),
		control.Errorf(control.Unavailable, "the disk is full"),
	} {
		b.OnActivate = func(*v1alpha1.Activation) (v1alpha1.ActivationStatus, error) {
			return v1alpha1.ActivationStatus{}, want
		}
		_, err := c.Activate(t.Context(), control.ActivateRequest{Activation: activation("x")})
		if control.CodeOf(err) != want.Code || err.Error() != want.Error() {
			t.Errorf("%s came back as %s: %v", want.Code, control.CodeOf(err), err)
		}
	}
	b.OnActivate = func(*v1alpha1.Activation) (v1alpha1.ActivationStatus, error) {
		return v1alpha1.ActivationStatus{}, fmt.Errorf("opening: %w", control.Errorf(control.Unavailable, "disk full"))
	}
	if _, err := c.Activate(t.Context(), control.ActivateRequest{Activation: activation("x")}); control.CodeOf(err) != control.Unavailable || err.Error() != "opening: disk full" {
		t.Errorf("a wrapped error: %s %v", control.CodeOf(err), err)
	}
	if _, err := c.Activation(t.Context(), key("none")); control.CodeOf(err) != control.NotFound {
		t.Errorf("unknown activation: %v", err)
	}
	a := activation("x")
	a.Spec.Revoked = true
	if _, err := c.Activate(t.Context(), control.ActivateRequest{Activation: a}); control.CodeOf(err) != control.Invalid {
		t.Errorf("born revoked: %v", err)
	}
	if _, err := c.Revoke(t.Context(), control.RevokeRequest{All: true, Names: []types.NamespacedName{key("a")}}); control.CodeOf(err) != control.Invalid {
		t.Errorf("all and names: %v", err)
	}
	if _, err := c.Revoke(t.Context(), control.RevokeRequest{}); control.CodeOf(err) != control.Invalid {
		t.Errorf("neither all nor names: %v", err)
	}
}

func TestManyWaitAndAllAreTold(t *testing.T) {
	b := &controltest.Backend{}
	c, _ := start(t, b)
	b.OnActivate = func(*v1alpha1.Activation) (v1alpha1.ActivationStatus, error) {
		return v1alpha1.ActivationStatus{Phase: v1alpha1.PhasePending}, nil
	}
	const n = 24
	var wg sync.WaitGroup
	for i := range n {
		name := "a" + strconv.Itoa(i%3)
		if i < 3 {
			if _, err := c.Activate(t.Context(), control.ActivateRequest{Activation: activation(name)}); err != nil {
				t.Fatal(err)
			}
		}
		wg.Go(func() {
			var seen []v1alpha1.Phase
			a, err := c.Wait(t.Context(), key(name), func(a *v1alpha1.Activation) bool {
				seen = append(seen, a.Status.Phase)
				return a.Status.Phase == v1alpha1.PhaseLive
			})
			if err != nil || a.Status.Phase != v1alpha1.PhaseLive || seen[0] != v1alpha1.PhasePending {
				t.Errorf("%s: %v, seen %v", name, err, seen)
			}
		})
	}
	for b.Waiting() < n {
		time.Sleep(time.Millisecond)
	}
	for i := range 3 {
		b.Update(key("a"+strconv.Itoa(i)), func(a *v1alpha1.Activation) { a.Status.Phase = v1alpha1.PhaseLive })
	}
	wg.Wait()
}

func TestWaitEndsWithItsContextAndWithTheServer(t *testing.T) {
	b := &controltest.Backend{}
	b.Add(&v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "a"}})
	dir := shortDir(t)
	stop := startIn(t, dir, b)
	defer stop()
	c, err := control.Dial(control.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	never := func(*v1alpha1.Activation) bool { return false }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	a, err := c.Wait(ctx, key("a"), never)
	if !errors.Is(err, context.DeadlineExceeded) || a == nil || a.Name != "a" {
		t.Errorf("after its context: %v, %v", a, err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.Wait(t.Context(), key("a"), never)
		done <- err
	}()
	for b.Waiting() == 0 {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	stop()
	if err := <-done; control.CodeOf(err) != control.Unavailable && !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("the server stopped: %v", err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("stopping took %v", d)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, control.ErrNotRunning) ||
		!strings.Contains(err.Error(), "is `breakglass serve --data-dir "+dir+"` running?") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestTimelineArrivesWholeOrSaysThatItDoesNot(t *testing.T) {
	now := time.Now()
	b := &controltest.Backend{}
	for i := range 5000 {
		b.Entries = append(b.Entries, control.TimelineEntry{Seq: uint64(i), Time: now.Add(time.Duration(i) * time.Second), Kind: "request"})
	}
	c, _ := start(t, b)
	count := func(since time.Time) (n int, err error) {
		err = c.Timeline(t.Context(), since, func(control.TimelineEntry) error { n++; return nil })
		return n, err
	}
	if n, err := count(time.Time{}); n != 5000 || err != nil {
		t.Errorf("%d entries, %v", n, err)
	}
	if n, err := count(now.Add(4990 * time.Second)); n != 10 || err != nil {
		t.Errorf("since: %d entries, %v", n, err)
	}
	b.TimelineErr = control.Errorf(control.Unavailable, "the disk is failing")
	if n, err := count(time.Time{}); n != 5000 || control.CodeOf(err) != control.Unavailable {
		t.Errorf("an error at the end: %d entries, %v", n, err)
	}
	b.Entries = nil
	if _, err := count(time.Time{}); control.CodeOf(err) != control.Unavailable {
		t.Errorf("an error at once: %v", err)
	}
	enough := errors.New("enough")
	b.Entries = []control.TimelineEntry{{Seq: 1}, {Seq: 2}}
	if err := c.Timeline(t.Context(), time.Time{}, func(control.TimelineEntry) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("the reader's own error: %v", err)
	}
}
