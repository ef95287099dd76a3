package audit

import "time"

// The kinds of entries about the log itself, and about who was told of what is in
// it. They are in logs only, never in the journal.
const (
	KindAlarm  = "alarm"  // somebody has to know: an Alarm
	KindRead   = "read"   // somebody read the log by the audit log service: a Read
	KindSource = "source" // another log, whose entries are in this one: a Source
	KindSink   = "sink"   // a sink began or ceased to fail: a Sink
)

// TypeIntent is the type of a RequestEntry that was durable before its request was
// forwarded (audit.mode: Strict). What is only known at the end is not in it; the
// end follows under the same key.
const TypeIntent = "intent"

// Names of alarms.
const (
	AlarmOpened        = "ActivationOpened"
	AlarmRefused       = "ActivationRefused"
	AlarmRevoked       = "ActivationRevoked"
	AlarmEnded         = "ActivationEnded"
	AlarmReviewed      = "ActivationReviewed"
	AlarmReviewOverdue = "ReviewOverdue"
	AlarmPolicy        = "PolicyChanged"
	AlarmConfig        = "ConfigChanged"
	AlarmOffline       = "OfflineIssuerUsed"
	AlarmForged        = "ForgedTokens"
	AlarmGap           = "AuditGap"
	AlarmFailing       = "AuditFailing"
	AlarmSink          = "SinkFailing"
	AlarmClock         = "ClockStepped"
)

// Events of an Alarm.
const (
	AlarmRaised    = "raised"
	AlarmDelivered = "delivered"
)

// Alarm is the data of a KindAlarm entry. It is raised once, by whoever keeps the
// log that its cause is in, and sinks deliver it as they deliver any entry; each
// sink that has taken it is an entry of its own, so that the log says who was told
// when.
type Alarm struct {
	V int `json:"v"` // 1
	// ID names the cause: whoever else sees the same cause, or delivers the alarm
	// again, uses the same. Receivers drop what they have by it.
	ID    string `json:"id"`
	Event string `json:"event"` // raised, delivered
	Name  string `json:"name"`
	// Severity is critical, warning or info.
	Severity string `json:"severity"`
	// Time is that of the cause.
	Time time.Time `json:"time"`
	// Summary is one line for people, at most 1 KiB. No token, no key.
	Summary string `json:"summary,omitempty"`
	// Labels say what it is about: activation, role, incident, requestedBy, drill,
	// gateway, route, policy, issuer, subject, sink.
	Labels map[string]string `json:"labels,omitempty"`

	// Of a delivery: to which sink, when it had said that it has it.
	Sink string    `json:"sink,omitempty"`
	At   time.Time `json:"at,omitzero"`
}

// Read is the data of a KindRead entry. It is durable before anything is handed out.
type Read struct {
	V      int      `json:"v"` // 1
	By     string   `json:"by"`
	Groups []string `json:"groups,omitempty"`
	// What was asked for, as it was asked: the path and the query.
	What    string `json:"what"`
	Address string `json:"address,omitempty"`
	// Refused: it was not allowed, and nothing was handed out.
	Refused string `json:"refused,omitempty"`
}

// Events of a Source.
const (
	SourceBegun      = "begun"      // it was heard of for the first time
	SourceCheckpoint = "checkpoint" // where it is, now and then
	SourceEnded      = "ended"      // all of it is here, and no more comes
	SourceLost       = "lost"       // nobody has heard of it for long, and it had not ended
)

// Source is the data of a KindSource entry.
type Source struct {
	V     int    `json:"v"` // 1
	Event string `json:"event"`
	// Log is the origin in the checkpoints of that log, and Identity who brought it,
	// by certificate.
	Log      string `json:"log"`
	Identity string `json:"identity"`
	// Keys verify its checkpoints; Checkpoint is the newest that is known.
	Keys       []string `json:"keys,omitempty"`
	Checkpoint string   `json:"checkpoint,omitempty"`
	// Taken is how many of its entries are here.
	Taken uint64 `json:"taken"`
}

// Events of a Sink.
const (
	SinkFailing = "failing"
	SinkWorking = "working"
	SinkLost    = "lost" // it will never get something: the reason says what
)

// Sink is the data of a KindSink entry.
type Sink struct {
	V     int    `json:"v"` // 1
	Sink  string `json:"sink"`
	Event string `json:"event"`
	// Reason why it fails. No credentials.
	Reason string `json:"reason,omitempty"`
	// Behind is how many entries it has not taken yet.
	Behind uint64    `json:"behind,omitempty"`
	Since  time.Time `json:"since,omitzero"` // since when it failed
}
