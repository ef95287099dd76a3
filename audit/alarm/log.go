package alarm

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// gap: the log lacks something, and says so. One that is not heard of any more, and
// had not ended, is one, too.
func (r *Rules) gap(e *merkle.Entry) []audit.Alarm {
	var g audit.Gap
	if json.Unmarshal(e.Data, &g) != nil {
		return nil
	}
	lost, of := fmt.Sprintf("lacks %d requests", g.Lost), ""
	switch {
	case g.AtLeast && g.Lost > 0:
		lost = fmt.Sprintf("lacks %d requests or more", g.Lost)
	case g.AtLeast:
		lost = "may lack requests"
	}
	if g.Gateway != "" {
		of = " of " + audit.Text(g.Gateway, maxLabel)
	}
	return []audit.Alarm{{
		ID: "gap/" + audit.Text(g.Gateway, maxLabel) + "/" + audit.Text(g.Epoch, maxLabel) + "/" + stamp(g.Until), Name: audit.AlarmGap, Severity: Critical, Time: e.Time,
		Summary: fmt.Sprintf("The audit log %s%s from before %s: %s", lost, of, clockText(g.Until), audit.Text(g.Reason, 2*maxLabel)),
		Labels:  map[string]string{"gateway": g.Gateway},
	}}
}

// notRecorded: for a time nothing could be recorded, or what was recorded is not what
// it was.
func (r *Rules) notRecorded(e *merkle.Entry) []audit.Alarm {
	var p audit.Problem
	if json.Unmarshal(e.Data, &p) != nil || p.File != "journal" {
		return nil
	}
	return []audit.Alarm{{
		ID: "journal/" + stamp(e.Time), Name: audit.AlarmFailing, Severity: Critical, Time: e.Time,
		Summary: "The record of decisions: " + audit.Text(p.Reason, 2*maxLabel),
	}}
}

// Failing is the alarm of whoever finds that entries cannot be kept, for there is no
// entry that would say so.
func Failing(problem string, since time.Time) audit.Alarm {
	return finished(audit.Alarm{
		ID: "failing/" + stamp(since), Name: audit.AlarmFailing, Severity: Critical, Time: since,
		Summary: "Entries of the audit log cannot be kept, and nothing opens: " + audit.Text(problem, 2*maxLabel),
	})
}

// sinkState: who should be told is not, or is again.
func (r *Rules) sinkState(e *merkle.Entry) []audit.Alarm {
	var s audit.Sink
	if json.Unmarshal(e.Data, &s) != nil {
		return nil
	}
	name := audit.Text(s.Sink, maxLabel)
	since := s.Since
	if since.IsZero() {
		since = e.Time
	}
	a := audit.Alarm{ID: "sink/" + name + "/" + stamp(since), Name: audit.AlarmSink, Severity: Warning, Time: e.Time, Labels: map[string]string{"sink": name}}
	switch s.Event {
	case audit.SinkFailing:
		told := ""
		if slices.Contains(r.opts.AlarmSinks, s.Sink) {
			a.Severity, told = Critical, ", which is to tell people of alarms"
		}
		a.Summary = fmt.Sprintf("The sink %s%s, does not take what it is sent, %d entries wait: %s", name, told, s.Behind, audit.Text(s.Reason, 2*maxLabel))
	case "lost":
		a.ID += "/lost"
		a.Summary = fmt.Sprintf("The sink %s will not get all of the log: %s", name, audit.Text(s.Reason, 2*maxLabel))
	case audit.SinkWorking:
		a.ID, a.Severity = a.ID+"/working", Info
		a.Summary = fmt.Sprintf("The sink %s works again", name)
	default:
		return nil
	}
	return []audit.Alarm{a}
}

// clockStepped: times in the log before and after do not compare.
func (r *Rules) clockStepped(e *merkle.Entry) []audit.Alarm {
	var c struct{ Seconds float64 }
	if json.Unmarshal(e.Data, &c) != nil {
		return nil
	}
	return []audit.Alarm{{
		ID: "clock/" + stamp(e.Time), Name: audit.AlarmClock, Severity: Warning, Time: e.Time,
		Summary: fmt.Sprintf("A wall clock was set by %+.1f s: windows are held by the later time, and times in the log before and after do not compare", c.Seconds),
	}}
}
