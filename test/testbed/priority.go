package testbed

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	. "github.com/onsi/ginkgo/v2"
)

const nice = -15

// parallel reports whether other processes run specs beside this one.
func parallel() bool {
	suite, _ := GinkgoConfiguration()
	return suite.ParallelTotal > 1
}

// Prefer asks the kernel to run this process and what it starts from now on
// before others. Specs measure milliseconds, and whatever else a shared machine
// does is no fault of the gateway. Without the privilege nothing changes. Nor
// does it where several processes run specs: they compete with each other then,
// and an Envoy that starts beside one that is preferred may never get to.
func Prefer() {
	if parallel() {
		return
	}
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	// Linux has a priority for each thread; later ones get their parent's.
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if err := syscall.Setpriority(syscall.PRIO_PROCESS, tid, nice); err != nil {
			fmt.Fprintln(GinkgoWriter, "timing depends on what else this machine does:", err)
			return
		}
	}
	preferSession(os.Getpid(), nice)
	// Whoever ran the tests goes on in this session.
	DeferCleanup(preferSession, os.Getpid(), 0)
}

// preferSession does the same for a whole session: with autogroups, sched(7),
// priorities count only within one, and every Envoy has one of its own.
func preferSession(pid, nice int) {
	if parallel() {
		return
	}
	// There need not be autogroups, and the process may be gone.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", pid), []byte(strconv.Itoa(nice)), 0)
}
