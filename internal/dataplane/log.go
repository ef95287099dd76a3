package dataplane

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
)

// maxLog is when envoy.log becomes envoy.log.1; two of them are kept at most.
const maxLog = 16 << 20

// logLine takes apart "[time][thread][level][logger] [source:line] message".
var logLine = regexp.MustCompile(`^\[[^\]]*\]\[\d+\]\[(\w+)\]\[[^\]]*\] (?:\[[^\]]*:\d+\] )?(.*)$`)

func (e *Envoy) logSize() int64 {
	info, err := os.Stat(e.cfg.file(fileLog))
	if err != nil {
		return 0
	}
	return info.Size()
}

// newLog returns what was logged since it was last asked, at most 64 KiB.
func (e *Envoy) newLog() string {
	f, err := os.Open(e.cfg.file(fileLog))
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, e.logOffset, 64<<10))
	e.logOffset += int64(len(b))
	if err != nil {
		return ""
	}
	return string(b)
}

// readLog looks for what an operator must hear of although Envoy lives on.
func (e *Envoy) readLog() {
	if text := addressInUse(e.newLog()); text != "" {
		e.fail(fmt.Errorf("%s: another process has that address: end it or change the Gateway's listener", text))
	}
}

// addressInUse finds a listener that could not be bound.
func addressInUse(log string) string {
	found := ""
	for line := range strings.Lines(log) {
		if strings.Contains(line, "Address already in use") {
			found = message(line)
		}
	}
	return found
}

// firstCause finds why Envoy ended: its first critical message, before any
// backtrace; else a listener that could not be bound; else the last line, which
// is the loader's when Envoy did not even begin.
func firstCause(log string) string {
	last := ""
	for line := range strings.Lines(log) {
		if m := logLine.FindStringSubmatch(strings.TrimSpace(line)); m != nil && m[1] == "critical" {
			return shorten(m[2])
		}
		if text := message(line); text != "" {
			last = text
		}
	}
	if text := addressInUse(log); text != "" {
		return text
	}
	return last
}

func message(line string) string {
	line = strings.TrimSpace(line)
	if m := logLine.FindStringSubmatch(line); m != nil {
		line = m[2]
	}
	return shorten(line)
}

func shorten(s string) string {
	if len(s) > 500 {
		return s[:500] + "…"
	}
	return s
}

// rotateLog keeps the log of an Envoy that lives for years from filling the
// disk that the journal needs.
func (e *Envoy) rotateLog(ctx context.Context) {
	if e.logSize() < maxLog {
		return
	}
	path := e.cfg.file(fileLog)
	err := os.Rename(path, path+".1")
	if err == nil {
		// Made here, because Envoy would make it readable to all.
		err = os.WriteFile(path, nil, 0o600)
	}
	if err == nil {
		e.logOffset = 0
		ask, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		err = e.ReopenLogs(ask)
	}
	if err != nil && ctx.Err() == nil {
		e.fail(fmt.Errorf("rotate %s: %w", path, err))
	}
}
