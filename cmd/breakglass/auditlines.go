package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// entryWriter writes one entry a line as it comes: a log does not fit in memory.
func entryWriter(out io.Writer, form string) func(merkle.Entry) error {
	if form == "json" {
		return func(e merkle.Entry) error { return writeEntry(out, e) }
	}
	l := &lines{out: out, widths: []int{6, 27, 18, 24, 28, 12, 10}}
	return func(e merkle.Entry) error {
		if err := l.heading(entryColumns...); err != nil {
			return err
		}
		return l.row(entryCells(e)...)
	}
}

var entryColumns = []string{"SEQ", "TIME", "EVENT", "WHO", "OBJECT", "ROLE", "INCIDENT", "MESSAGE"}

// entryCells are an entry under entryColumns.
func entryCells(e merkle.Entry) []string {
	t := tellEntry(e)
	if t.at.IsZero() {
		t.at = e.Time
	}
	return []string{fmt.Sprint(e.Seq), t.at.Local().Format("2006-01-02 15:04:05.000 MST"), t.event, t.who, t.object, t.role, t.incident, t.message}
}

// writeEntry writes an entry as it is stored. On a terminal, what could drive it
// is escaped; the JSON says the same.
func writeEntry(out io.Writer, e merkle.Entry) error {
	b := e.Line()
	if isTerminal(out) {
		b = escapeJSON(b)
	}
	_, err := out.Write(append(b, '\n'))
	return err
}

// writeJSON writes v, in which are words of others, so that a terminal can show it.
func writeJSON(out io.Writer, v any) error {
	var b bytes.Buffer
	if err := writeObject(&b, "json", v); err != nil {
		return err
	}
	_, err := out.Write(escapeJSON(b.Bytes()))
	return err
}

// escapeJSON writes what is not printable as \u escapes. In JSON that can only
// be in strings, apart from the white space between values.
func escapeJSON(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1:
			out = append(out, `\ufffd`...)
		case r == '\n' || unicode.IsPrint(r):
			out = append(out, b[:n]...)
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		b = b[n:]
	}
	return out
}

// lines are the rows of a table without an end: a column grows with what is in
// it and does not shrink again.
type lines struct {
	out    io.Writer
	widths []int
	begun  bool
}

// maxWidth of a column: what is longer pushes its own row only.
const maxWidth = 48

func (l *lines) heading(cells ...string) error {
	if l.begun {
		return nil
	}
	l.begun = true
	return l.row(cells...)
}

// row writes one line. An empty cell is a dash, so that columns can be counted.
func (l *lines) row(cells ...string) error {
	var b strings.Builder
	for i, c := range cells {
		if c = clean(c); c == "" {
			c = "-"
		}
		b.WriteString(c)
		if i == len(cells)-1 {
			break
		}
		width := utf8.RuneCountInString(c)
		l.widths[i] = max(l.widths[i], min(width, maxWidth))
		b.WriteString(strings.Repeat(" ", max(0, l.widths[i]-width)+2))
	}
	_, err := fmt.Fprintln(l.out, b.String())
	return err
}
