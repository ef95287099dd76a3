package sink

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// ocsfVersion of the Open Cybersecurity Schema Framework. docs/sinks.md has the table
// of what becomes what.
const ocsfVersion = "1.5.0"

// ocsfEvent is an event of any of the classes that are used here. All of the entry is
// in raw_data: the line of the log, byte for byte.
type ocsfEvent struct {
	ActivityID   int          `json:"activity_id"`
	ActivityName string       `json:"activity_name,omitempty"`
	CategoryUID  int          `json:"category_uid"`
	ClassUID     int          `json:"class_uid"`
	TypeUID      int          `json:"type_uid"`
	Time         int64        `json:"time"` // ms
	StartTime    int64        `json:"start_time,omitempty"`
	EndTime      int64        `json:"end_time,omitempty"`
	Duration     int64        `json:"duration,omitempty"`
	SeverityID   int          `json:"severity_id"`
	StatusID     int          `json:"status_id,omitempty"`
	StatusDetail string       `json:"status_detail,omitempty"`
	Message      string       `json:"message,omitempty"`
	Metadata     ocsfMetadata `json:"metadata"`

	// Of the profiles host and security_control.
	Actor    *ocsfActor `json:"actor,omitempty"`
	ActionID int        `json:"action_id,omitempty"`

	HTTPRequest  *ocsfRequest  `json:"http_request,omitempty"`
	HTTPResponse *ocsfResponse `json:"http_response,omitempty"`
	SrcEndpoint  *ocsfEndpoint `json:"src_endpoint,omitempty"`
	DstEndpoint  *ocsfEndpoint `json:"dst_endpoint,omitempty"`
	User         *ocsfUser     `json:"user,omitempty"`
	Privileges   []string      `json:"privileges,omitempty"`
	Entity       *ocsfEntity   `json:"entity,omitempty"`
	App          *ocsfProduct  `json:"app,omitempty"`
	FindingInfo  *ocsfFinding  `json:"finding_info,omitempty"`
	API          *ocsfAPI      `json:"api,omitempty"`

	RawData  string            `json:"raw_data"`
	Unmapped map[string]string `json:"unmapped,omitempty"`
}

type (
	ocsfMetadata struct {
		Version    string      `json:"version"`
		Product    ocsfProduct `json:"product"`
		Profiles   []string    `json:"profiles,omitempty"`
		UID        string      `json:"uid"`
		Sequence   *uint64     `json:"sequence,omitempty"`
		LogName    string      `json:"log_name"`
		EventCode  string      `json:"event_code"` // the kind
		LoggedTime int64       `json:"logged_time"`
	}
	ocsfProduct struct {
		Name       string `json:"name"`
		VendorName string `json:"vendor_name"`
		Version    string `json:"version,omitempty"`
	}
	ocsfActor struct {
		User *ocsfUser `json:"user,omitempty"`
		// AppName stands for somebody without a token that was good.
		AppName string `json:"app_name,omitempty"`
	}
	ocsfUser struct {
		Name   string      `json:"name,omitempty"`
		UID    string      `json:"uid,omitempty"`
		Domain string      `json:"domain,omitempty"` // the issuer
		Groups []ocsfGroup `json:"groups,omitempty"`
	}
	ocsfGroup struct {
		Name string `json:"name"`
	}
	ocsfRequest struct {
		Method string   `json:"http_method,omitempty"`
		UID    string   `json:"uid,omitempty"`
		Length uint64   `json:"body_length"`
		URL    *ocsfURL `json:"url,omitempty"`
	}
	ocsfURL struct {
		Hostname string `json:"hostname,omitempty"`
		Path     string `json:"path"`
	}
	ocsfResponse struct {
		Code   uint32 `json:"code"`
		Length uint64 `json:"body_length"`
	}
	ocsfEndpoint struct {
		IP   string `json:"ip,omitempty"`
		Port int    `json:"port,omitempty"`
		Name string `json:"name,omitempty"`
	}
	ocsfEntity struct {
		Name string `json:"name"`
		Type string `json:"type"`
		UID  string `json:"uid,omitempty"`
	}
	ocsfFinding struct {
		UID         string   `json:"uid"`
		Title       string   `json:"title"`
		Desc        string   `json:"desc,omitempty"`
		CreatedTime int64    `json:"created_time"`
		Types       []string `json:"types,omitempty"`
	}
	ocsfAPI struct {
		Operation string `json:"operation"`
	}
)

var ocsfProductOf = ocsfProduct{Name: "Breakglass Gateway", VendorName: "breakglass.dev"}

var ocsfSeverities = map[string]int{"info": 1, "warning": 3, "critical": 5}

// of sets class and activity; 99 is "other", and has a name.
func (e *ocsfEvent) of(category, class, activity int, name string) {
	e.CategoryUID, e.ClassUID, e.ActivityID, e.TypeUID = category, class, activity, 100*class+activity
	if activity == 99 {
		e.ActivityName = name
	}
}

// ocsf encodes a record as an OCSF event.
func ocsf(r *record) ([]byte, error) {
	line, err := native(r)
	if err != nil {
		return nil, err
	}
	f := factsOf(r)
	e := ocsfEvent{
		Time: f.time.UnixMilli(), SeverityID: ocsfSeverities[f.severity], RawData: string(line),
		Metadata: ocsfMetadata{
			Version: ocsfVersion, Product: ocsfProductOf, UID: r.id(), LogName: r.log, EventCode: r.entry.Kind, LoggedTime: r.entry.Time.UnixMilli(),
		},
		Unmapped: map[string]string{},
	}
	for _, a := range f.attributes {
		if a[1] != "" {
			e.Unmapped[a[0]] = a[1]
		}
	}
	if r.note == nil {
		e.Metadata.Sequence = &r.entry.Seq
	}
	// What has no class of its own, or is not of the form that its class needs, is a
	// base event.
	if m := ocsfMappers[r.entry.Kind]; r.note != nil || m == nil || !m(&e, r.entry.Data) {
		e.of(0, 0, 99, r.entry.Kind)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(&e); err != nil {
		return nil, fmt.Errorf("encode as OCSF: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// ocsfMappers fill in what is of a class. They change nothing when they return false.
var ocsfMappers = map[string]func(*ocsfEvent, json.RawMessage) bool{
	audit.KindRequest:    ocsfOfRequest,
	audit.KindActivation: ocsfOfActivation,
	audit.KindPolicy:     ocsfOfPolicy,
	audit.KindConfig:     ocsfOfConfig,
	audit.KindAlarm:      ocsfOfAlarm,
	audit.KindRead:       ocsfOfRead,
	audit.KindStart:      ocsfOfLife(3),
	audit.KindStop:       ocsfOfLife(4),
}

func milli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
