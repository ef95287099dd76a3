package merkle

import (
	"errors"
	"fmt"
	"path/filepath"
)

var (
	// ErrClosed is returned by Append after Close.
	ErrClosed = errors.New("the audit log is closed")
	// ErrBroken is returned by Append when what it had written could not be cut
	// back yet: what the disk holds is unknown. The next Append tries the cut
	// again, and Open reads what is there.
	ErrBroken = errors.New("the audit log could not be cut back to its last good entry")
	// ErrLocked is returned by Open when another process writes the directory.
	ErrLocked = errors.New("the audit log is in use by another process")
)

// CorruptError says where a file is not as it was written.
type CorruptError struct {
	File   string
	Line   int   // from 1; 0: not a file of lines
	Offset int64 // of the line's first byte
	Reason string
}

func (e *CorruptError) Error() string {
	where := e.File
	if e.Line > 0 {
		where = fmt.Sprintf("%s line %d (byte %d)", e.File, e.Line, e.Offset)
	}
	return fmt.Sprintf("%s: %s: the file was edited or the disk is failing; restore it from a copy, or move %s away: the next start begins a new log",
		where, e.Reason, filepath.Dir(e.File))
}

// RollbackError says that the directory holds less than, or something else
// than, what its own checkpoint vouches for.
type RollbackError struct {
	Dir    string
	What   string
	Remedy string
}

func (e *RollbackError) Error() string { return fmt.Sprintf("%s: %s; %s", e.Dir, e.What, e.Remedy) }

func rollback(dir, format string, args ...any) error {
	return &RollbackError{
		Dir: dir, What: fmt.Sprintf(format, args...),
		Remedy: fmt.Sprintf("restore the directory from a copy, or move %s away: the next start begins a new log", dir),
	}
}
