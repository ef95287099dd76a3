package audit

import (
	"bytes"
	"encoding/json"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	dataaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJl"

type sink struct {
	mu      sync.Mutex
	entries []RequestEntry
}

func (s *sink) Request(e RequestEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = append(s.entries, e)
}

func socket(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}}}
}

// full is an entry as Envoy sends it, with everything set.
func full() *dataaccesslogv3.HTTPAccessLogEntry {
	md, err := structpb.NewStruct(map[string]any{"jwt": map[string]any{"iss": "https://idp", "sub": "bob", "jti": "j-1", "exp": 1e9}})
	if err != nil {
		panic(err)
	}
	return &dataaccesslogv3.HTTPAccessLogEntry{
		CommonProperties: &dataaccesslogv3.AccessLogCommon{
			StreamId: "6f1c", AccessLogType: dataaccesslogv3.AccessLogType_DownstreamEnd, RouteName: "envoy-route",
			StartTime: timestamppb.New(time.Date(2026, 11, 23, 22, 0, 0, 123456789, time.UTC)), Duration: durationpb.New(1234567 * time.Nanosecond),
			DownstreamRemoteAddress: socket("192.0.2.7", 1234), DownstreamDirectRemoteAddress: socket("::1", 99),
			UpstreamRemoteAddress: &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
				AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: "int-A"}, EndpointId: "10.0.0.1:80"}}},
			UpstreamCluster: "c-1", UpstreamRequestAttemptCount: 2, ResponseFlags: &dataaccesslogv3.ResponseFlags{UpstreamConnectionTermination: true, UpstreamMaxStreamDurationReached: true},
			Metadata: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{jwtNamespace: md}},
			CustomTags: map[string]string{"bg.epoch": "e-1", "bg.connection": "7", "bg.gateway": "ops/gw", "bg.route": "pay/db", "bg.rule": "1", "bg.role": "dba",
				"bg.activations": "pay/a, pay/b", "bg.incident": "INC-1", "bg.opening": "o-1", "bg.certificate": "ab12"},
		},
		Request: &dataaccesslogv3.HTTPRequestProperties{RequestMethod: corev3.RequestMethod_POST, Authority: "db.example", Path: "/rewritten",
			OriginalPath: "/failover?to=b&" + token, RequestBodyBytes: 10, RequestId: "a client's own",
			RequestHeaders: map[string]string{"authorization": "Bearer " + token}},
		Response: &dataaccesslogv3.HTTPResponseProperties{ResponseCode: wrapperspb.UInt32(200), ResponseBodyBytes: 20, ResponseCodeDetails: "via_upstream"},
	}
}

func TestEachFieldOfARequestIsKept(t *testing.T) {
	got := newRequestEntry("node-1", TypeEnd, full())
	want := RequestEntry{
		V: 1, Key: "6f1c", Type: "end", Gateway: "ops/gw", Node: "node-1", StreamID: "6f1c", Epoch: "e-1", Connection: "7", Cut: "token",
		Start: time.Date(2026, 11, 23, 22, 0, 0, 123456000, time.UTC), DurationMs: 1.234,
		Method: "POST", Host: "db.example", Path: "/failover?to=redacted&redacted",
		Status: 200, ResponseFlags: "UC,UMSDR", Details: "via_upstream", BytesIn: 10, BytesOut: 20,
		Route: "pay/db", Rule: "1", Activations: []string{"pay/a", "pay/b"}, Role: "dba", Incident: "INC-1", Opening: "o-1",
		Issuer: "https://idp", Subject: "bob", JTI: "j-1",
		ClientAddress: "192.0.2.7:1234", ClientCertificate: "ab12", PeerAddress: "[::1]:99", UpstreamAddress: "10.0.0.1:80", UpstreamCluster: "c-1", Attempts: 2,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if v := reflect.ValueOf(got); true {
		for i := range v.NumField() {
			if f := v.Type().Field(i).Name; v.Field(i).IsZero() && f != "Denied" && f != "N" && f != "Via" {
				t.Errorf("the test does not set %s", f)
			}
		}
	}
	e := full()
	e.CommonProperties.StreamId, e.CommonProperties.CustomTags = "", map[string]string{"bg.route": "-", "bg.activations": `["x/\u0007y"]`}
	got = newRequestEntry("node-1", TypeEnd, e)
	if got.Key != "[::1]:99@2026-11-23T22:00:00.123456Z" || got.Gateway != "node-1" || got.Route != "envoy-route" || got.Activations[0] != "x/\uFFFDy" {
		t.Errorf("got %+v", got)
	}
}

func TestDeniedNamesTheLock(t *testing.T) {
	for _, c := range []struct {
		status                  uint32
		details, upstream, want string
	}{
		{401, "jwt_authn_access_denied{Jwt_is_missing}", "", "token: Jwt is missing"},
		{403, "rbac_access_denied_matched_policy[none]", "", "rbac: none"},
		{404, "route_not_found", "", "not open"}, {404, "direct_response", "", "not open"}, {302, "direct_response", "", ""},
		{421, "direct_response", "", "misdirected"}, {503, "ext_authz_error", "", "audit: its intent is not durable"}, {404, "via_upstream", "10.0.0.1:80", ""},
	} {
		if got := denied(c.status, c.details, "", c.upstream); got != c.want {
			t.Errorf("%d %s: %q, want %q", c.status, c.details, got, c.want)
		}
	}
	if got := denied(401, "jwt_authn_access_denied{Jwt_verification_fails}", "Jwt is expired", ""); got != "token: Jwt is expired" {
		t.Errorf("got %q", got)
	}
}

// The client sends RST_STREAM, breaks the connection or the protocol, or takes
// nothing until Envoy has had enough.
func TestWhoDoesNotTakeTheAnswerIsDeniedAllTheSame(t *testing.T) {
	for _, details := range []string{"http2.remote_reset", "downstream_remote_disconnect", "codec_error:http2.violation", "http2.local_reset", ""} {
		for status, want := range map[uint32]string{401: "token: refused", 403: "rbac: refused", 404: "not open", 421: "misdirected", 503: "", 400: "", 0: ""} {
			row := RequestRow{Type: TypeEnd, Status: status, Details: details, ResponseFlags: "DR", UpstreamAddress: "-"}
			if got := row.Entry().Denied; got != want {
				t.Errorf("%d %s: %q, want %q", status, details, got, want)
			}
			row.UpstreamAddress = "10.0.0.1:80"
			if got := row.Entry().Denied; got != "" {
				t.Errorf("%d %s of a backend: %q", status, details, got)
			}
		}
	}
}

func TestPathsAndHostsHoldNoSecrets(t *testing.T) {
	for in, want := range map[string]string{
		"/a":                     "/a",
		"/a?":                    "/a?",
		"/a?k=v&k=w;x=y":         "/a?k=redacted&k=redacted&x=redacted",
		"/a?k=v=w&&q":            "/a?k=redacted&redacted",
		"/a?secret":              "/a?redacted",
		"/a?s%65c[0]=1":          "/a?s%65c[0]=redacted",
		"/a?a b=1":               "/a?redacted",
		"/a?x=?y=z#f":            "/a?x=redacted#redacted",
		"/a#" + token:            "/a#redacted",
		"/" + token + "/b":       "/redacted/b",
		"/a;jsessionid=9;v=2/b":  "/a;jsessionid=redacted;v=redacted/b",
		"/\xff\x00\u202e":        "/\uFFFD\uFFFD\uFFFD",
		"?access_token=" + token: "?access_token=redacted",
	} {
		if got := redactPath(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := redactHost("bob:pw@db.example:443"); got != "redacted@db.example:443" {
		t.Errorf("host %q", got)
	}
	if got := clean(strings.Repeat("é", maxField)); len(got) > maxField || !strings.HasSuffix(got, "é…") {
		t.Errorf("bound to %d bytes", len(got))
	}
}

// serve runs a receiver and returns a client of it, and what ends it once it
// has handled everything.
func serve(t *testing.T, r *Receiver) (*grpc.ClientConn, func()) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "als.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	r.Register(s)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	cc, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc, s.GracefulStop
}

func TestAStreamOfEnvoyBecomesRequestEntries(t *testing.T) {
	var got sink
	r := NewReceiver(&got, quiet)
	cc, _ := serve(t, r)
	stream, err := alsv3.NewAccessLogServiceClient(cc).StreamAccessLogs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	start, periodic := full(), full()
	start.CommonProperties.AccessLogType = dataaccesslogv3.AccessLogType_DownstreamStart
	periodic.CommonProperties.AccessLogType = dataaccesslogv3.AccessLogType_DownstreamPeriodic
	first := hostile()
	first.Identifier = &alsv3.StreamAccessLogsMessage_Identifier{Node: &corev3.Node{Id: "gw-1"}, LogName: "x"}
	for _, m := range []*alsv3.StreamAccessLogsMessage{
		first,
		{LogEntries: &alsv3.StreamAccessLogsMessage_HttpLogs{HttpLogs: &alsv3.StreamAccessLogsMessage_HTTPAccessLogEntries{
			LogEntry: []*dataaccesslogv3.HTTPAccessLogEntry{start, periodic, full()}}}},
		{LogEntries: &alsv3.StreamAccessLogsMessage_TcpLogs{TcpLogs: &alsv3.StreamAccessLogsMessage_TCPAccessLogEntries{
			LogEntry: []*dataaccesslogv3.TCPAccessLogEntry{{}, {}}}}},
	} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	if s, want := r.Stats(), (ReceiverStats{Streams: 1, Requests: 3, Ignored: 2, TCP: 2}); s != want {
		t.Errorf("stats %+v, want %+v", s, want)
	}
	var types []string
	for _, e := range got.entries {
		types = append(types, e.Type+":"+e.Node)
		data, err := json.Marshal(e)
		if err != nil || bytes.Contains(data, []byte("eyJ")) || bytes.Contains(data, []byte("pw@")) {
			t.Errorf("a secret in %s, or %v", data, err)
		}
	}
	wantTexts(t, types, "end:gw-1", "end:gw-1", "end:gw-1")
}

// raw hands bytes to gRPC as a message.
func raw(b []byte) proto.Message {
	var m emptypb.Empty
	m.ProtoReflect().SetUnknown(b)
	return &m
}

func TestBytesThatAreNotUTF8DoNotEndTheStream(t *testing.T) {
	var s sink
	r := NewReceiver(&s, quiet)
	cc, stop := serve(t, r)
	stream, err := cc.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, alsv3.AccessLogService_StreamAccessLogs_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	e := full()
	e.CommonProperties.CustomTags["bg.incident"] = "XYZ"
	e.Request.Path, e.Request.OriginalPath = "/XYZ", ""
	b, err := proto.Marshal(&alsv3.StreamAccessLogsMessage{LogEntries: &alsv3.StreamAccessLogsMessage_HttpLogs{
		HttpLogs: &alsv3.StreamAccessLogsMessage_HTTPAccessLogEntries{LogEntry: []*dataaccesslogv3.HTTPAccessLogEntry{e, full()}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{bytes.ReplaceAll(b, []byte("XYZ"), []byte("\xffY\xc0")), {0x12, 2, 0xff, 0xff}, b, {0xff, 0xff}} {
		if err := stream.SendMsg(raw(b)); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&alsv3.StreamAccessLogsResponse{}); status.Code(err) != codes.Internal {
		t.Fatalf("what is no message at all: %v", err)
	}
	stop()
	if got := r.Stats(); got.Requests != 4 || got.Malformed != 2 {
		t.Errorf("stats %+v", got)
	}
	if len(s.entries) != 4 {
		t.Fatalf("%d entries", len(s.entries))
	}
	if first := s.entries[0]; first.Path != "/\uFFFDY\uFFFD" || first.Incident != "\uFFFDY\uFFFD" || first.Subject != "bob" {
		t.Errorf("first %+v", first)
	}
}

// Whoever has no token writes as often as he likes: also a browser's question, which
// an open route answers, is kept with few of his words.
func TestAStrangersWordsAreFew(t *testing.T) {
	long := "/" + strings.Repeat("x", 1000)
	row := RequestRow{Type: TypeEnd, Host: "a.example", Path: long, Status: 200, Details: "cors_response", Opening: "o", Start: time.Unix(1, 0)}
	if e := row.Entry(); len(e.Path) > 300 || e.Attempts != 0 {
		t.Errorf("%d bytes of a path, %d attempts", len(e.Path), e.Attempts)
	}
	row.Subject, row.UpstreamAddress, row.Attempts = "ann", "10.0.0.1:80", 1
	if e := row.Entry(); e.Path != long || e.Attempts != 0 {
		t.Errorf("of a holder of a token: %d bytes of a path, %d attempts", len(e.Path), e.Attempts)
	}
}
