package main

import (
	"fmt"
	"io"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// progress on a terminal, of what takes longer than a second.
type progress struct {
	out         io.Writer
	on          bool
	now         func() time.Time
	began, last time.Time
	shown       bool
	entries     uint64
}

func newProgress(out io.Writer) *progress {
	return &progress{out: out, on: isTerminal(out), now: time.Now, began: time.Now()}
}

// show how far it is; a total of 0 is not known.
func (p *progress) show(done, total uint64) {
	if !p.on || done%1024 != 0 { // a clock costs more than a look at most entries
		return
	}
	now := p.now()
	if now.Sub(p.began) < time.Second || now.Sub(p.last) < 200*time.Millisecond {
		return
	}
	p.last, p.shown = now, true
	text := fmt.Sprintf("%d entries", done)
	if total > 0 {
		text = fmt.Sprintf("%3d%% of %d entries", min(done, total)*100/total, total)
	}
	_, _ = fmt.Fprintf(p.out, "\r\x1b[K%s", text) // a courtesy
}

// clear makes room for what is written.
func (p *progress) clear() {
	if p.shown {
		p.shown = false
		_, _ = fmt.Fprint(p.out, "\r\x1b[K") // likewise
	}
}

// reading shows how many entries were looked at.
func (p *progress) reading(match func(*merkle.Entry) bool) func(*merkle.Entry) bool {
	return func(e *merkle.Entry) bool {
		p.entries++
		p.show(p.entries, 0)
		return match == nil || match(e)
	}
}

// writing clears it before each entry that is written.
func (p *progress) writing(write func(merkle.Entry) error) func(merkle.Entry) error {
	return func(e merkle.Entry) error {
		p.clear()
		return write(e)
	}
}
