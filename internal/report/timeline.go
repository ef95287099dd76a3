package report

import (
	"cmp"
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

// The picture, in units of its viewBox.
const (
	pictureWidth = 1000.0
	gutter       = 190.0 // for the lanes' names
	plotRight    = pictureWidth - 16
	laneHeight   = 30.0
	axisHeight   = 26.0
	buckets      = 200

	maxActivationLanes = 12
	maxIdentityLanes   = 10
)

// picture is the timeline as shapes: the template has nothing to compute.
type picture struct {
	Height float64
	Axis   float64 // y of its line
	Ticks  []tick
	Lanes  []lane
	Title  string
	Text   string // the same for who does not see it
	Left   string // of things that are not in it
}

type tick struct {
	X     float64
	Label string
	First string // the day, under the first one
}

type lane struct {
	Y, Middle   float64
	Name, Title string
	Kind        string
	Bars        []bar
	Marks       []shape
}

// bar is a rectangle.
type bar struct {
	X, Y, W, H float64
	Class      string
	Title      string
}

// shape is a small sign at a time, drawn around X, Y.
type shape struct {
	X, Y  float64
	Form  string // line, diamond, cross, dot
	Class string
	Title string
}

// scale maps times to x.
type scale struct{ from, to time.Time }

func (s scale) x(t time.Time) float64 {
	part := float64(t.Sub(s.from)) / float64(s.to.Sub(s.from))
	return round(gutter + min(max(part, 0), 1)*(plotRight-gutter))
}

func (s scale) has(t time.Time) bool { return !t.IsZero() && !t.Before(s.from) && !t.After(s.to) }

// round keeps the file small, and the same on every machine.
func round(x float64) float64 { return math.Round(x*10) / 10 }

func (r *Report) picture() *picture {
	s := r.scale()
	p := &picture{Title: "Timeline of " + visible(r.Title()), Axis: axisHeight - 4}
	y := axisHeight
	add := func(l lane) {
		l.Y, l.Middle = y, round(y+laneHeight/2)
		p.Lanes = append(p.Lanes, l)
		y += laneHeight
	}
	for i := range r.Activations {
		if i == maxActivationLanes {
			p.Left += fmt.Sprintf(" %d more activations are not in the picture.", len(r.Activations)-i)
			break
		}
		add(r.activationLane(s, &r.Activations[i], y))
	}
	for _, l := range r.requestLanes(s, y, p) {
		add(l)
	}
	if l := r.alarmLane(s, y); len(l.Marks) > 0 {
		add(l)
	}
	if l := r.eventLane(s, y); len(l.Bars)+len(l.Marks) > 0 {
		add(l)
	}
	if l := r.reviewLane(s, y, p); len(l.Marks) > 0 {
		add(l)
	}
	p.Height = y + 6
	p.Ticks = s.ticks()
	p.Text = fmt.Sprintf("From %s to %s UTC: %s, %s. All of it is in the tables below.", stamp(s.from), stamp(s.to),
		number(len(r.Activations), "activation", "activations"), number(r.Summary.Counts.Requests, "request", "requests"))
	return p
}

// scale shows all that is about the doors. A deadline that was far away when the
// window was closed early, and a review days later, are not in it.
func (r *Report) scale() scale {
	s := scale{r.From, r.Until}
	for i := range r.Requests {
		if q := &r.Requests[i]; !q.Elsewhere {
			spread(&s.from, &s.to, q.Start, q.End())
		}
	}
	length := s.to.Sub(s.from)
	for i := range r.Activations {
		a := &r.Activations[i]
		if d := a.Deadline; !a.Opened.IsZero() && d.After(s.to) && d.Sub(s.from) < length+length/3 {
			s.to = d
		}
	}
	pad := max(s.to.Sub(s.from)/40, 100*time.Millisecond)
	return scale{s.from.Add(-pad), s.to.Add(pad)}
}

var steps = []time.Duration{
	50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
}

func (s scale) ticks() (out []tick) {
	length := s.to.Sub(s.from)
	step := 24 * time.Hour
	for _, d := range steps {
		if length/d <= 8 {
			step = d
			break
		}
	}
	for length/step > 8 {
		step *= 2
	}
	layout := "15:04"
	switch {
	case step < time.Second:
		layout = "15:04:05.000"
	case step < time.Minute:
		layout = "15:04:05"
	case length > 24*time.Hour:
		layout = "01-02 15:04"
	}
	for t := s.from.UTC().Truncate(step); !t.After(s.to); t = t.Add(step) {
		if x := s.x(t); s.has(t) && x > gutter+20 && x < plotRight-20 {
			out = append(out, tick{X: x, Label: t.Format(layout)})
		}
	}
	return out
}

// lanes' names have to fit in the gutter.
func short(s string) string {
	const most = 27
	s = visible(s)
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	rs := []rune(s)
	return string(rs[:most-1]) + "…"
}

func (r *Report) activationLane(s scale, a *Activation, y float64) lane {
	l := lane{Name: short(a.Key()), Kind: "activation", Title: fmt.Sprintf("Activation %s, role %s: %s", visible(a.Key()), visible(a.Role), visible(a.state()))}
	end := a.Closed
	class := "window"
	if a.Phase == "" {
		end, class = r.AsOf, "window open"
	}
	if !a.Opened.IsZero() {
		l.Bars = append(l.Bars, s.bar(a.Opened, end, y+8, laneHeight-16, class, fmt.Sprintf("open from %s to %s UTC", stamp(a.Opened), stamp(end))))
	}
	if s.has(a.Requested) && a.Phase != "Refused" {
		l.Marks = append(l.Marks, shape{s.x(a.Requested), y + laneHeight/2, "dot", "asked", "asked for at " + stamp(a.Requested) + " UTC by " + visible(a.RequestedBy)})
	}
	if a.Phase == "Refused" && s.has(a.Ended) {
		l.Marks = append(l.Marks, shape{s.x(a.Ended), y + laneHeight/2, "cross", "bad", "asked for by " + visible(a.RequestedBy) + ", and refused at " + stamp(a.Ended) + " UTC"})
	}
	if s.has(a.Deadline) && !a.Opened.IsZero() {
		l.Marks = append(l.Marks, shape{s.x(a.Deadline), y + laneHeight/2, "line", "deadline", "deadline " + stamp(a.Deadline) + " UTC"})
	}
	return l
}

func (s scale) bar(from, to time.Time, y, h float64, class, title string) bar {
	x := s.x(from)
	return bar{X: x, Y: y, W: max(round(s.x(to)-x), 1.5), H: h, Class: class, Title: title}
}

// row is a lane of requests, while they are counted.
type row struct {
	name, title, class string
	n                  [buckets]int
	most               int
	cuts, streams      []*Request
}

// requestLanes show how many requests there were at each moment, an identity a lane,
// and what was refused.
func (r *Report) requestLanes(s scale, y float64, p *picture) (out []lane) {
	order, of := r.rows(p)
	denied := &row{name: "refused", title: "refused requests", class: "refused"}
	for i := range r.Requests {
		q := &r.Requests[i]
		x := of[identityKey{q.Issuer, q.Subject}]
		if q.Outcome == Refused {
			x = denied
		}
		if x != nil && s.has(q.Start) {
			x.take(q, s)
		}
	}
	most := 1
	for _, x := range order {
		most = max(most, x.most)
	}
	if denied.most > 0 {
		order = append(order, denied)
	}
	for _, x := range order {
		if x == denied {
			most = x.most // of strangers there may be many more
		}
		l := lane{Name: short(x.name), Title: x.title, Kind: x.class}
		for b, n := range x.n {
			if n > 0 {
				l.Bars = append(l.Bars, density(s, y, b, n, most, x.class))
			}
		}
		for _, q := range x.streams {
			l.Bars = append(l.Bars, s.bar(q.Start, q.End(), y+laneHeight-4, 2, "stream", fmt.Sprintf("a stream from %s to %s UTC, entry %s", stamp(q.Start), stamp(q.End()), q.Ref)))
		}
		for _, q := range x.cuts {
			l.Marks = append(l.Marks, shape{s.x(q.End()), y + laneHeight/2, "cross", "cut", fmt.Sprintf("stream cut at %s UTC, entry %s", stamp(q.End()), q.Ref)})
		}
		out = append(out, l)
		y += laneHeight
	}
	return out
}

// rows of the identities that had something let in: what was refused has a lane of its
// own.
func (r *Report) rows(p *picture) (order []*row, of map[identityKey]*row) {
	of = map[identityKey]*row{}
	for i := range r.Identities {
		id := &r.Identities[i]
		if c := id.Counts; c.Passed+c.Cut+c.Unfinished == 0 {
			continue
		}
		if len(order) == maxIdentityLanes {
			p.Left += " Not every identity is in the picture."
			break
		}
		x := &row{name: id.name(), title: visible(id.name() + " (" + cmp.Or(id.Issuer, "no issuer") + ")"), class: "passed"}
		of[identityKey{id.Issuer, id.Subject}] = x
		order = append(order, x)
	}
	return order, of
}

func (x *row) take(q *Request, s scale) {
	b := min(int(float64(q.Start.Sub(s.from))/float64(s.to.Sub(s.from))*buckets), buckets-1)
	x.n[b]++
	x.most = max(x.most, x.n[b])
	const most = 50
	if q.Outcome == Cut && len(x.cuts) < most {
		x.cuts = append(x.cuts, q)
	}
	if 50*q.End().Sub(q.Start) > s.to.Sub(s.from) && len(x.streams) < most {
		x.streams = append(x.streams, q)
	}
}

func density(s scale, y float64, b, n, most int, class string) bar {
	w := (plotRight - gutter) / buckets
	h := max(3, round((laneHeight-8)*math.Sqrt(float64(n)/float64(most))))
	at := s.from.Add(time.Duration(float64(s.to.Sub(s.from)) * float64(b) / buckets))
	return bar{X: round(gutter + float64(b)*w), Y: round(y + laneHeight - 3 - h), W: round(w - 0.6), H: h, Class: class,
		Title: fmt.Sprintf("%s %s from %s UTC", number(n, "request", "requests"), class, stamp(at))}
}

func (r *Report) alarmLane(s scale, y float64) lane {
	l := lane{Name: "alarms", Title: "alarms: filled when somebody was told", Kind: "alarms"}
	for i := range r.Alarms {
		a := &r.Alarms[i]
		if !s.has(a.Time) || len(l.Marks) == 500 {
			continue
		}
		m := shape{s.x(a.Time), y + laneHeight/2, "diamond", "alarm", fmt.Sprintf("%s at %s UTC: not delivered", visible(a.Name), stamp(a.Time))}
		if len(a.Delivered) > 0 {
			m.Class = "alarm told"
			m.Title = fmt.Sprintf("%s at %s UTC: %s had it after %s", visible(a.Name), stamp(a.Time), visible(a.Delivered[0].Sink), ms(a.Delivered[0].LatencyMs))
		}
		l.Marks = append(l.Marks, m)
	}
	return l
}

func (r *Report) eventLane(s scale, y float64) lane {
	l := lane{Name: "gaps and changes", Title: "gaps, and changes of policies and configuration", Kind: "events"}
	for i := range r.Events {
		e := &r.Events[i]
		title := fmt.Sprintf("%s at %s UTC: %s", visible(e.Kind), stamp(e.Time), visible(e.Words))
		switch {
		case len(l.Marks)+len(l.Bars) > 500:
		case e.State == Bad && !e.Until.IsZero():
			from, to := e.Time, e.Until
			if from.Before(s.from) {
				from = s.from
			}
			if to.After(s.to) {
				to = s.to
			}
			l.Bars = append(l.Bars, s.bar(from, to, y+8, laneHeight-16, "gap", title))
		case e.State != Nothing && s.has(e.Time):
			l.Marks = append(l.Marks, shape{s.x(e.Time), y + laneHeight/2, "line", "change " + e.State, title})
		}
	}
	return l
}

func (r *Report) reviewLane(s scale, y float64, p *picture) lane {
	l := lane{Name: "reviews", Title: "reviews", Kind: "reviews"}
	for i := range r.Activations {
		x := &r.Activations[i].Review
		switch {
		case x.At.IsZero():
		case s.has(x.At):
			l.Marks = append(l.Marks, shape{s.x(x.At), y + laneHeight/2, "dot", "review", fmt.Sprintf("reviewed as %s at %s UTC by %s", visible(x.Verdict), stamp(x.At), visible(x.By))})
		default:
			p.Left += fmt.Sprintf(" %s was reviewed at %s UTC.", visible(r.Activations[i].Key()), stamp(x.At))
		}
	}
	return l
}
