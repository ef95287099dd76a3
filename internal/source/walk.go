package source

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	maxDirDepth = 32
	maxFiles    = 100_000
)

// tree is what a walk of a directory found.
type tree struct {
	files []foundFile
	// dirs that were read, and what they are, to be watched.
	dirs map[string]inode
	// unreadable paths: what was below or at them is not gone, it is unknown.
	unreadable []string
	problems   []Problem
	// plain: no symbolic or hard links, so that a file's path is the only way to
	// it and an event on the path says all.
	plain bool

	total int64
	seen  map[inode]bool
	// openDir is called before a directory is read: a watch that is set later
	// misses what happens between.
	openDir func(path string, id inode)
}

type foundFile struct {
	path string
	stat stat
}

type inode struct{ dev, ino uint64 }

func newTree(openDir func(string, inode)) *tree {
	return &tree{dirs: map[string]inode{}, plain: true, seen: map[inode]bool{}, openDir: openDir}
}

func isManifest(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return !strings.HasPrefix(name, ".")
	}
	return false
}

// addRoot walks the directory at path, or takes the file at path whatever its
// name.
func (t *tree) addRoot(path string) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		t.fail(path, err, "create it, or correct the path")
	case info.IsDir():
		t.addDir(path, info, 0)
	default:
		t.addFile(path, info)
	}
}

func (t *tree) addDir(path string, info fs.FileInfo, depth int) {
	st := statOf(info)
	id := inode{st.dev, st.ino}
	if st.ino != 0 && t.seen[id] {
		return // a loop, or a second way to what was read
	}
	t.seen[id] = true
	if depth > maxDirDepth {
		t.fail(path, errors.New("directories are nested too deeply"), "move the manifests up")
		return
	}
	if t.openDir != nil {
		t.openDir(path, id)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		t.fail(path, err, "make it readable, or remove it")
		return
	}
	t.dirs[path] = id
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		t.addEntry(filepath.Join(path, e.Name()), e, depth)
	}
}

func (t *tree) addEntry(path string, e fs.DirEntry, depth int) {
	mode := e.Type()
	if mode.IsRegular() && !isManifest(e.Name()) {
		return
	}
	info, err := e.Info()
	if mode&fs.ModeSymlink != 0 {
		t.plain = false
		info, err = os.Stat(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && mode&fs.ModeSymlink == 0:
		// Gone since the directory was read.
	case err != nil:
		if isManifest(e.Name()) || mode&fs.ModeSymlink == 0 {
			t.fail(path, err, "correct or remove it")
		}
	case info.IsDir():
		t.addDir(path, info, depth+1)
	case isManifest(e.Name()):
		t.addFile(path, info)
	}
}

func (t *tree) addFile(path string, info fs.FileInfo) {
	st := statOf(info)
	id := inode{st.dev, st.ino}
	if st.links > 1 {
		t.plain = false
	}
	if st.ino != 0 && t.seen[id] {
		return
	}
	t.seen[id] = true
	switch {
	case !info.Mode().IsRegular():
		t.fail(path, errors.New("is not a regular file"), "remove it")
		return
	case len(t.files) >= maxFiles:
		t.fail(path, errors.New("there are too many files"), "move files that are not needed out of the directory")
		return
	case t.total+min(st.size, maxFileSize) > maxTotalSize:
		t.fail(path, errors.New("the files of the directory are too large together"), "move files that are not needed out of the directory")
		return
	}
	t.total += min(st.size, maxFileSize)
	t.files = append(t.files, foundFile{path, st})
}

// fail notes a path that cannot be looked into. A path that does not exist has
// nothing below it; any other may still hold what it last had.
func (t *tree) fail(path string, err error, remedy string) {
	missing := errors.Is(err, fs.ErrNotExist)
	if !missing {
		t.unreadable = append(t.unreadable, path)
	}
	t.problems = append(t.problems, Problem{File: path, Message: withoutPath(err).Error(), Remedy: remedy, LastGood: !missing})
}

// knows reports whether the walk could tell if there is a file at path.
func (t *tree) knows(path string) bool {
	for _, u := range t.unreadable {
		if rest, ok := strings.CutPrefix(path, u); ok && (rest == "" || rest[0] == filepath.Separator) {
			return false
		}
	}
	return true
}
