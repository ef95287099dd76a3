package alarm

import (
	"fmt"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// activationFact is what is read of the data of an entry of an activation; see
// internal/activation.
type activationFact struct {
	Event  string
	Time   time.Time
	Record struct {
		Namespace, Name, UID string
		RequestedBy, EndedBy string
		Start, Deadline      time.Time
		Phase                string
		Reason, Message      string
		Spec                 struct {
			Role, Reason, Incident string
			Drill                  bool
			TargetRefs             []struct{ Kind, Name, SectionName string }
		}
		Review *struct {
			Verdict, By, Note string
			At                time.Time
		}
	}
}

// key names the activation in ids: replicas have the same, an activation of the same
// name that comes later another.
func (f *activationFact) key() string {
	if uid := f.Record.UID; uid != "" {
		return f.name() + "/" + audit.Text(uid, maxLabel)
	}
	return f.name() + "/" + stamp(f.Record.Start)
}

func (f *activationFact) name() string {
	return audit.Text(f.Record.Namespace+"/"+f.Record.Name, 2*maxLabel)
}

// alarm of it. A drill opens the same door, and who activates calls it one: it is as
// severe, and marked.
func (f *activationFact) alarm(id, name, severity, summary string) []audit.Alarm {
	r := &f.Record
	labels := map[string]string{
		"activation": f.name(), "role": r.Spec.Role, "incident": r.Spec.Incident, "requestedBy": r.RequestedBy,
	}
	if r.Spec.Drill {
		labels["drill"] = "true"
		summary = "Drill: " + summary
	}
	return []audit.Alarm{{ID: id + "/" + f.key(), Name: name, Severity: severity, Time: f.Time, Summary: summary, Labels: labels}}
}

// targets for people.
func (f *activationFact) targets() string {
	var out []string
	for _, t := range f.Record.Spec.TargetRefs {
		name := t.Name
		if t.SectionName != "" {
			name += ":" + t.SectionName
		}
		out = append(out, name)
	}
	return audit.Text(strings.Join(out, ", "), maxLabel)
}

// by is who, for people.
func by(who string) string {
	if who = audit.Text(who, maxLabel); who == "" {
		return "nobody that is known"
	}
	return who
}

// is reports whether the entry is that event.
func (r *Rules) is(event string) bool { return !r.broken && r.current.Event == event }

// opened: somebody broke the glass. The second target of an activation opens under
// the same id.
func (r *Rules) opened(*merkle.Entry) []audit.Alarm {
	if !r.is("opened") {
		return nil
	}
	f := &r.current
	s := f.Record.Spec
	incident := ""
	if s.Incident != "" {
		incident = " for " + audit.Text(s.Incident, maxLabel)
	}
	return f.alarm("opened", audit.AlarmOpened, Critical, fmt.Sprintf("The glass is broken: %s opens %s as %s until %s%s, asked for by %s: %s",
		f.name(), f.targets(), s.Role, clockText(f.Record.Deadline), incident, by(f.Record.RequestedBy), quoted(audit.Text(s.Reason, maxLabel))))
}

// refused: somebody asked, and did not get it.
func (r *Rules) refused(*merkle.Entry) []audit.Alarm {
	if !r.is("refused") {
		return nil
	}
	f := &r.current
	return f.alarm("refused", audit.AlarmRefused, Warning, fmt.Sprintf("Refused: %s asked for %s to be opened as %s (%s): %s",
		by(f.Record.RequestedBy), f.targets(), f.Record.Spec.Role, f.name(), why(f)))
}

// revoked: somebody ended it before its time, be it by the panic button.
func (r *Rules) revoked(*merkle.Entry) []audit.Alarm {
	if !r.is("revoked") {
		return nil
	}
	f := &r.current
	return f.alarm("revoked", audit.AlarmRevoked, Warning, fmt.Sprintf("Revoked: %s was ended before its deadline by %s: %s", f.name(), by(f.Record.EndedBy), why(f)))
}

// ended: its time is over. One that was never live was of no use to anybody.
func (r *Rules) ended(*merkle.Entry) []audit.Alarm {
	f := &r.current
	switch {
	case r.is("expired"):
		return f.alarm("ended", audit.AlarmEnded, Info, fmt.Sprintf("Closed: %s ended at its deadline, %s", f.name(), clockText(f.Record.Deadline)))
	case r.is("neverLive"):
		return f.alarm("ended", audit.AlarmEnded, Warning, fmt.Sprintf("Never open: %s came to its end without having been served: %s", f.name(), why(f)))
	}
	return nil
}

// reviewed: somebody says what it was.
func (r *Rules) reviewed(*merkle.Entry) []audit.Alarm {
	if !r.is("reviewed") || r.current.Record.Review == nil {
		return nil
	}
	f := &r.current
	v := f.Record.Review
	severity := Info
	if strings.EqualFold(v.Verdict, "misuse") {
		severity = Critical
	}
	out := f.alarm("reviewed", audit.AlarmReviewed, severity, fmt.Sprintf("Reviewed: %s was %s, says %s: %s",
		f.name(), audit.Text(v.Verdict, maxLabel), by(v.By), quoted(audit.Text(v.Note, maxLabel))))
	out[0].ID += "/" + stamp(v.At)
	return out
}

// overdue: nobody has said what it was.
func (r *Rules) overdue(*merkle.Entry) []audit.Alarm {
	if !r.is("overdue") {
		return nil
	}
	f := &r.current
	return f.alarm("overdue", audit.AlarmReviewOverdue, Warning, fmt.Sprintf("Not reviewed: nobody has said in time what %s was, asked for by %s", f.name(), by(f.Record.RequestedBy)))
}

func why(f *activationFact) string {
	r := &f.Record
	switch {
	case r.Message != "":
		return audit.Text(r.Message, 2*maxLabel)
	case r.Reason != "":
		return audit.Text(r.Reason, maxLabel)
	}
	return "no reason given"
}
