package audit

import (
	"encoding/json"
	"math"
	"net"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	dataaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// The types of a RequestEntry.
const (
	TypeStart = "start"
	TypeEnd   = "end"
)

// RequestEntry is the data of a KindRequest entry, version 1. Every string is
// valid UTF-8 and at most 2 KiB, and holds no token: see clean and redactPath.
type RequestEntry struct {
	V int `json:"v"` // 1
	// Key names the request: the stream id, or, for what Envoy rejected before
	// it gave one, connection and start time. Start and end have the same.
	Key        string    `json:"key"`
	Type       string    `json:"type"` // start, end
	Gateway    string    `json:"gateway,omitempty"`
	Node       string    `json:"node,omitempty"`
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

	ClientAddress   string `json:"clientAddress,omitempty"` // after trusted hops
	PeerAddress     string `json:"peerAddress,omitempty"`   // of the connection, where it differs
	UpstreamAddress string `json:"upstreamAddress,omitempty"`
	UpstreamCluster string `json:"upstreamCluster,omitempty"`
}

// entryType is start, end, or empty for an entry that is neither.
func entryType(c *dataaccesslogv3.AccessLogCommon) string {
	switch c.GetAccessLogType() {
	case dataaccesslogv3.AccessLogType_DownstreamStart:
		return TypeStart
	case dataaccesslogv3.AccessLogType_DownstreamEnd, dataaccesslogv3.AccessLogType_NotSet:
		return TypeEnd
	}
	return ""
}

const jwtNamespace = "envoy.filters.http.jwt_authn"

func newRequestEntry(node, typ string, e *dataaccesslogv3.HTTPAccessLogEntry) RequestEntry {
	c, req, res := e.GetCommonProperties(), e.GetRequest(), e.GetResponse()
	tag := func(name string) string {
		if v := c.GetCustomTags()[name]; v != "-" {
			return clean(v)
		}
		return ""
	}
	jwt := c.GetMetadata().GetFilterMetadata()[jwtNamespace]
	claims := jwt.GetFields()["jwt"].GetStructValue().GetFields()
	path := req.GetOriginalPath()
	if path == "" {
		path = req.GetPath()
	}
	r := RequestEntry{
		V:        1,
		Type:     typ,
		Node:     clean(node),
		StreamID: clean(c.GetStreamId()),

		Method: method(req.GetRequestMethod()),
		Host:   redactHost(req.GetAuthority()),
		Path:   redactPath(path),

		Status:        res.GetResponseCode().GetValue(),
		ResponseFlags: responseFlags(c.GetResponseFlags()),
		Details:       clean(res.GetResponseCodeDetails()),
		BytesIn:       req.GetRequestBodyBytes(),
		BytesOut:      res.GetResponseBodyBytes(),

		Route:       first(tag("bg.route"), clean(c.GetRouteName())),
		Rule:        tag("bg.rule"),
		Activations: list(c.GetCustomTags()["bg.activations"]),
		Role:        tag("bg.role"),
		Incident:    tag("bg.incident"),
		Opening:     tag("bg.opening"),

		Issuer:  claim(claims["iss"]),
		Subject: claim(claims["sub"]),
		JTI:     claim(claims["jti"]),

		ClientAddress:   address(c.GetDownstreamRemoteAddress()),
		UpstreamAddress: address(c.GetUpstreamRemoteAddress()),
		UpstreamCluster: clean(c.GetUpstreamCluster()),
	}
	r.Gateway = first(tag("bg.gateway"), r.Node)
	if peer := address(c.GetDownstreamDirectRemoteAddress()); peer != r.ClientAddress {
		r.PeerAddress = peer
	}
	if t := c.GetStartTime(); t.IsValid() {
		r.Start = t.AsTime().Truncate(time.Microsecond)
	}
	d := c.GetDuration()
	if d == nil {
		d = c.GetTimeToLastDownstreamTxByte()
	}
	r.DurationMs = milliseconds(d)
	r.Denied = denied(r.Status, r.Details, jwt.GetFields()["jwt_fail"])
	if r.Opening == "" || r.Subject == "" && r.Denied != "" {
		r.Path, r.Host = brief(r.Path), brief(r.Host)
	}
	r.Connection = tag("bg.connection")
	r.Key = r.StreamID
	if r.Key == "" {
		r.Key = first(r.Connection, r.PeerAddress, r.ClientAddress) + "@" + r.Start.Format(timeLayout)
	}
	return r
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
		return clean(v.StringValue)
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

func milliseconds(d *durationpb.Duration) float64 {
	return math.Round(float64(d.AsDuration().Microseconds())) / 1000
}

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
// details and the failure that jwt_authn leaves in the metadata.
func denied(status uint32, details string, jwtFail *structpb.Value) string {
	inBraces := func(open, end string) string {
		_, s, _ := strings.Cut(details, open)
		s, _, _ = strings.Cut(s, end)
		return s
	}
	switch {
	case strings.HasPrefix(details, "jwt_authn_access_denied"):
		why := clean(jwtFail.GetStructValue().GetFields()["message"].GetStringValue())
		return clean("token: " + first(why, strings.ReplaceAll(inBraces("{", "}"), "_", " "), "refused"))
	case strings.HasPrefix(details, "rbac_access_denied"):
		return clean("rbac: " + first(inBraces("[", "]"), "refused"))
	case strings.HasPrefix(details, "ext_authz"):
		return "ext_authz"
	case details == "route_not_found", status == 404 && details == "direct_response":
		return "not open"
	case status == 421 && details == "direct_response":
		return "misdirected"
	}
	return ""
}

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
