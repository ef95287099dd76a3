package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"
)

// writeJSON writes each request on a line of its own, so that a hundred thousand of
// them need no memory, and two reports can be compared by line.
func (r *Report) writeJSON(to io.Writer) error {
	head := *r
	head.Requests = nil
	b, err := marshal(&head, "  ")
	if err != nil {
		return err
	}
	const open = `"requests": null` + "\n}"
	b = bytes.TrimRight(b, "\n")
	if !bytes.HasSuffix(b, []byte(open)) {
		return fmt.Errorf("the requests are not the last field of a report")
	}
	w := bufio.NewWriterSize(to, 64<<10)
	put := func(b []byte) { _, _ = w.Write(b) } // Flush tells
	put(escapeControls(b[:len(b)-len("null\n}")]))
	put([]byte("["))
	for i := range r.Requests {
		if i > 0 {
			put([]byte(","))
		}
		line, err := marshal(&r.Requests[i], "")
		if err != nil {
			return err
		}
		put([]byte("\n    "))
		put(escapeControls(bytes.TrimRight(line, "\n")))
	}
	if len(r.Requests) > 0 {
		put([]byte("\n  "))
	}
	put([]byte("]\n}\n"))
	return w.Flush()
}

func marshal(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// escapeControls writes what is not printable as \u escapes, so that it drives no
// terminal. In JSON that can only be in strings, apart from white space.
func escapeControls(b []byte) []byte {
	if isPlain(b) {
		return b
	}
	out := make([]byte, 0, len(b)+16)
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
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

// isPlain: ASCII that json.Marshal wrote has nothing to escape but DEL.
func isPlain(b []byte) bool {
	for _, c := range b {
		if c >= 0x7f {
			return false
		}
	}
	return true
}
