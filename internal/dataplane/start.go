package dataplane

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// adoptPatience is how long an Envoy that we find may take to answer, and a
// lock without a provable holder to become free: a process between fork and
// exec proves nothing yet.
const adoptPatience = 2 * time.Second

// childEnv is all that our children get of the environment, which may hold
// secrets and of which they need nothing; Envoy gets its epoch besides.
var childEnv = []string{"LANG=C"}

// Start runs the Envoy of cfg.Name. One that an earlier control plane left
// behind is adopted when it is what would be started now, else replaced. Start
// does not wait until Envoy is ready: that needs the control plane to serve.
//
// Until ctx ends, an Envoy that dies is started anew, the first time after
// 100 ms and at most 1 s apart. The end of ctx ends only that: call Stop or
// Detach.
func Start(ctx context.Context, cfg Config) (*Envoy, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := cfg.prepareDir(); err != nil {
		return nil, err
	}
	serveLock, err := takeServeLock(ctx, cfg)
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("envoy %q is already run by %s (lock %s): stop that, or use another data directory",
			cfg.Name, noted(cfg.file(fileServeLock)), cfg.file(fileServeLock))
	}
	if err != nil {
		return nil, err
	}
	note(serveLock, fmt.Sprintf("process %d (%s)\n", os.Getpid(), filepath.Base(os.Args[0])))

	e := &Envoy{
		cfg:       cfg,
		serveLock: serveLock,
		admin:     adminClient(cfg.file(fileAdmin)),
		changed:   make(chan struct{}, 1),
		done:      make(chan struct{}),
	}
	if err := e.begin(ctx); err != nil {
		return nil, errors.Join(err, serveLock.Close())
	}
	supervised, cancel := context.WithCancel(ctx)
	e.cancel = cancel
	go e.supervise(supervised)
	return e, nil
}

// takeServeLock insists a little: a child of a control plane that was killed has
// its lock until it executes Envoy.
func takeServeLock(ctx context.Context, cfg Config) (*os.File, error) {
	for end := time.Now().Add(250 * time.Millisecond); ; {
		lock, err := takeLock(cfg.file(fileServeLock))
		if !errors.Is(err, errLocked) || time.Now().After(end) || sleep(ctx, 10*time.Millisecond) != nil {
			return lock, err
		}
	}
}

// begin adopts or launches the first process.
func (e *Envoy) begin(ctx context.Context) error {
	var err error
	if e.bootstrap, err = e.cfg.bootstrap(); err != nil {
		return err
	}
	adopted, err := e.adopt(ctx)
	if err != nil {
		return err
	}
	if !adopted {
		// A fresh Envoy has no window open; an old deadline is not its own.
		if err := removeState(e.cfg.dir()); err != nil {
			return fmt.Errorf("envoy %q: %w", e.cfg.Name, err)
		}
		if err := e.launch(); err != nil {
			return err
		}
	}
	e.ensureDeadman()
	return nil
}

// adopt takes over the Envoy that lives in the directory, if it fits. If not,
// it is ended, so that afterwards none lives there.
func (e *Envoy) adopt(ctx context.Context) (bool, error) {
	exe, err := identify(e.cfg.EnvoyPath)
	if err != nil {
		return false, fmt.Errorf("envoy binary: %w", err)
	}
	hash, err := e.cfg.hash(exe, e.bootstrap)
	if err != nil {
		return false, err
	}
	p, err := holder(ctx, e.cfg.dir())
	if err != nil {
		return false, err
	}
	rec, grace := readRecord(e.cfg.dir()), stopGrace
	if p == nil {
		e.exit(rec.Epoch, endedInOrder(e.cfg.dir(), rec.Epoch))
		return false, nil
	}
	if p.epoch = rec.epochOf(p); p.epoch != rec.Epoch {
		e.exit(rec.Epoch, false) // the recorded one is gone, this one never was
	}
	switch {
	case !rec.fits(p, hash):
		e.cfg.Log.Info("replacing an Envoy that was started from another binary, bootstrap or command line", "pid", p.pid)
	case !e.answers(ctx):
		e.cfg.Log.Warn("replacing an Envoy that does not answer", "pid", p.pid)
		grace = 0 // it would not hear a request to end
	default:
		e.cfg.Log.Info("adopted a running Envoy", "pid", p.pid, "startedAt", rec.StartedAt)
		e.logOffset = e.logSize()
		e.current = p
		e.state = State{PID: p.pid, StartedAt: rec.StartedAt, Adopted: true, Epoch: p.epoch}
		return true, nil
	}
	err = p.end(ctx, grace)
	p.release()
	if err == nil {
		e.exited(p)
	}
	return false, err
}

// holder finds the process that holds envoy.lock; nil when the lock is free. A
// holder that cannot be proven to be our Envoy is an error and is left alone.
func holder(ctx context.Context, dir string) (*process, error) {
	path := filepath.Join(dir, fileEnvoyLock)
	for end := time.Now().Add(adoptPatience); ; {
		locked, err := isLocked(path)
		if err != nil || !locked {
			return nil, err
		}
		lock, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("lock file: %w", err)
		}
		if p := findEnvoyOf(dir, lock); p != nil {
			return p, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("%s is locked by a process that is not provably an Envoy of ours, so it is left alone: "+
				"find it with `fuser -v %s` and end it", path, path)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// answers asks the admin interface for a sign of life; readiness is not needed.
func (e *Envoy) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, adoptPatience)
	defer cancel()
	for {
		if _, err := e.Admin(ctx, http.MethodGet, "/server_info"); err == nil {
			return true
		}
		if sleep(ctx, 50*time.Millisecond) != nil {
			return false
		}
	}
}

// launch starts a process and records it.
func (e *Envoy) launch() error {
	fail := func(err error) error { return fmt.Errorf("start Envoy %q: %w", e.cfg.Name, err) }

	// Read anew at every start: the binary may have been replaced.
	exe, err := identify(e.cfg.EnvoyPath)
	if err != nil {
		return fail(err)
	}
	hash, err := e.cfg.hash(exe, e.bootstrap)
	if err != nil {
		return fail(err)
	}
	// Anew too: without its spool Envoy refuses every listener.
	if err := os.Mkdir(e.cfg.file(SpoolDir), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fail(err)
	}
	if err := writeFile(e.cfg.file(fileBootstrap), e.bootstrap); err != nil {
		return fail(err)
	}
	lock, err := takeLock(e.cfg.file(fileEnvoyLock))
	if errors.Is(err, errLocked) {
		return fail(fmt.Errorf("%s is locked: another Envoy still lives there", e.cfg.file(fileEnvoyLock)))
	}
	if err != nil {
		return fail(err)
	}
	// Our copy must go, or the lock would live as long as we do.
	defer lock.Close()

	e.logOffset = e.logSize()
	epoch := newEpoch()
	cmd := &exec.Cmd{Path: e.cfg.EnvoyPath, Args: e.cfg.args(), ExtraFiles: []*os.File{lock}, Env: []string{envEpoch + "=" + epoch}}
	if err := startDetached(cmd, e.cfg.dir(), fileLog); err != nil {
		return fail(err)
	}
	p, err := openProcess(cmd.Process.Pid, cmd)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		e.exit(epoch, false)
		return fail(err)
	}
	p.epoch = epoch
	now := time.Now()
	rec := record{PID: p.pid, StartTick: p.startTick, StartedAt: now.UTC(), Epoch: epoch, Exe: exe, Hash: hash}
	if err := rec.write(e.cfg.dir()); err != nil {
		e.fail(fmt.Errorf("record Envoy %q: %w: it serves, but the next control plane will replace it", e.cfg.Name, err))
	}
	e.mu.Lock()
	e.current = p
	e.mu.Unlock()
	e.update(func(s *State) { s.PID, s.StartedAt, s.Epoch, s.Adopted, s.Ready = p.pid, now, epoch, false, false })
	e.cfg.Log.Info("started Envoy", "pid", p.pid)
	return nil
}

// startDetached starts a process that outlives us: a session of its own, so
// that no terminal reaches it; output to a file, because a pipe would break
// when we die; and no descriptor of ours but ExtraFiles.
func startDetached(cmd *exec.Cmd, dir, logName string) error {
	log, err := os.OpenFile(filepath.Join(dir, logName), os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// Go opens everything close-on-exec. What we inherited from a shell or a
	// test runner is not, and a pipe that Envoy kept open would make them wait
	// for Envoy. Kernels before 5.11 cannot; they did without.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(cmd.Env, childEnv...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Start()
}

// sleep waits, but not beyond ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
