package merkle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

const (
	maxData    = 1 << 20
	maxCursors = 4096
	maxCursor  = 512      // bytes of a name, and of a value
	maxLine    = 16 << 20 // a segment line with as many cursors as there may be

	timeLayout = "2006-01-02T15:04:05.000000Z"
)

var errForm = errors.New("not an entry of the log")

// normal checks a draft and brings it into the form in which it is written, so
// that encoding it later cannot fail.
func normal(d Draft) (Draft, error) {
	if !validKind(d.Kind) {
		return d, fmt.Errorf("entry kind %q: must be 1 to 32 of a-z", d.Kind)
	}
	d.Time = d.Time.UTC().Truncate(time.Microsecond)
	if y := d.Time.Year(); y < 1 || y > 9999 {
		return d, fmt.Errorf("entry time %v: year out of range", d.Time)
	}
	if d.Data == nil {
		d.Data = json.RawMessage("null")
	}
	var err error
	if d.Data, err = compact(d.Data); err != nil {
		return d, fmt.Errorf("entry data of kind %q %w", d.Kind, err)
	}
	if len(d.Data) > maxData {
		return d, fmt.Errorf("entry data of kind %q has %d bytes, at most %d are kept", d.Kind, len(d.Data), maxData)
	}
	if len(d.Cursors) > maxCursors {
		return d, fmt.Errorf("entry of kind %q moves %d cursors, at most %d can be", d.Kind, len(d.Cursors), maxCursors)
	}
	for name, at := range d.Cursors {
		if name == "" || !validCursor(name) || !validCursor(at) {
			return d, fmt.Errorf("cursor %q = %q: must be UTF-8 without control characters and at most %d bytes each", name, at, maxCursor)
		}
	}
	return d, nil
}

// compact brings JSON into the form that parseLine takes. Most is in it already.
func compact(data json.RawMessage) (json.RawMessage, error) {
	s := scanner{b: data}
	if utf8.Valid(data) && s.value(0) && s.i == len(data) {
		return data, nil
	}
	// Compact takes invalid UTF-8 within strings as it is; other readers do not.
	var buf bytes.Buffer
	if err := json.Compact(&buf, bytes.ToValidUTF8(data, []byte("\uFFFD"))); err != nil {
		return data, fmt.Errorf("is not JSON: %w", err)
	}
	s = scanner{b: buf.Bytes()}
	if !s.value(0) || s.i != buf.Len() {
		return data, fmt.Errorf("is nested more than %d deep", maxDepth)
	}
	return buf.Bytes(), nil
}

func validCursor(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 {
			return false
		}
	}
	return len(s) <= maxCursor && utf8.ValidString(s)
}

func validKind(k string) bool {
	if k == "" || len(k) > 32 {
		return false
	}
	for i := range len(k) {
		if k[i] < 'a' || k[i] > 'z' {
			return false
		}
	}
	return true
}

// Line returns the entry as it is in its segment, without the newline: the leaf, so
// that others can hash it. (encoding/json would cut zeros off the time.)
func (e *Entry) Line() []byte {
	line := appendLine(nil, e.Seq, Draft{e.Time.UTC(), e.Kind, e.Data, e.Cursors})
	return line[:len(line)-1]
}

// appendLine appends the line of d with its newline. d is normal.
func appendLine(dst []byte, seq uint64, d Draft) []byte {
	dst = append(dst, `{"v":1,"seq":`...)
	dst = strconv.AppendUint(dst, seq, 10)
	dst = append(dst, `,"time":"`...)
	dst = d.Time.AppendFormat(dst, timeLayout)
	dst = append(dst, `","kind":"`...)
	dst = append(dst, d.Kind...)
	dst = append(dst, `","data":`...)
	dst = append(dst, d.Data...)
	if len(d.Cursors) > 0 {
		dst = append(dst, `,"cursors":{`...)
		for i, name := range slices.Sorted(maps.Keys(d.Cursors)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendCursor(dst, name)
			dst = append(dst, ':')
			dst = appendCursor(dst, d.Cursors[name])
		}
		dst = append(dst, '}')
	}
	return append(dst, "}\n"...)
}

func appendCursor(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}

// ParseLine takes an entry as Line returns it, and nothing else: an entry has one
// line.
func ParseLine(line []byte) (Entry, error) {
	p, err := parseLine(line)
	if err != nil {
		return Entry{}, err
	}
	return p.entry(), nil
}

// parsed is a line taken apart; its slices are of the line.
type parsed struct {
	seq     uint64
	time    time.Time
	kind    []byte
	data    []byte
	cursors []cursor
}

type cursor struct{ name, at string }

// parseLine takes only what appendLine makes, byte for byte (data may be any
// compact JSON): one entry has one line.
func parseLine(line []byte) (p parsed, err error) {
	s := scanner{b: line}
	fail := func(what string) (parsed, error) {
		return parsed{}, fmt.Errorf("%w: %s at byte %d", errForm, what, s.i+1)
	}
	switch {
	case len(line) > maxLine:
		return parsed{}, errTooLong
	case !utf8.Valid(line):
		return fail("invalid UTF-8")
	}
	if missing := s.head(&p); missing != "" {
		return fail(missing)
	}
	from := s.i
	if !s.value(0) || s.i-from > maxData {
		return fail("data that is not compact JSON")
	}
	p.data = line[from:s.i]
	if s.lit(`,"cursors":`) && !s.cursors(&p.cursors) {
		return fail("damaged cursors")
	}
	if !s.lit("}") || s.i != len(line) {
		return fail("something else than the end")
	}
	return p, nil
}

// head takes all before the data, and returns what is not there.
func (s *scanner) head(p *parsed) string {
	switch {
	case !s.lit(`{"v":1,"seq":`):
		return "no version 1"
	case !s.seq(&p.seq):
		return "no seq"
	case !s.lit(`,"time":"`) || !s.timestamp(&p.time):
		return "no time"
	case !s.lit(`","kind":"`) || !s.kind(&p.kind):
		return "no kind"
	case !s.lit(`","data":`):
		return "no data"
	}
	return ""
}

func (s *scanner) seq(out *uint64) bool {
	from := s.i
	if !s.digits() {
		return false
	}
	n, err := strconv.ParseUint(string(s.b[from:s.i]), 10, 64)
	*out = n
	return err == nil && n < math.MaxInt64 && (s.b[from] != '0' || s.i == from+1)
}

func (s *scanner) timestamp(out *time.Time) bool {
	if len(s.b)-s.i < len(timeLayout) {
		return false
	}
	t := s.b[s.i : s.i+len(timeLayout)]
	// time.Parse alone takes a comma for the point, and an hour of one digit.
	if t[13] != ':' || t[19] != '.' {
		return false
	}
	var err error
	*out, err = time.Parse(timeLayout, string(t))
	s.i += len(t)
	return err == nil && out.Year() > 0
}

func (s *scanner) kind(out *[]byte) bool {
	from := s.i
	for s.i < len(s.b) && 'a' <= s.b[s.i] && s.b[s.i] <= 'z' {
		s.i++
	}
	*out = s.b[from:s.i]
	return s.i > from && s.i-from <= 32
}

func (s *scanner) cursors(out *[]cursor) bool {
	if s.i >= len(s.b) || s.b[s.i] != '{' {
		return false
	}
	last := ""
	return s.list('}', func() bool {
		var c cursor
		if !s.cursor(&c.name) || !s.lit(":") || !s.cursor(&c.at) || c.name <= last {
			return false
		}
		last = c.name
		*out = append(*out, c)
		return len(*out) <= maxCursors
	}) && len(*out) > 0
}

// cursor takes a string in which only quotes and backslashes are escaped.
func (s *scanner) cursor(out *string) bool {
	from := s.i + 1
	if !s.str() {
		return false
	}
	raw := s.b[from : s.i-1]
	if bytes.IndexByte(raw, '\\') >= 0 {
		plain := make([]byte, 0, len(raw))
		for i := 0; i < len(raw); i++ {
			if raw[i] == '\\' {
				i++
				if raw[i] != '"' && raw[i] != '\\' {
					return false
				}
			}
			plain = append(plain, raw[i])
		}
		raw = plain
	}
	*out = string(raw)
	return len(raw) <= maxCursor
}

// entry copies p out of its line.
func (p *parsed) entry() Entry {
	e := Entry{V: 1, Seq: p.seq, Time: p.time, Kind: string(p.kind), Data: bytes.Clone(p.data)}
	if len(p.cursors) > 0 {
		e.Cursors = make(map[string]string, len(p.cursors))
		for _, c := range p.cursors {
			e.Cursors[c.name] = c.at
		}
	}
	return e
}
