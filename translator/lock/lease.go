package lock

import (
	"fmt"
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	internalupstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	// originalDst is the one cluster that leaves Envoy: it connects to the
	// address that the outer cluster has chosen.
	originalDst         = "breakglass.original-dst"
	originalDstMetadata = "envoy.filters.listener.original_dst"
)

// LeaseName is the internal listener of an opening.
func LeaseName(opening string) string { return "lease/" + opening }

// Lease is the internal listener that all connections of an opening go through.
// Its life is the opening's: when it goes, by removal or by its TTL, every
// stream through it ends. It must never be changed in place.
func Lease(opening string) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:              LeaseName(opening),
		ListenerSpecifier: &listenerv3.Listener_InternalListener{InternalListener: &listenerv3.Listener_InternalListenerConfig{}},
		ListenerFilters: []*listenerv3.ListenerFilter{{
			Name:       "envoy.filters.listener.original_dst",
			ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: toAny(&originaldstv3.OriginalDst{})},
		}},
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.tcp_proxy",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: toAny(&tcpproxyv3.TcpProxy{
				StatPrefix:       "lease",
				ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: originalDst},
				// The HTTP layer has its own timeouts; an idle stream must live.
				IdleTimeout: durationpb.New(0),
			})},
		}}}},
	}
}

// OriginalDst is the cluster behind every lease.
func OriginalDst() *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                          originalDst,
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
		LbPolicy:                      clusterv3.Cluster_CLUSTER_PROVIDED,
		ConnectTimeout:                durationpb.New(time.Second),
		CleanupInterval:               durationpb.New(time.Minute),
		CircuitBreakers:               neverQueue(),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(connBuffer),
	}
}

// Backend is where an open route forwards to: the endpoints of one backendRef.
type Backend struct {
	Endpoints []netip.AddrPort
	// HTTP2: the backend speaks HTTP/2 with prior knowledge (appProtocol
	// kubernetes.io/h2c). Otherwise HTTP/1.1, which WebSocket needs.
	HTTP2 bool
	// TLS, if set, is spoken to it. It is within the connection that the lease holds,
	// so that the lease cuts it as any other.
	TLS *UpstreamTLS
}

// NoCluster is the name of a cluster that never exists. What leads there reaches
// nothing.
const NoCluster = "breakglass.none"

// ClusterName is the outer cluster of an opening's nth backend.
func ClusterName(opening string, n int) string { return fmt.Sprintf("open/%s/%d", opening, n) }

// Cluster balances over the backend's endpoints and reaches each through the
// lease. The address that it chooses is the one in the log.
func Cluster(opening string, n int, b Backend) *clusterv3.Cluster {
	name := ClusterName(opening, n)
	var endpoints []*endpointv3.LbEndpoint
	for _, e := range b.Endpoints {
		if !b.reachable() {
			break
		}
		endpoints = append(endpoints, leased(opening, e.String()))
	}
	return &clusterv3.Cluster{
		Name:                          name,
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:                durationpb.New(time.Second),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(connBuffer),
		CircuitBreakers:               neverQueue(),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints:   []*endpointv3.LocalityLbEndpoints{{LbEndpoints: endpoints}},
		},
		TransportSocket: &corev3.TransportSocket{
			Name: "envoy.transport_sockets.internal_upstream",
			ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: toAny(&internalupstreamv3.InternalUpstreamTransport{
				PassthroughMetadata: []*internalupstreamv3.InternalUpstreamTransport_MetadataValueSource{{
					Name: originalDstMetadata,
					Kind: &metadatav3.MetadataKind{Kind: &metadatav3.MetadataKind_Host_{Host: &metadatav3.MetadataKind_Host{}}},
				}},
				TransportSocket: b.transport(),
			})},
		},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": toAny(protocol(b.HTTP2)),
		},
	}
}

// neverQueue lifts the limits of the connection pool, which are 1024 and are
// shared by whoever holds the role: one holder's streams must not lock the others
// out, and a request that waits in the pool would start the clock of its token's
// end late. Listener and overload manager bound what comes in.
func neverQueue() *clusterv3.CircuitBreakers {
	const unlimited = 1 << 20
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections:     wrapperspb.UInt32(unlimited),
		MaxPendingRequests: wrapperspb.UInt32(unlimited),
		MaxRequests:        wrapperspb.UInt32(unlimited),
		MaxRetries:         wrapperspb.UInt32(unlimited), // a rule says how often
	}}}
}

func leased(opening, address string) *endpointv3.LbEndpoint {
	return &endpointv3.LbEndpoint{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Hostname: address,
			Address: &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
				AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: LeaseName(opening)},
				EndpointId:           address,
			}}},
		}},
		Metadata: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
			originalDstMetadata: {Fields: map[string]*structpb.Value{"local": structpb.NewStringValue(address)}},
		}},
	}
}

func protocol(http2 bool) *httpv3.HttpProtocolOptions {
	explicit := &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: &corev3.Http1ProtocolOptions{}},
	}
	if http2 {
		explicit.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{}}
	}
	return &httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit}}
}
