package lock

import (
	"time"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// scopeHeader carries the scope key, CHAIN|host, from the start of a request to
// its route. Envoy overwrites what a client sends under this name.
const scopeHeader = "x-breakglass-scope"

// nowHeader carries the time at which Envoy had read the request's headers, in
// microseconds since 1970. It too is overwritten.
const nowHeader = "x-breakglass-now"

// ScopeKey is the key of a host's routes within a filter chain; host "*" is
// where hosts without a scope of their own go.
func ScopeKey(chain, host string) string { return chain + "|" + host }

// HCM is the HttpConnectionManager of one filter chain. Two of one Gateway
// differ in their chain only, and none changes after its creation: a change
// would cut every stream of the chain.
func HCM(chain string, tls bool) *hcmv3.HttpConnectionManager {
	scheme := "http"
	if tls {
		scheme = "https"
	}
	return &hcmv3.HttpConnectionManager{
		StatPrefix:     chain,
		CodecType:      hcmv3.HttpConnectionManager_AUTO,
		RouteSpecifier: scopedRoutes(),
		HttpFilters:    httpFilters(chain),
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{
			{Name: "breakglass.scope", TypedConfig: toAny(&earlyv3.HeaderMutation{Mutations: []*mutationv3.HeaderMutation{
				// Envoy obeys some x-envoy-* headers of clients it takes for internal.
				removePrefix("x-envoy-"),
				removePrefix("x-breakglass-"),
				overwrite(scopeHeader, ScopeKey(chain, "%REQ(:AUTHORITY)%")),
				overwrite(nowHeader, nowFormat),
			}})},
		},
		AccessLog:        accessLogs(),
		AccessLogOptions: accessLogOptions(),

		// The scheme that backends and redirects see is the listener's.
		SchemeHeaderTransformation: &corev3.SchemeHeaderTransformation{
			Transformation: &corev3.SchemeHeaderTransformation_SchemeToOverwrite{SchemeToOverwrite: scheme},
		},
		ServerHeaderTransformation:   hcmv3.HttpConnectionManager_PASS_THROUGH,
		UseRemoteAddress:             wrapperspb.Bool(true),
		AlwaysSetRequestIdInResponse: true,
		NormalizePath:                wrapperspb.Bool(true),
		MergeSlashes:                 true,
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_REJECT_REQUEST,
		StripPortMode:                &hcmv3.HttpConnectionManager_StripAnyHostPort{StripAnyHostPort: true},
		StripTrailingHostDot:         true,
		MaxRequestHeadersKb:          wrapperspb.UInt32(32),
		RequestHeadersTimeout:        durationpb.New(10 * time.Second),
		// Deadline and token bound a stream; an idle shell in an incident must live.
		StreamIdleTimeout: durationpb.New(time.Hour),
		// How long a client of a cut HTTP/1 stream waits for the end of the connection.
		DelayedCloseTimeout: durationpb.New(50 * time.Millisecond),
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:                  durationpb.New(5 * time.Minute),
			MaxHeadersCount:              wrapperspb.UInt32(100),
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_REJECT_REQUEST,
		},
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			AllowConnect:                true,
			MaxConcurrentStreams:        wrapperspb.UInt32(100),
			InitialStreamWindowSize:     wrapperspb.UInt32(64 << 10),
			InitialConnectionWindowSize: wrapperspb.UInt32(1 << 20),
		},
		UpgradeConfigs: []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
	}
}

func scopedRoutes() *hcmv3.HttpConnectionManager_ScopedRoutes {
	return &hcmv3.HttpConnectionManager_ScopedRoutes{ScopedRoutes: &hcmv3.ScopedRoutes{
		Name: "breakglass",
		ScopeKeyBuilder: &hcmv3.ScopedRoutes_ScopeKeyBuilder{Fragments: []*hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder{{
			Type: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_{
				HeaderValueExtractor: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor{
					Name:        scopeHeader,
					ExtractType: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_Index{Index: 0},
				},
			},
		}}},
		RdsConfigSource: ads(0),
		ConfigSpecifier: &hcmv3.ScopedRoutes_ScopedRds{ScopedRds: &hcmv3.ScopedRds{ScopedRdsConfigSource: ads(0)}},
	}}
}

// ads is the aggregated stream. A fetch timeout of 0 waits for ever: a listener
// without its token filter must not listen.
func ads(initialFetchTimeout time.Duration) *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(initialFetchTimeout),
	}
}

// httpFilters, in order. The two before the token may still change which route
// a request has; nothing after it may.
func httpFilters(chain string) []*hcmv3.HttpFilter {
	return []*hcmv3.HttpFilter{
		// Upper-case hosts find their scope, which is keyed in lower case; a token
		// is taken from one plain Authorization header or not at all.
		filter("breakglass.request", lua(luaRequest(chain))),
		// Hosts without a scope of their own go to the chain's fallback.
		filter("breakglass.fallback", lua(luaFallback(chain))),
		{Name: filterJWT, ConfigType: &hcmv3.HttpFilter_ConfigDiscovery{ConfigDiscovery: &corev3.ExtensionConfigSource{
			ConfigSource: ads(0),
			TypeUrls:     []string{"type.googleapis.com/" + string((&jwtv3.JwtAuthentication{}).ProtoReflect().Descriptor().FullName())},
		}}},
		filter(filterWindow, windowFilter()),
		filter(filterRole, roleDefault()),
		// After the window, so that the expression cannot fail here.
		filter(filterEnd, &headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{
			RequestMutations: []*mutationv3.HeaderMutation{overwrite("x-envoy-upstream-stream-duration-ms", "%CEL("+celLeftMillis+")%")},
		}}),
		filter("envoy.filters.http.router", &routerv3.Router{SuppressEnvoyHeaders: true}),
	}
}

func filter(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: toAny(config)}}
}

func lua(code string) *luav3.Lua {
	return &luav3.Lua{DefaultSourceCode: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: code}}}
}

// An error in a script leaves the request as it was: without its scope it finds
// no route, which is a 404, and the locks that follow need no script.
//
// A path with ";" is refused: many backends cut it off there, and would serve a
// path that another rule, with a stronger role, stands for. So is a host with
// "%", which some would decode to the host of another route.
//
// jwt_authn would find "Bearer TOKEN" anywhere in the header, also in the second
// of two: whoever judges the first one in front of us would see somebody else.
func luaRequest(chain string) string {
	return `function envoy_on_request(h)
  local headers = h:headers()
  local path = headers:get(":path") or ""
  local query = path:find("?", 1, true)
  if path:sub(1, (query or 0) - 1):find(";", 1, true) then
    h:respond({[":status"] = "400"}, "")
    return
  end
  local auth = headers:get("authorization")
  if auth and (headers:getNumValues("authorization") ~= 1 or not auth:find("^Bearer [%w%-_%.]+$")) then
    headers:remove("authorization")
  end
  local host = headers:get(":authority") or ""
  if host:find("%", 1, true) then
    h:respond({[":status"] = "400"}, "")
    return
  end
  if host:find("%u") then
    headers:replace("` + scopeHeader + `", "` + ScopeKey(chain, "") + `" .. host:lower())
    h:clearRouteCache()
  end
end`
}

func luaFallback(chain string) string {
	return `function envoy_on_request(h)
  if (h:streamInfo():routeName() or "") == "" then
    h:headers():replace("` + scopeHeader + `", "` + ScopeKey(chain, "*") + `")
    h:clearRouteCache()
  end
end`
}

func overwrite(key, value string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: key, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}}}
}

func removePrefix(prefix string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{
		KeyMatcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}, IgnoreCase: true},
	}}}
}
