package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Options of Watch. Zero durations mean the defaults.
type Options struct {
	// Dir is the directory. It must exist when Watch is called.
	Dir string
	// Log is told what is wrong with the watching. What is wrong with the
	// manifests is in each Set. Default: discard.
	Log *slog.Logger
	// Rescan is how often the whole tree is compared with what is known, for
	// changes of which there was no event. Default 2s.
	Rescan time.Duration
	// Debounce is how long the tree must be quiet after an event before it is
	// looked at. Default 2ms.
	Debounce time.Duration
	// Vanish is how long an object must be gone to be believed gone. Default
	// 20ms.
	Vanish time.Duration

	// Proven is a file that remembers across restarts which documents were valid, so
	// that they need not be validated again. "": none.
	Proven string

	// noEvents is for tests of what happens without watches.
	noEvents bool
}

const (
	defaultRescan   = 2 * time.Second
	defaultDebounce = 2 * time.Millisecond
	defaultVanish   = 20 * time.Millisecond
	// maxQuiet bounds waiting for a quiet tree, in Debounces.
	maxQuiet = 10
)

// Watcher follows a directory.
type Watcher struct {
	dir, abs string
	opts     Options
	log      *slog.Logger
	updates  chan *Set
	scan     *scanner

	notify  *fsnotify.Watcher // nil: the system has no watches left
	watched map[string]inode
	failed  bool // a watch could not be set; it was logged

	// plain is that of the last walk.
	plain bool
	// full and dirty are what is to be looked at next: the whole tree, or paths.
	full  bool
	dirty map[string]bool
	// first event since the last look, and when to look for it. Zero: none.
	first, due time.Time
	lookedAt   time.Time
}

// Watch reads a directory and follows it until ctx is done. Without watches (a
// limit of the system, a network file system) changes are found by rescanning.
func Watch(ctx context.Context, opts Options) (*Watcher, error) {
	setDefault(&opts.Rescan, defaultRescan)
	setDefault(&opts.Debounce, defaultDebounce)
	setDefault(&opts.Vanish, defaultVanish)
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	dir := filepath.Clean(opts.Dir)
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("config directory %s: %w: create it, or correct the path", opts.Dir, withoutPath(err))
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("config directory %s: is not a directory: name the directory that holds the manifests", opts.Dir)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("config directory %s: %w", opts.Dir, err)
	}
	w := &Watcher{
		dir: dir, abs: abs, opts: opts, log: opts.Log,
		updates: make(chan *Set, 1), scan: newScanner(opts.Vanish, readProven(opts.Proven)),
		watched: map[string]inode{}, dirty: map[string]bool{}, full: true, due: time.Now(),
	}
	if opts.noEvents {
		err = errors.ErrUnsupported
	} else {
		w.notify, err = fsnotify.NewWatcher()
	}
	if err != nil {
		w.notify = nil
		w.log.Warn("changes of the config directory are found by rescanning only, raise fs.inotify.max_user_instances",
			"dir", w.dir, "rescan", opts.Rescan, "error", err)
	}
	go w.run(ctx)
	return w, nil
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

// Updates yields the first complete Set, then a Set for each change. A Set that
// is not taken before the next one is ready is dropped. The channel is closed
// when the context of Watch is done.
func (w *Watcher) Updates() <-chan *Set { return w.updates }

func (w *Watcher) run(ctx context.Context) {
	defer close(w.updates)
	var events chan fsnotify.Event
	var errs chan error
	if w.notify != nil {
		defer w.notify.Close()
		events, errs = w.notify.Events, w.notify.Errors
	}
	rescan := time.NewTicker(w.opts.Rescan)
	defer rescan.Stop()
	// timer fires when something that was seen is to be looked at.
	timer := time.NewTimer(0)
	defer timer.Stop()
	published := false
	for {
		select {
		case <-ctx.Done():
			return
		case ev := <-events:
			w.note(ev, time.Now())
		case err := <-errs:
			w.log.Warn("events of the config directory were lost, reading it anew", "dir", w.dir, "error", err)
			w.full, w.due = true, time.Now()
		case <-rescan.C:
			w.full, w.due = true, time.Now()
		case <-timer.C:
		}
		if wait := time.Until(w.next()); wait > 0 {
			timer.Reset(wait)
			continue
		}
		set := w.look(time.Now())
		// The first Set is complete: it waits for a file that is being written.
		if !published && len(w.scan.busy) == 0 {
			set, published = w.scan.state.set, true
		}
		if published && set != nil {
			w.publish(set)
		}
		timer.Reset(time.Until(w.next()))
	}
}

// publish makes set the one that is received next.
func (w *Watcher) publish(set *Set) {
	for {
		select {
		case w.updates <- set:
			return
		default:
		}
		// The receiver may be quicker than this, which is as good.
		select {
		case <-w.updates:
		default:
		}
	}
}

// next is when to look at the tree next.
func (w *Watcher) next() time.Time {
	due := w.due
	if _, gone := w.scan.state.goneFiles(); due.IsZero() || !gone.IsZero() && gone.Before(due) {
		due = gone
	}
	if busy := w.lookedAt.Add(busyDelay); len(w.scan.busy) > 0 && (due.IsZero() || busy.Before(due)) {
		due = busy
	}
	if due.IsZero() {
		return time.Now().Add(w.opts.Rescan) // the ticker comes first
	}
	return due
}

// busyDelay is how long after a look a file that was being written is looked at
// again.
const busyDelay = 5 * time.Millisecond

// look brings the state up to date with what is due, and returns the new Set if
// there is one.
func (w *Watcher) look(now time.Time) *Set {
	paths, _ := w.scan.state.goneFiles()
	for path := range w.dirty {
		paths[path] = true
	}
	for path := range w.scan.busy {
		paths[path] = true
	}
	if w.full || !w.plain || !w.scan.look(paths, now) {
		w.walk(now)
		w.scan.proven.save()
	}
	w.full, w.dirty = false, map[string]bool{}
	w.first, w.due, w.lookedAt = time.Time{}, time.Time{}, now
	return w.scan.state.settle(now)
}

func (w *Watcher) walk(now time.Time) {
	w.refreshWatches()
	t := newTree(w.watch)
	t.addRoot(w.dir)
	w.plain = t.plain
	w.dropWatches(t.dirs)
	w.scan.apply(t, now)
}
