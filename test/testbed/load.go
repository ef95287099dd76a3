package testbed

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Load is requests at a fixed rate, each with a path of its own.
type Load struct {
	prefix  string
	stop    chan struct{}
	done    sync.WaitGroup
	sent    atomic.Int64
	mu      sync.Mutex
	answers map[string]int // status by path; 0: no answer
}

// Load sends requests to paths below prefix: rate a second over a number of
// connections, at most total.
func (w *World) Load(host, prefix, token string, connections, rate, total int) *Load {
	return LoadBy(w.H1, host, prefix, token, connections, rate, total)
}

// LoadBy is Load by clients of any kind.
func LoadBy(client func() *Client, host, prefix, token string, connections, rate, total int) *Load {
	l := &Load{prefix: prefix, stop: make(chan struct{}), answers: map[string]int{}}
	began := time.Now()
	for range connections {
		c := client()
		l.done.Go(func() {
			defer c.Close()
			for {
				n := l.sent.Add(1)
				if n > int64(total) {
					return
				}
				select {
				case <-l.stop:
					return
				case <-time.After(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(rate)))):
				}
				path := fmt.Sprintf("%s/%d", prefix, n)
				status := c.Get(host, path, token).Status
				l.mu.Lock()
				l.answers[path] = status
				l.mu.Unlock()
			}
		})
	}
	return l
}

// Wait for the end of the load; the status of each path is returned.
func (l *Load) Wait() map[string]int {
	l.done.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers
}

// Stop ends it early.
func (l *Load) Stop() map[string]int {
	close(l.stop)
	return l.Wait()
}
