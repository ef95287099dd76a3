package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// writeVerified writes what verify found out, for people: what is wrong last,
// next to the prompt.
func writeVerified(out io.Writer, r *verified) error {
	var b strings.Builder
	verdict := "NOT SOUND"
	if r.Sound {
		verdict = "SOUND"
	}
	fmt.Fprintf(&b, "%s  %s\n", verdict, clean(r.Dir))
	field := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-12s %s\n", name, clean(fmt.Sprintf(format, args...)))
	}
	field("origin", "%s", r.Origin)
	field("size", "%d", r.Size)
	field("root", "%s", r.Root)
	field("entries", "%s", entriesText(r))
	if r.Pruned > 0 {
		field("pruned", "%s, removed because of their age", count(int(r.Pruned), "older entry"))
	}
	if !r.First.IsZero() {
		field("time", "%s to %s", r.First.UTC().Format(time.RFC3339), r.Last.UTC().Format(time.RFC3339))
	}
	for i, k := range r.Keys {
		name := ""
		if i == 0 {
			name = "keys"
		}
		field(name, "%s", k)
	}
	for i, c := range r.Checkpoints {
		name := ""
		if i == 0 {
			name = "checkpoints"
		}
		field(name, "%d to %d from %s", c.First, c.Last, c.File)
	}
	if r.Copy != nil {
		field("copy", "%s", copyText(r.Copy))
	}
	writeWarnings(&b, r)
	writeFindings(&b, r)
	_, err := io.WriteString(out, b.String())
	return err
}

func entriesText(r *verified) string {
	var kinds []string
	for _, k := range slices.Sorted(maps.Keys(r.Kinds)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", k, r.Kinds[k]))
	}
	text := fmt.Sprint(r.Entries)
	if len(kinds) > 0 {
		text += " (" + strings.Join(kinds, ", ") + ")"
	}
	return text
}

func writeWarnings(b *strings.Builder, r *verified) {
	for _, w := range r.Warnings {
		fmt.Fprintf(b, "  warning: %s\n", clean(w))
	}
	const most = 20
	for i, e := range r.Gaps {
		if i == most {
			fmt.Fprintf(b, "    and %d more: breakglass audit list --kind gap\n", len(r.Gaps)-most)
			return
		}
		t := tellEntry(e)
		fmt.Fprintf(b, "    entry %d: %s: %s: %s\n", e.Seq, clean(t.event), clean(t.object), clean(t.message))
	}
}

func writeFindings(b *strings.Builder, r *verified) {
	if len(r.Findings) == 0 {
		return
	}
	b.WriteString("FINDINGS\n")
	for i, f := range r.Findings {
		where := f.File
		if f.Line > 0 {
			where += fmt.Sprintf(":%d", f.Line)
		}
		if f.File != "" && (f.Seq > 0 || f.Line > 0) {
			where += fmt.Sprintf(": entry %d", f.Seq)
		}
		fmt.Fprintf(b, "%s\n", strings.TrimPrefix(clean(where+": "+f.Problem), ": "))
		// What to do once for all of which it is the same.
		if i+1 == len(r.Findings) || r.Findings[i+1].Remedy != f.Remedy {
			fmt.Fprintf(b, "  to do: %s\n", clean(f.Remedy))
		}
	}
}
