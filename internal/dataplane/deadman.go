package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// orphanGrace is how long an orphan lives on after its last deadline, so
	// that the refusals right after a deadline still come from Envoy.
	orphanGrace = 2 * time.Second
	// orphanIdle is how long an orphan lives in which nothing is open: time for
	// a control plane to be restarted and adopt it.
	orphanIdle = 10 * time.Second
	// deadmanPeriod is how often the locks are looked at.
	deadmanPeriod = 200 * time.Millisecond
)

// RunDeadman watches over the Envoy of one directory and ends it when no
// control plane is attached and its time is up: 2 s after the last deadline
// that the control plane recorded, or 10 s after the control plane vanished
// when it had recorded none or that one was past; or at once when Envoy's record
// of requests can no longer be kept, unless the policy wants that served. It
// returns when there is neither an Envoy nor a control plane, or at once when
// another deadman watches.
//
// A dying guard fails closed: when ctx ends and no control plane is attached,
// Envoy is ended at once.
func RunDeadman(ctx context.Context, dir string) error {
	lock, err := takeLock(filepath.Join(dir, fileDeadmanLock))
	if errors.Is(err, errLocked) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deadman: %w", err)
	}
	defer lock.Close()
	note(lock, fmt.Sprintf("process %d\n", os.Getpid()))
	// What ps shows; without it the name would be that of the control plane.
	_ = os.WriteFile("/proc/self/comm", []byte("bg-deadman"), 0)

	d := &deadman{dir: dir, log: slog.Default().With("deadman", dir)}
	// Both stay open: a lock can be tested when its file was removed, and
	// whoever removes the data directory must not get an immortal Envoy.
	if d.serve, err = openLock(filepath.Join(dir, fileServeLock)); err != nil {
		return fmt.Errorf("deadman: %w", err)
	}
	defer d.serve.Close()
	if d.envoy, err = openLock(filepath.Join(dir, fileEnvoyLock)); err != nil {
		return fmt.Errorf("deadman: %w", err)
	}
	defer d.envoy.Close()
	return d.run(ctx)
}

type deadman struct {
	dir          string
	log          *slog.Logger
	serve, envoy *os.File
}

// run alternates between waiting for the control plane to vanish and waiting
// for the orphan's end.
func (d *deadman) run(ctx context.Context) error {
	var o *orphan
	for {
		attached, err := isFileLocked(d.serve)
		if err != nil {
			return fmt.Errorf("deadman: %w", err)
		}
		lives, err := isFileLocked(d.envoy)
		if err != nil {
			return fmt.Errorf("deadman: %w", err)
		}
		switch {
		case attached && ctx.Err() != nil:
			return nil // the control plane starts another
		case attached:
			o = nil
		case !lives:
			return nil
		case o == nil:
			o = newOrphan(d.dir, time.Now(), sinceBoot())
			d.log.Info("the control plane vanished", "endsIn", o.left)
			continue
		case ctx.Err() != nil || o.due(time.Now(), sinceBoot()) || o.unrecordable(d.dir):
			if err := d.end(); err != nil {
				d.log.Error("cannot end the orphaned Envoy, trying again", "error", err)
				_ = sleep(context.WithoutCancel(ctx), 2*time.Second)
			}
			continue
		}
		_ = sleep(ctx, deadmanPeriod)
	}
}

// end ends the Envoy if it is proven to be one.
func (d *deadman) end() error {
	lock, err := d.envoy.Stat()
	if err != nil {
		return err
	}
	p := findEnvoyOf(d.dir, lock)
	if p == nil {
		if locked, err := isFileLocked(d.envoy); err != nil || !locked {
			return err // it ended by itself
		}
		return fmt.Errorf("%s is locked by a process that is not provably an Envoy of ours: find it with `fuser -v` and end it", d.envoy.Name())
	}
	defer p.release()
	d.log.Info("ending the orphaned Envoy", "pid", p.pid)
	p.epoch = readRecord(d.dir).epochOf(p)
	if err := p.end(context.Background(), orphanGrace); err != nil || !p.clean() {
		return err
	}
	return writeFile(filepath.Join(d.dir, fileEnded), []byte(p.epoch))
}

// endedInOrder tells whether the deadman has ended that Envoy, and not by force.
func endedInOrder(dir, epoch string) bool {
	b, err := os.ReadFile(filepath.Join(dir, fileEnded))
	return err == nil && epoch != "" && string(b) == epoch
}

const (
	// orphanRoom is the free space that an orphan needs: on a full disk Envoy loses
	// what it should record.
	orphanRoom = 2 << 20
	// orphanSpool bounds what an orphan may record, with nobody there to take it.
	orphanSpool = 2 << 30
)

// orphan is an Envoy without a control plane.
type orphan struct {
	unrecorded bool
	vanished   time.Duration // since boot
	left       time.Duration // from then
	wall       time.Time     // ends then too; zero: no such bound
}

func newOrphan(dir string, wall time.Time, boot time.Duration) *orphan {
	o := &orphan{vanished: boot, left: orphanIdle}
	if d, ok := readDeadline(dir); ok {
		// The earlier of two clocks: a step of the wall clock after the
		// deadline was recorded may shorten the life, never lengthen it.
		if left := min(d.Wall.Sub(wall), d.Boot-boot); left > 0 {
			o.left = left + orphanGrace
			o.wall = d.Wall.Add(orphanGrace)
			o.unrecorded = d.Unrecorded
		}
	}
	return o
}

// due tells whether the orphan's time is up, by either clock.
func (o *orphan) due(wall time.Time, boot time.Duration) bool {
	return boot-o.vanished >= o.left || !o.wall.IsZero() && !wall.Before(o.wall)
}

// unrecordable tells whether what goes through the orphan may soon not be on
// record.
func (o *orphan) unrecordable(dir string) bool {
	if o.unrecorded {
		return false
	}
	spool := filepath.Join(dir, SpoolDir)
	var st unix.Statfs_t
	err := unix.Statfs(spool, &st)
	for errors.Is(err, unix.EINTR) {
		err = unix.Statfs(spool, &st)
	}
	if err != nil || int64(st.Bavail)*st.Bsize < orphanRoom {
		return true // also if it was removed: nobody will read what is written there
	}
	size := int64(0)
	entries, err := os.ReadDir(spool)
	if err != nil {
		return true
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			size += info.Size()
		}
	}
	return size > orphanSpool
}

// sinceBoot is a clock that nobody can set, that is the same for all processes,
// and that goes on while the machine sleeps, clock_gettime(2).
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("clock_gettime(CLOCK_BOOTTIME): %v", err)) // there since Linux 2.6.39
	}
	return time.Duration(ts.Nano())
}
