package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// markdown is GitHub's (GFM). Whatever is of others goes through escapeMarkdown.
type markdown struct{ w *printable }

func (m *markdown) line(format string, args ...any) { _, _ = fmt.Fprintf(m.w, format+"\n", args...) } // flush tells

// table whose cells are escaped here, and nowhere else.
func (m *markdown) table(heads []string, rows [][]string) {
	m.line("| %s |", strings.Join(heads, " | "))
	m.line("|%s", strings.Repeat(" --- |", len(heads)))
	for _, cells := range rows {
		for i, c := range cells {
			if cells[i] = escapeMarkdown(c); c == "" {
				cells[i] = "–"
			}
		}
		m.line("| %s |", strings.Join(cells, " | "))
	}
	m.line("")
}

func (m *markdown) item(format string, args ...any) { m.line("- "+format, args...) }

// special is what means something in Markdown, also as GFM extends it: links without
// any mark (a scheme, www, an address), strikethrough, tables, HTML, entities.
const special = "\\`*_[]<>#!|~&@$"

// escapeMarkdown makes text of s that is nothing but text, on one line.
func escapeMarkdown(s string) string {
	s = visible(s)
	if !strings.ContainsAny(s, special+".:") {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		if strings.ContainsRune(special, r) || r == ':' && strings.HasPrefix(s[i+1:], "/") || r == '.' && i >= 3 && strings.EqualFold(s[i-3:i], "www") {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (r *Report) writeMarkdown(to io.Writer, rows int) error {
	m := &markdown{newPrintable(to)}
	m.line("# Break-glass report: %s\n", escapeMarkdown(r.Title()))
	m.line("%s to %s, as of the newest entry, %s. All times are UTC.\n", stamp(r.From), stamp(r.Until), stamp(r.AsOf))
	if !r.Proof.Verified {
		m.line("> **THE LOG DOES NOT VERIFY.** What follows is what it says, and it is not as it was written: do not rely on it.\n")
	}
	r.markdownSummary(m)
	for i := range r.Activations {
		r.Activations[i].markdown(m)
	}
	r.markdownIdentities(m)
	r.markdownRefused(m)
	r.markdownCut(m)
	r.markdownAlarms(m)
	r.markdownEvents(m)
	r.markdownReads(m)
	r.markdownProof(m)
	m.line("## Redaction\n\nPolicy %s. %s\n", escapeMarkdown(r.Redaction.Policy), escapeMarkdown(r.Redaction.Words))
	r.markdownRequests(m, rows)
	return m.w.flush()
}

func (r *Report) markdownSummary(m *markdown) {
	s, c := &r.Summary, &r.Summary.Counts
	m.line("## Summary\n")
	var rows [][]string
	for _, v := range []struct {
		name string
		Verdict
	}{{"Deadline", s.Deadline}, {"Alarms", s.Alarm}, {"Review", s.Review}, {"Completeness", s.Complete}, {"Log", s.Log}} {
		rows = append(rows, []string{v.name, called[v.State], v.Words})
	}
	m.table([]string{"", "Judged", "Why"}, rows)
	m.item("Incident: %s", escapeMarkdown(orNone(s.Incidents)))
	m.item("Emergency role: %s", escapeMarkdown(orNone(s.Roles)))
	m.item("Requested by: %s", escapeMarkdown(orNone(s.RequestedBy)))
	m.item("Reason: %s", escapeMarkdown(orNone(s.Reasons)))
	m.item("Routes: %s", escapeMarkdown(orNone(s.Routes)))
	m.item("Requests: %d: %d let in (%d without a good answer), %d refused (%d elsewhere), %d cut; %d without an end; %s", c.Requests, c.Passed, c.Failed, c.Refused, s.Elsewhere, c.Cut, c.Unfinished,
		number(s.Identities, "identity came in", "identities came in"))
	if s.Drill {
		m.item("A drill.")
	}
	for _, n := range r.Notes {
		m.item("Mind: %s", escapeMarkdown(n))
	}
	m.line("")
}

func orNone(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, "; ")
}

func (a *Activation) markdown(m *markdown) {
	m.line("## Activation %s\n", escapeMarkdown(a.Key()))
	m.table([]string{"", ""}, [][]string{
		{"Role", a.Role}, {"Incident", a.Incident}, {"Reason", a.Reason}, {"Requested by", a.RequestedBy},
		{"Window", fmt.Sprintf("%s to %s %s", stamp(a.Opened), stamp(a.Closed), a.lasted())}, {"Deadline", stamp(a.Deadline)},
		{"Ended", strings.Join(slices.DeleteFunc([]string{a.state(), a.EndedBy, a.Message, a.late()}, func(s string) bool { return s == "" }), "; ")},
		{"Deadline kept", a.Kept.Words},
		{"Requests", fmt.Sprintf("%d: %d let in, %d refused, %d cut; %d without an end", a.Counts.Requests, a.Counts.Passed, a.Counts.Refused, a.Counts.Cut, a.Counts.Unfinished)},
		{"Review", strings.Join(slices.DeleteFunc([]string{a.Review.State, a.Review.Verdict, a.Review.By, when(a.Review.At), a.Review.Note, strings.Join(a.Review.FollowUps, "; ")}, func(s string) bool { return s == "" }), "; ")},
	})
	var rows [][]string
	for _, t := range a.Targets {
		rows = append(rows, []string{t.Route, t.Rule, t.Digest, stamp(t.Opened), stamp(t.Ended), t.Why})
	}
	m.table([]string{"Target", "Rule", "Digest", "Opened", "Ended", "Why"}, rows)
	rows = nil
	for _, s := range a.Scope {
		rows = append(rows, []string{s.Policy, s.Digest, strings.Join(s.Hostnames, ", "), strings.Join(s.Namespaces, ", "), strings.Join(s.Issuers, ", "), s.MaxDuration, s.Entry.String()})
	}
	if rows != nil {
		m.table([]string{"Policy", "Digest", "Hosts", "Namespaces", "Issuers", "At most", "Entry"}, rows)
	}
	rows = nil
	for _, f := range a.Facts {
		rows = append(rows, []string{stamp(f.Time), f.Event, f.Who, f.Words, refs(f.Entries)})
	}
	m.table([]string{"Time", "Decided", "By", "In words", "Entry"}, rows)
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return stamp(t)
}
