package testbed

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
)

// Probe asks the same thing again and again and remembers every answer.
type Probe struct {
	mu      sync.Mutex
	samples []Reply
	stop    chan struct{}
	done    sync.WaitGroup
	once    sync.Once
}

// Probe asks until it is stopped, one request after the other, each no sooner
// than every after the one before. Of bodies only the beginning of those is kept
// that say why a request failed.
func (c *Client) Probe(r Request, every time.Duration) *Probe {
	p := &Probe{stop: make(chan struct{})}
	p.done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			reply := c.Do(r)
			if reply.Header = nil; reply.Status == 200 {
				reply.Body = ""
			}
			reply.Body = reply.Body[:min(len(reply.Body), 200)]
			p.mu.Lock()
			p.samples = append(p.samples, reply)
			p.mu.Unlock()
			select {
			case <-tick.C:
			case <-p.stop:
				return
			}
		}
	})
	DeferCleanup(func() { p.Stop() })
	return p
}

// Samples so far.
func (p *Probe) Samples() []Reply {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.samples)
}

// Stop ends it and returns all samples.
func (p *Probe) Stop() []Reply {
	p.once.Do(func() { close(p.stop) })
	p.done.Wait()
	return p.Samples()
}

// LastStatus is that of the newest sample; -1 before the first.
func (p *Probe) LastStatus() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.samples) == 0 {
		return -1
	}
	return p.samples[len(p.samples)-1].Status
}

// LastStart is when the newest sample was asked for.
func (p *Probe) LastStart() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.samples) == 0 {
		return time.Time{}
	}
	return p.samples[len(p.samples)-1].Start
}

// Runs are the statuses in order with equal neighbours taken together, such as
// "404x31 200x80".
func Runs(samples []Reply) string {
	var out []string
	for i := 0; i < len(samples); {
		n := i
		for n < len(samples) && samples[n].Status == samples[i].Status {
			n++
		}
		text := fmt.Sprintf("%dx%d", samples[i].Status, n-i)
		switch {
		case samples[i].Err != nil:
			text += "(" + samples[i].Err.Error() + ")"
		case samples[i].Status >= 500:
			text += "(" + samples[i].Body + ")"
		}
		out = append(out, text)
		i = n
	}
	return strings.Join(out, " ")
}

// Cut reports whether the nth request of a probe was cut off when it was under way
// already: it has no whole answer, or a 503 between those that were served and
// those that are refused. A 503 on the way up, or alone, is another matter.
func Cut(samples []Reply, n int) bool {
	r := samples[n]
	if r.Status != 503 {
		return r.Status == 0 && (errors.Is(r.Err, io.EOF) || errors.Is(r.Err, io.ErrUnexpectedEOF)) || r.Status == 200 && r.Err != nil
	}
	// Each connection has one request under way, and there are two in one row of
	// samples at most: the served and the refused ones are near.
	const near = 3
	is := func(statuses ...int) func(Reply) bool {
		return func(r Reply) bool { return slices.Contains(statuses, r.Status) }
	}
	return slices.ContainsFunc(samples[max(0, n-near):n], is(200)) &&
		(n+1 == len(samples) || slices.ContainsFunc(samples[n+1:min(len(samples), n+1+near)], is(0, 403, 404)))
}

// FirstWith finds the first sample with this status.
func FirstWith(samples []Reply, status int) (Reply, bool) {
	i := slices.IndexFunc(samples, func(r Reply) bool { return r.Status == status })
	if i < 0 {
		return Reply{}, false
	}
	return samples[i], true
}

// LastWith finds the last sample with this status.
func LastWith(samples []Reply, status int) (Reply, bool) {
	for _, r := range slices.Backward(samples) {
		if r.Status == status {
			return r, true
		}
	}
	return Reply{}, false
}
