package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Container is one Envoy as what a container runs. Its neighbour is an agent, by
// which it gets its configuration and which records what it serves.
type Container struct {
	// Gateway is namespace/name of the Gateway, Envoy's node id.
	Gateway string
	// RunDir is shared with the agent.
	RunDir RunDir
	// AuditDir holds the spool; it is Envoy's working directory.
	AuditDir string

	EnvoyPath      string
	Concurrency    int
	MaxConnections int
	MaxHeapBytes   uint64

	// DrainLeast is how long Envoy goes on after it was asked to end: until then the
	// last client has heard that it is no longer an endpoint. DrainMost is how long it
	// waits for requests that are under way.
	DrainLeast, DrainMost time.Duration

	Log *slog.Logger
}

// lockPatience is how long the Envoy before may take to be gone.
const lockPatience = 10 * time.Second

// Run runs Envoy until it ends, which is an error, or until ctx ends: then it
// drains it first. When stop ends too it drains no longer.
//
// Envoy dies with this process, so call it on nothing that must go on after.
func (c Container) Run(ctx, stop context.Context) error {
	// PR_SET_PDEATHSIG is of the thread that forks: it must live as long.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	epoch := newEpoch()
	lock, err := c.prepare(ctx, epoch)
	if err != nil {
		return err
	}
	defer lock.Close() // twice is harmless
	cmd := &exec.Cmd{
		Path: c.EnvoyPath, Args: commandLine(c.EnvoyPath, c.RunDir.file(fileBootstrap), c.Concurrency),
		Dir: c.AuditDir, Env: append([]string{envEpoch + "=" + epoch}, childEnv...),
		Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: []*os.File{lock},
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL},
	}
	if err := c.RunDir.begin(epoch); err != nil {
		return err
	}
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) // see startDetached
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start Envoy: %w", err), c.RunDir.end(End{Epoch: epoch}))
	}
	_ = lock.Close() // or the lock would live as long as we do
	c.Log.Info("started Envoy", "pid", cmd.Process.Pid, "epoch", epoch)
	gone := make(chan struct{})
	asked := make(chan bool, 1)
	go func() { asked <- c.finish(ctx, stop, cmd.Process, gone) }()
	waitErr := cmd.Wait()
	close(gone)
	noteErr := c.RunDir.end(End{Epoch: epoch, Clean: waitErr == nil})
	if waitErr == nil && !<-asked {
		waitErr = errors.New("it ended by itself")
	}
	if waitErr != nil {
		waitErr = fmt.Errorf("envoy: %w", waitErr)
	}
	return errors.Join(waitErr, noteErr)
}

// prepare all that Envoy needs.
func (c *Container) prepare(ctx context.Context, epoch string) (*os.File, error) {
	if err := c.RunDir.Prepare(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(c.AuditDir, SpoolDir), 0o700); err != nil {
		return nil, fmt.Errorf("spool of Envoy: %w", err)
	}
	if c.MaxHeapBytes < minMaxHeap {
		return nil, fmt.Errorf("%d bytes are too few for Envoy: it needs %d", c.MaxHeapBytes, minMaxHeap)
	}
	b, err := static{
		name: c.Gateway, nodeID: c.Gateway, epoch: epoch,
		xdsSocket: c.RunDir.XDSSocket(), alsSocket: c.RunDir.ALSSocket(), intentSocket: c.RunDir.IntentSocket(), adminSocket: c.RunDir.file(fileAdmin),
		maxConnections: c.MaxConnections, maxHeapBytes: c.MaxHeapBytes,
	}.bootstrap()
	if err != nil {
		return nil, err
	}
	var lock *os.File
	for end := time.Now().Add(lockPatience); ; {
		lock, err = takeLock(c.RunDir.file(fileEnvoyLock))
		if err == nil {
			break
		}
		if !errors.Is(err, errLocked) || time.Now().After(end) || sleep(ctx, 20*time.Millisecond) != nil {
			return nil, fmt.Errorf("the Envoy before is not gone: %w", err)
		}
	}
	if err := writeFile(c.RunDir.file(fileBootstrap), b); err != nil {
		return nil, errors.Join(fmt.Errorf("bootstrap of Envoy: %w", err), lock.Close())
	}
	return lock, nil
}

// finish waits for the end of ctx and then ends Envoy in order. It reports false
// if Envoy was gone before that.
func (c *Container) finish(ctx, stop context.Context, p *os.Process, gone <-chan struct{}) bool {
	select {
	case <-ctx.Done():
	case <-gone:
		return false
	}
	c.Log.Info("draining Envoy", "atLeast", c.DrainLeast.String(), "atMost", c.DrainMost.String())
	c.drain(stop, gone)
	c.Log.Info("ending Envoy")
	_ = p.Signal(unix.SIGTERM) // gone already is fine
	select {
	case <-gone:
	case <-time.After(stopGrace):
		c.Log.Warn("Envoy does not end: killing it")
		_ = p.Kill() // likewise
	}
	return true
}

// drain has clients go elsewhere: Envoy is not ready any more, takes what comes
// nevertheless, and asks who has had an answer to close (Connection: close,
// GOAWAY). It returns when no request is under way.
func (c *Container) drain(stop context.Context, gone <-chan struct{}) {
	stop, cancel := context.WithCancel(stop)
	defer cancel()
	go func() {
		select {
		case <-gone:
			cancel()
		case <-stop.Done():
		}
	}()
	admin := c.RunDir.Admin()
	begin := time.Now()
	if _, err := admin.Ask(stop, "POST", "/healthcheck/fail"); err != nil && stop.Err() == nil {
		c.Log.Warn("Envoy cannot be asked to drain", "error", err)
	}
	if sleep(stop, c.DrainLeast) != nil {
		return
	}
	for ; time.Since(begin) < c.DrainMost; _ = sleep(stop, 200*time.Millisecond) {
		counters, err := admin.Counters(stop)
		if stop.Err() != nil {
			return
		}
		active := uint64(0)
		for _, r := range counters.Chains {
			active += r.Active
		}
		if err == nil && active == 0 {
			return
		}
	}
	c.Log.Warn("requests are still under way: they are cut now")
}
