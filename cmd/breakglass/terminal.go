package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// notice tells a terminal what a command is at, once that takes longer than a
// second.
type notice struct {
	out   io.Writer
	timer *time.Timer
	mu    sync.Mutex
	shown bool
	over  bool
}

func working(out io.Writer, what string) *notice {
	b := &notice{out: out}
	if !isTerminal(out) {
		return b
	}
	b.timer = time.AfterFunc(time.Second, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.over {
			b.shown = true
			_, _ = fmt.Fprintf(out, "\r\x1b[K%s ...", clean(what)) // a courtesy
		}
	})
	return b
}

// done makes room for what is written next.
func (b *notice) done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	if b.timer != nil {
		b.timer.Stop()
	}
	if b.shown {
		b.shown = false
		_, _ = fmt.Fprint(b.out, "\r\x1b[K") // likewise
	}
}

// paint colours words for people. The zero value does not.
type paint struct{ on bool }

func addColorFlag(cmd *cobra.Command, when *string) {
	cmd.Flags().StringVar(when, "color", "auto", "auto (on a terminal, unless NO_COLOR is set), always or never")
	fixedCompletion(cmd, "color", "auto", "always", "never")
}

// paintFor decides by --color, NO_COLOR (https://no-color.org) and the terminal.
func paintFor(when string, out io.Writer) (paint, error) {
	switch when {
	case "always":
		return paint{true}, nil
	case "never":
		return paint{}, nil
	case "auto":
		return paint{isTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}, nil
	}
	return paint{}, usagef("--color %q: choose one of auto, always, never", when)
}

func (p paint) with(code, s string) string {
	if !p.on || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p paint) red(s string) string    { return p.with("31", s) }
func (p paint) yellow(s string) string { return p.with("33", s) }
func (p paint) green(s string) string  { return p.with("32", s) }
func (p paint) bold(s string) string   { return p.with("1", s) }
func (p paint) dim(s string) string    { return p.with("2", s) }
