package dataplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a running process that may or may not be a child of ours. It is
// held by a pidfd, so that neither a signal nor a wait can meet another process
// that got the same id.
type process struct {
	pid       int
	pidfd     *os.File
	startTick uint64 // start time in clock ticks since boot, proc(5) field 22
	cmd       *exec.Cmd
	epoch     string        // "": not known
	gone      chan struct{} // closed when the process has ended
	how       string        // how it ended; valid when gone is closed

	// Of whoever ends the process, or reports its end.
	asked, killed bool // by us: SIGTERM, SIGKILL
	told          bool // the owner knows that it is gone
}

// openProcess takes hold of a process. With cmd set it is our child and is
// reaped when it ends.
func openProcess(pid int, cmd *exec.Cmd) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.O_NONBLOCK) // nonblocking: Go's poller can wait for it
	if err != nil {
		return nil, fmt.Errorf("process %d: pidfd_open: %w (Linux 5.10 or later is needed)", pid, err)
	}
	p := &process{pid: pid, pidfd: os.NewFile(uintptr(fd), "pidfd"), cmd: cmd, gone: make(chan struct{})}
	if p.startTick, err = startTick(pid); err != nil {
		_ = p.pidfd.Close()
		return nil, err
	}
	go p.wait()
	return p, nil
}

// wait closes gone when the process has ended. For a process that is not our
// child a pidfd becomes readable then, pidfd_open(2); release ends the wait.
func (p *process) wait() {
	if p.cmd != nil {
		_ = p.cmd.Wait() // the state says more than the error
		p.how = p.cmd.ProcessState.String()
		close(p.gone)
		return
	}
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return // released before we began
	}
	ended := false
	_ = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		ended = err == nil && n == 1
		return ended
	})
	if ended {
		p.how = "it was not our child, so how it ended is not known"
		close(p.gone)
	}
}

// release lets go of the process without touching it.
func (p *process) release() { _ = p.pidfd.Close() }

// signal sends a signal; a process that has ended is no error.
func (p *process) signal(sig syscall.Signal) error {
	select {
	case <-p.gone: // and perhaps released
		return nil
	default:
	}
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return err
	}
	if sent != nil && !errors.Is(sent, unix.ESRCH) {
		return fmt.Errorf("signal %s to process %d: %w", sig, p.pid, sent)
	}
	return nil
}

// end asks the process to end, insists after the grace or when ctx ends, and
// waits until it is gone.
func (p *process) end(ctx context.Context, grace time.Duration) error {
	select {
	case <-p.gone: // by itself, however
		return nil
	default:
	}
	if err := p.signal(unix.SIGTERM); err != nil {
		return err
	}
	p.asked = true
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.gone:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	if err := p.signal(unix.SIGKILL); err != nil {
		return err
	}
	p.killed = true
	// A killed process ends as soon as the kernel gets to it, unless it hangs in it.
	timer.Reset(10 * time.Second)
	select {
	case <-p.gone:
		return nil
	case <-timer.C:
		return fmt.Errorf("process %d does not end after SIGKILL: it hangs in the kernel (see /proc/%d/stack)", p.pid, p.pid)
	}
}

// clean tells of a process that is gone whether it ended in order: Envoy then
// has written all it had to write to its files. How one ended that is not our
// child is not known, but for that it went when we asked it to.
func (p *process) clean() bool {
	if p.cmd != nil {
		return p.cmd.ProcessState.Success()
	}
	return p.asked && !p.killed
}

// isEnvoyOf proves that the process is the Envoy of dir: it has lock, which is
// dir's envoy.lock, open and was started with dir's bootstrap. The pidfd was
// taken before, so what is proven is what will be signalled; a process that
// ended meanwhile proves nothing.
func (p *process) isEnvoyOf(dir string, lock os.FileInfo) bool {
	if !hasOpen(p.pid, lock) {
		return false
	}
	argv, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
	if err != nil || !strings.Contains(string(argv), "\x00-c\x00"+filepath.Join(dir, fileBootstrap)+"\x00") {
		return false
	}
	tick, err := startTick(p.pid)
	if err != nil || tick != p.startTick {
		return false
	}
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// findEnvoyOf finds the Envoy that lives in dir: the recorded one when it is
// proven, else whichever process is. The record alone is never believed, and
// never needed: a control plane may die between starting Envoy and recording
// it. Nil: there is none that can be proven.
func findEnvoyOf(dir string, lock os.FileInfo) *process {
	try := func(pid int) *process {
		p, err := openProcess(pid, nil)
		if err != nil {
			return nil
		}
		if !p.isEnvoyOf(dir, lock) {
			p.release()
			return nil
		}
		return p
	}
	if pid := readRecord(dir).PID; pid > 0 {
		if p := try(pid); p != nil {
			return p
		}
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, entry := range procs {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || !hasOpen(pid, lock) {
			continue
		}
		if p := try(pid); p != nil {
			return p
		}
	}
	return nil
}

// hasOpen tells whether the process has the file open.
func hasOpen(pid int, file os.FileInfo) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if info, err := os.Stat(filepath.Join(dir, fd.Name())); err == nil && os.SameFile(info, file) {
			return true
		}
	}
	return false
}

// startTick is when the process started. With the id it names a process once
// and for all until the next boot.
func startTick(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field, the name in parentheses, may itself hold anything.
	stat := string(b)
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields after the name, want 20 or more", pid, len(fields))
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
