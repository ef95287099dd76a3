package spool

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// rest bounds what a busy Envoy costs: it writes a thousand times a second.
	rest = 2 * time.Millisecond
	// poll is how often to look where inotify is not to be had.
	poll = 50 * time.Millisecond
	// reopenTimeout is for one question to Envoy.
	reopenTimeout = 5 * time.Second
	// patience is how many questions in a row may fail before that is said: an
	// Envoy that is being started cannot answer.
	patience = 3
	// maxPause, in ticks, is between two questions to an Envoy that said yes and
	// writes nothing.
	maxPause = 64
)

// begin the goroutines.
func (t *Tail) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	if !t.o.noBell {
		var err error
		if t.bell, err = newBell(t.o.Dir); err != nil {
			t.o.Log.Warn("no inotify: looking at the spool 20 times a second instead", "dir", t.o.Dir, "error", err)
		}
	}
	t.running.Go(func() { t.watch(ctx) })
	t.running.Go(func() { t.rotate(ctx) })
}

func (t *Tail) end() {
	t.cancel()
	if t.bell != nil {
		_ = t.bell.Close() // ends what waits for it
	}
	t.running.Wait()
	close(t.changed)
}

func newBell(dir string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Changed has something when there may be something to read, and is closed by
// Close.
func (t *Tail) Changed() <-chan struct{} { return t.changed }

func (t *Tail) watch(ctx context.Context) {
	events := make([]byte, 16<<10) // what they say does not matter
	for ctx.Err() == nil {
		if t.bell == nil {
			sleep(ctx, poll)
		} else if err := t.bell.SetReadDeadline(time.Now().Add(t.o.tick)); err != nil {
			sleep(ctx, poll)
		} else if _, err := t.bell.Read(events); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			sleep(ctx, poll)
		}
		select {
		case t.changed <- struct{}{}:
		default:
		}
		sleep(ctx, rest)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// rotate sets access.jsonl aside when it is large. Envoy goes on writing to it
// until it is asked to open its log anew; it is asked until there is something
// in the new file, because nothing else proves that it did.
func (t *Tail) rotate(ctx context.Context) {
	old, err := names(t.o.Dir)
	fresh := t.made || len(old) > 0 || err != nil // Envoy may have another open
	failed, wait, pause := 0, 0, 1
	for ; ctx.Err() == nil; sleep(ctx, t.o.tick) {
		size, began, err := t.setAside()
		if err != nil {
			if failed++; failed == patience {
				t.o.Log.Error("cannot set the spool aside", "dir", t.o.Dir, "error", err)
			}
			continue
		}
		if began {
			fresh, wait, pause = true, 0, 1
		} else if size > 0 {
			fresh, failed = false, 0
		}
		if wait--; !fresh || wait > 0 {
			continue
		}
		if err := t.reopen(ctx); err != nil {
			if failed++; failed == patience && ctx.Err() == nil {
				t.o.Log.Warn("cannot ask Envoy to open its log anew; trying on", "dir", t.o.Dir, "error", err)
			}
			continue
		}
		failed, wait, pause = 0, pause, min(2*pause, maxPause)
	}
}

func (t *Tail) reopen(ctx context.Context) error {
	if t.o.Reopen == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reopenTimeout)
	defer cancel()
	return t.o.Reopen(ctx)
}

// setAside renames access.jsonl if it is large, and makes a new one. It returns
// the size of access.jsonl, and whether that is new.
func (t *Tail) setAside() (size int64, began bool, err error) {
	path := filepath.Join(t.o.Dir, current)
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Size() < t.o.RotateAt:
		return info.Size(), false, nil
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return 0, false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		list, err := names(t.o.Dir)
		if err != nil {
			return 0, false, err
		}
		next := uint64(1)
		if len(list) > 0 {
			n, _ := number(list[len(list)-1])
			next = n + 1
		}
		if err := os.Rename(path, path+"."+strconv.FormatUint(next, 10)); err != nil {
			return 0, false, err
		}
	}
	_, err = makeCurrent(t.o.Dir)
	return 0, err == nil, err
}

// makeCurrent makes access.jsonl, because Envoy would make it readable to all. It
// reports whether it was not there.
func makeCurrent(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, current), os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, os.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, f.Close()
}
