package source

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestSplitCutsWhereAParserWould(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     []chunk
	}{
		{"empty", "", nil},
		{"only comments and markers", "# a\n---\n# b\n---\n", nil},
		{"one", "a: 1\n", []chunk{{[]byte("a: 1\n"), 1}}},
		{"two", "a: 1\n---\nb: 2\n", []chunk{{[]byte("a: 1\n"), 1}, {[]byte("---\nb: 2\n"), 2}}},
		{"a comment before the marker", "# x\n---\na: 1\n", []chunk{{[]byte("# x\n---\na: 1\n"), 1}}},
		{"a directive", "%YAML 1.1\n---\na: 1\n", []chunk{{[]byte("%YAML 1.1\n---\na: 1\n"), 1}}},
		{"empty documents between", "a: 1\n---\n---\n# c\n---\nb: 2", []chunk{{[]byte("a: 1\n"), 1}, {[]byte("---\n---\n# c\n---\nb: 2"), 2}}},
		{"windows", "a: 1\r\n---\r\nb: 2\r\n", []chunk{{[]byte("a: 1\r\n"), 1}, {[]byte("---\r\nb: 2\r\n"), 2}}},
		{"content behind the marker", "--- {a: 1}\n--- {b: 2}\n", []chunk{{[]byte("--- {a: 1}\n"), 1}, {[]byte("--- {b: 2}\n"), 2}}},
		{"no marker", "a: |\n  ---\n ----\nb: ---x\n", []chunk{{[]byte("a: |\n  ---\n ----\nb: ---x\n"), 1}}},
		{"byte order mark", "\xef\xbb\xbfa: 1\n", []chunk{{[]byte("a: 1\n"), 1}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := split([]byte(tc.in)); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %s\nwant %s", show(got), show(tc.want))
			}
		})
	}
}

func TestDecodeYieldsWhatAJSONParserWould(t *testing.T) {
	values, err := decode([]byte("a: [1, 1.0, 1.5, yes, null, '1', 0x10, 2026-01-02]\n1: x\ntrue: z\nb: &b {c: d}\ne: *b\nf: {<<: *b, g: h}\n...\n---\nz: 1e3\n"))
	want := []any{
		map[string]any{
			"a": []any{int64(1), int64(1), 1.5, true, nil, "1", int64(16), "2026-01-02"},
			"1": "x", "true": "z",
			"b": map[string]any{"c": "d"}, "e": map[string]any{"c": "d"}, "f": map[string]any{"c": "d", "g": "h"},
		},
		map[string]any{"z": int64(1000)},
	}
	if err != nil || !reflect.DeepEqual(values, want) {
		t.Errorf("got %#v, %v", values, err)
	}
}

func TestSyntaxErrorsNameTheLineAndRepeatNoText(t *testing.T) {
	const secret = "hunter2"
	for _, tc := range []struct {
		name, in string
		line     int
		message  string
	}{
		{"duplicate key", "a: 1\nb:\n  c: hunter2\n  c: hunter2\n", 4, `key "c" is written twice`},
		{"duplicate after conversion", "1: a\n\"1\": b\n", 1, `key "1" is written twice`},
		{"unknown alias", "a: 1\nb: *hunter2\n", 2, "not valid YAML: unknown alias referenced"},
		{"indentation", "a: 1\nb:\n  - hunter2\n c: hunter2\nd: 1\n", 4, "not valid YAML: did not find expected key"},
		{"tab", "a: 1\nb:\n\thunter2: x\n", 3, "not valid YAML: found character that cannot start any token"},
		{"colon", "a: 1\nb: hunter2: x\n", 2, "not valid YAML: mapping values are not allowed in this context"},
		{"open quote", "a: 1\nb: \"hunter2\nc: d\n", 3, "not valid YAML: found unexpected end of stream"},
		{"open list", "a: 1\nb: [hunter2\n", 2, "not valid YAML: did not find expected ',' or ']'"},
		{"json", "{\n \"a\": [1, 2],\n \"b\": \"hunter2\" x\n}", 3, "not valid YAML: "},
		{"wrong tag", "a: !!int hunter2\n", 1, "not valid YAML: cannot decode !!str alias as a !!int"},
		{"infinite", "a: .inf\n", 1, "a number is not finite"},
		{"too large", "a: 18446744073709551615\n", 1, "a number does not fit into 64 bits"},
		{"odd key", "a: 1\n{x: y}: 2\n", 1, "a key is neither text nor number"},
		{"too deep", strings.Repeat("[", 200) + strings.Repeat("]", 200), 1, "nested more than 100 levels deep"},
		{"zero byte", "a: 1\nb: \x00\n", 2, "not text: there is a zero byte in it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := parse([]byte(tc.in), nil, nil)
			if err == nil {
				t.Fatal("no error")
			}
			if err.line != tc.line || !strings.HasPrefix(err.message, tc.message) {
				t.Errorf("got line %d: %s\nwant line %d: %s", err.line, err.message, tc.line, tc.message)
			}
			if strings.Contains(err.message, secret) {
				t.Errorf("%q holds text of the file", err.message)
			}
		})
	}
}

func TestAliasBombsAreRefused(t *testing.T) {
	var b strings.Builder
	b.WriteString("a: &a [x, x, x, x, x, x, x, x, x]\n")
	for c := 'b'; c < 'j'; c++ {
		b.WriteString(string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+string(c-1)+", ", 9), ", ") + "]\n")
	}
	if _, err := parse([]byte(b.String()), nil, nil); err == nil {
		t.Error("taken")
	}
}

func show(chunks []chunk) string {
	var b strings.Builder
	for _, c := range chunks {
		fmt.Fprintf(&b, "%d:%q ", c.line, c.text)
	}
	return b.String()
}
