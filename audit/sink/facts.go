package sink

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// facts are what is told of an entry beside its line, so that a receiver can search
// without reading the line.
type facts struct {
	time       time.Time // when it happened
	severity   string    // critical, warning, info
	attributes [][2]string
}

// about is what the data of entries have in common, as far as it is told.
type about struct {
	Time     time.Time         `json:"time"`
	ID       string            `json:"id"`       // of an alarm
	Event    string            `json:"event"`    // of an alarm, an activation, a source, a sink
	Name     string            `json:"name"`     // of an alarm, a policy
	Severity string            `json:"severity"` // of an alarm
	Labels   map[string]string `json:"labels"`   // of an alarm

	Key         string    `json:"key"` // of a request
	Gateway     string    `json:"gateway"`
	Route       string    `json:"route"`
	Role        string    `json:"role"`
	Incident    string    `json:"incident"`
	Activations []string  `json:"activations"`
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Denied      string    `json:"denied"`
	Start       time.Time `json:"start"`
	DurationMs  float64   `json:"durationMs"`

	Record *struct { // of an activation
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
		RequestedBy string `json:"requestedBy"`
		Spec        struct {
			Role     string `json:"role"`
			Incident string `json:"incident"`
		} `json:"spec"`
	} `json:"record"`
}

func factsOf(r *record) facts {
	f := facts{time: r.entry.Time, severity: severityOf(r.entry.Kind, "")}
	var a about
	// An entry of another form has its line and nothing beside it.
	if r.note != nil || json.Unmarshal(r.entry.Data, &a) != nil {
		return f
	}
	add := func(name, value string) { f.attributes = append(f.attributes, [2]string{name, value}) }
	switch r.entry.Kind {
	case audit.KindAlarm:
		f.severity = severityOf(audit.KindAlarm, a.Severity)
		add("alarm.id", a.ID)
		add("alarm.name", a.Name)
		add("alarm.event", a.Event)
		add("role", a.Labels["role"])
		add("incident", a.Labels["incident"])
		add("activation", a.Labels["activation"])
	case audit.KindRequest:
		add("request.key", a.Key)
		add("gateway", a.Gateway)
		add("route", a.Route)
		add("role", a.Role)
		add("incident", a.Incident)
		add("activation", strings.Join(a.Activations, ","))
		add("subject", a.Subject)
		add("issuer", a.Issuer)
		add("denied", a.Denied)
		if !a.Start.IsZero() {
			f.time = audit.RequestEntry{Start: a.Start, DurationMs: a.DurationMs}.At()
		}
	case audit.KindActivation:
		add("event", a.Event)
		if a.Record != nil {
			add("activation", a.Record.Namespace+"/"+a.Record.Name)
			add("role", a.Record.Spec.Role)
			add("incident", a.Record.Spec.Incident)
			add("requestedBy", a.Record.RequestedBy)
		}
	default:
		add("event", a.Event)
		add("name", a.Name)
		add("gateway", a.Gateway)
	}
	if !a.Time.IsZero() && r.entry.Kind != audit.KindRequest {
		f.time = a.Time
	}
	return f
}
