//go:build envoy

package dataplane

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func deadmanPID(t *testing.T, c Config) int {
	t.Helper()
	pid := 0
	eventually(t, "a deadman watches", func() bool {
		_, err := fmt.Sscanf(noted(c.file(fileDeadmanLock)), "process %d", &pid)
		return err == nil && locked(t, c, fileDeadmanLock) && alive(pid)
	})
	return pid
}

func TestAnOrphanEndsAfterItsLastDeadlineAndNotBefore(t *testing.T) {
	t.Parallel() // it waits for clocks
	c := withDeadman(t, envoyConfig(t))
	deadline := time.Now().Add(3 * time.Second)
	first, pid := startElsewhere(t, c, deadline)
	deadmanPID(t, c)
	kill(first)
	eventually(t, "the orphan ends", func() bool {
		now := time.Now() // before the look: an early end is never taken for a late one
		if alive(pid) {
			return false
		}
		if now.Before(deadline) {
			t.Fatalf("it ended %v before its last deadline", deadline.Sub(now))
		}
		t.Logf("it ended %v after its last deadline", now.Sub(deadline))
		return true
	})
	eventually(t, "the deadman ends too", func() bool { return !locked(t, c, fileDeadmanLock) })
}

func TestWhoeverComesLaterLearnsThatTheDeadmanEndedItInOrder(t *testing.T) {
	c := withDeadman(t, envoyConfig(t))
	var told exits
	c.OnExit = told.add
	first, pid := startElsewhere(t, c, time.Now().Add(2*time.Second))
	epoch := readRecord(c.dir()).Epoch
	answers(t, c)
	kill(first)
	eventually(t, "the orphan ends", func() bool { return !alive(pid) })
	eventually(t, "the deadman ends too", func() bool { return !locked(t, c, fileDeadmanLock) })
	start(t, c)
	told.want(t, epoch+" true")
}

// fullSpool puts the spool on a disk without room.
func fullSpool(t *testing.T, c Config) {
	t.Helper()
	dir := c.file(SpoolDir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=700"); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func TestAnOrphanThatCannotBeRecordedEndsAtOnceUnlessThePolicyWantsItServed(t *testing.T) {
	for _, unrecorded := range []bool{false, true} {
		t.Run(fmt.Sprint(unrecorded), func(t *testing.T) {
			c := withDeadman(t, envoyConfig(t))
			e := start(t, c)
			ready(t, e)
			pid := e.State().PID
			deadmanPID(t, c)
			e.SetLife(Life{Until: time.Now().Add(3 * time.Second), Unrecorded: unrecorded})
			until := time.Now().Add(3 * time.Second)
			fullSpool(t, c)
			if !alive(pid) {
				t.Fatal("with a control plane it is left alone")
			}
			e.Detach()
			eventually(t, "the orphan ends", func() bool { return !alive(pid) })
			if early := time.Now().Before(until); early == unrecorded {
				t.Errorf("ended before its deadline: %v", early)
			}
		})
	}
}

func TestAnOrphanWithoutADeadlineEndsSoon(t *testing.T) {
	t.Parallel() // it waits for clocks
	c := withDeadman(t, envoyConfig(t))
	first, pid := startElsewhere(t, c, time.Time{})
	deadmanPID(t, c)
	killed := time.Now()
	kill(first)
	eventually(t, "the orphan ends", func() bool { return !alive(pid) })
	if lived := time.Since(killed); lived < orphanIdle {
		t.Errorf("it ended after %v: no time to adopt it", lived)
	}
}

func TestAnAttachedControlPlaneKeepsEnvoyBeyondTheDeadline(t *testing.T) {
	t.Parallel() // it waits for clocks
	c := withDeadman(t, envoyConfig(t))
	first, pid := startElsewhere(t, c, time.Now().Add(3*time.Second))
	deadman := deadmanPID(t, c)
	kill(first)
	e := start(t, c)
	past := time.Now().Add(3*time.Second + orphanGrace + 5*deadmanPeriod)
	eventually(t, "the deadline and the grace are past", func() bool { return time.Now().After(past) })
	if s := e.State(); !alive(pid) || s.PID != pid || !s.Adopted || s.Restarts != 0 {
		t.Errorf("state %+v, want process %d adopted and alive", s, pid)
	}
	if now := deadmanPID(t, c); now != deadman {
		t.Errorf("deadman %d, want still %d: one is enough", now, deadman)
	}
}

func TestAKilledDeadmanIsReplaced(t *testing.T) {
	c := withDeadman(t, envoyConfig(t))
	e := start(t, c)
	first := deadmanPID(t, c)
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", first))
	if err != nil || strings.TrimSpace(string(comm)) != "bg-deadman" {
		t.Errorf("comm %q, %v", comm, err)
	}
	killPID(t, first)
	eventually(t, "another deadman watches", func() bool { return deadmanPID(t, c) != first })
	if s := e.State(); s.Restarts != 0 {
		t.Errorf("state %+v", s)
	}
}

func TestADyingDeadmanTakesTheOrphanWithIt(t *testing.T) {
	c := envoyConfig(t)
	e := start(t, c)
	pid := e.State().PID
	e.SetLife(Life{Until: time.Now().Add(time.Hour)})

	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := RunDeadman(ended, c.dir()); err != nil || !alive(pid) {
		t.Fatalf("with a control plane attached: %v, alive: %v", err, alive(pid))
	}
	e.Detach()
	if err := RunDeadman(ended, c.dir()); err != nil || alive(pid) {
		t.Fatalf("without: %v, alive: %v", err, alive(pid))
	}
}

func answers(t *testing.T, c Config) {
	t.Helper()
	eventually(t, "Envoy has read its bootstrap", func() bool {
		_, err := askAdmin(context.Background(), adminClient(c.file(fileAdmin)), "GET", "/server_info", maxAdminBody)
		return err == nil
	})
}

func TestAnOrphanWhoseDirectoryWasRemovedStillEnds(t *testing.T) {
	t.Parallel() // it waits for clocks
	c := withDeadman(t, envoyConfig(t))
	first, pid := startElsewhere(t, c, time.Now().Add(time.Hour))
	watcher := deadmanPID(t, c)
	answers(t, c)
	if err := os.RemoveAll(c.Dir); err != nil {
		t.Fatal(err)
	}
	if !alive(pid) {
		t.Fatal("Envoy died of it")
	}
	kill(first)
	eventually(t, "the orphan ends", func() bool { return !alive(pid) })
	eventually(t, "the deadman ends", func() bool { return !alive(watcher) })
}
