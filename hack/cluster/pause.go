package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A component that has a file of its name in this directory is meant to be away: its end is not that of the node.
const awayDir = "away"

func (o options) away(name string) string { return filepath.Join(o.dir, awayDir, name) }

// kill ends a component at once, and has it stay away until it is revived.
func kill(o options) error {
	name, err := o.component()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.away(name)), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(o.away(name), nil, 0o600); err != nil {
		return err
	}
	found, err := processes(o.dir, name)
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("%d processes in %s are %s, and it has one: see log/%s.log", len(found), o.dir, name, name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(o.away(name)))
	}
	return end(found[0])
}

// revive has a component come back that was killed.
func revive(o options) error {
	name, err := o.component()
	if err != nil {
		return err
	}
	return os.Remove(o.away(name))
}

func (o options) component() (string, error) {
	if len(o.args) != 1 || filepath.Base(o.args[0]) != o.args[0] {
		return "", errors.New("name one component, such as kube-apiserver: each has a log in DIR/log")
	}
	_, err := running(o.dir)
	return o.args[0], err
}

// processes are those of a component: the file is in their first argument, and the node's directory in others.
func processes(dir, name string) (found []int, err error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil {
			continue // it has gone in the meantime
		}
		command, args, _ := strings.Cut(string(line), "\x00")
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil && filepath.Base(command) == name && strings.Contains(args, dir+"/") {
			found = append(found, pid)
		}
	}
	return found, err
}

// back waits until a component that is away is to come back, and reports whether it was.
func (n *nodeProcess) back(name string) bool {
	for away := false; ; away = true {
		if _, err := os.Stat(n.away(name)); errors.Is(err, os.ErrNotExist) {
			return away
		}
		time.Sleep(50 * time.Millisecond)
	}
}
