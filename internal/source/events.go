package source

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// note takes in an event: what has to be looked at, and when.
func (w *Watcher) note(ev fsnotify.Event, now time.Time) {
	path := filepath.Clean(ev.Name)
	if !w.concerns(path, ev) {
		return
	}
	// A burst of events is one change: wait until it is over, but not forever.
	if w.first.IsZero() {
		w.first = now
	}
	w.due = now.Add(w.opts.Debounce)
	if last := w.first.Add(maxQuiet * w.opts.Debounce); last.Before(w.due) {
		w.due = last
	}
}

// concerns reports whether an event calls for a look, and notes at what.
func (w *Watcher) concerns(path string, ev fsnotify.Event) bool {
	if _, dir := w.watched[path]; dir || path == w.abs || path == w.dir {
		if ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename) {
			delete(w.watched, path) // fsnotify has dropped it as well
		}
		w.full = true
		return true
	}
	if !w.below(path) {
		return false // of another directory beside ours
	}
	// With symbolic links about, any name may be part of the way to a file.
	if !w.plain {
		w.full = true
		return true
	}
	switch base := filepath.Base(path); {
	case strings.HasPrefix(base, "."):
		return false
	case isManifest(base):
		w.dirty[path] = true
		return true
	case !ev.Has(fsnotify.Create):
		return false
	}
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() && info.Mode()&fs.ModeSymlink == 0 {
		return false
	}
	w.full = true
	return true
}

func (w *Watcher) below(path string) bool {
	switch w.dir {
	case ".":
		return !filepath.IsAbs(path)
	case "/":
		return true
	}
	return strings.HasPrefix(path, w.dir+string(filepath.Separator))
}

// refreshWatches forgets the watches that fsnotify dropped, and sees to that of
// the directory that ours is in: our own may be replaced.
func (w *Watcher) refreshWatches() {
	if w.notify == nil {
		return
	}
	alive := map[string]bool{}
	for _, path := range w.notify.WatchList() {
		alive[path] = true
	}
	for path := range w.watched {
		if !alive[path] {
			delete(w.watched, path)
		}
	}
	if parent := filepath.Dir(w.abs); parent != w.abs {
		if info, err := os.Stat(parent); err == nil {
			st := statOf(info)
			w.watch(parent, inode{st.dev, st.ino})
		}
	}
}

// watch sees to it that the directory at path is watched, and not one that was
// at path before.
func (w *Watcher) watch(path string, id inode) {
	if w.notify == nil {
		return
	}
	if was, ok := w.watched[path]; ok && was == id {
		return
	}
	// An older watch under this name must not be left: the event of its end would
	// take the new one with it. This fails if there is none, which is as good.
	_ = w.notify.Remove(path)
	delete(w.watched, path)
	if err := w.notify.Add(path); err != nil {
		if !w.failed {
			w.log.Warn("a directory cannot be watched, its changes are found by rescanning only; raise fs.inotify.max_user_watches",
				"dir", path, "rescan", w.opts.Rescan, "error", err)
		}
		w.failed = true
		return
	}
	w.watched[path] = id
}

// dropWatches gives up the watches of directories that are no longer read.
func (w *Watcher) dropWatches(dirs map[string]inode) {
	for path := range w.watched {
		if _, ok := dirs[path]; !ok && path != filepath.Dir(w.abs) {
			_ = w.notify.Remove(path)
			delete(w.watched, path)
		}
	}
}
