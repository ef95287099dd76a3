package agent

import (
	"strings"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// responseTypeURL is the field of a DeltaDiscoveryResponse.
const responseTypeURL protowire.Number = 4

// noteLeases tells the recorder, before Envoy hears it, until when each opening of
// a response lasts: a stream that ends when its lease goes was cut by us. Without a
// journal nothing else here knows that.
func (a *agent) noteLeases(b []byte) {
	if typeOf(b) != snapshot.Listener {
		return
	}
	var response discovery.DeltaDiscoveryResponse
	if err := proto.Unmarshal(b, &response); err != nil {
		return // Envoy will say so
	}
	now := time.Now()
	prefix := lock.LeaseName("")
	for _, r := range response.GetResources() {
		if opening, ok := strings.CutPrefix(r.GetName(), prefix); ok && r.GetTtl() != nil {
			a.recorder.OpenUntil(opening, now.Add(r.GetTtl().AsDuration()))
		}
	}
	for _, name := range response.GetRemovedResources() {
		if opening, ok := strings.CutPrefix(name, prefix); ok {
			a.recorder.OpenUntil(opening, now)
		}
	}
}

// typeOf a response; "" if it cannot be read.
func typeOf(b []byte) string {
	for len(b) > 0 {
		number, typ, tag := protowire.ConsumeTag(b)
		if tag < 0 {
			return ""
		}
		if number == responseTypeURL && typ == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(b[tag:])
			return string(value)
		}
		n := protowire.ConsumeFieldValue(number, typ, b[tag:])
		if n < 0 {
			return ""
		}
		b = b[tag+n:]
	}
	return ""
}
