package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"
)

// The routes of a run, by number:
//
//	0 to 4    are opened and closed, and measured
//	5 to 19   are edited by the churn, if there is one; none is open
//	20 to 24  are activated and revoked by it
//	the rest  are open, as many as there are to be, or closed; they are probed
const (
	target    = 0
	edited    = 5
	activated = 20
	reserved  = 25
)

// openRoutes are open for the whole run.
func (w *world) openRoutes() (routes []int) {
	from := deadlineTargets
	if w.setting.Churn > 0 {
		from = reserved
	}
	// Those that are measured are open now and then, and count.
	for i := from; i < w.setting.Routes && len(routes) < w.setting.Open-1; i++ {
		routes = append(routes, i)
	}
	return routes
}

// closedRoutes are closed for the whole run.
func (w *world) closedRoutes() (routes []int) {
	open := w.openRoutes()
	if len(open) == 0 {
		return nil
	}
	for i := open[len(open)-1] + 1; i < w.setting.Routes; i++ {
		routes = append(routes, i)
	}
	return routes
}

// probe asks other routes all the time, open and closed ones, 100 times a second.
type probe struct {
	stop, done chan struct{}
	asked      int
	wrong      int
}

const probeEvery = 10 * time.Millisecond

func (w *world) startProbe() (*probe, error) {
	p := &probe{stop: make(chan struct{}), done: make(chan struct{})}
	open, closed := w.openRoutes(), w.closedRoutes()
	if len(open) == 0 {
		close(p.done)
		return p, nil
	}
	v := w.visitor(0)
	go func() {
		defer close(p.done)
		defer v.close()
		for next := time.Now(); ; next = next.Add(probeEvery) {
			select {
			case <-p.stop:
				return
			case <-time.After(time.Until(next)):
			}
			route, want := open[rand.IntN(len(open))], 200
			if len(closed) > 0 && p.asked%3 == 0 {
				route, want = closed[rand.IntN(len(closed))], 404
			}
			v.request = w.request(route, "/x")
			p.asked++
			if s := v.ask(); s.status != want {
				p.wrong++
				fmt.Fprintf(os.Stderr, "bench: wrong answer: route %d answered %d, want %d, at %s\n", route, s.status, want, s.began.UTC().Format(time.RFC3339Nano))
			}
		}
	}()
	return p, nil
}

func (p *probe) end() (asked, wrong int) {
	close(p.stop)
	<-p.done
	return p.asked, p.wrong
}

// churn changes other routes at a fixed rate: four of five changes edit a
// manifest, one activates a route or revokes it.
type churn struct {
	stop    atomic.Bool
	done    chan struct{}
	changes int
	err     error
}

func (w *world) startChurn(rate int) (*churn, error) {
	c := &churn{done: make(chan struct{})}
	if rate == 0 {
		close(c.done)
		return c, nil
	}
	go func() {
		defer close(c.done)
		began := time.Now()
		var open []string
		for !c.stop.Load() && c.err == nil {
			time.Sleep(time.Until(began.Add(time.Duration(c.changes) * time.Second / time.Duration(rate))))
			if c.changes%5 == 4 {
				open, c.err = w.toggle(open, activated+c.changes/5%(reserved-activated))
			} else {
				route := edited + c.changes%(activated-edited)
				c.err = w.writeRoute(route, c.changes)
			}
			c.changes++
		}
	}()
	return c, nil
}

// toggle activates a route, and revokes what was activated three times ago. While
// serve is dead it does neither.
func (w *world) toggle(open []string, route int) ([]string, error) {
	a, err := w.breakGlass(route, time.Minute)
	if err != nil {
		return nil, nil //nolint:nilerr // serve is killed in some of the measurements
	}
	open = append(open, a.Name)
	if len(open) > 3 {
		if err := w.revokeName(open[0]); err != nil {
			return nil, nil //nolint:nilerr // as above
		}
		open = open[1:]
	}
	return open, nil
}

func (c *churn) end() error {
	c.stop.Store(true)
	<-c.done
	return c.err
}
