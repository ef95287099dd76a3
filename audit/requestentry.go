package audit

import (
	"encoding/json"
	"net"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	dataaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// The types of a RequestEntry.
const (
	TypeOpen = "open" // still open after a second
	TypeEnd  = "end"
)

// Why we ended a stream: see RequestEntry.Cut. A row of Envoy's tells CutToken
// only; for CutClosed one must know when the opening ended.
const (
	CutClosed = "closed"
	CutToken  = "token"
)

// RequestEntry is the data of a KindRequest entry, version 1. Every string is
// valid UTF-8 and at most 2 KiB, and holds no token: see clean and redactPath.
type RequestEntry struct {
	V int `json:"v"` // 1
	// Key names the request: the stream id, or, for what Envoy rejected before
	// it gave one, connection and start time: Envoy's clock counts microseconds,
	// so two streams of one HTTP/2 connection may have one. All entries of a request
	// have the same.
	Key     string `json:"key"`
	Type    string `json:"type"` // intent, open, end
	Gateway string `json:"gateway,omitempty"`
	Node    string `json:"node,omitempty"`
	// Epoch names one life of the Envoy process, and N numbers the requests of it
	// in the log, from 1 and without holes. N is set by the recorder.
	Epoch      string    `json:"epoch,omitempty"`
	N          uint64    `json:"n,omitempty"`
	StreamID   string    `json:"streamID,omitempty"`
	Connection string    `json:"connection,omitempty"`
	Start      time.Time `json:"start"` // Envoy's wall clock, µs
	// DurationMs is from the first byte of the request to the last of the
	// response, in milliseconds.
	DurationMs float64 `json:"durationMs"`

	Method string `json:"method,omitempty"`
	Host   string `json:"host,omitempty"`
	Path   string `json:"path,omitempty"` // query values redacted

	Status        uint32 `json:"status"`                  // 0: the client left before one
	ResponseFlags string `json:"responseFlags,omitempty"` // as %RESPONSE_FLAGS%
	Details       string `json:"details,omitempty"`       // as %RESPONSE_CODE_DETAILS%
	// Denied says why the request was refused at one of our locks.
	Denied   string `json:"denied,omitempty"`
	BytesIn  uint64 `json:"bytesIn"`  // request body
	BytesOut uint64 `json:"bytesOut"` // response body

	Route       string   `json:"route,omitempty"`
	Rule        string   `json:"rule,omitempty"`
	Activations []string `json:"activations,omitempty"`
	Role        string   `json:"role,omitempty"`
	Incident    string   `json:"incident,omitempty"`
	Opening     string   `json:"opening,omitempty"`

	// From the verified token.
	Issuer  string `json:"issuer,omitempty"`
	Subject string `json:"subject,omitempty"`
	JTI     string `json:"jti,omitempty"`

	ClientAddress string `json:"clientAddress,omitempty"` // after trusted hops
	PeerAddress   string `json:"peerAddress,omitempty"`   // of the connection, where it differs
	// ClientCertificate is the SHA-256 of the client's certificate, in lower-case hex, where
	// the Gateway asks for one and Envoy has checked it.
	ClientCertificate string `json:"clientCertificate,omitempty"`
	UpstreamAddress   string `json:"upstreamAddress,omitempty"`
	UpstreamCluster   string `json:"upstreamCluster,omitempty"`
	// Attempts is how often it was sent to a backend, if more than once: a retry may
	// have done something twice. The address is that of the last.
	Attempts uint32 `json:"attempts,omitempty"`

	// Cut says why we ended the stream: "closed" (deadline, revocation, panic
	// button: see the entries of its activations) or "token" (the token's end).
	Cut string `json:"cut,omitempty"`
	// Via is "als" for a request that only the gRPC access log told of: Envoy died
	// before it wrote its line.
	Via string `json:"via,omitempty"`
}

// At is when Envoy told of it: at its end, or when it had been open for a second.
// It may be recorded much later.
func (r RequestEntry) At() time.Time {
	return r.Start.Add(time.Duration(r.DurationMs * float64(time.Millisecond)))
}

// entryType is end, or empty for an entry that is of something else.
func entryType(c *dataaccesslogv3.AccessLogCommon) string {
	switch c.GetAccessLogType() {
	case dataaccesslogv3.AccessLogType_DownstreamEnd, dataaccesslogv3.AccessLogType_NotSet:
		return TypeEnd
	}
	return ""
}

const jwtNamespace = "envoy.filters.http.jwt_authn"

func newRequestEntry(node, typ string, e *dataaccesslogv3.HTTPAccessLogEntry) RequestEntry {
	c, req, res := e.GetCommonProperties(), e.GetRequest(), e.GetResponse()
	tag := c.GetCustomTags()
	jwt := c.GetMetadata().GetFilterMetadata()[jwtNamespace].GetFields()
	claims := jwt["jwt"].GetStructValue().GetFields()
	row := RequestRow{
		Type: typ, Gateway: tag["bg.gateway"], Node: node, Epoch: tag["bg.epoch"],
		StreamID: c.GetStreamId(), Connection: tag["bg.connection"],

		Method: method(req.GetRequestMethod()),
		Host:   req.GetAuthority(),
		Path:   first(req.GetOriginalPath(), req.GetPath()),

		Status:        res.GetResponseCode().GetValue(),
		ResponseFlags: responseFlags(c.GetResponseFlags()),
		Details:       res.GetResponseCodeDetails(),
		JWTFailure:    jwt["jwt_fail"].GetStructValue().GetFields()["message"].GetStringValue(),
		BytesIn:       req.GetRequestBodyBytes(),
		BytesOut:      res.GetResponseBodyBytes(),

		RouteName: c.GetRouteName(), Route: tag["bg.route"], Rule: tag["bg.rule"], Role: tag["bg.role"],
		Opening: tag["bg.opening"], Activations: tag["bg.activations"], Incident: tag["bg.incident"],

		Issuer: claim(claims["iss"]), Subject: claim(claims["sub"]), JTI: claim(claims["jti"]),

		ClientAddress:     address(c.GetDownstreamRemoteAddress()),
		ClientCertificate: tag["bg.certificate"],
		PeerAddress:       address(c.GetDownstreamDirectRemoteAddress()),
		UpstreamAddress:   address(c.GetUpstreamRemoteAddress()),
		UpstreamCluster:   c.GetUpstreamCluster(),
		Attempts:          c.GetUpstreamRequestAttemptCount(),
	}
	if t := c.GetStartTime(); t.IsValid() {
		row.Start = t.AsTime()
	}
	// Without a response there is no last byte of it.
	d := c.GetTimeToLastDownstreamTxByte()
	if d == nil {
		d = c.GetDuration()
	}
	row.Duration = d.AsDuration()
	return row.Entry()
}

// maxStranger bounds what somebody without a valid token can have us write of
// his own words, per field: he writes as often as he likes.
const maxStranger = 256

// brief cuts s, which is clean, at a rune.
func brief(s string) string {
	if len(s) <= maxStranger {
		return s
	}
	return strings.ToValidUTF8(s[:maxStranger], "") + "..."
}

func first(ss ...string) string {
	for _, s := range ss {
		if s != "" {
			return s
		}
	}
	return ""
}

// list reads a tag with several values: a JSON list, or separated by commas.
func list(s string) []string {
	const most = 64
	var out []string
	if json.Unmarshal([]byte(s), &out) != nil {
		out = strings.Split(s, ",")
	}
	kept := out[:0]
	for _, v := range out {
		if v = clean(strings.TrimSpace(v)); v != "" && v != "-" && len(kept) < most {
			kept = append(kept, v)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return kept
}

// claim takes strings, and numbers as a careless issuer writes them.
func claim(v *structpb.Value) string {
	switch v := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		return v.StringValue
	case *structpb.Value_NumberValue:
		return strconv.FormatFloat(v.NumberValue, 'f', -1, 64)
	}
	return ""
}

func method(m corev3.RequestMethod) string {
	if m == corev3.RequestMethod_METHOD_UNSPECIFIED {
		return ""
	}
	return clean(m.String())
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// address is host:port, the path of a socket, or what an internal listener
// stands for: its endpoint_id carries the real upstream address.
func address(a *corev3.Address) string {
	switch a := a.GetAddress().(type) {
	case *corev3.Address_SocketAddress:
		return clean(net.JoinHostPort(a.SocketAddress.GetAddress(), strconv.FormatUint(uint64(a.SocketAddress.GetPortValue()), 10)))
	case *corev3.Address_Pipe:
		return clean(a.Pipe.GetPath())
	case *corev3.Address_EnvoyInternalAddress:
		return first(clean(a.EnvoyInternalAddress.GetEndpointId()), "internal:"+clean(a.EnvoyInternalAddress.GetServerListenerName()))
	}
	return ""
}

// denied names the lock at which a request ended, from Envoy's response code
// details and the failure that jwt_authn leaves in the metadata. A client that
// resets the stream, or breaks the connection, before it has taken the answer has
// Envoy replace the details: then the status says it, where no backend was asked.
func denied(status uint32, details, jwtFailure, upstream string) string {
	inBraces := func(open, end string) string {
		_, s, _ := strings.Cut(details, open)
		s, _, _ = strings.Cut(s, end)
		return s
	}
	switch {
	case strings.HasPrefix(details, "jwt_authn_access_denied"):
		return clean("token: " + first(clean(jwtFailure), strings.ReplaceAll(inBraces("{", "}"), "_", " "), "refused"))
	case strings.HasPrefix(details, "rbac_access_denied"):
		return clean("rbac: " + first(inBraces("[", "]"), "refused"))
	case strings.HasPrefix(details, "ext_authz"):
		return "audit: its intent is not durable"
	case details == "route_not_found", status == 404 && details == "direct_response":
		return "not open"
	case status == 421 && details == "direct_response":
		return "misdirected"
	case upstream != "":
		return ""
	}
	return deniedWith[status]
}

// deniedWith are the locks whose answers nothing else of Envoy gives.
var deniedWith = map[uint32]string{401: "token: refused", 403: "rbac: refused", 404: "not open", 421: "misdirected"}

// responseFlags writes the flags as %RESPONSE_FLAGS% does.
func responseFlags(f *dataaccesslogv3.ResponseFlags) string {
	if f == nil {
		return ""
	}
	var out []string
	for _, x := range []struct {
		set  bool
		name string
	}{
		{f.FailedLocalHealthcheck, "LH"}, {f.NoHealthyUpstream, "UH"}, {f.UpstreamRequestTimeout, "UT"},
		{f.LocalReset, "LR"}, {f.UpstreamRemoteReset, "UR"}, {f.UpstreamConnectionFailure, "UF"},
		{f.UpstreamConnectionTermination, "UC"}, {f.UpstreamOverflow, "UO"}, {f.NoRouteFound, "NR"},
		{f.DelayInjected, "DI"}, {f.FaultInjected, "FI"}, {f.RateLimited, "RL"},
		{f.UnauthorizedDetails != nil, "UAEX"}, {f.RateLimitServiceError, "RLSE"},
		{f.DownstreamConnectionTermination, "DC"}, {f.UpstreamRetryLimitExceeded, "URX"},
		{f.StreamIdleTimeout, "SI"}, {f.InvalidEnvoyRequestHeaders, "IH"}, {f.DownstreamProtocolError, "DPE"},
		{f.UpstreamMaxStreamDurationReached, "UMSDR"}, {f.ResponseFromCacheFilter, "RFCF"},
		{f.NoFilterConfigFound, "NFCF"}, {f.DurationTimeout, "DT"}, {f.UpstreamProtocolError, "UPE"},
		{f.NoClusterFound, "NC"}, {f.OverloadManager, "OM"}, {f.DnsResolutionFailure, "DF"},
		{f.DownstreamRemoteReset, "DR"},
	} {
		if x.set {
			out = append(out, x.name)
		}
	}
	return strings.Join(out, ",")
}
