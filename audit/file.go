package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// file is what the writers need of an *os.File. Tests put a disk that fills up
// or fails behind it.
type file interface {
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

// openFile opens a file of the journal for writing. A symbolic link is not
// followed: the directory is ours, nobody has a reason to put one there.
func openFile(path string, flag int) (file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW|flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// syncDir makes names in dir durable.
func syncDir(dir string) error {
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
	return syncDir(above)
}

// lockDir makes dir when it is not there and takes it for this process. The
// lock goes with the returned file, so also with the process.
func lockDir(dir string) (*os.File, error) {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		if err := makeDir(dir); err != nil {
			return nil, fmt.Errorf("make the journal directory: %w", err)
		}
	}
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open the journal directory: %w", err)
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		d.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is locked; stop the other breakglass process or choose another data directory", ErrLocked, dir)
		}
		return nil, fmt.Errorf("lock the journal directory %s: %w", dir, err)
	}
	// Subjects and paths of requests are nobody else's business.
	if st, err := d.Stat(); err == nil && st.Mode().Perm() != 0o700 {
		if err := d.Chmod(0o700); err != nil {
			d.Close()
			return nil, fmt.Errorf("close the journal directory to others (want mode 0700): %w", err)
		}
	}
	return d, nil
}

// lineReader hands out the whole lines of a file that may still grow.
type lineReader struct {
	r   io.ReaderAt
	off int64 // of buf[0] in the file
	buf []byte
	pos int // of the next line in buf
	// dry: no whole line was left. What was read of an unfinished one is read
	// anew: a writer that was killed may have been replaced by one that cut it.
	dry bool
}

var errTooLong = fmt.Errorf("a line is longer than %d bytes", maxLine)

// next returns the next line without its newline, valid until the next call.
// It returns nil when there is no whole line yet below limit.
func (l *lineReader) next(limit int64) ([]byte, error) {
	if l.dry {
		l.buf, l.dry = l.buf[:l.pos], false
	}
	searched := l.pos
	for {
		if i := bytes.IndexByte(l.buf[searched:], '\n'); i >= 0 {
			end := searched + i
			if l.off+int64(end) >= limit {
				l.dry = true
				return nil, nil
			}
			line := l.buf[l.pos:end:end]
			l.pos = end + 1
			if len(line) > maxLine {
				return line[:0], errTooLong
			}
			return line, nil
		}
		searched = len(l.buf)
		if searched-l.pos > maxLine {
			return nil, errTooLong
		}
		if l.pos > 0 {
			l.off += int64(l.pos)
			l.buf = append(l.buf[:0], l.buf[l.pos:]...)
			searched -= l.pos
			l.pos = 0
		}
		n, err := l.fill(limit)
		if err != nil || n == 0 {
			l.dry = true
			return nil, err
		}
	}
}

// fill reads more behind buf and returns how much.
func (l *lineReader) fill(limit int64) (int, error) {
	at := l.off + int64(len(l.buf))
	want := min(int64(64<<10), limit-at)
	if want <= 0 {
		return 0, nil
	}
	old := len(l.buf)
	l.buf = append(l.buf, make([]byte, want)...)
	n, err := l.r.ReadAt(l.buf[old:], at)
	l.buf = l.buf[:old+n]
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// rest returns what follows the last whole line, after next returned nil.
func (l *lineReader) rest() []byte { return l.buf[l.pos:] }
