package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The first process of a node holds a lock on this file, which has its PID: a PID alone may be somebody else's by now.
const lockName = "lock"

var errRuns = errors.New("a node runs here")

// lock takes the directory, which it makes, for a new node. It fails with errRuns while there is one.
func lock(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, lockName)); err != nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s has files and is not the directory of a node: give an empty one", dir)
	}
	file, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errRuns
		}
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	// The PID of a node that was.
	return file, file.Truncate(0)
}

// running is the PID of the first process of the node.
func running(dir string) (int, error) {
	none := fmt.Errorf("no node runs in %s: start one with `cluster up`, or `make cluster`", dir)
	file, err := os.Open(filepath.Join(dir, lockName))
	if errors.Is(err, os.ErrNotExist) {
		return 0, none
	} else if err != nil {
		return 0, err
	}
	defer file.Close()
	switch err := unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB); {
	case err == nil:
		return 0, none
	case !errors.Is(err, unix.EWOULDBLOCK):
		return 0, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	content, err := os.ReadFile(file.Name())
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 0, fmt.Errorf("%s does not have a PID: is the node being started?", file.Name())
	}
	return pid, nil
}

// end kills a node and returns when all of its processes are gone: the first process of a PID namespace is the last to go.
func end(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	} else if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, syscall.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, 60_000)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for process %d: %w", pid, err)
		case n == 0:
			return fmt.Errorf("process %d does not go, a minute after it was killed", pid)
		default:
			return nil
		}
	}
}

// clear removes what a node left: everything in its directory but the lock, and its cgroups.
func clear(dir string) error {
	if err := removeCgroups(cgroup(dir)); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == lockName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
