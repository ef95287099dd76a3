// Package clock tells a time that never goes back: not when the wall clock is
// set back, and not over a restart. Deadlines are judged by it, so whoever can
// set the wall clock back cannot keep a door open.
//
// # How
//
// Now is max(wall, base + time elapsed since base was taken); a wall clock that
// is ahead becomes the new base. Elapsed time is CLOCK_BOOTTIME, which nobody
// can set and which goes on while the machine sleeps. So a step forward is
// followed at once and for good, and a step back is ignored until the wall
// clock has caught up.
//
// # The file
//
// One JSON line, mode 0600, replaced atomically (temporary file, fsync, rename,
// fsync of the directory), every second and when the wall clock steps forward:
//
//	{"v":1,"mark":"2026-11-23T21:55:00.123456789Z","boot":"<boot id>","elapsed":"1234567890","sum":"<CRC-32C>"}
//
// mark is the highest time told; elapsed is CLOCK_BOOTTIME in ns at that moment.
// After a restart in the same boot the clock goes on from mark + the time
// passed, exactly. After a reboot it begins at the wall clock or, when that is
// behind the mark (so it was set back), at mark + 1 s, the most that may have
// been told after the mark was written.
//
// # Limits
//
// A wall clock that stepped forward in the last moments before a SIGKILL, was
// not yet persisted and stepped back before the restart can make the next
// process tell an earlier time. A reboot with a wall clock set back by less
// than the second since the last mark cannot be noticed either.
package clock

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	persistEvery = time.Second
	// jitter: wall and elapsed time cannot be read at the same instant. A lag
	// below it is not a step.
	jitter = 20 * time.Millisecond
	// stepForward is when a step of the wall clock is persisted at once.
	stepForward = 500 * time.Millisecond
	// farAhead is a mark that is an error rather than a clock set back.
	farAhead = 24 * time.Hour
)

// Options of a Clock. The zero value is good.
type Options struct {
	// Log is where steps and failing writes are reported. Default slog.Default().
	Log *slog.Logger
	// Wall is the settable clock. Default time.Now.
	Wall func() time.Time
	// Elapsed is a clock that nobody can set. Default CLOCK_BOOTTIME.
	Elapsed func() time.Duration
	// Boot names the boot within which Elapsed goes on. Default the kernel's
	// boot_id.
	Boot string

	// sleep waits for the last moment before a timer fires; tests replace it.
	sleep func(time.Duration)
}

func (o *Options) defaults() {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Wall == nil {
		o.Wall = wall
	}
	if o.Elapsed == nil {
		o.Elapsed = bootTime
	}
	if o.Boot == "" {
		o.Boot = bootID()
	}
	if o.sleep == nil {
		o.sleep = nanosleep
	}
}

// Clock is a time that never goes back. Its methods may be called concurrently.
type Clock struct {
	path    string
	opts    Options
	missing bool

	mu   sync.Mutex
	base time.Time
	at   time.Duration // Elapsed at base

	persisting sync.Mutex
	failed     error // of the last Persist; under mu
	tried      bool  // there was one; under mu

	stepped chan struct{} // of size 1
	stop    chan struct{}
	done    chan struct{}
	closing sync.Once
}

// Open reads the mark at path and begins to persist it every second. The
// directory must be there. A missing file is no error: see Missing. A file that
// cannot be read as written is one, because without it a time already told
// may be told again.
func Open(path string, o Options) (*Clock, error) {
	o.defaults()
	c := &Clock{path: path, opts: o, stepped: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	m, err := readMark(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		c.missing = true
	case err != nil:
		return nil, fmt.Errorf("read the clock file %s: %w; check the wall clock and then remove the file: "+
			"from then on only the wall clock decides what time it is", path, err)
	}
	wall := o.Wall().Round(0).UTC()
	c.at = o.Elapsed()
	c.base = wall
	if !c.missing {
		if begin := m.resume(o.Boot, c.at, wall); begin.After(wall) {
			c.base = begin
		}
	}
	if err := c.Problem(); err != nil {
		o.Log.Error("wall clock is far behind the recorded time", "error", err)
	} else if b := c.Behind(); b > 0 {
		o.Log.Warn("wall clock is behind the recorded time", "behind", b, "file", path)
	}
	if !c.missing {
		// An unwritable file is reported and does not stop the clock.
		c.persistAndLog()
	}
	go c.run()
	return c, nil
}

// Missing is true when there was no file at Open. Together with a journal that
// has entries this means that the memory of the time was lost: see AtLeast. The
// file is then not made before the first tick or Persist, so that a caller who
// refuses to start finds it missing again next time.
func (c *Clock) Missing() bool { return c.missing }

// AtLeast makes Now tell t or later from now on. With the time of the last
// journal entry it is the memory of last resort for a lost clock file.
func (c *Clock) AtLeast(t time.Time) {
	c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.opts.Elapsed()
	if now := c.base.Add(at - c.at); t.After(now) {
		c.base, c.at = t.Round(0).UTC(), at
	}
}

// Now is never before an earlier Now, of this process or one before it.
func (c *Clock) Now() time.Time {
	now, _ := c.read()
	return now
}

// read returns the time and the wall clock it was compared with.
func (c *Clock) read() (now, wall time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The wall clock first: when we are suspended between the two readings, base
	// comes out early and the next reading corrects it. The other way round it
	// would be late, for good.
	wall = c.opts.Wall().Round(0).UTC()
	at := c.opts.Elapsed()
	now = c.base.Add(at - c.at)
	if ahead := wall.Sub(now); ahead > 0 {
		c.base, c.at, now = wall, at, wall
		if ahead >= stepForward {
			select {
			case c.stepped <- struct{}{}:
			default:
			}
		}
	}
	return now, wall
}

// Behind is how far the wall clock is behind Now: it was set back, or had been
// set forward before. 0 when it is not (up to 20 ms are not a step).
func (c *Clock) Behind() time.Duration {
	now, wall := c.read()
	if b := now.Sub(wall); b >= jitter {
		return b
	}
	return 0
}

// Problem says what is wrong with the clock, and what to do. nil: nothing.
func (c *Clock) Problem() error {
	var errs []error
	if b := c.Behind(); b >= farAhead {
		now := c.Now().Format(time.RFC3339)
		errs = append(errs, fmt.Errorf("the recorded time is %s, %s ahead of the wall clock: every window that ends before it is closed, "+
			"and no token issued by the wall clock's time may pass; set the wall clock right (NTP), or, if the wall clock is right, stop serve, "+
			"revoke or remove the activations that must not open again, remove %s and start it", now, b.Round(time.Second), c.path))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		errs = append(errs, c.failed)
	}
	return errors.Join(errs...)
}

// Persist writes the mark and returns when it is durable.
func (c *Clock) Persist() error {
	c.persisting.Lock()
	defer c.persisting.Unlock()
	c.read()
	c.mu.Lock()
	at := c.opts.Elapsed()
	m := mark{Mark: c.base.Add(at - c.at), Boot: c.opts.Boot, Elapsed: at}
	c.mu.Unlock()
	err := writeMark(c.path, m)
	if err != nil {
		err = fmt.Errorf("write the clock file %s: %w; until it can be written, a restart may forget a clock that is set back", c.path, err)
	}
	c.mu.Lock()
	c.failed, c.tried = err, true
	c.mu.Unlock()
	return err
}

func (c *Clock) persisted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tried
}

// persistAndLog logs when persisting begins to fail, and when it ends to.
func (c *Clock) persistAndLog() {
	c.mu.Lock()
	before := c.failed
	c.mu.Unlock()
	switch err := c.Persist(); {
	case err != nil && before == nil:
		c.opts.Log.Error("clock cannot be persisted", "error", err)
	case err == nil && before != nil:
		c.opts.Log.Info("clock is persisted again", "file", c.path)
	}
}

func (c *Clock) run() {
	defer close(c.done)
	tick := time.NewTicker(persistEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.stepped:
		case <-c.stop:
			return
		}
		c.persistAndLog()
	}
}

// Close ends the background loop and persists a last time. Now goes on to work.
func (c *Clock) Close() error {
	var err error
	c.closing.Do(func() {
		close(c.stop)
		<-c.done
		if !c.missing || c.persisted() {
			err = c.Persist()
		}
	})
	return err
}

func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("clock: CLOCK_BOOTTIME: " + err.Error()) // Linux 2.6.39 has it
	}
	return time.Duration(ts.Nano())
}

// bootID is empty where it cannot be read: then every start is a new boot.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}
