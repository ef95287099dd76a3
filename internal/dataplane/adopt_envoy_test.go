//go:build envoy

package dataplane

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAnEnvoyOutlivesItsControlPlaneAndIsAdopted(t *testing.T) {
	c := envoyConfig(t)
	first, pid := startElsewhere(t, c, time.Time{})
	kill(first)
	e := start(t, c)
	ready(t, e)
	s := e.State()
	if s.PID != pid || !s.Adopted || s.Restarts != 0 {
		t.Fatalf("state %+v, want process %d adopted", s, pid)
	}
	// It is watched, although it is not our child.
	killPID(t, pid)
	eventually(t, "the adopted Envoy is replaced", func() bool { s := e.State(); return s.Ready && s.PID != pid })
	if s := e.State(); s.Adopted || s.Restarts != 1 {
		t.Errorf("state %+v", s)
	}
}

func TestAControlPlaneKilledAtAnyMomentLeavesAtMostOneEnvoy(t *testing.T) {
	c := envoyConfig(t)
	for i := range 15 {
		arg, err := json.Marshal(helperConfig{Config: c})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self(t), "control-plane", string(arg))
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(3*i) * time.Millisecond) // the moment, not a wait for something
		kill(cmd)
		if n := envoysOf(t, c); n > 1 {
			t.Fatalf("%d Envoys in one directory", n)
		}
	}
	e := start(t, c)
	ready(t, e)
	if n := envoysOf(t, c); n != 1 {
		t.Errorf("%d Envoys in one directory", n)
	}
}

// envoysOf counts processes by their command line, whatever the locks say.
func envoysOf(t *testing.T, c Config) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil && bytes.Contains(b, []byte("-c\x00"+c.file(fileBootstrap))) {
			n++
		}
	}
	return n
}

func TestDetachLeavesEnvoyForTheNext(t *testing.T) {
	c := envoyConfig(t)
	e := start(t, c)
	ready(t, e)
	pid := e.State().PID
	e.Detach()
	next := start(t, c)
	if s := next.State(); s.PID != pid || !s.Adopted {
		t.Errorf("state %+v, want process %d adopted", s, pid)
	}
	stop(t, next)
	if alive(pid) {
		t.Error("the adopted Envoy lives on after Stop")
	}
}

func TestAnEnvoyOfAnotherConfigIsReplaced(t *testing.T) {
	c := envoyConfig(t)
	first, pid := startElsewhere(t, c, time.Time{})
	kill(first)
	c.NodeID = "another"
	e := start(t, c)
	if s := e.State(); s.PID == pid || s.Adopted {
		t.Errorf("state %+v", s)
	}
	if alive(pid) {
		t.Error("the old Envoy lives")
	}
	ready(t, e)
}

func TestAnEnvoyThatHangsIsReplaced(t *testing.T) {
	c := envoyConfig(t)
	first, pid := startElsewhere(t, c, time.Time{})
	kill(first)
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	e := start(t, c)
	if s := e.State(); s.PID == pid || s.Adopted || alive(pid) {
		t.Errorf("state %+v, old one alive: %v", s, alive(pid))
	}
}

func TestAnUnrecordedEnvoyIsFoundByItsLock(t *testing.T) {
	c := envoyConfig(t)
	first, pid := startElsewhere(t, c, time.Time{})
	kill(first)
	if err := os.Remove(c.file(fileRecord)); err != nil {
		t.Fatal(err)
	}
	e := start(t, c)
	if s := e.State(); s.PID == pid || alive(pid) {
		t.Errorf("state %+v, old one alive: %v: want it replaced", s, alive(pid))
	}
}

func TestTwoControlPlanesOnOneDirectoryAreRefused(t *testing.T) {
	c := envoyConfig(t)
	first, pid := startElsewhere(t, c, time.Time{})
	_, err := Start(context.Background(), c)
	if err == nil || !strings.Contains(err.Error(), "already run by process "+itoa(first.Process.Pid)) {
		t.Errorf("error %v", err)
	}
	if !alive(pid) {
		t.Error("the first one's Envoy was ended")
	}
	kill(first)
	e := start(t, c)
	if _, err := Start(context.Background(), c); err == nil {
		t.Error("two in one process")
	}
	if s := e.State(); s.PID != pid {
		t.Errorf("state %+v", s)
	}
}

func TestAStrangerWithARecordedProcessIDIsLeftAlone(t *testing.T) {
	c := envoyConfig(t)
	e := start(t, c)
	rec := readRecord(c.dir())
	stop(t, e)

	stranger := exec.Command("sleep", "600")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer kill(stranger)
	rec.PID = stranger.Process.Pid
	var err error
	if rec.StartTick, err = startTick(rec.PID); err != nil { // the best lie there is
		t.Fatal(err)
	}
	if err := rec.write(c.dir()); err != nil {
		t.Fatal(err)
	}
	e = start(t, c)
	ready(t, e)
	stop(t, e)
	if err := rec.write(c.dir()); err != nil {
		t.Fatal(err)
	}
	if err := RunDeadman(context.Background(), c.dir()); err != nil {
		t.Error(err)
	}
	if !alive(stranger.Process.Pid) {
		t.Error("the stranger was killed")
	}
}
