package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Kill ends a component of the node, such as kube-apiserver, at once. It stays away until revive is called.
func (n *Node) Kill(ctx context.Context, component string) (revive func(context.Context) error, err error) {
	does := func(ctx context.Context, what string) error {
		_, err := output(exec.CommandContext(ctx, tools["BREAKGLASS_CLUSTER"], what, "-dir", n.Dir, component))
		return err
	}
	if err := does(ctx, "kill"); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return does(ctx, "revive") }, nil
}

// Component is the process of a component of the node.
func (n *Node) Component(component string) (*os.Process, error) {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, file := range lines {
		line, err := os.ReadFile(file)
		command, _, _ := strings.Cut(string(line), "\x00")
		if err != nil || filepath.Base(command) != component || !bytes.Contains(line, []byte(n.Dir)) {
			continue // another one, or it has gone
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		return os.FindProcess(pid)
	}
	return nil, fmt.Errorf("%s does not run", component)
}

// Processes are those of a container, by its ID as its pod's status has it, whose first argument has this base name; ""
// is for all.
func (n *Node) Processes(container, program string) ([]*os.Process, error) {
	id := strings.TrimPrefix(container, "containerd://")
	if id == "" {
		return nil, errors.New("no container: it does not run")
	}
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return nil, err
	}
	var found []*os.Process
	for _, file := range groups {
		group, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(group, []byte("/"+id)) {
			continue // of another container, or it has gone
		}
		dir := filepath.Dir(file)
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		command, _, _ := strings.Cut(string(line), "\x00")
		if err != nil || program != "" && filepath.Base(command) != program {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return nil, err
		}
		process, err := os.FindProcess(pid)
		if err != nil {
			return nil, err
		}
		found = append(found, process)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("container %s has no process %s", id, program)
	}
	return found, nil
}

// KillContainer kills every process of a container, or those of one program in it. The kubelet starts it anew.
func (n *Node) KillContainer(container, program string) error {
	found, err := n.Processes(container, program)
	for _, process := range found {
		if killed := process.Signal(syscall.SIGKILL); !errors.Is(killed, os.ErrProcessDone) {
			err = errors.Join(err, killed)
		}
	}
	return err
}
