package dataplane

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// errLocked: somebody else holds the lock.
var errLocked = errors.New("locked")

// openLock opens a lock file without locking it.
func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	return f, nil
}

// takeLock locks a file for as long as the returned file, or a copy of its
// descriptor in any process, is open. It does not wait: errLocked.
func takeLock(path string) (*os.File, error) {
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, wholeFile()); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// isLocked tells whether somebody holds the lock, without ever holding it: a
// look must not make a neighbour's attempt to lock fail.
func isLocked(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock file: %w", err)
	}
	defer f.Close()
	return isFileLocked(f)
}

// isFileLocked is isLocked for a file that is open already, and may have been
// removed since.
func isFileLocked(f *os.File) (bool, error) {
	lk := wholeFile()
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, lk); err != nil {
		return false, fmt.Errorf("test the lock %s: %w", f.Name(), err)
	}
	return lk.Type != unix.F_UNLCK, nil
}

func wholeFile() *unix.Flock_t {
	return &unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET}
}

// note replaces the content of a lock file that we hold; it is for people.
func note(f *os.File, text string) {
	// Nothing depends on it, so a full disk must not stop us.
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(text), 0)
}

// noted is the note in a lock file, for messages about its holder.
func noted(path string) string {
	b, err := os.ReadFile(path)
	if text := strings.TrimSpace(string(b)); err == nil && text != "" && len(text) < 200 {
		return text
	}
	return "an unknown process"
}
