package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control/controltest"
)

// terminal is a pseudo terminal: what is written to tty can be read as screen.
func terminal(t *testing.T) (tty *os.File, screen func() string) {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal("no pseudo terminals here:", err)
	}
	t.Cleanup(func() { _ = ptmx.Close() })
	if err := unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ptmx.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal("no pseudo terminals here:", err)
	}
	var b strings.Builder
	var read sync.WaitGroup
	read.Go(func() { _, _ = io.Copy(&b, ptmx) }) // ends with an error once tty is closed
	return tty, func() string {
		_ = tty.Close()
		read.Wait()
		return b.String()
	}
}

// onTerminal runs activate on a terminal, lets then act once it counts down, and
// returns the exit code and what the terminal showed.
func onTerminal(t *testing.T, then func(b *controltest.Backend, ctrlC func())) (int, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bgf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &controltest.Backend{Fixed: fixedStatus()}
	s, err := control.Listen(dir, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Serve(ctx) })
	defer running.Wait()
	defer cancel()
	cli, ctrlC := context.WithCancel(t.Context())
	defer ctrlC()
	tty, screen := terminal(t)
	running.Go(func() {
		for b.Waiting() == 0 {
			time.Sleep(time.Millisecond)
		}
		then(b, ctrlC)
	})
	code := execute(cli, []string{
		"activate", "payments/db-failover", "--role", "db-failover", "--reason", "why", "--incident", "I-1",
		"--name", "a", "--duration", "1m", "--data-dir", dir,
	}, strings.NewReader(""), tty, io.Discard)
	return code, screen()
}

func wantAll(t *testing.T, screen string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(screen, p) {
			t.Errorf("no %q in %q", p, screen)
		}
	}
}

func TestCountdownOnATerminalUntilItEnds(t *testing.T) {
	code, screen := onTerminal(t, func(b *controltest.Backend, _ func()) {
		b.Update(types.NamespacedName{Namespace: "payments", Name: "a"}, func(a *v1alpha1.Activation) {
			a.Status = status(v1alpha1.PhaseExpired, "DeadlinePassed", "closed at its deadline")
		})
	})
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, screen, "Live: payments/a ", "\r\x1b[KLive, ", " left (Ctrl-C leaves it open)", "\r\x1b[KClosed: payments/a: DeadlinePassed: closed at its deadline")
}

func TestCtrlCLeavesItOpenAndSaysHowToRevoke(t *testing.T) {
	code, screen := onTerminal(t, func(_ *controltest.Backend, ctrlC func()) { ctrlC() })
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, screen, "left (Ctrl-C leaves it open)", "Still open: it closes by itself at ", "Close it now: breakglass revoke payments/a --data-dir ")
}
