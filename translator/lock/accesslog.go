package lock

import (
	"maps"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	dataaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	filelogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type accessLog = accesslogv3.AccessLog

// AccessLogCluster is the bootstrap cluster that takes access logs.
const AccessLogCluster = "als"

// SpoolFile is where Envoy writes its lines, relative to its working directory;
// audit/spool reads them. EpochVariable names one life of the Envoy process.
const (
	SpoolFile     = "spool/access.jsonl"
	EpochVariable = "ENVOY_EPOCH"
)

// A stream that is still open after openAfter has a row that says so. Rows
// repeat at this interval; openUntil lets through the first alone.
const (
	openAfter = time.Second
	openUntil = 1900 * time.Millisecond
)

// tags of a record, by the metadata field they come from.
var tags = map[string]string{
	"bg.route": "route", "bg.rule": "rule", "bg.role": "role", "bg.opening": "opening",
	"bg.activations": "activations", "bg.incident": "incidents",
}

const startTime = "%START_TIME(%Y-%m-%dT%H:%M:%S.%6fZ)%"

// requestRow is one line of a request. Each field that a client has a say in is
// bounded, or 30 KB of bytes that must be escaped would make a line of 186 KB.
// A field without a value is left out. audit/spool says what each is.
var requestRow = map[string]string{
	"typ": "%ACCESS_LOG_TYPE%", "ep": "%ENVIRONMENT(" + EpochVariable + ")%",
	"sid": "%STREAM_ID%", "conn": "%CONNECTION_ID%", "t": startTime,
	"us": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%", "d": "%DURATION%",

	"m": "%REQ(:METHOD):32%", "h": "%REQ(:AUTHORITY):512%", "p": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH):2048%",

	"code": "%RESPONSE_CODE%", "fl": "%RESPONSE_FLAGS%", "det": "%RESPONSE_CODE_DETAILS%",
	"rx": "%BYTES_RECEIVED%", "tx": "%BYTES_SENT%",
	"up": "%UPSTREAM_HOST%", "upc": "%UPSTREAM_CLUSTER%", "att": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
	"cl": "%DOWNSTREAM_REMOTE_ADDRESS%", "peer": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",

	"iss": claimField("iss"), "sub": claimField("sub"), "jti": claimField("jti"),

	"rt": "%ROUTE_NAME%", "route": routeField("route"), "rule": routeField("rule"), "role": routeField("role"),
	"opening": routeField("opening"), "act": routeField("activations"), "inc": routeField("incidents"),
}

// certificateOfClient is its SHA-256, which a client cannot make long.
const certificateOfClient = "%DOWNSTREAM_PEER_FINGERPRINT_256%"

// connectionRow is one line of a downstream connection, at its end.
var connectionRow = map[string]string{
	"typ": "connection", "ep": "%ENVIRONMENT(" + EpochVariable + ")%",
	"conn": "%CONNECTION_ID%", "t": startTime, "d": "%DURATION%",
	"rx": "%BYTES_RECEIVED%", "tx": "%BYTES_SENT%", "peer": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
	"sni": "%REQUESTED_SERVER_NAME%", "fl": "%RESPONSE_FLAGS%",
	"det": "%CONNECTION_TERMINATION_DETAILS%", "tls": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
	"close": "%DOWNSTREAM_LOCAL_CLOSE_REASON%",
}

// claimField is a claim of the verified token: a token that failed leaves none.
func claimField(name string) string {
	return "%DYNAMIC_METADATA(" + jwtMetadata + ":" + payloadKey + ":" + name + "):2048%"
}

// routeField comes from our own route, and may be long: a list of names.
func routeField(name string) string {
	return "%METADATA(ROUTE:" + MetadataNamespace + ":" + name + ")%"
}

// accessLogs of an HttpConnectionManager. The file is the record. The gRPC log
// tells of requests whose line Envoy did not live to write, and is faster. With
// certified every client has shown a certificate that was checked.
func accessLogs(certified bool) []*accessLog {
	row := requestRow
	if certified {
		row = maps.Clone(requestRow)
		row["cc"] = certificateOfClient
	}
	spool := spoolLog(row)
	spool.Filter = anyOf(notLimited(logType(dataaccesslogv3.AccessLogType_DownstreamEnd)), &accesslogv3.AccessLogFilter{
		FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{AndFilter: &accesslogv3.AndFilter{Filters: []*accesslogv3.AccessLogFilter{
			// It comes of what is not answered only.
			logType(dataaccesslogv3.AccessLogType_DownstreamPeriodic), lasted(accesslogv3.ComparisonFilter_LE, openUntil),
		}}},
	})
	live := grpcAccessLog(certified)
	live.Filter = notLimited(logType(dataaccesslogv3.AccessLogType_DownstreamEnd))
	return []*accessLog{spool, live}
}

func accessLogOptions() *hcmv3.HttpConnectionManager_HcmAccessLogOptions {
	return &hcmv3.HttpConnectionManager_HcmAccessLogOptions{AccessLogFlushInterval: durationpb.New(openAfter)}
}

// connectionLogs of a listener: of a connection that never became a request, such
// as a failed handshake, no HTTP log knows, and of what is over the rate limit
// neither.
func connectionLogs() []*accessLog { return []*accessLog{spoolLog(connectionRow)} }

func spoolLog(row map[string]string) *accessLog {
	fields := map[string]*structpb.Value{}
	for k, v := range row {
		fields[k] = structpb.NewStringValue(v)
	}
	return &accessLog{
		Name: "envoy.access_loggers.file",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: toAny(&filelogv3.FileAccessLog{
			Path: SpoolFile,
			AccessLogFormat: &filelogv3.FileAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
				Format:          &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: &structpb.Struct{Fields: fields}},
				OmitEmptyValues: true,
			}},
		})},
	}
}

func anyOf(filters ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_OrFilter{OrFilter: &accesslogv3.OrFilter{Filters: filters}}}
}

func logType(t dataaccesslogv3.AccessLogType) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_LogTypeFilter{
		LogTypeFilter: &accesslogv3.LogTypeFilter{Types: []dataaccesslogv3.AccessLogType{t}},
	}}
}

func lasted(op accesslogv3.ComparisonFilter_Op, d time.Duration) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_DurationFilter{
		DurationFilter: &accesslogv3.DurationFilter{Comparison: &accesslogv3.ComparisonFilter{
			// The key is for overrides at run time, which the bootstrap does not have.
			Op: op, Value: &corev3.RuntimeUInt32{DefaultValue: uint32(d.Milliseconds()), RuntimeKey: "breakglass.open_row"},
		}},
	}}
}

// grpcAccessLog sends each record at once.
func grpcAccessLog(certified bool) *accessLog {
	common := &grpclogv3.CommonGrpcAccessLogConfig{
		LogName:             "breakglass",
		TransportApiVersion: corev3.ApiVersion_V3,
		GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: AccessLogCluster},
		}},
		BufferSizeBytes:     wrapperspb.UInt32(0), // each record at once
		BufferFlushInterval: durationpb.New(100 * time.Millisecond),
		CustomTags: []*tracingv3.CustomTag{
			{Tag: "bg.epoch", Type: &tracingv3.CustomTag_Environment_{Environment: &tracingv3.CustomTag_Environment{Name: EpochVariable}}},
			{Tag: "bg.connection", Type: &tracingv3.CustomTag_Value{Value: "%CONNECTION_ID%"}},
		},
	}
	if certified {
		common.CustomTags = append(common.CustomTags, &tracingv3.CustomTag{Tag: "bg.certificate", Type: &tracingv3.CustomTag_Value{Value: certificateOfClient}})
	}
	for _, tag := range sortedKeys(tags) {
		common.CustomTags = append(common.CustomTags, &tracingv3.CustomTag{Tag: tag, Type: &tracingv3.CustomTag_Metadata_{
			Metadata: &tracingv3.CustomTag_Metadata{
				Kind: &metadatav3.MetadataKind{Kind: &metadatav3.MetadataKind_Route_{Route: &metadatav3.MetadataKind_Route{}}},
				MetadataKey: &metadatav3.MetadataKey{Key: MetadataNamespace, Path: []*metadatav3.MetadataKey_PathSegment{
					{Segment: &metadatav3.MetadataKey_PathSegment_Key{Key: tags[tag]}},
				}},
			},
		}})
	}
	return &accessLog{
		Name: "envoy.access_loggers.http_grpc",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{
			TypedConfig: toAny(&grpclogv3.HttpGrpcAccessLogConfig{CommonConfig: common}),
		},
	}
}
