// Package report makes of the entries of an audit log what a reviewer and an
// auditor read after an incident: who opened what and why, all that came through,
// what was refused, whether the deadline held, who was told, and what proves it.
//
// It is pure: the same entries, options and proof give the same bytes. It knows no
// clock: what is still open is so "as of" the newest entry. docs/report.md has the
// schema of the JSON form.
//
// Paths, subjects, reasons and the like were chosen by strangers. Write is what
// keeps them from being markup, or from driving a terminal: html/template for the
// page, escapeMarkdown, and \u escapes in JSON.
package report

import (
	"fmt"
	"io"
)

// The forms of a report.
const (
	HTML     = "html"
	Markdown = "markdown"
	JSON     = "json"
)

// Forms are all of them.
var Forms = []string{HTML, Markdown, JSON}

// Write writes r. At most the first rows requests are listed one by one in HTML and
// Markdown, all if it is negative; JSON always has all.
func (r *Report) Write(w io.Writer, form string, rows int) error {
	switch form {
	case HTML:
		return r.writeHTML(w, rows)
	case Markdown:
		return r.writeMarkdown(w, rows)
	case JSON:
		return r.writeJSON(w)
	}
	return fmt.Errorf("a report has no form %q", form)
}
