package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	socketName = "control.sock"
	lockName   = "control.lock"
	// maxPath is what sun_path of struct sockaddr_un holds, less the final zero
	// (unix(7)).
	maxPath = 107
)

// SocketPath is where the control socket of a data directory is.
func SocketPath(dataDir string) string { return filepath.Join(dataDir, socketName) }

// PrepareDataDir makes sure that dir is there and that nobody else gets in. It
// makes it if need be, and tightens one that is empty or was ours before; any
// other that is open to others is an error, since it may be something else
// entirely (/tmp).
func PrepareDataDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if !fi.IsDir() {
		return fmt.Errorf("data directory %s: not a directory", dir)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("data directory %s belongs to uid %d and this is uid %d: run as its owner, or name another with --data-dir", dir, st.Uid, os.Geteuid())
	}
	if fi.Mode().Perm()&0o077 == 0 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	_, lockErr := os.Lstat(filepath.Join(dir, lockName))
	if len(entries) > 0 && lockErr != nil {
		return fmt.Errorf("data directory %s has mode %#o and is in use by something else: name one of its own with --data-dir, or if it is ours run: chmod 0700 %s",
			dir, fi.Mode().Perm(), dir)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// listener is the socket and the lock that makes it the only one of its
// directory.
type listener struct {
	*net.UnixListener
	close func() error
}

// Close removes the socket file, then gives the directory free. It may be
// called again.
func (l *listener) Close() error { return l.close() }

// listen opens the control socket of dir.
func listen(dir string) (*listener, error) {
	path := SocketPath(dir)
	if err := checkPath(path); err != nil {
		return nil, err
	}
	if err := PrepareDataDir(dir); err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	l, err := replaceSocket(path)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &listener{l, sync.OnceValue(func() error { return errors.Join(l.Close(), lock.Close()) })}, nil
}

func checkPath(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("control socket %s: the path is %d bytes long and the system takes at most %d: use a shorter --data-dir", path, len(path), maxPath)
	}
	return nil
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("another `breakglass serve` uses data directory %s: stop it, or name another with --data-dir", dir)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// replaceSocket listens on path. What is there already goes only if it is a
// socket that nobody answers on.
func replaceSocket(path string) (*net.UnixListener, error) {
	switch fi, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("control socket: %w", err)
	case fi.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("control socket %s: a file that is not a socket is in the way: move it", path)
	default:
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			_ = c.Close() // it only had to answer
			return nil, fmt.Errorf("control socket %s: another process answers on it: stop it, or name another --data-dir", path)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("control socket %s: cannot tell whether another process uses it: %w", path, err)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control socket: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// Until here the directory's 0700 alone keeps others out, and whoever comes
	// is asked who he is.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), l.Close())
	}
	return l, nil
}
