package sink

import (
	"context"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watch tells all sinks of a log that there may be a new checkpoint.
type watch struct {
	dir string

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, when there may be one
}

// lookEvery is how often they look without being told: not all file systems tell
// of changes, and the directory may come later.
const lookEvery = time.Second

func newWatch(dir string) *watch { return &watch{dir: dir, changed: make(chan struct{})} }

func (w *watch) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

func (w *watch) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *watch) run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	fs, err := fsnotify.NewWatcher()
	var events chan fsnotify.Event
	var errs chan error
	if err == nil {
		defer fs.Close()
		events, errs = fs.Events, fs.Errors
	}
	added := false
	for {
		if fs != nil && !added {
			added = fs.Add(w.dir) == nil
		}
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			if e.Name == filepath.Clean(w.dir) && (e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename)) {
				added = false
			}
			if filepath.Base(e.Name) != "checkpoint" {
				continue
			}
		case <-errs: //nolint:errcheck // whatever it is: look
		case <-tick.C:
		}
		w.tell()
	}
}
