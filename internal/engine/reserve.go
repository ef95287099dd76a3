package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// reserve is room on the disk that is kept for what closes. When the disk is
// full it is given up, so that a revocation can still be recorded and no restart
// can take it back. Without it nothing opens.
type reserve struct{ path string }

// reserveBytes is room for some hundred closings.
const reserveBytes = 1 << 20

// take makes sure that the room is there.
func (r reserve) take() error {
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("reserve room for closings: %w", err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, reserveBytes); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("reserve room for closings in %s: %w: free some space", filepath.Dir(r.path), err)
	}
	return nil
}

// release gives the room up. It reports whether there was any.
func (r reserve) release() bool { return os.Remove(r.path) == nil }

// outOfSpace reports whether err could be mended by more room.
func outOfSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
