package xds

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// res makes a resource called name whose content varies with body. For a scope,
// body is the route it names.
func res(typ, name, body string, needs ...snapshot.Key) *snapshot.Resource {
	var m proto.Message
	switch typ {
	case snapshot.Cluster:
		m = &clusterv3.Cluster{Name: name, AltStatName: body}
	case snapshot.Listener:
		m = &listenerv3.Listener{Name: name, StatPrefix: body}
	case snapshot.Route:
		m = &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{{Name: body}}}
	case snapshot.ScopedRoute:
		m = &routev3.ScopedRouteConfiguration{Name: name, RouteConfigurationName: body}
	case snapshot.ExtensionConfig:
		m = &corev3.TypedExtensionConfig{Name: name + body}
	case snapshot.Secret:
		m = &tlsv3.Secret{Name: name + body}
	}
	r, err := snapshot.New(typ, name, m)
	if err != nil {
		panic(err)
	}
	r.Needs = needs
	return r
}

func leaseOf(name string, expires time.Time, needs ...snapshot.Key) *snapshot.Resource {
	r := res(snapshot.Listener, name, "", needs...)
	r.Expires = expires
	return r
}

func snap(rs ...*snapshot.Resource) *snapshot.Snapshot {
	return snapshot.Of(rs...)
}

// with is s with more or other resources.
func with(s *snapshot.Snapshot, rs ...*snapshot.Resource) *snapshot.Snapshot {
	e := snapshot.Edit(s)
	for _, r := range rs {
		e.Put(r)
	}
	return e.Snapshot()
}

func key(typ, name string) snapshot.Key { return snapshot.Key{Type: typ, Name: name} }

// opening is what the translator makes of one open route.
func opening(name string, expires time.Time) []*snapshot.Resource {
	c, l, r := key(snapshot.Cluster, name), key(snapshot.Listener, name), key(snapshot.Route, name)
	return []*snapshot.Resource{
		res(c.Type, name, "1"),
		leaseOf(name, expires, c),
		res(r.Type, name, "open", c, l),
		res(snapshot.ScopedRoute, name, name, r),
	}
}
