package report_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/internal/report"
	"github.com/breakglass-gateway/breakglass-gateway/internal/report/reporttest"
)

// foreign are the fields of entries that somebody else has a say in.
var foreign = []string{
	"subject", "issuer", "jti", "path", "host", "method", "clientAddress", "upstreamAddress", "denied", "responseFlags", "details", "clientCertificate", "via",
	"reason", "message", "requestedBy", "endedBy", "note", "followUps", "by", "what", "groups", "address", "refused", "summary", "severity", "sink",
	"object", "file", "digest", "config", "version", "verdict", "source", "origin", "gateway", "epoch", "key", "id", "uid", "maxDuration", "hostnames", "namespaces", "classes",
}

// hostile is the incident with s wherever a stranger can write.
func hostile(t *testing.T, s string) *reporttest.Log {
	l := reporttest.Incident()
	// Of what there is much of, a little will do.
	n := 0
	l.Drafts = slices.DeleteFunc(l.Drafts, func(d merkle.Draft) bool { n++; return d.Kind == audit.KindRequest && n%16 > 0 })
	for i := range l.Drafts {
		var v any
		if err := json.Unmarshal(l.Drafts[i].Data, &v); err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(poison(v, s))
		if err != nil {
			t.Fatal(err)
		}
		l.Drafts[i].Data = b
	}
	return l
}

func poison(v any, s string) any {
	object, ok := v.(map[string]any)
	if !ok {
		if list, ok := v.([]any); ok {
			for i := range list {
				list[i] = poison(list[i], s)
			}
		}
		return v
	}
	for k, x := range object {
		switch x := x.(type) {
		case string:
			if slices.Contains(foreign, k) && x != "" {
				object[k] = s
			}
		case []any:
			if slices.Contains(foreign, k) {
				object[k] = []any{s}
				continue
			}
			poison(x, s)
		default:
			poison(x, s)
		}
	}
	return object
}

// shape of a page: its elements and the names of their attributes, without any text.
func shape(t *testing.T, page string) string {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for n := range root.Descendants() {
		switch n.Type {
		case html.ElementNode:
			var attributes []string
			for _, a := range n.Attr {
				attributes = append(attributes, a.Key)
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "src" || a.Key == "href" && !strings.HasPrefix(a.Val, "#") {
					t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
				}
			}
			fmt.Fprintln(&b, n.Data, attributes)
		case html.CommentNode:
			t.Errorf("a comment: %q", n.Data)
		}
	}
	return b.String()
}

// cells of each line of Markdown, by the marks that are not escaped.
func cells(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		n := 0
		for i := range line {
			if line[i] == '|' && (i == 0 || line[i-1] != '\\') {
				n++
			}
		}
		fmt.Fprintf(&b, "%d %t %t\n", n, strings.HasPrefix(line, "#"), strings.HasPrefix(line, "- "))
	}
	return b.String()
}

func drives(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && r != '\u202f' && !unicode.IsPrint(r) })
}

// Whatever a stranger writes is text, in each form.
func FuzzWhatAStrangerWritesIsText(f *testing.F) {
	for _, s := range []string{
		"x", "<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "</style><script>", "</title></svg>", "<!--", "-->", "]]>", "'><b>", "{{.}}", "`${x}`",
		"a|b", `a\|b`, "[x](javascript:alert(1))", "![](http://example.com/x.png)", "http://example.com", "www.example.com", "mailto:a@b.example", "<http://a.example>",
		"\n\n# heading", "| a | b |\n| - | - |", "*a* _b_ ~~c~~ `d`", "&lt;b&gt;", "&#x3c;b&#x3e;", "$x$", "@all", "#1", "\\", "\\\\",
		"\x1b[2J\x1b]0;title\x07", "\u202egnp.exe", "\u200b\ufeff", "\r\n", "\t", "\u2028", "\x00", "\u0085", "é漢字🙂", "192.0.2.7", "[2001:db8::1]:80", "1.2.3.4:5 and ::1",
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln", strings.Repeat("long/", 2000), "unknown", "–", "javascript:alert(1)", "data:text/html,x",
	} {
		f.Add(s)
	}
	var shapes, tables = map[string]string{}, map[string]string{}
	f.Fuzz(func(t *testing.T, s string) {
		if s = strings.ToValidUTF8(s, "\ufffd"); s == "" {
			return
		}
		for _, policy := range []string{"standard", "strict"} {
			o := report.Options{Asked: report.Asked{Activations: []string{"payments/inc-4711", "payments/inc-4711-2"}}, Policy: report.Policies[policy]}
			if shapes[policy] == "" {
				plain := build(t, hostile(t, "x"), o)
				shapes[policy], tables[policy] = shape(t, written(t, plain, report.HTML, 30)), cells(written(t, plain, report.Markdown, 30))
			}
			r := build(t, hostile(t, s), o)
			page := written(t, r, report.HTML, 30)
			if got := shape(t, page); got != shapes[policy] {
				t.Errorf("%s: the page has another structure with %q", policy, s)
			}
			md := written(t, r, report.Markdown, 30)
			if got := cells(md); got != tables[policy] {
				t.Errorf("%s: the Markdown has another structure with %q", policy, s)
			}
			if strings.Contains(strings.ReplaceAll(md, `\<`, ""), "<") {
				t.Errorf("%s: the Markdown has HTML with %q", policy, s)
			}
			js := written(t, r, report.JSON, 30)
			if !json.Valid([]byte(js)) {
				t.Errorf("%s: no JSON with %q", policy, s)
			}
			for form, text := range map[string]string{"HTML": page, "Markdown": md, "JSON": js} {
				if drives(text) || !utf8.ValidString(text) {
					t.Errorf("%s: %s has what drives a terminal, with %q", policy, form, s)
				}
				if strings.Contains(text, "eyJhbGciOiJIUzI1NiJ9") {
					t.Errorf("%s: %s has a token", policy, form)
				}
			}
		}
	})
}
