package lock

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// limitedDetails are Envoy's response code details of a request that its rate
// limit refused.
const limitedDetails = "local_rate_limited"

// notLimited leaves out what the rate limit refused: of these the log has the
// number, or a flood would fill its disk. Neither their status nor their flags can
// be asked for (a backend may answer 429, and gRPC gets a 200), but their details
// can. Of a request with a verified token that is not asked: it was let through.
func notLimited(also *accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	verified := &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_MetadataFilter{MetadataFilter: &accesslogv3.MetadataFilter{
		Matcher: &matcherv3.MetadataMatcher{
			Filter: jwtMetadata,
			Path:   []*matcherv3.MetadataMatcher_PathSegment{pathSegment(payloadKey), pathSegment("iss")},
			Value:  &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_PresentMatch{PresentMatch: true}},
		},
		MatchIfKeyNotFound: wrapperspb.Bool(false),
	}}}
	notRefused := &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{ExtensionFilter: &accesslogv3.ExtensionFilter{
		Name: "envoy.access_loggers.extension_filters.cel",
		ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: toAny(&celv3.ExpressionFilter{
			// An error would count as no: without details there was no answer, and that is
			// to be logged.
			Expression: "!has(response.code_details) || response.code_details != '" + limitedDetails + "'",
		})},
	}}}
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{AndFilter: &accesslogv3.AndFilter{
		Filters: []*accesslogv3.AccessLogFilter{also, anyOf(verified, notRefused)},
	}}}
}
