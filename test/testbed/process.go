package testbed

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// process is a running serve.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // valid after done
}

// Spawn starts serve and does not wait for anything.
func (w *World) Spawn() {
	GinkgoHelper()
	w.serve = w.spawn(w.Data)
}

// spawn starts a serve on a data directory. What it logs goes to serve.log.
func (w *World) spawn(data string, more ...string) *process {
	GinkgoHelper()
	args := append([]string{"serve", "--config", w.Config, "--data-dir", data, "--envoy", EnvoyPath(),
		"--metrics-address", "", "--envoy-concurrency", "2"}, w.Args...)
	cmd := exec.Command(cmp.Or(w.Binary, Binary()), append(args, more...)...)
	cmd.Env = append(os.Environ(), "BREAKGLASS_TEST_CLOCK_STEP="+w.stepFile())
	log, err := os.OpenFile(w.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	Expect(err).NotTo(HaveOccurred())
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	Expect(cmd.Start()).To(Succeed())
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p
}

// stepFile holds by how much the clock of serve is off.
func (w *World) stepFile() string { return filepath.Join(w.Dir, "clock-step") }

// StepClock sets the wall clock of serve, and of nobody else, off by a duration.
// Its Binary has to be Steppable.
func (w *World) StepClock(by time.Duration) {
	GinkgoHelper()
	temporary := w.stepFile() + ".new"
	Expect(os.WriteFile(temporary, []byte(by.String()), 0o600)).To(Succeed())
	Expect(os.Rename(temporary, w.stepFile())).To(Succeed())
}

func (w *World) logFile() string { return filepath.Join(w.Dir, "serve.log") }

// kill ends it as power loss would, and returns when it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.done
}

// PID of serve.
func (w *World) PID() int { return w.serve.cmd.Process.Pid }

// KillServe kills serve with SIGKILL and returns when it is gone.
func (w *World) KillServe() { w.serve.kill() }

// SignalServe sends a signal.
func (w *World) SignalServe(s syscall.Signal) {
	GinkgoHelper()
	Expect(w.serve.cmd.Process.Signal(s)).To(Succeed())
}

// Alive reports whether serve runs.
func (w *World) Alive() bool {
	select {
	case <-w.serve.done:
		return false
	default:
		return true
	}
}

// CPU is how much serve has computed so far.
func (w *World) CPU() time.Duration {
	GinkgoHelper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.PID()))
	Expect(err).NotTo(HaveOccurred())
	// Fields 14 and 15, proc_pid_stat(5), in ticks of 10 ms; the name, field 2, may
	// hold spaces.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
	var total time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		Expect(err).NotTo(HaveOccurred())
		total += time.Duration(n) * 10 * time.Millisecond
	}
	return total
}

// StopServe ends serve in order.
func (w *World) StopServe() {
	GinkgoHelper()
	w.SignalServe(syscall.SIGTERM)
	Eventually(w.serve.done, "15s").Should(BeClosed(), "serve does not end after SIGTERM")
	Expect(w.serve.err).NotTo(HaveOccurred(), "serve failed: %s", w.Log())
}

// SecondServe runs another serve on the same directories and returns what it
// says when it has given up.
func (w *World) SecondServe() string {
	GinkgoHelper()
	before := len(w.Log())
	p := w.spawn(w.Data)
	defer p.kill()
	Eventually(p.done, "5s").Should(BeClosed(), "a second serve on one data directory goes on")
	Expect(p.err).To(HaveOccurred())
	return w.Log()[before:]
}

// Log of serve so far.
func (w *World) Log() string {
	b, err := os.ReadFile(w.logFile())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Envoys are the process ids of all Envoys of this world, whoever started them.
func (w *World) Envoys() []int { return w.processes("-c\x00" + w.Data + "/") }

// Deadmen are the processes that end orphans.
func (w *World) Deadmen() []int { return w.processes("deadman\x00--dir\x00" + w.Data + "/") }

// processes whose command line contains text; a zombie has none.
func (w *World) processes(text string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && bytes.Contains(line, []byte(text)) {
			out = append(out, pid)
		}
	}
	return out
}

// KillEnvoy kills all Envoys of this world with SIGKILL.
func (w *World) KillEnvoy() {
	GinkgoHelper()
	pids := w.Envoys()
	Expect(pids).NotTo(BeEmpty(), "no Envoy runs")
	for _, pid := range pids {
		Expect(syscall.Kill(pid, syscall.SIGKILL)).To(Succeed())
	}
}

// killLeftovers ends what serve left running: the deadmen first, since they have
// nothing to watch any more.
func (w *World) killLeftovers() {
	for _, find := range []func() []int{w.Deadmen, w.Envoys} {
		for _, pid := range find() {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				fmt.Fprintln(GinkgoWriter, "cannot end process", pid, err)
			}
		}
	}
}

// report adds what is known to the report of a failed spec.
func (w *World) report() {
	const most = 6000
	log := w.Log()
	if len(log) > most {
		log = "..." + log[len(log)-most:]
	}
	AddReportEntry("serve.log of "+w.Dir, log, ReportEntryVisibilityFailureOrVerbose)
	names, _ := filepath.Glob(filepath.Join(w.Data, "run", "envoy", "*", "envoy.log")) // the pattern is well formed
	for _, name := range names {
		if text := envoyLog(name); text != "" {
			AddReportEntry(name, text[max(0, len(text)-most/2):], ReportEntryVisibilityFailureOrVerbose)
		}
	}
}

// envoyLog is what Envoy complained about, without what is part of its life.
func envoyLog(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	var out strings.Builder
	for l := range strings.Lines(string(b)) {
		if !strings.Contains(l, "caught ENVOY_SIGTERM") && !strings.Contains(l, "gRPC config stream to xds closed") {
			out.WriteString(l)
		}
	}
	return out.String()
}

// WaitUntil waits for an instant.
func WaitUntil(t time.Time) { <-time.After(time.Until(t)) }
