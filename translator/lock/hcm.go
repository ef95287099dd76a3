package lock

import (
	"time"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
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
// where hosts without a scope of their own go. Neither may have a colon.
func ScopeKey(chain, host string) string { return chain + "|" + host }

// HCM is the HttpConnectionManager of one filter chain. Two of one Gateway
// differ in their chain only, and in whether clients have shown a certificate, and none
// changes after its creation: a change would cut every stream of the chain.
func HCM(c Chain) *hcmv3.HttpConnectionManager {
	chain, scheme := c.Name, "http"
	if len(c.Secrets) > 0 {
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
		AccessLog:        accessLogs(c.Clients != nil && !c.Clients.Anyone),
		AccessLogOptions: accessLogOptions(),

		// The scheme that backends and redirects see is the listener's.
		SchemeHeaderTransformation: &corev3.SchemeHeaderTransformation{
			Transformation: &corev3.SchemeHeaderTransformation_SchemeToOverwrite{SchemeToOverwrite: scheme},
		},
		// The name of Envoy is not added; that of a backend is removed.
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		LocalReplyConfig:           localReply(),

		UseRemoteAddress:             wrapperspb.Bool(true),
		AlwaysSetRequestIdInResponse: true,
		NormalizePath:                wrapperspb.Bool(true),
		MergeSlashes:                 true,
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_REJECT_REQUEST,
		StripTrailingHostDot:         true,

		MaxRequestHeadersKb:       wrapperspb.UInt32(maxHeadersKiB),
		RequestHeadersTimeout:     durationpb.New(headersTime),
		StreamIdleTimeout:         durationpb.New(streamIdle),
		StreamFlushTimeout:        durationpb.New(flushTime),
		DelayedCloseTimeout:       durationpb.New(cutDelay),
		CommonHttpProtocolOptions: connectionOptions(),
		HttpProtocolOptions:       http1Options(),
		Http2ProtocolOptions:      http2Options(),
		UpgradeConfigs:            []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
	}
}

func scopedRoutes() *hcmv3.HttpConnectionManager_ScopedRoutes {
	return &hcmv3.HttpConnectionManager_ScopedRoutes{ScopedRoutes: &hcmv3.ScopedRoutes{
		Name: "breakglass",
		ScopeKeyBuilder: &hcmv3.ScopedRoutes_ScopeKeyBuilder{Fragments: []*hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder{{
			Type: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_{
				HeaderValueExtractor: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor{
					Name: scopeHeader,
					// A port of the host is no part of it, and goes to the backend.
					ElementSeparator: ":",
					ExtractType:      &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_Index{Index: 0},
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

// httpFilters, in order. What comes too often is refused before it costs
// anything. Those that may change which route a request has are before the browser's
// question and the token; nothing after them may.
func httpFilters(chain string) []*hcmv3.HttpFilter {
	return []*hcmv3.HttpFilter{
		limitFilter(),
		// Upper-case hosts find their scope, which is keyed in lower case; a token
		// is taken from one plain Authorization header or not at all.
		filter("breakglass.request", lua(luaRequest(chain))),
		// Hosts without a scope of their own go to the chain's fallback.
		filter("breakglass.fallback", lua(luaFallback(chain))),
		// What a browser asks without a token: see cors.go.
		filter(filterBrowser, &rbacv3.RBAC{}),
		filter(filterCORS, &corsv3.Cors{}),
		{Name: filterJWT, ConfigType: &hcmv3.HttpFilter_ConfigDiscovery{ConfigDiscovery: &corev3.ExtensionConfigSource{
			ConfigSource: ads(0),
			TypeUrls:     []string{"type.googleapis.com/" + string((&jwtv3.JwtAuthentication{}).ProtoReflect().Descriptor().FullName())},
		}}},
		filter(filterWindow, windowFilter()),
		filter(filterRole, roleDefault()),
		// After every lock, so that what is refused makes no intent, and before
		// anything leaves Envoy: see intent.go.
		filter(filterIntent, intentFilter()),
		// After the window, so that the expression cannot fail here.
		filter(filterEnd, ending()),
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
// It sees the path as Envoy has normalised it and as the backend will get it, and
// refuses one that some backend would read as another path, for which another
// rule, with a stronger role, may stand: with ";", where many cut it off; with a
// backslash; with an escaped one of ; ? # % ., where those that decode first see
// a separator, another escape or a dot segment; with an escaped control byte, at
// which some end it; with the beginning of an overlong UTF-8 sequence of two to six
// bytes, which some decode to "/"; and with an escape that is none. A host with "%" is
// refused too: some would decode it to the host of another route. So is one with a
// port that is none, which the choice of a scope would take off and that of a
// wildcard not.
//
// jwt_authn would find "Bearer TOKEN" anywhere in the header, also in the second
// of two: whoever judges the first one in front of us would see somebody else.
func luaRequest(chain string) string {
	return `local bad = {["3b"]=1, ["3f"]=1, ["23"]=1, ["25"]=1, ["2e"]=1, ["2f"]=1, ["5c"]=1, ["7f"]=1, ["c0"]=1, ["c1"]=1}
local overlong = {["e0"]="^%%[89]", ["f0"]="^%%8", ["f8"]="^%%8", ["fc"]="^%%8"}
local function ambiguous(path)
  if path:find("[;\\#%c]") then
    return true
  end
  local at = path:find("%", 1, true)
  while at do
    local hex = (path:match("^%x%x", at + 1) or "00"):lower()
    local second = overlong[hex]
    if bad[hex] or hex:find("^[01]") or second and path:find(second, at + 3) then
      return true
    end
    at = path:find("%", at + 3, true)
  end
  return false
end
local function port(host)
  local p = host:match("^[^:%[%]]+:(.*)$") or host:match("^%[[%x:.]+%]:(.*)$")
  if p then
    return p:find("^%d%d?%d?%d?%d?$") and tonumber(p) <= 65535
  end
  return host:find("^%[[%x:.]+%]$")
end
function envoy_on_request(h)
  local headers = h:headers()
  local path = headers:get(":path") or ""
  local query = path:find("?", 1, true)
  if query then
    path = path:sub(1, query - 1)
  end
  local host = headers:get(":authority") or ""
  if path:find("[;%%\\#%c]") and ambiguous(path) or host:find("%", 1, true) or host:find("[:%[%]]") and not port(host) then
    h:respond({[":status"] = "400"}, "")
    return
  end
  local auth = headers:get("authorization")
  if auth and (headers:getNumValues("authorization") ~= 1 or not auth:find("^Bearer [%w%-_%.]+$")) then
    headers:remove("authorization")
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

func remove(header string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: header}}
}

func removePrefix(prefix string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{
		KeyMatcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}, IgnoreCase: true},
	}}}
}
