package sink

import (
	"bytes"
	"encoding/json"
)

// carried is a line of something that a sink has delivered to. More than one of these
// is set in no line of ours.
type carried struct {
	// The line itself: an entry, or a checkpoint.
	V    int    `json:"v"`
	Kind string `json:"kind"`

	SpecVersion string          `json:"specversion"` // a CloudEvent
	Data        json.RawMessage `json:"data"`
	RawData     string          `json:"raw_data"` // an OCSF event

	// OTLP, as the file exporter of a collector writes it.
	ResourceLogs []struct {
		ScopeLogs []struct {
			LogRecords []struct {
				Body struct {
					StringValue string `json:"stringValue"`
				} `json:"body"`
			} `json:"logRecords"`
		} `json:"scopeLogs"`
	} `json:"resourceLogs"`
}

// linesIn calls fn for the lines of the log that a line of a copy carries: itself, or
// those in CloudEvents, in OTLP, in OCSF, and in one of these within another.
func linesIn(line []byte, fn func(line []byte)) {
	line = bytes.TrimSpace(line)
	if bytes.HasPrefix(line, []byte("[")) { // a batch of CloudEvents
		var events []json.RawMessage
		if json.Unmarshal(line, &events) == nil {
			for _, e := range events {
				linesIn(e, fn)
			}
			return
		}
	}
	var c carried
	switch {
	case json.Unmarshal(line, &c) != nil:
		fn(line)
	case c.ResourceLogs != nil:
		for _, r := range c.ResourceLogs {
			for _, s := range r.ScopeLogs {
				for _, l := range s.LogRecords {
					linesIn([]byte(l.Body.StringValue), fn)
				}
			}
		}
	case c.SpecVersion != "":
		// Who kept it may have put white space between.
		var b bytes.Buffer
		if json.Compact(&b, c.Data) == nil {
			linesIn(b.Bytes(), fn)
		}
	case c.RawData != "":
		linesIn([]byte(c.RawData), fn)
	default:
		fn(line)
	}
}
