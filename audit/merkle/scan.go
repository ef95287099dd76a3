package merkle

import "bytes"

// maxDepth bounds how deep data may be nested.
const maxDepth = 1000

// scanner checks a line by its bytes: compact JSON (RFC 8259) without decoding.
// Its methods return false when what is at i is not what they are for.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) lit(want string) bool {
	if len(s.b)-s.i < len(want) || string(s.b[s.i:s.i+len(want)]) != want {
		return false
	}
	s.i += len(want)
	return true
}

func (s *scanner) value(depth int) bool {
	if s.i >= len(s.b) || depth > maxDepth {
		return false
	}
	switch c := s.b[s.i]; {
	case c == '"':
		return s.str()
	case c == '{':
		return s.list('}', func() bool { return s.str() && s.lit(":") && s.value(depth+1) })
	case c == '[':
		return s.list(']', func() bool { return s.value(depth + 1) })
	case c == '-' || isDigit(c):
		return s.number()
	}
	return s.lit("true") || s.lit("false") || s.lit("null")
}

// list takes one or no elements or several with commas between, and end.
func (s *scanner) list(end byte, element func() bool) bool {
	s.i++
	if s.i < len(s.b) && s.b[s.i] == end {
		s.i++
		return true
	}
	for element() {
		if s.i >= len(s.b) {
			return false
		}
		s.i++
		switch s.b[s.i-1] {
		case end:
			return true
		case ',':
		default:
			return false
		}
	}
	return false
}

func (s *scanner) str() bool {
	if !s.lit(`"`) {
		return false
	}
	for s.i < len(s.b) {
		c := s.b[s.i]
		s.i++
		switch {
		case c == '"':
			return true
		case c < 0x20:
			return false
		case c == '\\':
			if !s.escape() {
				return false
			}
		}
	}
	return false
}

func (s *scanner) escape() bool {
	if s.i >= len(s.b) {
		return false
	}
	c := s.b[s.i]
	s.i++
	if c != 'u' {
		return bytes.IndexByte([]byte(`"\/bfnrt`), c) >= 0
	}
	if len(s.b)-s.i < 4 {
		return false
	}
	for _, h := range s.b[s.i : s.i+4] {
		if !isDigit(h) && (h|0x20 < 'a' || h|0x20 > 'f') {
			return false
		}
	}
	s.i += 4
	return true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (s *scanner) digits() bool {
	from := s.i
	for s.i < len(s.b) && isDigit(s.b[s.i]) {
		s.i++
	}
	return s.i > from
}

func (s *scanner) number() bool {
	s.lit("-")
	if !s.lit("0") && !s.digits() {
		return false
	}
	if s.lit(".") && !s.digits() {
		return false
	}
	if s.lit("e") || s.lit("E") {
		if !s.lit("+") {
			s.lit("-")
		}
		return s.digits()
	}
	return true
}
