package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// rss is what a process has in memory, in MB; 0 if it is gone.
func rss(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			var kib float64
			_, _ = fmt.Sscan(value, &kib) // 0, too, says that it is not known
			return kib * 1024 / 1e6
		}
	}
	return 0
}

// cpuTime that the threads of a process have had.
func cpuTime(pid int) time.Duration {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	var sum time.Duration
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // it ended meanwhile
		}
		var ran int64
		_, _ = fmt.Sscan(string(text), &ran) // as above
		sum += time.Duration(ran)
	}
	return sum
}

func recordedPID(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	var record struct{ PID int }
	if err := json.Unmarshal(text, &record); err != nil || record.PID == 0 {
		return 0, fmt.Errorf("no process is on record in %s: %w", file, err)
	}
	return record.PID, nil
}

// killAndWait ends a process that is not our child.
func killAndWait(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || strings.Contains(string(text), ") Z ") {
			return nil
		}
	}
	return errors.New("a killed Envoy is still there after 10 s")
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// memoryGiB of the machine.
func memoryGiB() float64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	var kib float64
	_, _ = fmt.Sscanf(string(text), "MemTotal: %f", &kib) // 0: not known
	return kib / (1 << 20)
}
