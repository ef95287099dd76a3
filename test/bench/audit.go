package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// auditRun kills what writes the log, under load, and counts.
func auditRun(c config) (err error) {
	w, err := start(c, setting{Routes: deadlineTargets})
	if err != nil {
		return err
	}
	defer func() {
		w.failed = err != nil
		w.stop()
	}()
	if _, err := w.breakGlass(0, 3*time.Hour); err != nil {
		return err
	}
	if _, _, err := w.visitor(0).until(true, patience); err != nil {
		return err
	}
	fmt.Printf("%s\n\n| | requests answered 200 | all entries | lost | doubled | taken from gRPC | gap entries |\n|---|---|---|---|---|---|---|\n", cpuModel())
	for _, part := range []struct {
		name string
		run  func() error
	}{
		{"outage", w.outage},
		{"serve", func() error { return w.rounds("serve killed", c.rounds, w.killServe) }},
		{"envoy", func() error { return w.rounds("Envoy killed", c.rounds, w.killEnvoy) }},
	} {
		if !c.wants(part.name) {
			continue
		}
		if err := part.run(); err != nil {
			return err
		}
	}
	out, err := exec.Command(w.config.binary, "audit", "verify", "--data-dir", w.path("data")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	verdict, _, _ := strings.Cut(string(out), " ")
	spool, err := w.spoolSize()
	fmt.Printf("\nbreakglass audit verify: %s. Left in the spool: %.1f MiB.\n", verdict, float64(spool)/(1<<20))
	return err
}

// spoolSize is what Envoy has written and nobody has removed.
func (w *world) spoolSize() (size int64, err error) {
	files, err := filepath.Glob(w.path("data", "run", "envoy", "*", "spool", "*"))
	for _, f := range files {
		if st, err := os.Stat(f); err == nil {
			size += st.Size()
		}
	}
	return size, err
}

// outage has the control plane dead for three of eight seconds, at 2,500
// requests a second.
func (w *world) outage() error {
	l := w.load("outage", 16, 2500, 20_000)
	time.Sleep(2 * time.Second)
	if err := w.endServe(); err != nil {
		return err
	}
	time.Sleep(3 * time.Second)
	if err := w.startServe(); err != nil {
		return err
	}
	l.workers.Wait()
	return w.compare("20,000 at 2,500/s, serve dead for 3 s", l)
}

// rounds does something bad at random moments, at 1,000 requests a second.
func (w *world) rounds(name string, n int, bad func() error) error {
	l := w.load(strings.ReplaceAll(name, " ", "-"), 8, 1000, 1<<30)
	for range n {
		time.Sleep(time.Duration(200+rand.IntN(600)) * time.Millisecond)
		if err := bad(); err != nil {
			return err
		}
	}
	l.stopped.Store(true)
	l.workers.Wait()
	return w.compare(fmt.Sprintf("%s %d times at 1,000/s", name, n), l)
}

func (w *world) killServe() error { return errors.Join(w.endServe(), w.startServe()) }

// killEnvoy and wait until another one serves.
func (w *world) killEnvoy() error {
	s, err := w.control.Status(context.Background())
	if err != nil {
		return err
	}
	pid := s.Gateways[0].Envoy.PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if s, err = w.control.Status(context.Background()); err == nil && s.Ready && s.Gateways[0].Envoy.PID != pid && live(s) {
			return nil
		}
	}
	return errors.New("no Envoy after 20 s")
}

func live(s *control.Status) bool {
	for _, r := range s.Routes {
		if r.Live {
			return true
		}
	}
	return false
}

// load is requests at a fixed rate, each with a path of its own.
type load struct {
	prefix  string
	workers sync.WaitGroup
	stopped atomic.Bool
	mu      sync.Mutex
	good    map[string]bool // paths answered 200
}

func (w *world) load(name string, connections, rate, total int) *load {
	l := &load{prefix: "/x/" + name + "/", good: map[string]bool{}}
	began := time.Now()
	var sent atomic.Int64
	for range connections {
		c := w.visitor(0)
		l.workers.Go(func() {
			defer c.close()
			for !l.stopped.Load() {
				n := sent.Add(1)
				if n > int64(total) {
					return
				}
				time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(rate))))
				path := fmt.Sprintf("%s%d", l.prefix, n)
				c.request = w.request(0, path)
				if c.ask().open() {
					l.mu.Lock()
					l.good[path] = true
					l.mu.Unlock()
				}
			}
		})
	}
	return l
}

// tally is what the log has of a load.
type tally struct {
	entries map[string]int
	rescued int
	gaps    uint64
}

func (w *world) tally(prefix string) (*tally, error) {
	t := &tally{entries: map[string]int{}}
	err := merkle.Read(context.Background(), w.path("data", "log"), merkle.Filter{}, func(e merkle.Entry) error {
		switch e.Kind {
		case audit.KindGap:
			t.gaps++
		case audit.KindRequest:
			var r audit.RequestEntry
			if err := json.Unmarshal(e.Data, &r); err != nil {
				return err
			}
			if r.Type == audit.TypeEnd && strings.HasPrefix(r.Path, prefix) {
				t.entries[r.Path]++
				if r.Via != "" {
					t.rescued++
				}
			}
		}
		return nil
	})
	return t, err
}

// compare what clients got with what the log has, once that no longer changes.
func (w *world) compare(name string, l *load) error {
	before := w.gaps
	var t *tally
	var lost int
	var rest bool
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Second) {
		var err error
		if t, err = w.tally(l.prefix); err != nil {
			return err
		}
		lost = 0
		for path := range l.good {
			if t.entries[path] == 0 {
				lost++
			}
		}
		if lost == 0 && rest || time.Now().After(end) {
			break
		}
		rest = lost == 0 // and once more: for what comes late, or twice
	}
	doubled := 0
	for _, n := range t.entries {
		doubled += n - 1
	}
	w.gaps = t.gaps
	fmt.Printf("| %s | %d | %d | %d | %d | %d | %d |\n", name, len(l.good), len(t.entries), lost, doubled, t.rescued, t.gaps-before)
	return nil
}
