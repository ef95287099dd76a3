package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

const (
	defaultRotateAt = 16 << 20
	// maxLine bounds a row. The longest that Envoy writes has 2 KiB each of path
	// and claims, six bytes for one that must be escaped, and the lists of a route.
	maxLine = 256 << 10
	chunk   = 64 << 10 // how much is read at once
)

// Options of Open.
type Options struct {
	// Dir holds access.jsonl. It is made if it is not there.
	Dir string
	// Reopen asks Envoy to open its logs anew (POST /reopen_logs).
	Reopen func(context.Context) error
	Log    *slog.Logger
	// RotateAt is the size in bytes at which access.jsonl is set aside; 0: 16 MiB.
	RotateAt int64

	tick   time.Duration // of tests; 0: a second
	noBell bool          // of tests: as if there were no inotify
}

// Tail reads what Envoy writes, and sets aside what is read. Its methods may be
// called from several goroutines, but only one should Read.
type Tail struct {
	o       Options
	changed chan struct{}
	bell    *os.File // inotify; nil: there is none
	cancel  context.CancelFunc
	running sync.WaitGroup
	made    bool // access.jsonl was not there

	// mu guards what follows, and the names of files while one is set aside.
	mu     sync.Mutex
	closed bool
	files  []*file // oldest first; none has been deleted
	at     int     // the file that is read
	offset int64   // of buf in it
	buf    []byte  // read, not taken yet
	store  []byte  // what buf is a part of
	ready  []Record
	gone   string // the position that is nowhere
}

// Open goes on at position, or begins with the oldest file if it is "". The
// position's file may be gone: then, too, it begins with the oldest, and says so.
func Open(o Options, position string) (*Tail, error) {
	if o.RotateAt <= 0 {
		o.RotateAt = defaultRotateAt
	}
	if o.tick <= 0 {
		o.tick = time.Second
	}
	t := &Tail{o: o, changed: make(chan struct{}, 1)}
	err := checkDir(o.Dir)
	if err == nil {
		t.made, err = makeCurrent(o.Dir)
	}
	if err == nil {
		err = t.scan()
	}
	if err == nil {
		err = t.find(position)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the spool: %w", err), t.closeFiles())
	}
	t.begin()
	return t, nil
}

func checkDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s is not a directory: remove it", dir)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d, not to %d which runs this: find out who made it, and move it away", dir, st.Uid, os.Geteuid())
	case st.Mode&0o077 != 0:
		return os.Chmod(dir, 0o700)
	}
	return nil
}

// find the place that position names.
func (t *Tail) find(position string) error {
	if position == "" {
		return nil
	}
	p, err := parsePosition(position)
	for i := 0; err == nil && i < len(t.files); i++ {
		f := t.files[i]
		if err := f.identify(i+1 < len(t.files)); err != nil {
			return err
		}
		if f.id == p.id {
			f.cut = p.cut
			t.at, t.offset = i, p.offset
			return t.discard(i)
		}
	}
	t.gone = position
	return nil
}

// Read returns what is next, at most max. Without more, it has returned all that
// was written before it was called.
func (t *Tail) Read(max int) (records []Record, more bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, false, os.ErrClosed
	}
	for len(records) < max {
		if len(t.ready) > 0 {
			n := min(len(t.ready), max-len(records))
			records = append(records, t.ready[:n]...)
			t.ready = t.ready[n:]
			continue
		}
		went, err := t.step()
		if err != nil && len(records) == 0 {
			return nil, false, fmt.Errorf("read the spool: %w", err)
		}
		if err != nil {
			return records, true, nil // and the error the next time
		}
		if !went {
			return records, false, nil
		}
	}
	return records, true, nil
}

// step takes a line, or reads on, or goes on to the next file. It reports false
// where all ends.
func (t *Tail) step() (bool, error) {
	f := t.files[t.at]
	if err := f.identify(false); err != nil {
		return false, err
	}
	if f.id != "" {
		if t.takeGone(f) || t.takeLine(f) {
			return true, nil
		}
		if n, err := t.fill(f); n || err != nil {
			return n, err
		}
	}
	return t.advance(f)
}

func (t *Tail) takeGone(f *file) bool {
	if t.gone == "" {
		return false
	}
	t.ready = append(t.ready, Record{
		Problem:  "the place up to which the spool had been read is gone: reading all that is there; what was written in between is lost, and some may be in the log already",
		Raw:      fmt.Sprintf("%.200q", t.gone),
		Position: f.position(0),
	})
	t.gone = ""
	return true
}

func (t *Tail) takeLine(f *file) bool {
	i := bytes.IndexByte(t.buf, '\n')
	switch {
	case i > 2*maxLine || i < 0 && len(t.buf) > 2*maxLine:
		// The newline may be that of a row: its beginning is within maxLine of it.
		n := len(t.buf)
		if i >= 0 {
			n = i
		}
		t.problem("a line is too long", t.buf, f.position(t.offset+int64(n-maxLine)))
		t.consume(n - maxLine)
		return true
	case i < 0:
		return false
	}
	t.takePieces(f, t.buf[:i], i+1)
	return true
}

// takePieces of a line that takes n bytes.
func (t *Tail) takePieces(f *file, line []byte, n int) {
	if len(line) > 0 { // an empty one: a row whose newline alone was missing
		for _, p := range pieces(line, n) {
			position := f.position(t.offset + int64(p.end))
			if p.err != nil {
				t.problem(fmt.Sprintf("%d bytes are no row (%v)", len(p.raw), p.err), p.raw, position)
				continue
			}
			t.ready = append(t.ready, Record{Row: p.row, Position: position})
		}
	}
	t.consume(n)
}

func (t *Tail) consume(n int) {
	t.buf = t.buf[n:]
	t.offset += int64(n)
}

func (t *Tail) problem(what string, raw []byte, position string) {
	t.ready = append(t.ready, Record{Problem: what, Raw: audit.Fragment(raw), Position: position})
}

// fill reads on in f.
func (t *Tail) fill(f *file) (bool, error) {
	if need := len(t.buf) + chunk; cap(t.store) < need {
		t.store = make([]byte, 2*need)
	}
	t.buf = t.store[:copy(t.store, t.buf)]
	at := t.offset + int64(len(t.buf))
	n, err := f.f.ReadAt(t.store[len(t.buf):len(t.buf)+chunk], at)
	t.buf = t.store[:len(t.buf)+n]
	if n > 0 {
		return true, nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	size, err := f.size()
	if err != nil || size >= at {
		return false, err
	}
	// Somebody cut it: what is in it now is new.
	f.cut++
	t.problem(fmt.Sprintf("%s was cut from %d to %d bytes while it was in use: what was in it and had not been read is lost", f.name, at, size), t.buf, f.position(0))
	t.offset, t.buf = 0, t.buf[:0]
	return true, nil
}

// advance goes on to the next file in which there is something. Envoy has one
// writer for its log, which closes one file before it writes to the next; an
// Envoy is started after the one before it has died. So by then f is complete.
func (t *Tail) advance(f *file) (bool, error) {
	if err := t.scan(); err != nil {
		return false, err
	}
	next := t.at
	for i := t.at + 1; i < len(t.files) && next == t.at; i++ {
		size, err := t.files[i].size()
		if err != nil {
			return false, err
		}
		if size > 0 {
			next = i
		}
	}
	if next == t.at {
		return false, nil
	}
	known := f.id != ""
	if err := f.identify(true); err != nil || !known {
		return true, err
	}
	if n, err := t.fill(f); n || err != nil {
		return n, err
	}
	if len(t.buf) > 0 {
		t.takePieces(f, t.buf, len(t.buf))
	}
	f.end = t.offset
	t.at, t.offset, t.buf = next, 0, t.buf[:0]
	return true, nil
}

// scan finds new files. None is set aside meanwhile.
func (t *Tail) scan() error {
	var st unix.Stat_t
	if n := len(t.files); n > 0 && unix.Lstat(filepath.Join(t.o.Dir, current), &st) == nil && st.Ino == t.files[n-1].inode {
		return nil // as nearly always
	}
	list, err := names(t.o.Dir)
	if err != nil {
		return err
	}
	for _, name := range append(list, current) {
		f, err := openFile(t.o.Dir, name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if old := t.known(f); old != nil {
			old.name = name
			_ = f.f.Close() // nothing was written
			continue
		}
		t.files = append(t.files, f)
	}
	return nil
}

func (t *Tail) known(f *file) *file {
	for _, old := range t.files {
		if old.inode == f.inode { // open, so nobody else has its number
			return old
		}
	}
	return nil
}

// Bytes that are written and not read.
func (t *Tail) Bytes() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var n int64
	for _, f := range t.files[min(t.at, len(t.files)):] {
		if size, err := f.size(); err == nil {
			n += size
		}
	}
	return max(n-t.offset, 0)
}

// Close ends the tail. Changed is closed.
func (t *Tail) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	t.mu.Unlock()
	t.end()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closeFiles()
}

func (t *Tail) closeFiles() error {
	var errs []error
	for _, f := range t.files {
		errs = append(errs, f.f.Close())
	}
	t.files = nil
	return errors.Join(errs...)
}
