package sink

import (
	"encoding/json"
	"net"
	"strconv"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

var ocsfMethods = map[string]int{
	"CONNECT": 1, "DELETE": 2, "GET": 3, "HEAD": 4, "OPTIONS": 5, "POST": 6, "PUT": 7, "TRACE": 8,
}

// ocsfOfRequest: HTTP Activity, with what the locks did of the profile
// security_control, and who it was of the profile host.
func ocsfOfRequest(e *ocsfEvent, data json.RawMessage) bool {
	var r audit.RequestEntry
	if json.Unmarshal(data, &r) != nil {
		return false
	}
	activity, ok := ocsfMethods[r.Method]
	if !ok {
		activity = 99
	}
	e.of(4, 4002, activity, r.Method)
	if e.ActivityID == 99 && e.ActivityName == "" {
		e.of(4, 4002, 0, "")
	}
	e.Metadata.Profiles = []string{"host", "security_control"}
	e.StartTime, e.Duration = milli(r.Start), int64(r.DurationMs)
	if r.Type == audit.TypeEnd && !r.Start.IsZero() {
		e.EndTime = milli(r.At())
	}
	e.HTTPRequest = &ocsfRequest{UID: r.Key, Length: r.BytesIn}
	if ok { // the schema knows no others
		e.HTTPRequest.Method = r.Method
	}
	if r.Path != "" {
		host, _ := hostPort(r.Host)
		e.HTTPRequest.URL = &ocsfURL{Hostname: host, Path: r.Path}
	}
	if r.Status > 0 {
		e.HTTPResponse = &ocsfResponse{Code: r.Status, Length: r.BytesOut}
	}
	e.SrcEndpoint, e.DstEndpoint = endpoint(r.ClientAddress), endpoint(r.UpstreamAddress)
	if r.Subject != "" {
		e.Actor = &ocsfActor{User: &ocsfUser{UID: r.Subject, Domain: r.Issuer}}
	}
	e.ActionID, e.StatusID = 1, 1
	switch {
	case r.Denied != "":
		e.ActionID, e.StatusID, e.StatusDetail = 2, 2, r.Denied
	case r.Type != audit.TypeEnd:
		e.StatusID = 0 // not known yet
	case r.Status == 0 || r.Status >= 400:
		e.StatusID, e.StatusDetail = 2, r.Details
	}
	return true
}

// ocsfActivities of an activation: privileges are assigned when it opens and revoked
// when it ends.
var ocsfActivities = map[string]int{
	"opened": 1, "live": 1, "revoked": 2, "expired": 2, "withdrawn": 2, "removed": 2, "shortened": 2,
}

// ocsfOfActivation: User Access Management.
func ocsfOfActivation(e *ocsfEvent, data json.RawMessage) bool {
	var a about
	if json.Unmarshal(data, &a) != nil || a.Record == nil {
		return false
	}
	activity, ok := ocsfActivities[a.Event]
	if !ok {
		activity = 99
	}
	e.of(3, 3005, activity, a.Event)
	if activity == 99 && a.Event == "" {
		e.of(3, 3005, 0, "")
	}
	e.Message = "activation " + a.Record.Namespace + "/" + a.Record.Name + ": " + a.Event
	e.Privileges = []string{a.Record.Spec.Role}
	e.User = &ocsfUser{Name: a.Record.RequestedBy}
	if a.Record.RequestedBy == "" {
		e.User.Name = "unknown"
	}
	e.StatusID = 1
	if a.Event == "refused" || a.Event == "neverLive" {
		e.StatusID = 2
	}
	return true
}

// ocsfOfPolicy: Entity Management; an entry without a spec is of a removal.
func ocsfOfPolicy(e *ocsfEvent, data json.RawMessage) bool {
	var p struct {
		Name     string          `json:"name"`
		OwnerUID json.RawMessage `json:"ownerUID"`
		Spec     json.RawMessage `json:"spec"`
	}
	if json.Unmarshal(data, &p) != nil || p.Name == "" {
		return false
	}
	activity := 3
	if len(p.Spec) == 0 {
		activity = 4
	}
	e.of(3, 3004, activity, "")
	e.Entity, e.StatusID = &ocsfEntity{Name: p.Name, Type: "EmergencyPolicy"}, 1
	return true
}

func ocsfOfConfig(e *ocsfEvent, _ json.RawMessage) bool {
	e.of(3, 3004, 3, "")
	e.Entity, e.StatusID = &ocsfEntity{Name: "manifests", Type: "configuration"}, 1
	return true
}

// ocsfOfAlarm: Detection Finding, created when it is raised and updated when somebody
// was told.
func ocsfOfAlarm(e *ocsfEvent, data json.RawMessage) bool {
	var a audit.Alarm
	if json.Unmarshal(data, &a) != nil || a.ID == "" {
		return false
	}
	activity := 1
	if a.Event != audit.AlarmRaised {
		activity = 2
	}
	e.of(2, 2004, activity, "")
	e.Message = a.Summary
	e.FindingInfo = &ocsfFinding{UID: a.ID, Title: a.Name, Desc: a.Summary, CreatedTime: milli(a.Time), Types: []string{"break glass"}}
	e.StatusID = 1 // new
	for k, v := range a.Labels {
		if _, there := e.Unmapped[k]; !there && v != "" {
			e.Unmapped[k] = v
		}
	}
	return true
}

// ocsfOfRead: API Activity.
func ocsfOfRead(e *ocsfEvent, data json.RawMessage) bool {
	var r audit.Read
	if json.Unmarshal(data, &r) != nil || r.By == "" {
		return false
	}
	e.of(6, 6003, 2, "")
	user := &ocsfUser{Name: r.By}
	for _, g := range r.Groups {
		user.Groups = append(user.Groups, ocsfGroup{g})
	}
	e.Actor, e.API = &ocsfActor{User: user}, &ocsfAPI{Operation: r.What}
	if e.SrcEndpoint = endpoint(r.Address); e.SrcEndpoint == nil {
		e.SrcEndpoint = &ocsfEndpoint{Name: "unknown"}
	}
	e.StatusID = 1
	if r.Refused != "" {
		e.StatusID, e.StatusDetail = 2, r.Refused
	}
	return true
}

// ocsfOfLife: Application Lifecycle.
func ocsfOfLife(activity int) func(*ocsfEvent, json.RawMessage) bool {
	return func(e *ocsfEvent, data json.RawMessage) bool {
		var d struct {
			Version string `json:"version"`
		}
		if json.Unmarshal(data, &d) != nil {
			return false
		}
		e.of(6, 6002, activity, "")
		app := ocsfProductOf
		app.Version = d.Version
		e.App, e.StatusID = &app, 1
		return true
	}
}

// endpoint of an address as it is in entries; nil when there is none.
func endpoint(address string) *ocsfEndpoint {
	if address == "" {
		return nil
	}
	host, port := hostPort(address)
	if ip := net.ParseIP(strings.Trim(host, "[]")); ip != nil {
		return &ocsfEndpoint{IP: ip.String(), Port: port}
	}
	return &ocsfEndpoint{Name: address}
}

func hostPort(s string) (string, int) {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return s, 0
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return host, 0
	}
	return host, int(port)
}
