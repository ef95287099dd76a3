package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// told is an entry of the audit log in words. What cannot be read is told as it
// is: an entry is never left out.
func told(e merkle.Entry) control.TimelineEntry {
	t := control.TimelineEntry{Seq: e.Seq, Time: e.Time, Kind: e.Kind, Data: e.Data}
	var err error
	switch e.Kind {
	case audit.KindActivation:
		err = tellActivation(&t)
	case audit.KindRequest:
		err = tellRequest(&t)
	case audit.KindPolicy:
		err = tellPolicy(&t)
	case audit.KindConfig:
		err = tellConfig(&t)
	case audit.KindGap:
		err = tellGap(&t)
	case audit.KindConnection:
		err = tellConnection(&t)
	case audit.KindAlarm:
		err = tellAlarm(&t)
	}
	if err != nil {
		t.Message = "this entry is not understood: " + err.Error()
	}
	return t
}

func tellAlarm(t *control.TimelineEntry) error {
	var a audit.Alarm
	if err := json.Unmarshal(t.Data, &a); err != nil {
		return err
	}
	t.Event, t.Object, t.Role, t.Incident = a.Event, a.Name, a.Labels["role"], a.Labels["incident"]
	if t.Message = a.Summary; a.Event == audit.AlarmDelivered {
		t.Who, t.Message = "sink "+a.Sink, a.ID
	}
	return nil
}

func tellActivation(t *control.TimelineEntry) error {
	var f activation.Fact
	if err := json.Unmarshal(t.Data, &f); err != nil {
		return err
	}
	r := f.Record
	t.Event, t.Who, t.Object = string(f.Event), f.Who(), "Activation "+r.Key().String()
	t.Role, t.Incident, t.Message = r.Spec.Role, r.Spec.Incident, f.Words()
	return nil
}

func tellRequest(t *control.TimelineEntry) error {
	var r audit.RequestEntry
	if err := json.Unmarshal(t.Data, &r); err != nil {
		return err
	}
	t.Time, t.Who = r.At(), cmp.Or(r.Subject, "no valid token")
	switch {
	case r.Type == audit.TypeIntent:
		t.Event = r.Type
	case r.Type != audit.TypeEnd:
		t.Event = "started"
	case r.Denied != "":
		t.Event = "denied"
	default:
		t.Event = "allowed"
	}
	if r.Issuer != "" {
		t.Who += " (" + r.Issuer + ")"
	}
	t.Who += " from " + r.ClientAddress
	t.Role, t.Incident = r.Role, r.Incident
	if r.Route != "" {
		t.Object = activation.RouteOfRef(r.Route)
	}
	t.Message = fmt.Sprintf("%s %s%s", r.Method, r.Host, r.Path)
	if r.Status != 0 {
		t.Message += fmt.Sprintf(" %d", r.Status)
	}
	switch r.Denied {
	case "":
	case "rbac: none":
		t.Message += " (the token lacks the role, lives too long, or the window is over)"
	default:
		t.Message += " (" + r.Denied + ")"
	}
	switch r.Cut {
	case audit.CutClosed:
		t.Message += ", cut: the route was closed"
	case audit.CutToken:
		t.Message += ", cut: the token ended"
	}
	return nil
}

func tellPolicy(t *control.TimelineEntry) error {
	var p policyRecord
	if err := json.Unmarshal(t.Data, &p); err != nil {
		return err
	}
	t.Event, t.Object = "changed", "EmergencyPolicy "+p.Name
	t.Message = fmt.Sprintf("%s (uid %d)", p.File, p.OwnerID)
	for _, issuer := range slices.Sorted(maps.Keys(p.Keys)) {
		t.Message += fmt.Sprintf(", keys of %s: %s", issuer, cmp.Or(p.Keys[issuer], "none"))
	}
	if p.Spec == nil {
		t.Event = "removed"
	}
	return nil
}

func tellGap(t *control.TimelineEntry) error {
	var g audit.Gap
	if err := json.Unmarshal(t.Data, &g); err != nil {
		return err
	}
	t.Event, t.Message = "missing", fmt.Sprintf("%d requests: %s", g.Lost, g.Reason)
	if g.AtLeast {
		t.Message = fmt.Sprintf("at least %d requests: %s", g.Lost, g.Reason)
	}
	if g.Gateway != "" {
		t.Object = "Gateway " + g.Gateway
	}
	return nil
}

func tellConnection(t *control.TimelineEntry) error {
	var c audit.ConnectionEntry
	if err := json.Unmarshal(t.Data, &c); err != nil {
		return err
	}
	t.Event, t.Who, t.Object = "closed", "somebody from "+c.ClientAddress, "Gateway "+c.Gateway
	t.Message = "a connection without a request"
	if c.Details != "" {
		t.Message += " (" + c.Details + ")"
	}
	return nil
}

func tellConfig(t *control.TimelineEntry) error {
	var c configRecord
	if err := json.Unmarshal(t.Data, &c); err != nil {
		return err
	}
	if c.Loaded {
		t.Event, t.Message = "loaded", fmt.Sprintf("%d objects", c.Objects)
		return nil
	}
	t.Event = "changed"
	var words []string
	for _, change := range c.Changes {
		words = append(words, change.Change+" "+change.Object)
	}
	if c.More > 0 {
		words = append(words, fmt.Sprintf("and %d more", c.More))
	}
	t.Message = strings.Join(words, ", ")
	return nil
}
