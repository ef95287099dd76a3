package agent

import (
	"errors"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

func encode(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatEnvoySaysOfItsNodeIsTakenOutAndNothingElse(t *testing.T) {
	request := &discovery.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: "another/gateway"}, TypeUrl: snapshot.Cluster, ResourceNamesSubscribe: []string{"*"},
		InitialResourceVersions: map[string]string{"a": "1"}, ResponseNonce: "n",
	}
	whole := encode(t, request)
	request.Node = nil
	for name, b := range map[string][]byte{
		"at the beginning": whole,
		"twice":            append(encode(t, &discovery.DeltaDiscoveryRequest{Node: &corev3.Node{Cluster: "x"}}), whole...),
		"at the end":       append(encode(t, request), encode(t, &discovery.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "late"}})...),
		"not at all":       encode(t, request),
		"as a number":      append(encode(t, request), protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7)...),
	} {
		before := string(b)
		out, err := fromEnvoy(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got discovery.DeltaDiscoveryRequest
		if err := proto.Unmarshal(out, &got); err != nil || !proto.Equal(&got, request) {
			t.Errorf("%s: %v, error %v", name, &got, err)
		}
		if string(b) != before {
			t.Errorf("%s: the message was written to", name)
		}
	}
}

func TestEnvoyCannotReport(t *testing.T) {
	report := encode(t, &discovery.DeltaDiscoveryRequest{TypeUrl: reportType})
	other := encode(t, &discovery.DeltaDiscoveryRequest{TypeUrl: snapshot.Cluster})
	for name, b := range map[string][]byte{"plain": report, "first": append(report, other...), "last": append(other, report...)} {
		if _, err := fromEnvoy(b); !errors.Is(err, errReport) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func FuzzFromEnvoyLeavesNoNodeAndNoReport(f *testing.F) {
	f.Add(encode(f, &discovery.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "a"}, TypeUrl: reportType}))
	f.Add(encode(f, &discovery.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "a"}, TypeUrl: snapshot.Route}))
	f.Add([]byte{0x0b, 0x0a, 0x00, 0x0c})
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := fromEnvoy(b)
		if err != nil {
			return
		}
		var before, after discovery.DeltaDiscoveryRequest
		known := proto.UnmarshalOptions{DiscardUnknown: true}
		if known.Unmarshal(b, &before) != nil {
			return // neither will the controller take it
		}
		if err := known.Unmarshal(out, &after); err != nil {
			t.Fatalf("it could be read before: %v", err)
		}
		if after.Node != nil || after.TypeUrl == reportType {
			t.Errorf("passed on: %v", &after)
		}
		if before.Node = nil; !proto.Equal(&before, &after) {
			t.Errorf("%v became %v", &before, &after)
		}
	})
}

func TestFramesPassThroughTheCodec(t *testing.T) {
	var c rawCodec
	data, err := c.Marshal(&frame{[]byte("abc")})
	if err != nil {
		t.Fatal(err)
	}
	var f frame
	if err := c.Unmarshal(append(data, mem.SliceBuffer("def")), &f); err != nil || string(f.bytes) != "abcdef" {
		t.Errorf("%q, error %v", f.bytes, err)
	}
	if _, err := c.Marshal("text"); err == nil {
		t.Error("it takes what is no frame")
	}
	if err := c.Unmarshal(data, new(string)); err == nil {
		t.Error("it gives what is no frame")
	}
}

func TestTheTypeOfAResponse(t *testing.T) {
	response := encode(t, &discovery.DeltaDiscoveryResponse{
		TypeUrl: snapshot.Listener, SystemVersionInfo: "x", RemovedResources: []string{"a"},
		Resources: []*discovery.Resource{{Name: "lease/a", Ttl: durationpb.New(time.Second)}},
	})
	if got := typeOf(response); got != snapshot.Listener {
		t.Errorf("it is %q", got)
	}
	for n := range response {
		_ = typeOf(response[:n]) // and does not fail
	}
	if got := typeOf(nil); got != "" {
		t.Errorf("that of nothing is %q", got)
	}
}
