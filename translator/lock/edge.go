package lock

import (
	"fmt"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	connectionlimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The limits of the edge, for whoever has not shown a token yet. docs/edge.md
// explains each; none cuts what is open before its deadline.
const (
	// greeting is how long a connection may take to its first bytes and, with TLS,
	// as long again to the end of its handshake.
	greeting = 5 * time.Second
	// headersTime is how long the headers of a request may take.
	headersTime = 10 * time.Second
	// connectionIdle is how long a connection without a request may stay. It is more
	// than a minute because many clients ask once a minute: at the same interval a
	// request would cross our close again and again.
	connectionIdle = 75 * time.Second
	// streamIdle is how long a stream may be silent. No window and no token is
	// longer: an idle shell in an incident must live.
	streamIdle = 24 * time.Hour
	// flushTime is how long a client may take to take the rest of an answer that is
	// complete.
	flushTime = 30 * time.Second
	// cutDelay is how long a client of a cut HTTP/1 stream waits for the end of the
	// connection.
	cutDelay = 50 * time.Millisecond

	maxHeadersKiB   = 32
	maxHeaders      = 64
	maxStreams      = 100 // of one HTTP/2 connection
	streamWindow    = 64 << 10
	connWindow      = 1 << 20
	connBuffer      = 32 << 10
	maxFrames       = 10000 // HTTP/2 frames that wait to be written
	maxControl      = 1000  // of these PING, SETTINGS and RST_STREAM
	maxEmptyFrames  = 1
	maxPriority     = 100 // PRIORITY frames per stream
	maxWindowUpdate = 10  // WINDOW_UPDATE frames per DATA frame

	// maxChainConnections leaves some of an Envoy's connections to its other
	// listeners when one is flooded.
	maxChainConnections = 4000
)

func http1Options() *corev3.Http1ProtocolOptions {
	return &corev3.Http1ProtocolOptions{
		// Envoy's defaults, which must not change: both Content-Length and
		// Transfer-Encoding, and HTTP/1.0, are refused.
		AllowChunkedLength: false,
		AcceptHttp_10:      false,
	}
}

func http2Options() *corev3.Http2ProtocolOptions {
	return &corev3.Http2ProtocolOptions{
		AllowConnect:                                 true, // WebSocket, RFC 8441
		MaxConcurrentStreams:                         wrapperspb.UInt32(maxStreams),
		InitialStreamWindowSize:                      wrapperspb.UInt32(streamWindow),
		InitialConnectionWindowSize:                  wrapperspb.UInt32(connWindow),
		MaxOutboundFrames:                            wrapperspb.UInt32(maxFrames),
		MaxOutboundControlFrames:                     wrapperspb.UInt32(maxControl),
		MaxConsecutiveInboundFramesWithEmptyPayload:  wrapperspb.UInt32(maxEmptyFrames),
		MaxInboundPriorityFramesPerStream:            wrapperspb.UInt32(maxPriority),
		MaxInboundWindowUpdateFramesPerDataFrameSent: wrapperspb.UInt32(maxWindowUpdate),
		// One message that is none ends the connection: whoever sends it is no client.
		OverrideStreamErrorOnInvalidHttpMessage: wrapperspb.Bool(false),
	}
}

// connectionLimit is the first network filter of a chain.
func connectionLimit(chain string) *listenerv3.Filter {
	return &listenerv3.Filter{
		Name: "envoy.filters.network.connection_limit",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: toAny(&connectionlimitv3.ConnectionLimit{
			StatPrefix: chain, MaxConnections: wrapperspb.UInt64(maxChainConnections),
		})},
	}
}

// inspector looks at the first bytes of a connection. It is also what ends one
// that sends none: without it an HTTP connection would have connectionIdle.
func inspector(tls bool) *listenerv3.ListenerFilter {
	if tls {
		return &listenerv3.ListenerFilter{
			Name:       "envoy.filters.listener.tls_inspector",
			ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: toAny(&tlsinspectorv3.TlsInspector{})},
		}
	}
	return &listenerv3.ListenerFilter{
		Name:       "envoy.filters.listener.http_inspector",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: toAny(&httpinspectorv3.HttpInspector{})},
	}
}

// answers are what Envoy says by itself. They tell an id to look for in the audit
// log, and nothing of why: that is in the log.
var answers = []struct {
	status uint32
	text   string
}{
	{400, "bad request"}, {401, "unauthorized"}, {403, "forbidden"}, {404, "not found"},
	{421, "misdirected request"}, {429, "too many requests"}, {503, "unavailable"}, {504, "timeout"},
}

// localReply replaces the bodies of Envoy's own answers, which say which check
// failed, and what of a backend.
func localReply() *hcmv3.LocalReplyConfig {
	config := &hcmv3.LocalReplyConfig{BodyFormat: bodyText("%RESPONSE_CODE%, request %REQ(X-REQUEST-ID)%\n")}
	for _, a := range answers {
		m := &hcmv3.ResponseMapper{
			Filter:             status(a.status),
			BodyFormatOverride: bodyText(fmt.Sprintf("%d %s, request %%REQ(X-REQUEST-ID)%%\n", a.status, a.text)),
		}
		if a.status == 401 {
			// Of the parameters of RFC 6750 section 3 each would say something.
			m.HeadersToAdd = []*corev3.HeaderValueOption{overwrite("www-authenticate", "Bearer").GetAppend()}
		}
		config.Mappers = append(config.Mappers, m)
	}
	return config
}

func bodyText(format string) *corev3.SubstitutionFormatString {
	return &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
		Specifier: &corev3.DataSource_InlineString{InlineString: format},
	}}}
}

func status(code uint32) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{
		StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: &accesslogv3.ComparisonFilter{
			// The key is for overrides at run time, which the bootstrap does not have.
			Op: accesslogv3.ComparisonFilter_EQ, Value: &corev3.RuntimeUInt32{DefaultValue: code, RuntimeKey: "breakglass.status"},
		}},
	}}
}

// ending computes the end of the stream, and hides what answers.
func ending() *headermutationv3.HeaderMutation {
	return &headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{
		RequestMutations: []*mutationv3.HeaderMutation{overwrite("x-envoy-upstream-stream-duration-ms", "%CEL("+celLeftMillis+")%")},
		ResponseMutations: []*mutationv3.HeaderMutation{
			removePrefix("x-envoy-"), remove("server"), remove("x-powered-by"),
		},
	}}
}

func connectionOptions() *corev3.HttpProtocolOptions {
	return &corev3.HttpProtocolOptions{
		IdleTimeout: durationpb.New(connectionIdle),
		// No MaxConnectionDuration: see docs/decisions/0008-edge.md.
		MaxHeadersCount:              wrapperspb.UInt32(maxHeaders),
		HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_REJECT_REQUEST,
	}
}
