package intent

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// token looks like one.
const token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2ln"

func socket(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}}}
}

func mustStruct(t testing.TB, m map[string]any) *structpb.Struct {
	s, err := structpb.NewStruct(m)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// checkRequest is a CheckRequest as Envoy sends it for the request of full.
func checkRequest(t testing.TB) *authv3.CheckRequest {
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source:      &authv3.AttributeContext_Peer{Address: socket("192.0.2.7", 1234)},
		Destination: &authv3.AttributeContext_Peer{Address: socket("10.0.0.9", 443)},
		Request: &authv3.AttributeContext_Request{
			Time: timestamppb.New(time.Date(2026, 11, 23, 22, 0, 0, 123456789, time.UTC)),
			Http: &authv3.AttributeContext_HttpRequest{
				Id: "8217", Method: "POST", Host: "db.example", Path: "/failover?to=b&" + token, Headers: map[string]string{"x-request-id": "6f1c"},
				Scheme: "https", Protocol: "HTTP/2", Size: -1,
			},
		},
		MetadataContext: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
			"other":         mustStruct(t, map[string]any{"jwt": map[string]any{"sub": "mallory"}}),
			claimsNamespace: mustStruct(t, map[string]any{"header": map[string]any{"alg": "ES256"}, "jwt": map[string]any{"iss": "https://idp", "sub": "bob", "jti": "j-1", "exp": 1e9, "groups": []any{"db"}}}),
		}},
		RouteMetadataContext: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
			"breakglass.dev": mustStruct(t, map[string]any{"answer": "strict", "gateway": "ops/gw", "route": "pay/db", "rule": "1", "role": "dba",
				"activations": "pay/a,pay/b", "incidents": "INC-1", "opening": "o-1", "deadline": 1e15, "lifetimes": map[string]any{"https://idp": 3600.0}}),
		}},
	}}
}

func encoded(t testing.TB, q *authv3.CheckRequest) []byte {
	b, err := proto.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is known before a request is forwarded is the same in its intent and at its
// end.
func TestAnIntentSaysWhatItsEndWillSay(t *testing.T) {
	got, err := read("e-1", encoded(t, checkRequest(t)))
	if err != nil {
		t.Fatal(err)
	}
	// As an end of the same request: see the receiver's test.
	want := audit.RequestEntry{
		V: 1, Key: "6f1c", Type: "intent", Gateway: "ops/gw", StreamID: "6f1c", Epoch: "e-1", Start: time.Date(2026, 11, 23, 22, 0, 0, 123456000, time.UTC),
		Method: "POST", Host: "db.example", Path: "/failover?to=redacted&redacted",
		Route: "pay/db", Rule: "1", Activations: []string{"pay/a", "pay/b"}, Role: "dba", Incident: "INC-1", Opening: "o-1",
		Issuer: "https://idp", Subject: "bob", JTI: "j-1", ClientAddress: "192.0.2.7:1234",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestAnIntentThatDoesNotSayOfWhatIsRefused(t *testing.T) {
	for name, forget := range map[string]func(*authv3.AttributeContext){
		"id":      func(a *authv3.AttributeContext) { a.Request.Http.Headers = nil },
		"time":    func(a *authv3.AttributeContext) { a.Request.Time = nil },
		"opening": func(a *authv3.AttributeContext) { a.RouteMetadataContext = nil },
		"who":     func(a *authv3.AttributeContext) { delete(a.MetadataContext.FilterMetadata, claimsNamespace) },
	} {
		q := checkRequest(t)
		forget(q.Attributes)
		if e, err := read("e-1", encoded(t, q)); !errors.Is(err, errIntent) {
			t.Errorf("without %s: %+v, %v", name, e, err)
		}
	}
	if _, err := read("e-1", []byte{0x0a, 0xff}); !errors.Is(err, errWire) {
		t.Errorf("half a message: %v", err)
	}
}

func TestBytesThatAreNotUTF8AreAnIntentToo(t *testing.T) {
	q := encoded(t, checkRequest(t))
	q = bytes.ReplaceAll(q, []byte("db.example"), []byte("db\xff\xfe\x00ample"))
	e, err := read("e-1", q)
	if err != nil || !strings.HasPrefix(e.Host, "db\uFFFD") {
		t.Errorf("%q, %v", e.Host, err)
	}
}

// FuzzIntent: whatever comes, nothing is read beyond it, and what is taken says of
// what it is.
func FuzzIntent(f *testing.F) {
	f.Add(encoded(f, checkRequest(f)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := read("e-1", b)
		if err == nil && (e.Key == "" || e.Opening == "" || e.Type != audit.TypeIntent) {
			t.Errorf("%+v", e)
		}
	})
}

func BenchmarkIntent(b *testing.B) {
	q := encoded(b, checkRequest(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := read("e-1", q); err != nil {
			b.Fatal(err)
		}
	}
}
