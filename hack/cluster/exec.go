package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// execute becomes a command in the network namespace of the node, with kubectl in its PATH and its configuration in
// KUBECONFIG. All else is as before: files, user, current directory.
func execute(o options) error {
	if len(o.args) == 0 {
		return errors.New("say what to execute")
	}
	pid, err := running(o.dir)
	if err != nil {
		return err
	}
	environment := map[string]string{
		"PATH":         filepath.Join(o.dir, "bin") + string(os.PathListSeparator) + os.Getenv("PATH"),
		"KUBECONFIG":   filepath.Join(o.dir, "kubeconfig"),
		"KUBECACHEDIR": filepath.Join(o.dir, "kubectl"), // what it learns of this API server goes with it
	}
	for name, value := range environment {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	path, err := exec.LookPath(o.args[0])
	if err != nil {
		return err
	}
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer namespace.Close()
	// The thread that enters the namespace is the one that the command is executed on.
	runtime.LockOSThread()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network namespace of the node: %w", err)
	}
	return fmt.Errorf("%s: %w", path, syscall.Exec(path, o.args, os.Environ()))
}
