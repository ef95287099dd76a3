package audit

import "time"

// ConnectionEntry is the data of a KindConnection entry, version 1: a connection
// on which no request was ever made.
type ConnectionEntry struct {
	V             int       `json:"v"` // 1
	Gateway       string    `json:"gateway,omitempty"`
	Epoch         string    `json:"epoch,omitempty"`
	Connection    string    `json:"connection,omitempty"`
	Start         time.Time `json:"start"` // Envoy's wall clock, µs
	DurationMs    float64   `json:"durationMs"`
	ClientAddress string    `json:"clientAddress,omitempty"`
	ServerName    string    `json:"serverName,omitempty"` // SNI
	BytesIn       uint64    `json:"bytesIn"`
	BytesOut      uint64    `json:"bytesOut"`
	ResponseFlags string    `json:"responseFlags,omitempty"`
	// Details says why it ended, such as the failure of the TLS handshake.
	Details string `json:"details,omitempty"`
	// Uncertain: it began before the writer of the log did, and may have made
	// requests then.
	Uncertain bool `json:"uncertain,omitempty"`
}
