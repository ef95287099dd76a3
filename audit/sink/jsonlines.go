package sink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
)

// jsonLines appends to a file, and syncs. A file that was moved away is made anew:
// logrotate needs no postrotate.
//
// The cursor is written later than the file, so that a crash would write lines
// twice. The mark in it says up to where the file was then; what the file has beyond
// is not written again.
type jsonLines struct {
	path string

	f    *os.File
	id   string // of the file: device and inode
	size int64

	was     string // the mark in the cursor; "": none
	marked  int64  // up to where the file goes with the cursor: not beyond what is skipped
	next    uint64 // the seq after the last entry that was delivered
	entries uint64 // those below are in the file, as far as is known
	covers  uint64 // of the newest checkpoint that is in the file
}

func (j *jsonLines) resume(mark string) error {
	j.was = mark
	// The mark has to be in the cursor before there is a line.
	if err := j.open(); err != nil {
		return fmt.Errorf("open %s: %w", j.path, err)
	}
	return nil
}

func (j *jsonLines) mark() string {
	if j.f == nil {
		return j.was
	}
	return fmt.Sprintf("%s:%d", j.id, j.marked)
}

func (j *jsonLines) deliver(_ context.Context, records []record) (int, error) {
	if err := j.open(); err != nil {
		return 0, fmt.Errorf("append to %s: %w", j.path, err)
	}
	var b []byte
	for i := range records {
		r := &records[i]
		if r.note == nil {
			j.next = r.entry.Seq + 1
		}
		if r.note == nil && r.entry.Seq < j.entries || r.note != nil && r.size <= j.covers {
			continue // before a crash
		}
		b = append(append(b, r.body...), '\n')
	}
	if len(b) == 0 {
		j.advance()
		return len(records), nil
	}
	_, err := j.f.WriteAt(b, j.size)
	if err == nil {
		err = unix.Fdatasync(int(j.f.Fd()))
	}
	if err != nil {
		// Best effort: what is left of it is cut off by the next open.
		return 0, fmt.Errorf("append to %s: %w", j.path, errors.Join(err, j.f.Truncate(j.size), j.close()))
	}
	j.size += int64(len(b))
	j.advance()
	return len(records), nil
}

// advance moves the mark, but not while what the file has already is passed over: after
// another crash that has to be known again.
func (j *jsonLines) advance() {
	if j.next >= j.entries {
		j.marked = j.size
	}
}

// open makes sure that the open file is the one that has the name.
func (j *jsonLines) open() error {
	st, err := os.Stat(j.path)
	if err == nil && j.f != nil {
		mine, mineErr := j.f.Stat()
		if mineErr == nil && os.SameFile(st, mine) && mine.Size() == j.size {
			return nil
		}
	}
	if err := j.close(); err != nil {
		return err
	}
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	if err := j.take(f); err != nil {
		return errors.Join(err, f.Close())
	}
	return nil
}

// take looks at what there is of the file.
func (j *jsonLines) take(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return errors.New("it is not a regular file: name another")
	}
	size, err := wholeLines(f, st.Size())
	if err != nil {
		return err
	}
	if size < st.Size() {
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	if st.Size() == 0 {
		if err := durable.SyncDir(filepath.Dir(j.path)); err != nil {
			return err
		}
	}
	id := fileID(st)
	at, marked := int64(0), size
	if was, ok := bytes.CutPrefix([]byte(j.was), []byte(id+":")); ok {
		if _, err := fmt.Sscan(string(was), &at); err == nil && at < size {
			if err := j.beyond(io.NewSectionReader(f, at, size-at)); err != nil {
				return err
			}
			marked = at
		}
	}
	j.f, j.id, j.size, j.marked, j.was = f, id, size, marked, ""
	return nil
}

func fileID(st os.FileInfo) string {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("%d-%d", s.Dev, s.Ino)
	}
	return "?"
}

// wholeLines is the size without a last line that does not end, which a crash left.
func wholeLines(f *os.File, size int64) (int64, error) {
	const chunk = 64 << 10
	for end := size; end > 0; {
		from := max(0, end-chunk)
		b := make([]byte, end-from)
		if _, err := f.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		end = from
	}
	return 0, nil
}

// beyond notes what the file has that the cursor does not know of.
func (j *jsonLines) beyond(r io.Reader) error {
	d := json.NewDecoder(r)
	for {
		var l struct {
			Seq      *uint64 `json:"seq"`
			Kind     string  `json:"kind"`
			Size     uint64  `json:"size"`
			Metadata struct {
				Sequence *uint64 `json:"sequence"`
			} `json:"metadata"`
		}
		err := d.Decode(&l)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("it holds something else than lines of this sink: %w: move it away", err)
		case l.Seq != nil:
			j.entries = max(j.entries, *l.Seq+1)
		case l.Metadata.Sequence != nil:
			j.entries = max(j.entries, *l.Metadata.Sequence+1)
		case l.Kind == KindCheckpoint:
			j.covers = max(j.covers, l.Size)
		}
	}
}

func (j *jsonLines) close() error {
	if j.f == nil {
		return nil
	}
	j.was = j.mark()
	err := j.f.Close()
	j.f = nil
	return err
}
