package lock

import (
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type accessLog = accesslogv3.AccessLog

// AccessLogCluster is the bootstrap cluster that takes access logs.
const AccessLogCluster = "als"

// tags of a record, by the metadata field they come from.
var tags = map[string]string{
	"bg.route": "route", "bg.rule": "rule", "bg.role": "role", "bg.opening": "opening",
	"bg.activations": "activations", "bg.incident": "incidents",
}

// grpcAccessLog sends each request twice: when it starts and when it ends.
func grpcAccessLog() *accessLog {
	common := &grpclogv3.CommonGrpcAccessLogConfig{
		LogName:             "breakglass",
		TransportApiVersion: corev3.ApiVersion_V3,
		GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: AccessLogCluster},
		}},
		BufferSizeBytes:     wrapperspb.UInt32(0), // each record at once
		BufferFlushInterval: durationpb.New(100 * time.Millisecond),
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
