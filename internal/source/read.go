package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

const (
	// maxFileSize of one manifest file.
	maxFileSize = 4 << 20
	// maxTotalSize of all manifest files of a directory.
	maxTotalSize = 128 << 20
)

// stat tells one version of a file from another. It is comparable.
type stat struct {
	dev, ino, links   uint64
	size              int64
	modified, changed int64 // ns
	uid               uint32
}

func statOf(info fs.FileInfo) stat {
	s := stat{size: info.Size(), modified: info.ModTime().UnixNano(), links: 1}
	sysStat(&s, info)
	return s
}

// errBusy: a file is being written. Look again soon.
var errBusy = errors.New("file is being written")

// readFile reads a regular file in one piece: not while somebody writes to it.
// That holds for writers that have the file open and, where the kernel cannot
// say so, for files that changed within settle and do not end in a newline.
// force reads whatever is there.
func readFile(path string, settle time.Duration, force bool) ([]byte, stat, error) {
	f, err := os.OpenFile(path, openFlags, 0) // non-blocking: it may have become a pipe
	if err != nil {
		return nil, stat{}, withoutPath(err)
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return nil, stat{}, withoutPath(err)
	}
	st := statOf(before)
	switch {
	case !before.Mode().IsRegular():
		return nil, st, errors.New("is not a regular file")
	case before.Size() > maxFileSize:
		return nil, st, fmt.Errorf("is larger than %d MiB", maxFileSize>>20)
	}
	held, err := lease(f)
	if err != nil && !force {
		return nil, st, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, st, withoutPath(err)
	}
	if held || force {
		return data, st, nil
	}
	return data, st, settled(f, before, data, settle)
}

// settled is errBusy if f changed while data was read from it, or only just
// before and it does not end in a newline.
func settled(f *os.File, before fs.FileInfo, data []byte, settle time.Duration) error {
	after, err := f.Stat()
	if err != nil {
		return withoutPath(err)
	}
	st := statOf(before)
	fresh := time.Since(before.ModTime()).Abs() < settle
	if statOf(after) != st || int64(len(data)) != st.size || fresh && (len(data) == 0 || data[len(data)-1] != '\n') {
		return errBusy
	}
	return nil
}

// withoutPath: the path is told next to the error already.
func withoutPath(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}
