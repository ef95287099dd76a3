package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"sort"
	"strconv"
	"strings"

	yamlv2 "go.yaml.in/yaml/v2"
)

// chunk is the text of one YAML document within a file.
type chunk struct {
	text []byte
	// line of the file on which text begins, from 1.
	line int
}

// split cuts a file at its document markers. A line that begins with --- is a
// marker wherever it stands (YAML 1.2 section 9.1.2), in a block scalar too, so
// that cutting before parsing cuts where the parser would.
func split(data []byte) []chunk {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var chunks []chunk
	start, startLine, line := 0, 1, 0
	blank := true // nothing but comments and directives since start
	for at := 0; at < len(data); {
		line++
		end := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		text := data[at:end]
		switch {
		case isMarker(text):
			// What stands before the first content belongs to the document that
			// follows: a %YAML directive does, a comment may as well.
			if !blank {
				chunks = append(chunks, chunk{data[start:at], startLine})
				start, startLine = at, line
			}
			blank = len(bytes.TrimSpace(text)) == len("---")
		case !isBlank(text):
			blank = false
		}
		at = end
	}
	if !blank {
		chunks = append(chunks, chunk{data[start:], startLine})
	}
	return chunks
}

func isMarker(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && (len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\r' || rest[0] == '\n')
}

func isBlank(line []byte) bool {
	line = bytes.TrimSpace(line)
	return len(line) == 0 || line[0] == '#' || line[0] == '%'
}

// firstLine is the line of a chunk's first content, from 0.
func firstLine(text []byte) int {
	n := 0
	for line := range bytes.Lines(text) {
		if !isBlank(line) && !(isMarker(line) && len(bytes.TrimSpace(line)) == len("---")) {
			return n
		}
		n++
	}
	return 0
}

// syntaxError says what keeps a file from being parsed. It holds no text of the
// file but the names of keys.
type syntaxError struct {
	line    int // from 1, within the text
	message string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.message) }

// decode parses one chunk as kubectl would: YAML 1.1 as far as JSON can hold it,
// with duplicate keys an error. There is more than one value if the chunk has
// document end markers.
func decode(text []byte) ([]any, error) {
	dec := yamlv2.NewDecoder(bytes.NewReader(text))
	dec.SetStrict(true)
	var values []any
	for {
		var v any
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			e := yamlError(err)
			e.line = syntaxLine(text, e)
			return nil, e
		}
		if v, err = jsonable(v, 0); err != nil {
			return nil, &syntaxError{line: firstLine(text) + 1, message: err.Error()}
		}
		if v != nil {
			values = append(values, v)
		}
	}
}

var (
	yamlLine = regexp.MustCompile(`line (\d+): `)
	// A parser quotes what it stumbled over, and that may be a secret.
	yamlQuoted    = regexp.MustCompile("(?s)`.*`|\".*\"|anchor '.*'")
	yamlDuplicate = regexp.MustCompile(`^key ("(?:[^"\\]|\\.)*") already set in map$`)
)

func yamlError(err error) *syntaxError {
	text := err.Error()
	var te *yamlv2.TypeError
	if errors.As(err, &te) && len(te.Errors) > 0 {
		text = te.Errors[0]
	}
	text = strings.TrimPrefix(text, "yaml: ")
	e := &syntaxError{line: 1}
	if m := yamlLine.FindStringSubmatchIndex(text); m != nil {
		e.line, _ = strconv.Atoi(text[m[2]:m[3]])
		text = text[m[1]:]
	}
	if m := yamlDuplicate.FindStringSubmatch(text); m != nil {
		e.message = "key " + m[1] + " is written twice"
		return e
	}
	if strings.HasPrefix(text, "invalid map key") {
		e.message = "a key is neither text nor number"
		return e
	}
	e.message = notYAML + strings.Join(strings.Fields(yamlQuoted.ReplaceAllString(text, "alias")), " ")
	return e
}

// syntaxLine improves on the line that the parser gives, which for many errors is
// that of the beginning of what it was in.
func syntaxLine(text []byte, e *syntaxError) int {
	if trimmed := bytes.TrimSpace(text); len(trimmed) > 0 && trimmed[0] == '{' {
		var v any
		if se, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(text, &v)); ok {
			return 1 + bytes.Count(text[:min(int(se.Offset), len(text))], []byte("\n"))
		}
	}
	// A scanner at the end of the text is one line too far.
	e.line = min(e.line, bytes.Count(bytes.TrimRight(text, "\n"), []byte("\n"))+1)
	late := strings.HasPrefix(e.message, notYAML+"did not find expected")
	if !late && e.message != notYAML+"unknown alias referenced" || len(text) > 256<<10 {
		return e.line
	}
	// The shortest run of lines that has the same error ends with the culprit.
	lines := bytes.SplitAfter(text, []byte("\n"))
	n := sort.Search(len(lines), func(n int) bool {
		var v any
		err := yamlv2.Unmarshal(bytes.Join(lines[:n], nil), &v)
		return err != nil && yamlError(err).message == e.message
	})
	switch {
	case n > 0 && n < len(lines):
		return n
	case late:
		return e.line + 1 // the parser counts these from 0
	}
	return e.line
}

const notYAML = "not valid YAML: "

// maxDepth bounds how deeply objects nest. The deepest CRD here has 12 levels.
const maxDepth = 100

// jsonable turns what the YAML parser yields into what a JSON parser would:
// string keys, int64 and float64 numbers.
func jsonable(v any, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d levels deep", maxDepth)
	}
	switch v := v.(type) {
	case nil, bool, string, int64:
		return v, nil
	case int:
		return int64(v), nil
	case uint64:
		return nil, errors.New("a number does not fit into 64 bits")
	case float64:
		return jsonNumber(v)
	case []any:
		for i := range v {
			item, err := jsonable(v[i], depth+1)
			if err != nil {
				return nil, err
			}
			v[i] = item
		}
		return v, nil
	case map[any]any:
		m := make(map[string]any, len(v))
		for k, item := range v {
			name, err := jsonKey(k)
			if err != nil {
				return nil, err
			}
			if _, twice := m[name]; twice {
				return nil, fmt.Errorf("key %q is written twice", name)
			}
			if m[name], err = jsonable(item, depth+1); err != nil {
				return nil, err
			}
		}
		return m, nil
	}
	return nil, fmt.Errorf("a value of type %T is not JSON", v)
}

func jsonNumber(f float64) (any, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, errors.New("a number is not finite")
	}
	// 1.0 and 1e3 are integers in JSON.
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return int64(f), nil
	}
	return f, nil
}

func jsonKey(k any) (string, error) {
	switch k := k.(type) {
	case string:
		return k, nil
	case int:
		return strconv.Itoa(k), nil
	case int64:
		return strconv.FormatInt(k, 10), nil
	case bool:
		return strconv.FormatBool(k), nil
	case float64:
		return strconv.FormatFloat(k, 'g', -1, 64), nil
	}
	return "", errors.New("a key is neither text nor number")
}
