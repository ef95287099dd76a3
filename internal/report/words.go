package report

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// visible shows what is not printable as \u escapes: line breaks, what drives a
// terminal, what turns the direction of a text, spaces that are none.
func visible(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// stamp is a time for people, in UTC to the millisecond.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05.000")
}

// size of bytes for people.
func size(n uint64) string {
	const units = "kMGT"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, u := float64(n)/1000, 0
	for v >= 999.95 && u < len(units)-1 {
		v, u = v/1000, u+1
	}
	return fmt.Sprintf("%.1f %cB", v, units[u])
}

// thousands sets a number's digits in groups, by a thin space that breaks nowhere.
func thousands(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// Title of the report.
func (r *Report) Title() string {
	switch {
	case r.Asked.Incident != "":
		return "Incident " + r.Asked.Incident
	case len(r.Asked.Activations) > 0:
		return strings.Join(r.Asked.Activations, ", ")
	}
	return stamp(r.Asked.Since) + " to " + stamp(r.Until)
}

// state of an activation.
func (a *Activation) state() string {
	switch {
	case a.Phase != "":
		return a.Phase
	case a.Opened.IsZero():
		return "not opened"
	}
	return "open, as of the newest entry"
}

// late says that the end was recorded after the deadline.
func (a *Activation) late() string {
	if !a.Ended.After(a.Closed) || a.Opened.IsZero() {
		return ""
	}
	return fmt.Sprintf("recorded at %s, %s later: until then nobody was there to record it", stamp(a.Ended), ms(milliseconds(a.Ended.Sub(a.Closed))))
}

// lasted is how long it was open.
func (a *Activation) lasted() string {
	if a.Opened.IsZero() || a.Closed.IsZero() {
		return ""
	}
	return a.Closed.Sub(a.Opened).Round(time.Millisecond).String()
}

// Cuts are the requests whose streams were cut.
func (r *Report) Cuts() (out []*Request) { return r.with(Cut) }

// Unfinished are those without an end.
func (r *Report) Unfinished() []*Request { return r.with(Unfinished) }

func (r *Report) with(outcome string) (out []*Request) {
	for i := range r.Requests {
		if r.Requests[i].Outcome == outcome {
			out = append(out, &r.Requests[i])
		}
	}
	return out
}

// who made a request.
func (q *Request) who() string {
	switch {
	case q.Subject != "":
		return q.Subject
	case q.Issuer != "":
		return "no subject"
	case q.Outcome == Unfinished:
		return "not known yet"
	}
	return "no valid token"
}

func (i *Identity) name() string {
	switch {
	case i.Subject != "":
		return i.Subject
	case i.Issuer != "":
		return "no subject"
	}
	return "No valid token"
}

func (r Ref) String() string {
	if r.Log != "" {
		return fmt.Sprintf("%s:%d", r.Log, r.Seq)
	}
	return fmt.Sprint(r.Seq)
}

func refs(rs []Ref) string {
	var out []string
	for i, r := range rs {
		if i == 4 {
			out = append(out, "…")
			break
		}
		out = append(out, r.String())
	}
	return strings.Join(out, ", ")
}

// requestTarget is what was asked for.
func (q *Request) target() string { return q.Host + q.Path }
