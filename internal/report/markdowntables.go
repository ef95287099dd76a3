package report

import (
	"fmt"
	"strings"
)

// left says what a table leaves out.
func (m *markdown) left(n int) {
	if n > mostRows {
		m.line("Left out here: %s. The JSON form has all.\n", number(n-mostRows, "more row", "more rows"))
	}
}

func (r *Report) markdownIdentities(m *markdown) {
	m.line("## Requests by identity\n")
	for i := range r.Identities {
		id := &r.Identities[i]
		m.line("### %s %s\n", escapeMarkdown(id.name()), escapeMarkdown(id.Issuer))
		var rows [][]string
		for _, t := range id.Tokens[:min(len(id.Tokens), mostRows)] {
			var from []string
			for _, c := range t.Clients[:min(len(t.Clients), 20)] {
				from = append(from, fmt.Sprintf("%s (%d)", c.Address, c.Requests))
			}
			rows = append(rows, []string{t.JTI, fmt.Sprint(t.Requests), stamp(t.First), stamp(t.Last), strings.Join(from, ", ")})
		}
		if id.Known() {
			m.table([]string{"Token", "Requests", "First", "Last", "From"}, rows)
			m.left(len(id.Tokens))
		}
		rows = nil
		for _, g := range id.Shown(mostRows) {
			rows = append(rows, []string{fmt.Sprint(g.Count), g.Outcome, fmt.Sprint(g.Status), g.Method, g.Host + g.Path, g.Route, stamp(g.First), stamp(g.Last)})
		}
		m.table([]string{"Count", "Outcome", "Status", "Method", "Host and path", "Route", "First", "Last"}, rows)
		if l := id.Rest(mostRows); l != nil {
			m.line("%s\n", l.Words())
		}
	}
	if len(r.Identities) == 0 {
		m.line("No request.\n")
	}
}

func (r *Report) markdownRefused(m *markdown) {
	m.line("## Refused attempts\n")
	var rows [][]string
	for _, x := range r.Refused[:min(len(r.Refused), mostRows)] {
		where := "at the open route"
		if x.Elsewhere {
			where = "elsewhere"
		}
		rows = append(rows, []string{fmt.Sprint(x.Count), x.Reason, x.Client, x.Subject, where, x.Gateway, strings.Join(x.Examples, ", "), stamp(x.First), stamp(x.Last)})
	}
	if rows == nil {
		m.line("None.\n")
		return
	}
	m.table([]string{"Count", "Reason", "Client", "Subject", "Where", "Gateway", "Such as", "First", "Last"}, rows)
	m.left(len(r.Refused))
}

func (r *Report) markdownCut(m *markdown) {
	for _, part := range []struct {
		title string
		of    []*Request
	}{{"Cut streams", r.Cuts()}, {"Requests without an end", r.Unfinished()}} {
		m.line("## %s\n", part.title)
		var rows [][]string
		for _, q := range part.of[:min(len(part.of), mostRows)] {
			rows = append(rows, []string{q.Ref.String(), q.who(), q.Method, q.target(), outcomeWords(q), stamp(q.Start), stamp(q.End()), size(q.BytesOut)})
		}
		if rows == nil {
			m.line("None.\n")
			continue
		}
		m.table([]string{"Entry", "Who", "Method", "Host and path", "Outcome", "Began", "Ended, or last heard of", "Out"}, rows)
		m.left(len(part.of))
	}
}

func (r *Report) markdownAlarms(m *markdown) {
	m.line("## Alarms\n")
	var rows [][]string
	for _, a := range r.Alarms[:min(len(r.Alarms), mostRows)] {
		var told []string
		for _, d := range a.Delivered {
			told = append(told, d.Sink+" after "+ms(d.LatencyMs))
		}
		rows = append(rows, []string{stamp(a.Time), a.Name, a.Severity, a.Summary, orNobody(told), refs(a.Raised)})
	}
	if rows == nil {
		m.line("%s\n", escapeMarkdown(r.Summary.Alarm.Words))
		return
	}
	m.table([]string{"Cause at", "Alarm", "Severity", "Summary", "Delivered to", "Entry"}, rows)
	m.left(len(r.Alarms))
}

func orNobody(told []string) string {
	if len(told) == 0 {
		return "nobody"
	}
	return strings.Join(told, ", ")
}

func (r *Report) markdownEvents(m *markdown) {
	m.line("## Gaps, changes, and what else happened\n")
	var rows [][]string
	for _, e := range r.Events[:min(len(r.Events), mostRows)] {
		rows = append(rows, []string{stamp(e.Time), when(e.Until), e.Kind, e.Words, e.Who, e.Entry.String()})
	}
	if rows == nil {
		m.line("Nothing.\n")
		return
	}
	m.table([]string{"Time", "Until", "Kind", "What", "By", "Entry"}, rows)
	m.left(len(r.Events))
}

func (r *Report) markdownReads(m *markdown) {
	m.line("## Who read the log since\n")
	var rows [][]string
	for _, x := range r.Reads[:min(len(r.Reads), mostRows)] {
		rows = append(rows, []string{stamp(x.Time), x.By, x.What, x.Address, x.Refused, x.Entry.String()})
	}
	if rows == nil {
		m.line("No reading is in the log. Only the audit log service of a cluster records it: whoever has the files reads them unseen.\n")
		return
	}
	m.table([]string{"Time", "By", "What", "From", "Refused", "Entry"}, rows)
	m.left(len(r.Reads))
}

func (r *Report) markdownProof(m *markdown) {
	m.line("## Proof\n\n%s\n", escapeMarkdown(r.Summary.Log.Words))
	for i := range r.Proof.Logs {
		l := &r.Proof.Logs[i]
		rows := [][]string{{"Log", l.Log}, {"Origin", l.Origin}, {"Size", fmt.Sprint(l.Size)}, {"Root", l.Root}, {"Entries verified", fmt.Sprintf("%d, from %d on", l.Entries, l.FirstSeq)}}
		for _, k := range l.Keys {
			rows = append(rows, []string{"Key", k})
		}
		for _, x := range l.Range {
			rows = append(rows, []string{fmt.Sprintf("Leaf of entry %d", x.Seq), x.Leaf})
		}
		for _, f := range l.Findings {
			rows = append(rows, []string{"FINDING", f})
		}
		for _, w := range l.Warnings {
			rows = append(rows, []string{"Warning", w})
		}
		m.table([]string{"", ""}, rows)
		m.code("The checkpoint, as it is signed:", strings.Split(strings.TrimRight(l.Checkpoint, "\n"), "\n"))
	}
	m.code("To check all this again, with a copy of the log (COPY):", r.Proof.Again)
}

// code is an indented block, which no text can end.
func (m *markdown) code(title string, lines []string) {
	if len(lines) == 0 || len(lines) == 1 && lines[0] == "" {
		return
	}
	m.line("%s\n", title)
	for _, l := range lines {
		m.line("    %s", visible(l))
	}
	m.line("")
}

func (r *Report) markdownRequests(m *markdown, most int) {
	m.line("## Each request\n")
	shown := r.Requests
	if most >= 0 && most < len(shown) {
		m.line("**The first %d of %d requests are listed; %d are left out here.** All of them are in the groups above. `--requests all` lists each, and the JSON form always has all.\n", most, len(shown), len(shown)-most)
		shown = shown[:most]
	}
	if len(shown) == 0 {
		if len(r.Requests) == 0 {
			m.line("None.")
		}
		return
	}
	m.line("| Entry | Began | Took | Who | From | Method | Host and path | Status | Outcome |\n|%s", strings.Repeat(" --- |", 9))
	for i := range shown {
		q := &shown[i]
		m.line("| %s | %s | %s | %s | %s | %s | %s | %d | %s |", escapeMarkdown(q.Ref.String()), stamp(q.Start), ms(q.DurationMs), escapeMarkdown(q.who()), escapeMarkdown(q.Client),
			escapeMarkdown(q.Method), escapeMarkdown(q.target()), q.Status, escapeMarkdown(outcomeWords(q)))
	}
}
