package main

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// numbered is what verify counts of a request. Decoding the whole of each would
// take longer than all the hashes of the log.
type numbered struct {
	typ, gateway, epoch, key []byte
	n                        uint64
}

// readNumbered reads data as merkle hands it out: compact JSON that is valid.
// What it does not read itself, such as escapes in a name, encoding/json does.
func readNumbered(data []byte) (numbered, error) {
	var r numbered
	m := members{b: data}
	for m.next() {
		var to *[]byte
		switch string(m.name) {
		case "type":
			to = &r.typ
		case "gateway":
			to = &r.gateway
		case "epoch":
			to = &r.epoch
		case "key":
			to = &r.key
		case "n":
			n, err := strconv.ParseUint(string(m.value), 10, 64)
			if err != nil {
				return decodeNumbered(data)
			}
			r.n = n
			continue
		default:
			continue
		}
		if m.value[0] != '"' || bytes.IndexByte(m.value, '\\') >= 0 {
			return decodeNumbered(data)
		}
		*to = m.value[1 : len(m.value)-1]
	}
	if m.odd {
		return decodeNumbered(data)
	}
	return r, nil
}

func decodeNumbered(data []byte) (numbered, error) {
	var r audit.RequestEntry
	err := json.Unmarshal(data, &r)
	return numbered{[]byte(r.Type), []byte(r.Gateway), []byte(r.Epoch), []byte(r.Key), r.N}, err
}

// members goes through those of an object in compact JSON.
type members struct {
	b           []byte
	i           int // of what follows the last member
	name, value []byte
	odd         bool // it is no such object, or has a name with escapes
}

// next is false after the last one.
func (m *members) next() bool {
	switch {
	case m.i == 0 && string(m.b) == "{}", m.i > 0 && m.i == len(m.b)-1 && m.b[m.i] == '}':
		return false
	case m.i < len(m.b) && (m.i == 0 && m.b[0] == '{' || m.i > 0 && m.b[m.i] == ','):
		m.i++
	default:
		m.odd = true
		return false
	}
	from := m.i
	m.skip()
	colon := m.i
	if colon >= len(m.b) || m.b[colon] != ':' || m.b[from] != '"' || bytes.IndexByte(m.b[from:colon], '\\') >= 0 {
		m.odd = true
		return false
	}
	m.i++
	m.skip()
	m.name, m.value = m.b[from+1:colon-1], m.b[colon+1:m.i]
	m.odd = len(m.value) == 0
	return !m.odd
}

// skip one value.
func (m *members) skip() {
	depth := 0
	for m.i < len(m.b) {
		switch m.b[m.i] {
		case '"':
			m.skipString()
		case '{', '[':
			depth++
			m.i++
			continue
		case '}', ']':
			if depth == 0 {
				return // after a number
			}
			depth--
			m.i++
		case ',', ':':
			if depth == 0 {
				return
			}
			m.i++
			continue
		default: // a number, true, false, null
			m.i++
			continue
		}
		if depth == 0 {
			return
		}
	}
}

func (m *members) skipString() {
	for m.i++; m.i < len(m.b); {
		n := bytes.IndexByte(m.b[m.i:], '"')
		if n < 0 {
			m.i = len(m.b)
			return
		}
		m.i += n + 1
		slashes := 0
		for at := m.i - 2; m.b[at] == '\\'; at-- {
			slashes++
		}
		if slashes%2 == 0 {
			return
		}
	}
}
