//go:build envoy

package xds

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// The layout is the product's, with the locks left out: one HTTP listener with
// scoped routes by host, and for each opening a cluster that goes through an
// internal listener of its own, the lease.

const httpListenerYAML = `
name: NAME
address: {socket_address: {address: 127.0.0.1, port_value: PORT}}
filter_chains:
- filters:
  - name: hcm
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: http
      stream_idle_timeout: 0s
      delayed_close_timeout: 0.05s
      scoped_routes:
        name: scopes
        scope_key_builder: {fragments: [{header_value_extractor: {name: ":authority", index: 0}}]}
        rds_config_source: {ads: {}, resource_api_version: V3}
        scoped_rds: {scoped_rds_config_source: {ads: {}, resource_api_version: V3}}
      http_filters:
      - name: router
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`

const odstYAML = `{name: NAME, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, connect_timeout: 1s}`

const leaseYAML = `
name: NAME
internal_listener: {}
listener_filters: [{name: od, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}}]
filter_chains:
- filters:
  - name: tcp
    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: lease, cluster: odst}
`

const openClusterYAML = `
name: NAME
type: STATIC
connect_timeout: 1s
load_assignment:
  cluster_name: NAME
  endpoints:
  - lb_endpoints:
    - endpoint: {address: {envoy_internal_address: {server_listener_name: NAME, endpoint_id: "UPSTREAM"}}}
      metadata: {filter_metadata: {envoy.filters.listener.original_dst: {local: "UPSTREAM"}}}
transport_socket:
  name: envoy.transport_sockets.internal_upstream
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport
    passthrough_metadata: [{name: envoy.filters.listener.original_dst, kind: {host: {}}}]
    transport_socket:
      name: raw
      typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}
`

const openRouteYAML = `
name: NAME
virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: NAME, timeout: 0s}}]}]
`

const dormantRouteYAML = `
name: NAME
virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 404}}]}]
`

const scopeYAML = `{name: NAME, route_configuration_name: NAME, key: {fragments: [{string_key: NAME}]}}`

// base is what is there without any opening.
func (r *rig) base() []*snapshot.Resource {
	return []*snapshot.Resource{
		r.fromYAML("http", &listenerv3.Listener{}, httpListenerYAML),
		r.fromYAML("odst", &clusterv3.Cluster{}, odstYAML),
	}
}

// opened is one open route, whose host is its name.
func (r *rig) opened(name string, expires time.Time) []*snapshot.Resource {
	odst := key(snapshot.Cluster, "odst")
	c := r.fromYAML(name, &clusterv3.Cluster{}, openClusterYAML)
	l := r.fromYAML(name, &listenerv3.Listener{}, leaseYAML, odst, c.Key)
	l.Expires = expires
	rc := r.fromYAML(name, &routev3.RouteConfiguration{}, openRouteYAML, c.Key, l.Key)
	s := r.fromYAML(name, &routev3.ScopedRouteConfiguration{}, scopeYAML, rc.Key)
	return []*snapshot.Resource{c, l, rc, s}
}

// dormant is a route that is not open: a 404 in its place.
func (r *rig) dormant(name string) []*snapshot.Resource {
	rc := r.fromYAML(name, &routev3.RouteConfiguration{}, dormantRouteYAML)
	return []*snapshot.Resource{rc, r.fromYAML(name, &routev3.ScopedRouteConfiguration{}, scopeYAML, rc.Key)}
}
