package merkle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
)

const (
	checkpointName = "checkpoint"
	hashesName     = "hashes"
	keyName        = "audit.key"
	nextKeyName    = "audit.key.new" // while the key is changed
	pubName        = "audit.pub"
)

// file is what is written to. Tests put a disk that fills up or fails behind it.
type file = durable.File

func openRead(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
}

// readSmall reads a file of which more than limit bytes cannot be ours.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := openRead(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, &CorruptError{File: path, Reason: fmt.Sprintf("the file is longer than %d bytes", limit)}
	}
	return b, err
}

// replaceFile puts b in place of the file, whole or not at all.
func (l *Log) replaceFile(name string, b []byte) error {
	path := filepath.Join(l.dir, name)
	f, err := l.opts.open(path+".tmp", os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		// A half of it only takes room on a disk that may be full.
		_ = os.Remove(path + ".tmp")
		return err
	}
	return durable.SyncDir(l.dir)
}

// Segments returns the seq of the first entry of each segment in dir, the oldest
// first.
func Segments(dir string) ([]uint64, error) {
	segs, err := segments(dir)
	firsts := make([]uint64, len(segs))
	for i, s := range segs {
		firsts[i] = s.first
	}
	return firsts, err
}

// SegmentFile is the name of the segment that begins with that entry.
func SegmentFile(first uint64) string { return segmentFile(first) }

func segmentFile(seq uint64) string { return fmt.Sprintf("segment-%020d.jsonl", seq) }

// segment is a segment file by name.
type segment struct {
	name  string
	first uint64
}

// segments lists the segment files in order.
func segments(dir string) ([]segment, error) {
	des, err := os.ReadDir(dir) // sorted
	if err != nil {
		return nil, err
	}
	var out []segment
	for _, de := range des {
		s, ok := strings.CutPrefix(de.Name(), "segment-")
		s, ok2 := strings.CutSuffix(s, ".jsonl")
		n, err := strconv.ParseUint(s, 10, 63)
		if ok && ok2 && err == nil && de.Name() == segmentFile(n) {
			out = append(out, segment{de.Name(), n})
		}
	}
	return out, nil
}

// lineReader hands out the whole lines of a file that may still grow.
type lineReader struct {
	r   io.ReaderAt
	off int64 // of buf[0] in the file
	buf []byte
	pos int // of the next line in buf
}

var errTooLong = fmt.Errorf("a line is longer than %d bytes", maxLine)

// next returns the next line without its newline, valid until the next call;
// nil when there is no whole line yet.
func (l *lineReader) next() ([]byte, error) {
	searched := l.pos
	for {
		if i := bytes.IndexByte(l.buf[searched:], '\n'); i >= 0 {
			end := searched + i
			line := l.buf[l.pos:end:end]
			l.pos = end + 1
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
		n, err := l.fill()
		if err != nil || n == 0 {
			return nil, err
		}
	}
}

func (l *lineReader) fill() (int, error) {
	// Small at first: most files are, or little of them is read.
	chunk := min(max(4<<10, 2*cap(l.buf)), 128<<10)
	old := len(l.buf)
	l.buf = append(l.buf, make([]byte, chunk)...)
	n, err := l.r.ReadAt(l.buf[old:], l.off+int64(old))
	l.buf = l.buf[:old+n]
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// forget drops what was read of an unfinished line: a writer that failed or
// was killed may cut it and write another there.
func (l *lineReader) forget() { l.buf = l.buf[:l.pos] }

// offset is where the next line begins.
func (l *lineReader) offset() int64 { return l.off + int64(l.pos) }

// rest returns what follows the last whole line, after next returned nil.
func (l *lineReader) rest() []byte { return l.buf[l.pos:] }

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
