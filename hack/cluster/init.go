package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// initialise is the first process of the node. It makes the machine that the node sees, starts the node, and reaps what
// is orphaned. When it goes, all go.
func initialise(o options) error {
	// The lock is held until this process ends, and what is said is said by its child alone: up reads until the end.
	unix.CloseOnExec(lockFD)
	unix.CloseOnExec(readyFD)
	if err := mounts(o.dir); err != nil {
		return err
	}
	if err := network(); err != nil {
		return err
	}
	if err := makeCgroups(cgroup(o.dir)); err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe", append([]string{"node"}, os.Args[2:]...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	say := os.NewFile(readyFD, "ready")
	cmd.ExtraFiles = []*os.File{say}
	if err := cmd.Start(); err != nil {
		return err
	}
	say.Close()
	if o.attached {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // nothing comes; it ends with whoever holds the other side
			fmt.Fprintln(os.Stderr, "cluster: whoever started the node has gone, so that it ends")
			os.Exit(1)
		}()
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Errorf("wait for children: %w", err)
		case pid == cmd.Process.Pid:
			return fmt.Errorf("the node ended with status %d", status.ExitStatus())
		}
	}
}

// Directories that the components of a node have for themselves, each with one of the same name in the node's directory
// in its place.
var private = []string{"/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni", "/var/log"}

// The kubelet sets these, for the whole machine. It finds them as it wants them, and lets them be.
var sysctls = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// mounts has the node see its own /proc, /run and directories, and pass no mount on to the machine.
func mounts(dir string) error {
	steps := []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"run", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV},
	}
	for _, s := range steps {
		if err := unix.Mount(s.source, s.target, s.kind, s.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", s.target, err)
		}
	}
	for _, target := range private {
		source := filepath.Join(dir, strings.ReplaceAll(target[1:], "/", "-"))
		if err := errors.Join(os.MkdirAll(source, 0o755), os.MkdirAll(target, 0o755), bind(source, target)); err != nil {
			return err
		}
	}
	for name, value := range sysctls {
		target := filepath.Join("/proc/sys", name)
		if _, err := os.Stat(target); err != nil {
			continue // not in this kernel
		}
		source := filepath.Join("/run", strings.ReplaceAll(name, "/", "."))
		if err := errors.Join(os.WriteFile(source, []byte(value+"\n"), 0o600), bind(source, target)); err != nil {
			return err
		}
	}
	// The kubelet wants that what it mounts is seen by containers. This is within the node.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share the mounts of the node: %w", err)
	}
	return nil
}

func bind(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}
	return nil
}

// network has an interface with the node's address, to which everything goes that is not a pod's: there is no way out.
// It is a bridge, since not every kernel has dummies. The addresses of load balancers are in its network.
func network() error {
	if err := unix.Sethostname([]byte(nodeName)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	batch := strings.Join([]string{
		"link set lo up",
		"link add node0 type bridge",
		"address add " + nodeIP + "/16 dev node0",
		"link set node0 up",
		"route add default dev node0",
	}, "\n")
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(batch + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip, for the network of the node: %w: %s", err, out)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1\n"), 0o600); err != nil {
		return err
	}
	// What a pod answers its neighbour stays on the bridge, and has to get back the address of the Service there.
	if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("1\n"), 0o600); err != nil {
		return fmt.Errorf("%w: is the kernel module br_netfilter there, and loaded?", err)
	}
	return nil
}
