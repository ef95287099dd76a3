// Package snapshot holds what one Envoy should have: xDS resources with
// content-hash versions. It is plain data, shared by the translator that makes
// it and the xds server that sends it.
package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// The xDS resource types in use.
const (
	Listener        = "type.googleapis.com/envoy.config.listener.v3.Listener"
	Cluster         = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	Route           = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	ScopedRoute     = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"
	ExtensionConfig = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
	Secret          = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
)

// Key names a resource within one Envoy.
type Key struct{ Type, Name string }

// Resource is one xDS resource.
type Resource struct {
	Key
	// Version is a hash of the body: it does not change with restarts.
	Version string
	Body    *anypb.Any
	// Expires is when Envoy must drop the resource by itself (an xDS TTL). Zero:
	// never. It is not part of the version: a new lease on unchanged content
	// touches nothing in Envoy but the timer.
	Expires time.Time
	// Needs are resources that Envoy must have acknowledged, in the version of
	// the same snapshot, before this one is sent.
	Needs []Key
	// Owner is the object this came from, for people: "HTTPRoute payments/db".
	Owner string
}

// New makes a resource of type typ from m.
func New(typ, name string, m proto.Message) (*Resource, error) {
	body := &anypb.Any{}
	if err := anypb.MarshalFrom(body, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, fmt.Errorf("marshal %s %q: %w", typ, name, err)
	}
	sum := sha256.Sum256(body.GetValue())
	return &Resource{Key: Key{typ, name}, Version: hex.EncodeToString(sum[:12]), Body: body}, nil
}

// Delivery is what is known of one Envoy's view of its snapshot.
type Delivery interface {
	// Connected reports whether an Envoy holds a stream now.
	Connected() bool
	// Acked returns the version of k that Envoy last acknowledged, "" for none
	// or after its removal was acknowledged.
	Acked(k Key) string
	// Rejected returns the version of k that Envoy refused and its words, while
	// that version is still the wanted one.
	Rejected(k Key) (version, message string)
	// Tried tells what this Envoy said of a version when it was last sent it,
	// also if another version is wanted by now: answered is false if nothing is
	// remembered, refused is empty if it took it.
	Tried(k Key, version string) (answered bool, refused string)
	// Refused are the keys of which Tried remembers a refusal.
	Refused() []Key
}
