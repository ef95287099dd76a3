package report

import (
	"html/template"
	"strconv"
	"strings"
)

// htmlRows are the rows of single requests. There may be a hundred thousand of them,
// for which html/template takes longer than for all else: here all that is of others
// is between tags, and template.HTMLEscapeString is what html/template has for that.
func htmlRows(qs []Request) template.HTML {
	var b strings.Builder
	b.Grow(len(qs) * 360)
	esc := template.HTMLEscapeString
	for i := range qs {
		q := &qs[i]
		status := "–"
		if q.Status > 0 {
			status = strconv.FormatUint(uint64(q.Status), 10)
		}
		b.WriteString(`<tr><td class="n">` + esc(q.Ref.String()) + `</td><td class="t">` + stamp(q.Start) + `</td><td class="n">` + ms(q.DurationMs) + `</td><td>` + esc(q.who()) +
			`</td><td>` + esc(q.Client) + `</td><td>` + esc(q.Method) + `</td><td class="long mono">` + esc(q.Host) + esc(q.Path) + `</td><td class="n">` + status + `</td><td>` + esc(outcomeWords(q)) + "</td></tr>\n")
	}
	return template.HTML(b.String())
}
