package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroup is the name of the one that the node's pods are in, its own for each directory.
func cgroup(dir string) string {
	return fmt.Sprintf("breakglass-%x", sha256.Sum256([]byte(dir)))[:len("breakglass-")+8]
}

// hierarchies are the directories in which a cgroup may be: one, or with cgroup v1 one for each controller.
func hierarchies() ([]string, error) {
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		return []string{cgroupRoot}, nil
	}
	found, err := filepath.Glob(filepath.Join(cgroupRoot, "*", "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no cgroups in %s: the kubelet needs them", cgroupRoot)
	}
	for i := range found {
		found[i] = filepath.Dir(found[i])
	}
	return found, nil
}

// makeCgroups makes it in each hierarchy: the kubelet wants that it is there.
func makeCgroups(name string) error {
	dirs, err := hierarchies()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// removeCgroups removes them, from the leaves up. No process is in them any more.
func removeCgroups(name string) error {
	dirs, err := hierarchies()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		var found []string
		err := filepath.WalkDir(filepath.Join(dir, name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				found = append(found, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, path := range slices.Backward(found) {
			if err := removeCgroup(path); err != nil {
				return fmt.Errorf("remove the cgroup %s: %w", path, err)
			}
		}
	}
	return nil
}

// removeCgroup waits for processes that are on their way out: a node that fell has let its lock go before the last of
// them went.
func removeCgroup(path string) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := os.Remove(path)
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}
