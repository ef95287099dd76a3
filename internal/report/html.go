package report

import (
	"bufio"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

//go:embed page.tmpl
var pageText string

//go:embed style.css
var style string

// The page asks for nothing and runs nothing: a browser that honours the policy would
// not let it.
var contentPolicy = func() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
}()

var pageTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"stamp": stamp, "rfc": rfc, "size": size, "n": thousands, "ms": ms, "refs": refs, "short": short,
		"join": func(s []string) string { return strings.Join(s, ", ") },
		"add":  func(x, y float64) float64 { return round(x + y) },
		"who":  func(q *Request) string { return q.who() }, "name": func(i Identity) string { return i.name() },
		"state": func(a Activation) string { return a.state() }, "lasted": func(a Activation) string { return a.lasted() },
		"late":    func(a Activation) string { return a.late() },
		"outcome": outcomeWords, "mark": func(state string) string { return marks[state] },
		"called": func(state string) string { return called[state] },
		"kind":   func(outcome string) string { k, _, _ := strings.Cut(outcome, ":"); return k },
		"anchor": func(i int) string { return fmt.Sprintf("identity-%d", i+1) },
		"rows":   htmlRows,
		"verdict": func(name string, v Verdict) map[string]string {
			return map[string]string{"Name": name, "State": v.State, "Words": v.Words}
		},
	}).Parse(pageText))
})

// Not by colour alone.
var (
	marks  = map[string]string{Good: "✓", Attention: "!", Bad: "✗", Nothing: "–"}
	called = map[string]string{Good: "good", Attention: "attention", Bad: "not good", Nothing: "nothing to judge"}
)

func rfc(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// page is what the template shows.
type page struct {
	*Report
	CSS     template.CSS
	Policy  string
	Picture *picture
	Rows    []Request
	LeftOut int
	// Most rows of the other tables.
	Most int
}

// mostRows of a table that is not the list of all requests: what has more is for the
// JSON form.
const mostRows = 500

func (r *Report) writeHTML(to io.Writer, rows int) error {
	p := &page{Report: r, CSS: template.CSS(style), Policy: contentPolicy, Picture: r.picture(), Rows: r.Requests, Most: mostRows}
	if rows >= 0 && rows < len(p.Rows) {
		p.Rows, p.LeftOut = p.Rows[:rows], len(p.Rows)-rows
	}
	w := newPrintable(to)
	if err := pageTemplate().Execute(w, p); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return w.flush()
}

// printable writes text of ours, in which are words of others, so that neither can
// drive a terminal or turn the direction of a text: what is not printable becomes a
// \u escape.
type printable struct{ w *bufio.Writer }

func newPrintable(w io.Writer) *printable { return &printable{bufio.NewWriterSize(w, 64<<10)} }

func (p *printable) flush() error { return p.w.Flush() }

func (p *printable) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		plain := 0
		for plain < len(b) && (b[plain] >= ' ' && b[plain] < 0x7f || b[plain] == '\n') {
			plain++
		}
		if plain > 0 {
			if _, err := p.w.Write(b[:plain]); err != nil {
				return 0, err
			}
			b = b[plain:]
			continue
		}
		r, size := utf8.DecodeRune(b)
		s := string(b[:size])
		switch {
		case r == utf8.RuneError && size == 1:
			s = `\ufffd`
		case r == '\u202f': // ours, in numbers
		case !unicode.IsPrint(r):
			s = visible(string(r))
		}
		if _, err := p.w.WriteString(s); err != nil {
			return 0, err
		}
		b = b[size:]
	}
	return n, nil
}

// Caps of lists in the template: what is shown, and how many are not.

// Shown groups of an identity.
func (i Identity) Shown(most int) []Group { return i.Groups[:min(most, len(i.Groups))] }

// Rest is what they leave out.
func (i Identity) Rest(most int) *Left {
	if len(i.Groups) <= most {
		return nil
	}
	l := &Left{Rows: len(i.Groups) - most}
	for _, g := range i.Groups[most:] {
		l.Requests += g.Count
	}
	return l
}

// Left is what a table does not show.
type Left struct {
	Rows     int
	Requests uint64
}

// Words of it.
func (l *Left) Words() string {
	return fmt.Sprintf("Left out here: %s with %s. The JSON form has all.", number(l.Rows, "more row", "more rows"), number(l.Requests, "request", "requests"))
}

// leftOut of a list of n.
func (p *page) LeftOf(n int) string {
	if n <= p.Most {
		return ""
	}
	return fmt.Sprintf("Left out here: %s. The JSON form has all.", number(n-p.Most, "more row", "more rows"))
}
