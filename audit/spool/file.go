package spool

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// current is the file that Envoy writes; once set aside it is current.N.
const current = "access.jsonl"

// file is one file of the spool.
type file struct {
	f     *os.File
	name  string
	inode uint64
	// id names the file for good; see identify. "": not known yet.
	id string
	// end is how much of it was read when its successor was begun; 0: not known.
	end int64
	// cut counts how often the file was found shorter than it had been.
	cut uint64
}

// number of a name in the order of age: N of access.jsonl.N.
func number(name string) (n uint64, ok bool) {
	text, found := strings.CutPrefix(name, current+".")
	n, err := strconv.ParseUint(text, 10, 63)
	return n, found && err == nil && text == strconv.FormatUint(n, 10)
}

// names of the files that were set aside, oldest first.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the spool: %w", err)
	}
	var old []string
	for _, e := range entries {
		if _, ok := number(e.Name()); ok {
			old = append(old, e.Name())
		}
	}
	slices.SortFunc(old, func(a, b string) int {
		n, _ := number(a)
		m, _ := number(b)
		return int(min(max(int64(n-m), -1), 1))
	})
	return old, nil
}

// openFile opens what Envoy writes, and nothing that somebody put in its place.
func openFile(dir, name string) (*file, error) {
	path := filepath.Join(dir, name)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link: remove it; Envoy writes a file of its own", path)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := &file{f: os.NewFile(uintptr(fd), path), name: name}
	if err := f.check(path); err != nil {
		return nil, errors.Join(err, f.f.Close())
	}
	return f, nil
}

func (f *file) check(path string) error {
	var st unix.Stat_t
	fd := int(f.f.Fd())
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%s is not a file: remove it; Envoy makes its own", path)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d, not to %d which runs this: find out who made it, and move it away", path, st.Uid, os.Geteuid())
	}
	f.inode = st.Ino
	if st.Mode&0o077 == 0 {
		return nil
	}
	if err := unix.Fchmod(fd, 0o600); err != nil { // Envoy makes it readable to all
		return &os.PathError{Op: "chmod", Path: path, Err: err}
	}
	return nil
}

// identify finds the file's id: the inode, whose number is used again, and the
// time at which it was made. A file system that does not keep that time has its
// first bytes instead, once there are enough, or once there will be no more.
func (f *file) identify(final bool) error {
	if f.id != "" {
		return nil
	}
	var st unix.Statx_t
	err := unix.Statx(int(f.f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st)
	if err == nil && st.Mask&unix.STATX_BTIME != 0 {
		f.id = fmt.Sprintf("%x-%x", f.inode, st.Btime.Sec*1e9+int64(st.Btime.Nsec))
		return nil
	}
	return f.identifyByContent(final)
}

func (f *file) identifyByContent(final bool) error {
	const enough = 64 // less than any row
	b := make([]byte, enough)
	n, err := f.f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if n == enough || final {
		sum := sha256.Sum256(b[:n])
		f.id = fmt.Sprintf("%x-h%x", f.inode, sum[:8])
	}
	return nil
}

func (f *file) size() (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("stat %s: %w", f.f.Name(), err)
	}
	return st.Size, nil
}

// position is FILE:OFFSET.
func (f *file) position(offset int64) string {
	id := f.id
	if f.cut > 0 {
		id += "~" + strconv.FormatUint(f.cut, 10)
	}
	return id + ":" + strconv.FormatInt(offset, 10)
}

// place is a position taken apart.
type place struct {
	id     string
	cut    uint64
	offset int64
}

func parsePosition(s string) (place, error) {
	id, text, _ := strings.Cut(s, ":")
	id, cutText, wasCut := strings.Cut(id, "~")
	offset, err := strconv.ParseUint(text, 10, 62) // no file is as long, and nothing overflows
	var cut uint64
	if err == nil && wasCut {
		cut, err = strconv.ParseUint(cutText, 10, 64)
	}
	if err != nil || id == "" {
		return place{}, fmt.Errorf("position %.100q of the spool is not FILE:OFFSET", s)
	}
	return place{id, cut, int64(offset)}, nil
}
