package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
)

// file is what is written to. Tests put a disk that fills up or fails behind it.
type file = durable.File

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
