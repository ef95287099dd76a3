package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// The types of a Row.
const (
	TypeEnd        = audit.TypeEnd  // a request ended
	TypeOpen       = audit.TypeOpen // a stream is still open after a second
	TypeConnection = "connection"   // a connection ended
)

// Row is one line of Envoy's spool.
type Row struct {
	Type string
	// Epoch names one life of one Envoy process.
	Epoch string
	// Key names the request as audit.RequestEntry.Key does.
	Key string
	// Connection is Envoy's id of the connection, unique within the epoch; "" if it
	// ended before it had one.
	Connection string
	// Request is set for end and open rows.
	Request *audit.RequestEntry
	// Closed is set for connection rows: what is to be logged of it.
	Closed *audit.ConnectionEntry
}

// Record is what the tail found next.
type Record struct {
	Row *Row
	// Problem says why a line could not be read; Row is then nil, and Raw the
	// beginning of the line, cleaned, at most 256 bytes.
	Problem string
	Raw     string
	// Position is where the next record begins: to be given to Open after a
	// restart, once this record is durable elsewhere.
	Position string
}

// line is the JSON object as translator/lock has Envoy write it.
type line struct {
	Type       string  `json:"typ"`
	Epoch      string  `json:"ep"`
	StreamID   string  `json:"sid"`
	Connection text    `json:"conn"`
	Start      string  `json:"t"`
	Micros     *uint64 `json:"us"`
	Millis     uint64  `json:"d"`

	Method string `json:"m"`
	Host   string `json:"h"`
	Path   string `json:"p"`

	Status  uint32 `json:"code"`
	Flags   string `json:"fl"`
	Details string `json:"det"`
	In      uint64 `json:"rx"`
	Out     uint64 `json:"tx"`

	Upstream string `json:"up"`
	Cluster  string `json:"upc"`
	Attempts uint32 `json:"att"`
	Client   string `json:"cl"`
	Peer     string `json:"peer"`

	Certificate string `json:"cc"`

	Issuer  text `json:"iss"`
	Subject text `json:"sub"`
	JTI     text `json:"jti"`

	RouteName   string `json:"rt"`
	Route       string `json:"route"`
	Rule        string `json:"rule"`
	Role        string `json:"role"`
	Opening     string `json:"opening"`
	Activations string `json:"act"`
	Incidents   string `json:"inc"`

	ServerName string `json:"sni"`
	TLS        string `json:"tls"`
	Shutdown   string `json:"close"`
}

// text is a string, or a number as a careless issuer writes its claims. Other
// values are nothing, as in the gRPC access log.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	*t = ""
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(t))
	}
	if f, err := strconv.ParseFloat(string(b), 64); err == nil {
		*t = text(strconv.FormatFloat(f, 'f', -1, 64))
	}
	return nil
}

// Line parses one line of the spool, without its newline. Fields that it does
// not know are no error.
func Line(b []byte) (*Row, error) {
	var l line
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, fmt.Errorf("not a line of Envoy's: %w", err)
	}
	if l.Epoch == "" || l.Epoch == "-" || len(l.Epoch) > 64 {
		return nil, errors.New(`field "ep" is not an epoch`)
	}
	start, err := time.Parse(time.RFC3339Nano, l.Start)
	if err != nil {
		return nil, errors.New(`field "t" is not a time`)
	}
	switch l.Type {
	case "DownstreamEnd":
		return l.request(TypeEnd, start), nil
	case "DownstreamPeriodic":
		return l.request(TypeOpen, start), nil
	case TypeConnection:
		return l.connection(start), nil
	}
	return nil, errors.New(`field "typ" is not a type of line that is known`)
}

func (l *line) request(typ string, start time.Time) *Row {
	e := audit.RequestRow{
		Type: typ, Epoch: l.Epoch, StreamID: l.StreamID, Connection: string(l.Connection), Start: start, Duration: l.duration(),
		Method: l.Method, Host: l.Host, Path: l.Path,
		Status: l.Status, ResponseFlags: l.Flags, Details: l.Details, BytesIn: l.In, BytesOut: l.Out,
		RouteName: l.RouteName, Route: l.Route, Rule: l.Rule, Role: l.Role, Opening: l.Opening, Activations: l.Activations, Incident: l.Incidents,
		Issuer: string(l.Issuer), Subject: string(l.Subject), JTI: string(l.JTI),
		ClientAddress: l.Client, ClientCertificate: l.Certificate, PeerAddress: l.Peer, UpstreamAddress: upstream(l.Upstream), UpstreamCluster: l.Cluster, Attempts: l.Attempts,
	}.Entry()
	return &Row{Type: typ, Epoch: e.Epoch, Key: e.Key, Connection: e.Connection, Request: &e}
}

func (l *line) connection(start time.Time) *Row {
	if l.Connection == "0" { // closed before Envoy gave it an id; 0 is Envoy's own connection to us
		l.Connection = ""
	}
	e := audit.ConnectionRow{
		Epoch: l.Epoch, Connection: string(l.Connection), Start: start, Duration: l.duration(),
		PeerAddress: l.Peer, ServerName: l.ServerName, BytesIn: l.In, BytesOut: l.Out,
		ResponseFlags: l.Flags, Termination: l.Details, TLS: l.TLS, Shutdown: l.Shutdown,
	}.Entry()
	return &Row{Type: TypeConnection, Epoch: e.Epoch, Connection: e.Connection, Closed: &e}
}

// duration prefers microseconds; they end with the response, if there was one.
func (l *line) duration() time.Duration {
	const most = 1 << 50 // beyond is no duration, and would overflow
	if l.Micros != nil {
		return time.Duration(min(*l.Micros, most)) * time.Microsecond
	}
	return time.Duration(min(l.Millis, most/1000)) * time.Millisecond
}

// upstream takes the real address out of envoy://LISTENER/ADDRESS.
func upstream(s string) string {
	name, internal := strings.CutPrefix(s, "envoy://")
	if !internal {
		return s
	}
	if i := strings.LastIndexByte(name, '/'); i >= 0 && i+1 < len(name) {
		return name[i+1:]
	}
	return "internal:" + strings.TrimSuffix(name, "/")
}

// piece is a part of a line of the file, which ends end bytes into the line.
type piece struct {
	row *Row
	err error
	raw []byte
	end int
}

// pieces takes a line of the file apart. It is one piece, unless an Envoy died
// within a write and its successor went on there: what is whole in it is kept.
// A row has no object within, and a quote of a client's is escaped in it, so {"
// is nowhere but at the beginning of a row.
func pieces(b []byte, end int) []piece {
	row, err := Line(b)
	if err == nil {
		return []piece{{row: row, end: end}}
	}
	begin := []byte(`{"`)
	var all []piece
	broken := 0 // begins here, up to at
	for at := 0; at < len(b); {
		next := len(b)
		if i := bytes.Index(b[at+1:], begin); i >= 0 {
			next = at + 1 + i
		}
		last := at + bytes.LastIndexByte(b[at:next], '}') + 1 // a torn row may follow of which there is { alone
		if row, rowErr := Line(b[at:last]); rowErr == nil {
			if broken < at {
				all = append(all, piece{err: err, raw: b[broken:at], end: at})
			}
			all = append(all, piece{row: row, end: last})
			broken = last
		}
		at = next
	}
	if broken < len(b) {
		all = append(all, piece{err: err, raw: b[broken:], end: len(b)})
	}
	all[len(all)-1].end = end
	return all
}
