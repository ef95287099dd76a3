package lock

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	localv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// LimitResource is the name of the ECDS resource that holds the limits of
// requests.
const LimitResource = filterLimit

// LimitStat is the stat prefix of the limits, which Envoy writes after that of the
// filter chain.
const LimitStat = "limit"

// Rate is a token bucket: so many at once, and so many a second from then on.
type Rate struct{ PerSecond, Burst uint32 }

// Limits are how many requests of one listener are looked at; others are answered
// with 429. Each filter chain has buckets of its own. A
// request with a token is not counted where those without are, so that a flood
// of these does not keep it out. Whether the token is good is not known here.
type Limits struct {
	// WithToken and WithoutToken count for each client address: of IPv6, for its
	// first 64 bits.
	WithToken, WithoutToken Rate
	// AllWithoutToken counts for all clients of the listener together.
	AllWithoutToken Rate
}

// DefaultLimits leave room for a team behind one address with its dashboards.
// Nobody needs to ask often without a token.
var DefaultLimits = Limits{
	WithToken:       Rate{PerSecond: 1000, Burst: 5000},
	WithoutToken:    Rate{PerSecond: 10, Burst: 100},
	AllWithoutToken: Rate{PerSecond: 200, Burst: 1000},
}

// knownAddresses is how many client addresses are told apart. Beyond, the one
// that was seen least recently begins anew.
const knownAddresses = 10_000

const (
	addressKey = "masked_remote_address" // as Envoy names it
	tokenKey   = "token"
)

// RequestLimits is the filter. It comes by ECDS: a change of policy must not
// change the HttpConnectionManager, which would cut every stream.
func RequestLimits(l Limits) *corev3.TypedExtensionConfig {
	return &corev3.TypedExtensionConfig{Name: LimitResource, TypedConfig: toAny(requestLimits(l))}
}

func requestLimits(l Limits) *localv3.LocalRateLimit {
	always := &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{Numerator: 100}}
	return &localv3.LocalRateLimit{
		StatPrefix:     LimitStat,
		FilterEnabled:  always,
		FilterEnforced: always,
		RateLimits: []*routev3.RateLimit{
			{Actions: []*routev3.RateLimit_Action{clientAddress(), token(true)}},
			{Actions: []*routev3.RateLimit_Action{clientAddress(), token(false)}},
			{Actions: []*routev3.RateLimit_Action{token(false)}},
		},
		Descriptors: []*ratelimitv3.LocalRateLimitDescriptor{
			bucket(l.WithToken, entry(addressKey, ""), entry(tokenKey, "with")),
			bucket(l.WithoutToken, entry(addressKey, ""), entry(tokenKey, "without")),
			bucket(l.AllWithoutToken, entry(tokenKey, "without")),
		},
		MaxDynamicDescriptors:           wrapperspb.UInt32(knownAddresses),
		AlwaysConsumeDefaultTokenBucket: wrapperspb.Bool(false),
		EnableRetryAfterHeader:          true,
		RateLimitedAsResourceExhausted:  true,
	}
}

// limitFilter has the default limits until others come, and when none do: it must
// neither keep the listener from listening nor be missing.
func limitFilter() *hcmv3.HttpFilter {
	config := toAny(requestLimits(DefaultLimits))
	return &hcmv3.HttpFilter{Name: filterLimit, ConfigType: &hcmv3.HttpFilter_ConfigDiscovery{ConfigDiscovery: &corev3.ExtensionConfigSource{
		ConfigSource:                     ads(0),
		DefaultConfig:                    config,
		ApplyDefaultConfigWithoutWarming: true,
		TypeUrls:                         []string{config.GetTypeUrl()},
	}}}
}

func clientAddress() *routev3.RateLimit_Action {
	return &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_MaskedRemoteAddress_{
		MaskedRemoteAddress: &routev3.RateLimit_Action_MaskedRemoteAddress{
			V4PrefixMaskLen: wrapperspb.UInt32(32), V6PrefixMaskLen: wrapperspb.UInt32(64),
		},
	}}
}

// token is there with what begins like a JWT. That it is one is for the token
// filter to see, which costs more.
func token(with bool) *routev3.RateLimit_Action {
	value := "without"
	if with {
		value = "with"
	}
	return &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_HeaderValueMatch_{
		HeaderValueMatch: &routev3.RateLimit_Action_HeaderValueMatch{
			DescriptorKey: tokenKey, DescriptorValue: value, ExpectMatch: wrapperspb.Bool(with),
			Headers: []*routev3.HeaderMatcher{{Name: "authorization", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
				StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "Bearer eyJ"}},
			}}},
		},
	}}
}

func bucket(r Rate, entries ...*ratelimitv3.RateLimitDescriptor_Entry) *ratelimitv3.LocalRateLimitDescriptor {
	return &ratelimitv3.LocalRateLimitDescriptor{Entries: entries, TokenBucket: &typev3.TokenBucket{
		MaxTokens: max(r.Burst, 1), TokensPerFill: wrapperspb.UInt32(max(r.PerSecond, 1)), FillInterval: durationpb.New(time.Second),
	}}
}

func entry(key, value string) *ratelimitv3.RateLimitDescriptor_Entry {
	return &ratelimitv3.RateLimitDescriptor_Entry{Key: key, Value: value}
}
