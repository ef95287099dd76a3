package clock

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// recheck bounds how late a step forward of the wall clock is noticed by a
	// pending timer.
	recheck = 50 * time.Millisecond
	// nearly is the last stretch, slept in the kernel: the runtime's timers may
	// be a millisecond late, because epoll counts in them.
	nearly = 2 * time.Millisecond
)

// Timer fires once.
type Timer struct {
	// C gets the time at which the timer fired. It is never closed.
	C <-chan time.Time

	once sync.Once
	stop chan struct{}
}

// Timer fires when Now is at or after at: normally within a millisecond of it,
// and within 50 ms of a step of the wall clock past it. It costs 20 wake-ups a
// second while it is pending; a caller has one, for its next deadline. The
// caller must Stop it when it is no longer needed.
func (c *Clock) Timer(at time.Time) *Timer {
	fired := make(chan time.Time, 1)
	t := &Timer{C: fired, stop: make(chan struct{})}
	go func() {
		wait := time.NewTimer(0)
		defer wait.Stop()
		for {
			select {
			case <-wait.C:
			case <-t.stop:
				return
			}
			now := c.Now()
			left := at.Sub(now)
			switch {
			case left <= 0:
				fired <- now
				return
			case left <= nearly:
				c.opts.sleep(left)
				wait.Reset(0)
			default:
				wait.Reset(min(left-nearly, recheck))
			}
		}
	}()
	return t
}

// Stop ends the timer. It may still have fired; C is not drained.
func (t *Timer) Stop() { t.once.Do(func() { close(t.stop) }) }

func nanosleep(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	// A signal may wake us early: the caller looks at the clock again anyway.
	_ = unix.Nanosleep(&ts, nil)
}
