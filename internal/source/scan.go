package source

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxBusy is how long a file that is being written is waited for before it is
// read as it is.
const maxBusy = time.Second

// scanner brings a state up to date with the file system.
type scanner struct {
	state  *state
	proven *proven
	settle time.Duration // see readFile
	// busy files, and since when.
	busy map[string]time.Time
}

func newScanner(vanish time.Duration, good *proven) *scanner {
	return &scanner{proven: good, state: newState(vanish), settle: vanish, busy: map[string]time.Time{}}
}

// apply takes over a walk of the whole tree.
func (s *scanner) apply(t *tree, now time.Time) {
	present := make(map[string]bool, len(t.files))
	var stale []string
	for _, f := range t.files {
		present[f.path] = true
		if known := s.state.files[f.path]; known == nil || known.stat != f.stat || known.racy {
			stale = append(stale, f.path)
		}
	}
	for _, path := range s.state.paths() {
		if !present[path] && t.knows(path) {
			s.state.replace(path, nil)
		}
	}
	for path := range s.busy {
		if !present[path] {
			delete(s.busy, path)
		}
	}
	s.read(stale, now)
	s.state.treeProblems = t.problems
	for i, p := range t.problems {
		// Only a path that had something below it can have kept it.
		t.problems[i].LastGood = p.LastGood && s.hasBelow(p.File)
	}
}

func (s *scanner) hasBelow(path string) bool {
	for known, f := range s.state.files {
		if strings.HasPrefix(known, path) && len(f.docs) > 0 {
			return true
		}
	}
	return false
}

// look takes over single files of a plain tree. It reports false if one of them
// is not the plain file that it was taken for.
func (s *scanner) look(paths map[string]bool, now time.Time) bool {
	var stale []string
	for path := range paths {
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			s.state.replace(path, nil)
			delete(s.busy, path)
		case err != nil || !info.Mode().IsRegular() || statOf(info).links > 1 || !isManifest(info.Name()):
			return false
		default:
			stale = append(stale, path)
		}
	}
	if s.total()+int64(len(stale))*maxFileSize > maxTotalSize {
		return false // a walk counts exactly
	}
	s.read(stale, now)
	return true
}

func (s *scanner) total() (n int64) {
	for _, f := range s.state.files {
		n += f.stat.size
	}
	return n
}

// read reads and parses files, as many at a time as there are processors.
func (s *scanner) read(paths []string, now time.Time) {
	if len(paths) >= bulk {
		defer lessGC()()
	}
	files := make([]*file, len(paths))
	one := func(i int) {
		since, busy := s.busy[paths[i]]
		files[i] = s.readOne(paths[i], busy && now.Sub(since) >= maxBusy)
	}
	if len(paths) == 1 {
		one(0) // the usual change: nothing is gained by waking another thread
	} else {
		inParallel(len(paths), one)
	}
	for i, path := range paths {
		switch f := files[i]; {
		case f == nil: // busy
			if _, ok := s.busy[path]; !ok {
				s.busy[path] = now
			}
			continue
		case f != s.state.files[path]:
			s.state.replace(path, f)
		}
		delete(s.busy, path)
	}
}

func inParallel(n int, do func(i int)) {
	work := make(chan int)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		wg.Go(func() {
			for i := range work {
				do(i)
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
}

// readOne returns the file as it is now, the one that is known if nothing
// changed, or nil if it cannot be read now but will be.
func (s *scanner) readOne(path string, force bool) *file {
	known := s.state.files[path]
	data, st, err := readFile(path, s.settle, force)
	if errors.Is(err, errBusy) {
		return nil
	}
	if known == nil {
		known = &file{} // equal to nothing that was read
	}
	var docs []placed
	var syntax *syntaxError
	if err == nil {
		docs, syntax = parse(data, known.docs, s.proven)
	}
	modified := time.Unix(0, st.modified)
	f := &file{path: path, stat: st, docs: docs, modified: modified, owner: st.uid}
	f.racy = time.Since(modified).Abs() < racyTime || time.Since(time.Unix(0, st.changed)).Abs() < racyTime
	switch {
	case err != nil:
		f.problem = &Problem{File: path, Message: err.Error(), Remedy: "make it a readable file, or remove it"}
		f.stat, f.racy = stat{}, true // try again at the next walk
	case syntax != nil:
		f.problem = &Problem{File: path, Line: syntax.line, Message: syntax.message, Remedy: "correct it: nothing of this file is used until it can be parsed"}
	default:
		if known.problem == nil && known.seenAs(f) && slices.Equal(known.docs, docs) {
			return known
		}
		return f
	}
	if len(known.docs) > 0 {
		f.docs, f.modified, f.owner = known.docs, known.modified, known.owner
		f.problem.LastGood = true
		if syntax != nil {
			f.problem.Remedy = "correct it"
		}
	}
	if known.problem != nil && *known.problem == *f.problem && known.seenAs(f) {
		return known
	}
	return f
}

// seenAs reports whether the file system tells the same of both.
func (f *file) seenAs(g *file) bool {
	return f.path == g.path && f.stat == g.stat && f.racy == g.racy
}

// racyTime is more than the resolution of any file system's times, and of the
// clock that sets them.
const racyTime = 50 * time.Millisecond

// bulk is how many files make a read a bulk read.
const bulk = 500

var gc struct {
	sync.Mutex
	readers, percent int
}

// lessGC is for a bulk read. CEL rules make garbage by the gigabyte while next to
// nothing is alive yet, so that the collector would run all the time; it takes
// half of the time of a cold start unless it is let to wait. The function that is
// returned undoes it.
func lessGC() func() {
	gc.Lock()
	defer gc.Unlock()
	if gc.readers++; gc.readers == 1 {
		if gc.percent = debug.SetGCPercent(bulkGCPercent); gc.percent < 0 || gc.percent > bulkGCPercent {
			debug.SetGCPercent(gc.percent)
		}
	}
	return func() {
		gc.Lock()
		defer gc.Unlock()
		if gc.readers--; gc.readers == 0 {
			debug.SetGCPercent(gc.percent)
			// The garbage goes back at once: a controller of 300 MB that needs 100 would
			// be ended first when memory is short.
			go debug.FreeOSMemory()
		}
	}
}

const bulkGCPercent = 800
