package testbed

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/sys/unix"
)

// A canary is a process that does nothing but sleep some milliseconds on each CPU,
// with Envoy's priority, and say when it slept longer. Then a CPU was not to be
// had, because of neighbours or because a hypervisor had taken it away, which
// shows nowhere else. What came late by as much is not the gateway's fault.
const (
	canaryEnv  = "BREAKGLASS_TEST_CANARY"
	canaryBeat = 10 * time.Millisecond
)

// canaryRest is how long it sleeps, and three times that the shortest standstill
// that counts. Where several processes run specs, each has one, and milliseconds
// are not judged.
func canaryRest() time.Duration {
	if os.Getenv(canaryEnv) == sparse {
		return 4 * time.Millisecond
	}
	return time.Millisecond
}

// sparse is the value of canaryEnv for a canary that has company.
const sparse = "sparse"

// RunCanary is for TestMain: in the process that is the canary it does not
// return.
func RunCanary() {
	if os.Getenv(canaryEnv) == "" {
		return
	}
	var mu sync.Mutex
	say := func(from, to time.Time) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := fmt.Println(from.UnixNano(), to.UnixNano()); err != nil {
			os.Exit(0) // whoever listened is gone
		}
	}
	for cpu := range runtime.NumCPU() {
		go sing(cpu, say)
	}
	for range time.Tick(canaryBeat) {
		now := time.Now()
		say(now, now) // up to here all is told
	}
}

func sing(cpu int, say func(from, to time.Time)) {
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(cpu)
	_ = unix.SchedSetaffinity(0, &set) // elsewhere it hears less
	rest := canaryRest()
	sleep := unix.NsecToTimespec(int64(rest))
	for last := time.Now(); ; {
		_ = unix.Nanosleep(&sleep, nil) // a signal wakes it early, which does no harm
		now := time.Now()
		if now.Sub(last) > 3*rest {
			say(last, now)
		}
		last = now
	}
}

type standstill struct{ from, to time.Time }

var canary struct {
	mu    sync.Mutex
	gaps  []standstill
	heard time.Time
	cmd   *exec.Cmd
}

// StartCanary starts one until StopCanary.
func StartCanary() {
	GinkgoHelper()
	exe, err := os.Executable()
	Expect(err).NotTo(HaveOccurred())
	cmd := exec.Command(exe)
	kind := "alone"
	if parallel() {
		kind = sparse
	}
	cmd.Env = append(os.Environ(), canaryEnv+"="+kind)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // as Envoy is started
	out, err := cmd.StdoutPipe()
	Expect(err).NotTo(HaveOccurred())
	Expect(cmd.Start()).To(Succeed())
	preferSession(cmd.Process.Pid, nice)
	canary.cmd = cmd
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			var from, to int64
			if _, err := fmt.Sscan(s.Text(), &from, &to); err == nil {
				hear(standstill{time.Unix(0, from), time.Unix(0, to)})
			}
		}
	}()
}

func hear(g standstill) {
	canary.mu.Lock()
	defer canary.mu.Unlock()
	if canary.heard = g.to; g.from.Before(g.to) {
		canary.gaps = append(canary.gaps, g)
	}
}

// StopCanary ends it.
func StopCanary() {
	if canary.cmd != nil {
		_ = canary.cmd.Process.Kill() // it has nothing to lose
		_ = canary.cmd.Wait()
	}
}

// Stalled is how long a CPU was not to be had between two instants. What reaches
// into the time between counts as a whole.
func Stalled(from, to time.Time) time.Duration {
	GinkgoHelper()
	var gaps []standstill
	Eventually(func() bool {
		canary.mu.Lock()
		defer canary.mu.Unlock()
		gaps = slices.Clone(canary.gaps)
		return canary.heard.After(to)
	}, "5s", "2ms").Should(BeTrue(), "the canary is dead")
	slices.SortFunc(gaps, func(a, b standstill) int { return a.from.Compare(b.from) })
	var total time.Duration
	var counted time.Time // up to here: CPUs stand still together
	for _, g := range gaps {
		if g.to.Before(from) || g.from.After(to) || !g.to.After(counted) {
			continue
		}
		if g.from.Before(counted) {
			g.from = counted
		}
		total, counted = total+g.to.Sub(g.from), g.to
	}
	return total
}
