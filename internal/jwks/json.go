package jwks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxDepth of nested JSON values. Envoy's parser stops at 100; nothing that we
// read needs a tenth of it.
const maxDepth = 32

// DecodeObject decodes data, which must be one JSON object and nothing else.
// Numbers become json.Number.
//
// It refuses what two JSON parsers may read in two ways: a member named twice,
// text that is not UTF-8, half a surrogate pair. Envoy reads the same bytes with
// another parser, and must not find another key or claim in them. Errors never
// quote the data.
func DecodeObject(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8 text")
	}
	var raw json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("not JSON, at byte %d", syntax.Offset)
		}
		return nil, errors.New("not JSON")
	}
	if loneSurrogate(data) {
		return nil, errors.New("half of a surrogate pair in a string")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := decodeValue(dec, 0)
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("not a JSON object")
	}
	return object, nil
}

func decodeValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d levels", maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, errors.New("not JSON")
	}
	switch tok {
	case json.Delim('{'):
		return decodeMembers(dec, depth)
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := decodeValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = dec.Token() // ]
		return list, err
	}
	return tok, nil
}

func decodeMembers(dec *json.Decoder, depth int) (any, error) {
	object := map[string]any{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, errors.New("not JSON")
		}
		name, ok := tok.(string)
		if !ok {
			return nil, errors.New("not JSON")
		}
		if _, twice := object[name]; twice {
			return nil, fmt.Errorf("member %s is there twice", quote(name))
		}
		if object[name], err = decodeValue(dec, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := dec.Token() // }
	return object, err
}

// loneSurrogate finds \ud800 to \udfff escapes that are no pair. encoding/json
// would turn them into U+FFFD silently. data is valid JSON.
func loneSurrogate(data []byte) bool {
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		i++ // what is escaped
		if data[i] != 'u' {
			continue
		}
		r := hex4(data[i+1:])
		i += 4
		if r < 0xd800 || r > 0xdfff {
			continue
		}
		if r >= 0xdc00 || !bytes.HasPrefix(data[i+1:], []byte(`\u`)) {
			return true
		}
		if low := hex4(data[i+3:]); low < 0xdc00 || low > 0xdfff {
			return true
		}
		i += 6
	}
	return false
}

func hex4(data []byte) uint64 {
	if len(data) < 4 {
		return 0
	}
	n, err := strconv.ParseUint(string(data[:4]), 16, 32)
	if err != nil {
		return 0
	}
	return n
}

// quote shows a name from outside, bounded and free of control characters.
func quote(s string) string {
	const most = 64
	if len(s) > most {
		return strconv.Quote(s[:most]) + "..."
	}
	return strconv.Quote(s)
}
