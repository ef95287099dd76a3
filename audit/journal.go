package audit

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
)

// Options of a Journal. The zero value is good.
type Options struct {
	// Now stamps entries without a time. Default time.Now; serve gives the
	// clock that never goes back.
	Now func() time.Time
	// Log is where cut lines and failing disks are reported.
	// Default slog.Default().
	Log *slog.Logger
	// open replaces durable.Open in tests.
	open func(path string, flag int) (file, error)
}

func (o *Options) defaults() {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.open == nil {
		o.open = durable.Open
	}
}

// Journal is the open journal of a directory. Its methods may be called
// concurrently.
type Journal struct {
	dir   string
	opts  Options
	lock  *os.File
	id    string
	first bool
	notes []string

	mu      sync.Mutex
	pending []*batch
	closed  bool // no more is taken
	broken  error
	at      mark          // what counts; moved by the writer only
	changed chan struct{} // closed, and replaced, when there is more to read

	wake chan struct{}
	done chan struct{} // the writer has ended
	ctl  file
	buf  []byte
}

// Open opens the journal in dir, which is made when it is not there, and
// verifies the control entries. Only one process can have it open.
func Open(dir string, o Options) (_ *Journal, err error) {
	o.defaults()
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	lock, err := durable.LockDir(dir, "journal", ErrLocked)
	if err != nil {
		return nil, err
	}
	j := &Journal{
		dir: dir, opts: o, lock: lock,
		changed: make(chan struct{}), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	if err := j.openControl(); err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	go j.write()
	return j, nil
}

// openControl makes or verifies control.jsonl and cuts what a crash left.
func (j *Journal) openControl() error {
	path := filepath.Join(j.dir, controlName)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		if err := createControl(j.dir, j.opts.Now()); err != nil {
			return fmt.Errorf("make %s: %w", path, err)
		}
	}
	rec, err := recoverControl(path)
	if err != nil {
		return err
	}
	if j.ctl, err = j.opts.open(path, 0); err != nil {
		return err
	}
	if rec.note != "" {
		j.note(rec.note)
		// The newline is written again in any case: it may be what was missing.
		err := j.ctl.Truncate(rec.at.off - 1)
		if err == nil {
			_, err = j.ctl.WriteAt([]byte{'\n'}, rec.at.off-1)
		}
		if err == nil {
			err = j.ctl.Sync()
		}
		if err != nil {
			return errors.Join(fmt.Errorf("repair the end of %s: %w", path, err), j.ctl.Close())
		}
	}
	j.at, j.id = rec.at, rec.id
	j.first = rec.at.seq == 1
	return nil
}

// note keeps and logs what Open found and repaired.
func (j *Journal) note(what string) {
	j.notes = append(j.notes, what)
	j.opts.Log.Warn("journal repaired", "what", what)
}

// First is true when the directory had no control entry before this Open: a
// new installation, or one that has lost its memory. (A journal that was made
// but got no entry before a crash is still a first one.) The caller should
// record what it decides for a first start in one Append, together with its
// first entry, because after that Append it is first no more.
func (j *Journal) First() bool { return j.first }

// Recovered says what a crash had left and Open has repaired; nil when nothing.
func (j *Journal) Recovered() []string { return j.notes }

// ID is random and of this journal alone: a directory that was emptied has
// another.
func (j *Journal) ID() string { return j.id }

// Size returns how many entries are on disk.
func (j *Journal) Size() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.at.seq - 1
}

// Err returns why entries cannot be kept at present. nil when all is well.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.broken
}

// write is the only goroutine that writes control entries.
func (j *Journal) write() {
	defer close(j.done)
	for range j.wake {
		j.mu.Lock()
		group, closed := j.pending, j.closed
		j.pending = nil
		j.mu.Unlock()
		if len(group) > 0 {
			err := j.commit(group)
			for _, b := range group {
				b.done <- err
			}
		}
		if closed {
			return
		}
	}
}

// commit writes a group of batches and waits for the disk.
func (j *Journal) commit(group []*batch) error {
	if j.broken != nil { // only this goroutine sets it
		return j.broken
	}
	at, buf := j.at, j.buf[:0]
	for _, b := range group {
		for i, e := range b.entries {
			e.Seq = at.seq
			buf, at.sum = appendControl(buf, e, len(b.entries)-1-i, at.sum)
			at.seq++
			at.line++
		}
	}
	at.off += int64(len(buf))
	j.buf = buf
	if cap(j.buf) > 1<<20 {
		j.buf = nil
	}
	_, err := j.ctl.WriteAt(buf, j.at.off)
	if err == nil {
		err = j.ctl.Sync()
	}
	if err != nil {
		return j.undo(err)
	}
	j.mu.Lock()
	j.at = at
	j.mu.Unlock()
	j.notify()
	return nil
}

// undo makes sure that nothing counts of a write that failed. How much of it
// was written is not asked: os.File.WriteAt says 0 after a partial write that
// ended in ENOSPC (measured, Go 1.26).
func (j *Journal) undo(cause error) error {
	failed := fmt.Errorf("append to the journal: nothing was recorded; check the disk and the free space of %s: %w", j.dir, cause)
	if err := j.cut(); err != nil {
		broken := fmt.Errorf("%w: a failed write could not be undone; check the disk and the free space of %s, then restart: %w",
			ErrBroken, j.dir, errors.Join(cause, err))
		j.mu.Lock()
		j.broken = broken
		j.mu.Unlock()
		j.opts.Log.Error("journal is broken until it is opened again", "dir", j.dir, "error", broken)
		return broken
	}
	return failed
}

// cut makes the file end, durably, after the last entry that counts.
func (j *Journal) cut() error {
	if err := j.ctl.Truncate(j.at.off); err != nil {
		return err
	}
	return j.ctl.Sync()
}

// notify tells followers that there is more to read.
func (j *Journal) notify() {
	j.mu.Lock()
	defer j.mu.Unlock()
	close(j.changed)
	j.changed = make(chan struct{})
}

// Close writes what is waiting, and gives the directory free. Entries that the
// disk does not take now are lost, and the error says how many.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	j.mu.Unlock()
	wake(j.wake)
	<-j.done
	var errs []error
	if j.broken != nil {
		if err := j.cut(); err != nil {
			errs = append(errs, fmt.Errorf("undo a failed write to %s: %w", filepath.Join(j.dir, controlName), err))
		}
	}
	errs = append(errs, j.ctl.Close(), j.lock.Close())
	return errors.Join(errs...)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
