package lock

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// IntentCluster is the bootstrap cluster of who keeps intents.
const IntentCluster = "intent"

// IntentTimeout is how long a request waits for its intent to be durable. After that,
// and whenever there is nobody to keep it, the answer is 503.
const IntentTimeout = 250 * time.Millisecond

// IntentEpoch is the gRPC metadata that carries the epoch of Envoy.
const IntentEpoch = "x-breakglass-epoch"

// intentFilter asks audit/intent, next to Envoy, to make the intent of a request
// durable, and lets it on when that is done. It is part of each chain, so that no
// order in which configuration arrives, and none that is refused, lets anything pass
// it: it is in force on every route that does not say otherwise. A change of the mode
// is a change of routes, and cuts no stream.
//
// Who keeps the log gets what will be in the entry, no more: no header but the
// request's id.
func intentFilter() *authzv3.ExtAuthz {
	return &authzv3.ExtAuthz{
		TransportApiVersion: corev3.ApiVersion_V3,
		Services: &authzv3.ExtAuthz_GrpcService{GrpcService: &corev3.GrpcService{
			Timeout: durationpb.New(IntentTimeout),
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: IntentCluster, SkipEnvoyHeaders: true,
			}},
			InitialMetadata: []*corev3.HeaderValue{{Key: IntentEpoch, Value: "%ENVIRONMENT(" + EpochVariable + ")%"}},
		}},
		FailureModeAllow: false,
		StatusOnError:    &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		AllowedHeaders: &matcherv3.ListStringMatcher{Patterns: []*matcherv3.StringMatcher{
			exactly("x-request-id"),
		}},
		MetadataContextNamespaces:      []string{jwtMetadata},
		RouteMetadataContextNamespaces: []string{MetadataNamespace},
	}
}

// noIntent is what a route says that needs none. It is not a disabled filter of
// Envoy's (FilterConfig.disabled): that is decided by the route that a request has
// before our scripts choose its scope.
func noIntent() *anypb.Any {
	return toAny(&authzv3.ExtAuthzPerRoute{Override: &authzv3.ExtAuthzPerRoute_Disabled{Disabled: true}})
}
