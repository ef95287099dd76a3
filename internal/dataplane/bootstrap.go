package dataplane

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	internallistenerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	heapv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Names of the static clusters; resources that come by xDS use ClusterALS and
// ClusterIntent.
const (
	ClusterXDS    = "xds"
	ClusterALS    = "als"
	ClusterIntent = "intent"
)

// Bounds on what clients can take from one Envoy, if Config has none.
const (
	defaultMaxHeap        = 1 << 30 // 5,000 open windows need about 650 MB
	minMaxHeap            = 64 << 20
	defaultMaxConnections = 5000
)

// An HTTP/2 connection that has opened resetStreams is closed once more than half
// of its streams were reset within resetWithin seconds (rapid reset). Somebody
// who leaves a dashboard resets some, not most.
const resetStreams, resetWithin = 500, 1

// requestsPerCycle is how many requests of one connection are taken before
// others have their turn.
const requestsPerCycle = 16

func (c Config) bootstrap() ([]byte, error) {
	return static{
		name: c.Name, nodeID: c.NodeID, xdsSocket: c.XDSSocket, alsSocket: c.ALSSocket, intentSocket: c.IntentSocket, adminSocket: c.file(fileAdmin),
		maxConnections: c.MaxConnections, maxHeapBytes: c.MaxHeapBytes,
	}.bootstrap()
}

// static is what differs between the static configurations of two Envoys.
type static struct {
	name, nodeID                                    string
	xdsSocket, alsSocket, intentSocket, adminSocket string
	maxConnections                                  int
	maxHeapBytes                                    uint64
	epoch                                           string // told with each counter; "": not told
}

// bootstrap is Envoy's static configuration: where the control plane is, and
// the limits. Everything else comes by xDS. The bytes are the same for the same
// static.
func (c static) bootstrap() ([]byte, error) {
	overload, err := c.overloadManager()
	if err != nil {
		return nil, err
	}
	internalListener, err := anypb.New(&internallistenerv3.InternalListener{})
	if err != nil {
		return nil, err
	}
	xds, err := grpcCluster(ClusterXDS, c.xdsSocket)
	if err != nil {
		return nil, err
	}
	als, err := grpcCluster(ClusterALS, c.alsSocket)
	if err != nil {
		return nil, err
	}
	intent, err := grpcCluster(ClusterIntent, c.intentSocket)
	if err != nil {
		return nil, err
	}
	// Who waits for the disk must not be refused because others wait, too.
	const many = 1 << 20
	intent.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxRequests: wrapperspb.UInt32(many), MaxPendingRequests: wrapperspb.UInt32(many),
	}}}
	runtime, err := structpb.NewStruct(map[string]any{
		// Envoy's default of 100 refuses regular expressions as short as
		// /v[0-9]+/users/[a-z0-9-]{1,63}. The translator refuses, by name, what
		// could come near this: here it would block a whole hostname.
		"re2.max_program_size.error_level": 20000,

		"overload.premature_reset_total_stream_count":          resetStreams,
		"overload.premature_reset_min_stream_lifetime_seconds": resetWithin,
		"http.max_requests_per_io_cycle":                       requestsPerCycle,
	})
	if err != nil {
		return nil, err
	}
	b := &bootstrapv3.Bootstrap{
		Node: &corev3.Node{Id: c.nodeID, Cluster: "breakglass"},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{
			AdsConfig: adsConfig(),
			LdsConfig: fromADS(),
			CdsConfig: fromADS(),
		},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{xds, als, intent}},
		// Each opening is an internal listener, so that removing it cuts its streams.
		BootstrapExtensions: []*corev3.TypedExtensionConfig{{Name: "envoy.bootstrap.internal_listener", TypedConfig: internalListener}},
		LayeredRuntime: &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
			Name:           "static",
			LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: runtime},
		}}},
		OverloadManager:    overload,
		StatsFlushInterval: durationpb.New(5 * time.Second),
		StatsConfig: &metricsv3.StatsConfig{
			StatsMatcher:      keptStats(),
			UseAllDefaultTags: wrapperspb.Bool(false),
			StatsTags:         c.tags(),
		},
		Admin: &bootstrapv3.Admin{
			Address: &corev3.Address{Address: &corev3.Address_Pipe{
				Pipe: &corev3.Pipe{Path: c.adminSocket, Mode: 0o600},
			}},
			// Clients who hold all connections do not keep us from asking.
			IgnoreGlobalConnLimit: true,
		},
	}
	if err := b.ValidateAll(); err != nil {
		return nil, fmt.Errorf("bootstrap of Envoy %q: %w", c.name, err)
	}
	return stableJSON(b)
}

// tags are labels of counters.
func (c static) tags() []*metricsv3.TagSpecifier {
	out := []*metricsv3.TagSpecifier{{TagName: chainLabel, TagValue: &metricsv3.TagSpecifier_Regex{Regex: chainRule}}}
	if c.epoch != "" {
		out = append(out, &metricsv3.TagSpecifier{TagName: epochLabel, TagValue: &metricsv3.TagSpecifier_FixedValue{FixedValue: c.epoch}})
	}
	return out
}

// keptStats are what Envoy counts of. A cluster alone would have a hundred
// counters, a host's RouteConfiguration twelve below the name of its filter chain,
// and each question for a few goes through all of them on the thread that takes
// updates: with 5,000 hosts it would stand still four times a second.
func keptStats() *metricsv3.StatsMatcher {
	patterns := []*matcherv3.StringMatcher{{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{
		Regex: `http\.https?-.+\.(downstream_|jwt_authn\.).+`,
	}}}}
	for _, prefix := range []string{"limit.", "access_logs.", "filesystem.", "server.", "control_plane.", "overload."} {
		patterns = append(patterns, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}})
	}
	return &metricsv3.StatsMatcher{StatsMatcher: &metricsv3.StatsMatcher_InclusionList{InclusionList: &matcherv3.ListStringMatcher{Patterns: patterns}}}
}

// adsConfig asks for one delta stream. The back-off is short so that a
// restarted control plane is found at once; the default goes up to 30 s, and a
// revocation would wait that long.
func adsConfig() *corev3.ApiConfigSource {
	return &corev3.ApiConfigSource{
		ApiType:                   corev3.ApiConfigSource_DELTA_GRPC,
		TransportApiVersion:       corev3.ApiVersion_V3,
		SetNodeOnFirstMessageOnly: true,
		GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: ClusterXDS,
				RetryPolicy: &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
					BaseInterval: durationpb.New(100 * time.Millisecond),
					MaxInterval:  durationpb.New(500 * time.Millisecond),
				}},
			},
		}}},
	}
}

// fromADS waits for the first answer without limit: with the default of 15 s an
// Envoy without a control plane would call itself ready while serving nothing.
func fromADS() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(0),
	}
}

// grpcCluster is an HTTP/2 cluster on a unix socket. The keepalive notices a
// control plane that is there but does not answer.
func grpcCluster(name, socket string) (*clusterv3.Cluster, error) {
	protocol, err := anypb.New(&httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
					Http2ProtocolOptions: &corev3.Http2ProtocolOptions{ConnectionKeepalive: &corev3.KeepaliveSettings{
						Interval: durationpb.New(5 * time.Second),
						Timeout:  durationpb.New(5 * time.Second),
					}},
				},
			},
		},
	})
	if err != nil {
		return nil, err
	}
	endpoint := &endpointv3.Endpoint{Address: &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: socket}}}}
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       durationpb.New(time.Second),
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol,
		},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: endpoint},
			}}}},
		},
	}, nil
}

// overloadManager sheds load before the kernel sheds Envoy: connections without a
// request first, then new requests, then new connections. What is open goes on,
// and so do the control plane's connections, which are Envoy's own.
func (c static) overloadManager() (*overloadv3.OverloadManager, error) {
	const heap, connections = "envoy.resource_monitors.fixed_heap", "envoy.resource_monitors.global_downstream_max_connections"
	heapConfig, err := anypb.New(&heapv3.FixedHeapConfig{MaxHeapSizeBytes: c.maxHeapBytes})
	if err != nil {
		return nil, err
	}
	connectionsConfig, err := anypb.New(&connectionsv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: int64(c.maxConnections)})
	if err != nil {
		return nil, err
	}
	// Never the idle time of a stream: a shell in an incident must live.
	timers, err := anypb.New(&overloadv3.ScaleTimersOverloadActionConfig{TimerScaleFactors: []*overloadv3.ScaleTimersOverloadActionConfig_ScaleTimer{
		scaled(overloadv3.ScaleTimersOverloadActionConfig_HTTP_DOWNSTREAM_CONNECTION_IDLE, 2*time.Second),
		scaled(overloadv3.ScaleTimersOverloadActionConfig_TRANSPORT_SOCKET_CONNECT, time.Second),
	}})
	if err != nil {
		return nil, err
	}
	above := func(share float64) []*overloadv3.Trigger {
		return []*overloadv3.Trigger{{
			Name:         heap,
			TriggerOneof: &overloadv3.Trigger_Threshold{Threshold: &overloadv3.ThresholdTrigger{Value: share}},
		}}
	}
	return &overloadv3.OverloadManager{
		RefreshInterval: durationpb.New(250 * time.Millisecond),
		ResourceMonitors: []*overloadv3.ResourceMonitor{
			{Name: heap, ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: heapConfig}},
			{Name: connections, ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: connectionsConfig}},
		},
		Actions: []*overloadv3.OverloadAction{
			{Name: "envoy.overload_actions.reduce_timeouts", TypedConfig: timers, Triggers: []*overloadv3.Trigger{{
				Name: heap,
				TriggerOneof: &overloadv3.Trigger_Scaled{Scaled: &overloadv3.ScaledTrigger{
					ScalingThreshold: 0.80, SaturationThreshold: 0.90,
				}},
			}}},
			{Name: "envoy.overload_actions.shrink_heap", Triggers: above(0.90)},
			{Name: "envoy.overload_actions.stop_accepting_requests", Triggers: above(0.95)},
		},
		LoadshedPoints: []*overloadv3.LoadShedPoint{
			{Name: "envoy.load_shed_points.tcp_listener_accept", Triggers: above(0.97)},
		},
	}, nil
}

func scaled(t overloadv3.ScaleTimersOverloadActionConfig_TimerType, least time.Duration) *overloadv3.ScaleTimersOverloadActionConfig_ScaleTimer {
	return &overloadv3.ScaleTimersOverloadActionConfig_ScaleTimer{
		Timer:          t,
		OverloadAdjust: &overloadv3.ScaleTimersOverloadActionConfig_ScaleTimer_MinTimeout{MinTimeout: durationpb.New(least)},
	}
}

// stableJSON is protojson with the same bytes from every build: protojson adds
// spaces at random, and the bytes decide whether an Envoy is adopted.
func stableJSON(m proto.Message) ([]byte, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
