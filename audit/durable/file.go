// Package durable has what a file of record is written with: synced contents and
// names, and directories that one process has for itself.
package durable

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// File is what the writers need of an *os.File. Tests put a disk that fills up
// or fails behind it.
type File interface {
	io.WriterAt
	Truncate(size int64) error
	// Sync makes content and size durable: fdatasync.
	Sync() error
	Close() error
}

type osFile struct{ *os.File }

func (f osFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}

// Open opens a file of ours for writing. A symbolic link is not
// followed: the directory is ours, nobody has a reason to put one there.
func Open(path string, flag int) (File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW|flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// SyncDir makes names in dir durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDir makes dir and what is missing above it, durably.
func makeDir(dir string) error {
	above := filepath.Dir(dir)
	if _, err := os.Stat(above); errors.Is(err, os.ErrNotExist) && above != dir {
		if err := makeDir(above); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return SyncDir(above)
}

// LockDir makes dir when it is not there and takes it for this process. The lock
// goes with the returned file, so also with the process. what names the directory
// in errors; locked is the error when another process has it.
func LockDir(dir, what string, locked error) (*os.File, error) {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		if err := makeDir(dir); err != nil {
			return nil, fmt.Errorf("make the %s directory: %w", what, err)
		}
	}
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open the %s directory: %w", what, err)
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		d.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is locked; stop the other breakglass process or choose another data directory", locked, dir)
		}
		return nil, fmt.Errorf("lock the %s directory %s: %w", what, dir, err)
	}
	// Subjects and paths of requests are nobody else's business.
	if st, err := d.Stat(); err == nil && st.Mode().Perm() != 0o700 {
		if err := d.Chmod(0o700); err != nil {
			d.Close()
			return nil, fmt.Errorf("close the %s directory to others (want mode 0700): %w", what, err)
		}
	}
	return d, nil
}

// Replace gives a file of ours a new content, as a whole: after a crash it has the
// old one or the new one.
func Replace(path string, content []byte) error {
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := Open(tmp, os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", path, err), os.Remove(tmp))
	}
	return SyncDir(filepath.Dir(path))
}

// Free bytes of the disk that path is on, as many as there can be when nobody knows.
func Free(path string) int64 {
	var st unix.Statfs_t
	if path == "" || unix.Statfs(path, &st) != nil {
		return math.MaxInt64
	}
	return int64(st.Bavail) * st.Bsize
}
