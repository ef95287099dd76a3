package lock

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// limitedFlag is the bit of RL among Envoy's response flags, which its filters of
// rate limits set and nothing else does.
const limitedFlag = "2048"

// notLimited leaves out what the rate limit refused: of these the log has the
// number, or a flood would fill its disk. The flag is what stays. The status can
// be a backend's too, and is 200 to gRPC; the details are replaced when the client
// resets the stream or leaves before it has taken the answer. Of a request with a
// verified token the flag is not asked: it was let through.
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
			// An error would count as no, and who is not refused is to be logged.
			Expression: "!has(response.flags) || response.flags / " + limitedFlag + " % 2 == 0",
		})},
	}}}
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{AndFilter: &accesslogv3.AndFilter{
		Filters: []*accesslogv3.AccessLogFilter{also, anyOf(verified, notRefused)},
	}}}
}
