package audit

import (
	"strings"
	"time"
)

// How much of what a client chose is read, in bytes. The formats in
// translator/lock cut there, so the gRPC access log is cut there too.
const (
	maxPath = 2 << 10
	maxHost = 512
)

// RequestRow is a request as Envoy tells of it, by file or by gRPC. Nothing in
// it is cleaned or bounded; "" and "-" are both nothing.
type RequestRow struct {
	Type, Gateway, Node, Epoch, StreamID, Connection string

	Start    time.Time
	Duration time.Duration

	Method, Host, Path string

	Status                 uint32
	ResponseFlags, Details string
	JWTFailure             string
	BytesIn, BytesOut      uint64

	RouteName, Route, Rule, Role, Opening, Activations, Incident string
	Issuer, Subject, JTI                                         string

	ClientAddress, PeerAddress, UpstreamAddress, UpstreamCluster string
	Attempts                                                     uint32
	// ClientCertificate is the SHA-256 of one that was checked, in hex.
	ClientCertificate string
}

// Entry is what may be kept of it. Rows of one request give the same entry,
// whichever way they came; only bytes that are not UTF-8, and the duration of
// an aborted request (milliseconds in the file), may differ.
func (row RequestRow) Entry() RequestEntry {
	r := RequestEntry{
		V:          1,
		Type:       row.Type,
		Gateway:    word(row.Gateway),
		Node:       word(row.Node),
		Epoch:      word(row.Epoch),
		StreamID:   word(row.StreamID),
		Connection: word(row.Connection),
		Start:      row.Start.UTC().Truncate(time.Microsecond),
		DurationMs: milliseconds(row.Duration),

		Method: word(row.Method),
		Host:   redactHost(cut(row.Host, maxHost)),
		Path:   redactPath(cut(row.Path, maxPath)),

		Status:        row.Status,
		ResponseFlags: word(row.ResponseFlags),
		Details:       word(row.Details),
		BytesIn:       row.BytesIn,
		BytesOut:      row.BytesOut,

		Route:       first(word(row.Route), word(row.RouteName)),
		Rule:        word(row.Rule),
		Activations: list(row.Activations),
		Role:        word(row.Role),
		Incident:    word(row.Incident),
		Opening:     word(row.Opening),

		Issuer:  clean(cut(row.Issuer, maxField)),
		Subject: clean(cut(row.Subject, maxField)),
		JTI:     clean(cut(row.JTI, maxField)),

		ClientAddress:     word(row.ClientAddress),
		ClientCertificate: word(row.ClientCertificate),
		UpstreamAddress:   word(row.UpstreamAddress),
	}
	r.Gateway = first(r.Gateway, r.Node)
	if peer := word(row.PeerAddress); peer != r.ClientAddress {
		r.PeerAddress = peer
	}
	if r.UpstreamAddress != "" { // else the file names the cluster it would have been
		r.UpstreamCluster = word(row.UpstreamCluster)
	}
	if row.Attempts > 1 {
		r.Attempts = row.Attempts
	}
	r.Denied = denied(r.Status, r.Details, row.JWTFailure, r.UpstreamAddress)
	r.Cut = endedBy(r.ResponseFlags)
	if r.Opening == "" || r.Subject == "" && r.UpstreamAddress == "" {
		r.Path, r.Host = brief(r.Path), brief(r.Host)
	}
	r.Key = r.StreamID
	if r.Key == "" {
		r.Key = first(r.Connection, r.PeerAddress, r.ClientAddress) + "@" + r.Start.Format(timeLayout)
	}
	return r
}

// word is clean for a value that Envoy writes as "-" when there is none.
func word(s string) string {
	if s == "-" {
		return ""
	}
	return clean(s)
}

// cut what Envoy has cut, or would have.
func cut(s string, n int) string {
	if len(s) < n {
		return s
	}
	return s[:n] + "…"
}

// endedBy knows the token's end, for which nothing else uses Envoy's timer of
// the upstream stream. That the lease went away looks to Envoy like a backend
// that closed: only who closed it can tell.
func endedBy(flags string) string {
	for flag := range strings.SplitSeq(flags, ",") {
		if flag == "UMSDR" {
			return CutToken
		}
	}
	return ""
}

// ConnectionRow is a connection as Envoy's file tells of it, not cleaned.
type ConnectionRow struct {
	Epoch, Connection          string
	Start                      time.Time
	Duration                   time.Duration
	PeerAddress, ServerName    string
	BytesIn, BytesOut          uint64
	ResponseFlags              string
	Termination, TLS, Shutdown string
}

// Entry is what may be kept of it.
func (row ConnectionRow) Entry() ConnectionEntry {
	return ConnectionEntry{
		V:             1,
		Epoch:         word(row.Epoch),
		Connection:    word(row.Connection),
		Start:         row.Start.UTC().Truncate(time.Microsecond),
		DurationMs:    milliseconds(row.Duration),
		ClientAddress: word(row.PeerAddress),
		ServerName:    brief(word(row.ServerName)),
		BytesIn:       row.BytesIn,
		BytesOut:      row.BytesOut,
		ResponseFlags: word(row.ResponseFlags),
		Details:       first(word(row.TLS), word(row.Termination), word(row.Shutdown)),
	}
}
