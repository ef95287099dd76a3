package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Descriptors that the first process of the node is started with, after the standard ones.
const (
	lockFD  = 3
	readyFD = 4
)

// ready is what the node says when it is.
const ready = "ready\n"

func up(o options) error {
	if err := check(o); err != nil {
		return err
	}
	held, err := lock(o.dir)
	if errors.Is(err, errRuns) {
		return fmt.Errorf("a node runs in %s already: end it with `cluster down` (`make cluster-down`), or use another -dir", o.dir)
	} else if err != nil {
		return err
	}
	defer held.Close() // the node has its own
	if err := clear(o.dir); err != nil {
		return fmt.Errorf("remove what an earlier node left: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(o.dir, "log"), 0o700); err != nil {
		return err
	}
	_ = exec.Command("modprobe", "br_netfilter").Run() // it may be part of the kernel; the node says if it is not there
	if err := start(o, held); err != nil {
		held.Close()
		return errors.Join(err, down(options{dir: o.dir}))
	}
	return nil
}

// check finds out early what is missing.
func check(o options) error {
	for _, name := range []string{"containerd", "ctr", "runc", "ip", "nft", "iptables", "conntrack"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%s is missing: install it (Debian: apt-get install containerd runc containernetworking-plugins iproute2 iptables nftables conntrack)", name)
		}
	}
	for _, path := range []string{
		filepath.Join(plugins, "bridge"), filepath.Join(o.kubernetes, "kubelet"), filepath.Join(o.kubernetes, "etcd"), o.coredns,
	} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w: see what `make cluster` installs", err)
		}
	}
	for _, image := range o.args {
		if _, err := os.Stat(image); err != nil {
			return err
		}
	}
	return nil
}

func start(o options, held *os.File) error {
	log, err := os.OpenFile(filepath.Join(o.dir, "log", "node.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	said, say, err := os.Pipe()
	if err != nil {
		return err
	}
	defer said.Close()
	args := []string{"init", "-dir", o.dir, "-kubernetes", o.kubernetes, "-coredns", o.coredns, "-attached=" + strconv.FormatBool(o.attached)}
	for _, image := range o.args {
		path, err := filepath.Abs(image)
		if err != nil {
			return err
		}
		args = append(args, path)
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{held, say}
	if o.attached {
		cmd.Stdin = os.Stdin
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, // no key that somebody presses for up is for the node
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID |
			syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the node: %w", err)
	}
	say.Close()
	err = await(held, said, cmd.Process.Pid)
	if err != nil {
		_ = cmd.Process.Kill() // it may have gone by itself
		_ = cmd.Wait()
		return fmt.Errorf("the node did not come up: %w\n%s", err, lastLines(log.Name(), 12))
	}
	return cmd.Process.Release()
}

// await writes down which process the node is, and waits until it says that it is up.
func await(held *os.File, said io.Reader, pid int) error {
	if _, err := held.WriteAt(fmt.Appendf(nil, "%d\n", pid), 0); err != nil {
		return err
	}
	answer, err := io.ReadAll(said)
	if err == nil && string(answer) != ready {
		err = errors.New("it ended; its log says")
	}
	return err
}

func lastLines(file string, n int) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.SplitAfter(string(content), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// down ends the node and removes what it left. It is no error that none runs.
func down(o options) error {
	if _, err := os.Stat(o.dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if pid, err := running(o.dir); err == nil {
		if err := end(pid); err != nil {
			return err
		}
	}
	held, err := lock(o.dir) // fails if this is no node's directory
	if err != nil {
		return fmt.Errorf("%s: %w", o.dir, err)
	}
	defer held.Close()
	if err := clear(o.dir); err != nil {
		return err
	}
	return os.RemoveAll(o.dir)
}

// load gives images to a node that runs.
func load(o options) error {
	pid, err := running(o.dir)
	if err != nil {
		return err
	}
	return importImages(fmt.Sprintf("/proc/%d/root%s", pid, containerdSocket), o.args)
}

// importImages has containerd read archives. They are read here: containerd need not see them.
func importImages(socket string, archives []string) error {
	for _, archive := range slices.Compact(archives) {
		out, err := exec.Command("ctr", "--address", socket, "--namespace", "k8s.io", "images", "import", archive).CombinedOutput()
		if err != nil {
			return fmt.Errorf("import %s: %w: %s", archive, err, out)
		}
	}
	return nil
}
