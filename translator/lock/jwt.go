package lock

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// payloadKey is where jwt_authn puts the verified claims in its metadata.
const payloadKey = "jwt"

// headerKey is where it puts the verified header (RFC 7515 section 4).
const headerKey = "header"

// tokensRemembered is for how many tokens of an issuer each worker remembers that
// their signature is good; those of more than 4 KiB it does not.
const tokensRemembered = 1000

// JWTResource is the name of the ECDS resource that holds the token filter.
const JWTResource = filterJWT

// Issuer is a signer of tokens with its keys as Envoy reads them.
type Issuer struct {
	Name, Issuer string
	Audiences    []string
	JWKS         string
}

// noIssuer stands where a policy has no usable key. Nothing can satisfy it: its
// keys would have to be fetched from a cluster that does not exist. A token
// requirement is thus never absent (an empty jwt_authn is open).
const noIssuer = NoCluster

// JWT is the token filter. Every path needs a token of one of the issuers;
// closed routes are exempt by name, and reach nothing.
func JWT(issuers []Issuer) *corev3.TypedExtensionConfig {
	filter := &jwtv3.JwtAuthentication{Providers: map[string]*jwtv3.JwtProvider{}}
	var any []*jwtv3.JwtRequirement
	for _, i := range issuers {
		if i.JWKS == "" || i.Issuer == "" || len(i.Audiences) == 0 {
			continue
		}
		p := provider(i.Issuer, i.Audiences)
		p.JwksSourceSpecifier = &jwtv3.JwtProvider_LocalJwks{LocalJwks: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: i.JWKS}}}
		filter.Providers[i.Name] = p
		any = append(any, requires(i.Name))
	}
	var need *jwtv3.JwtRequirement
	switch len(any) {
	case 0:
		p := provider(noIssuer, []string{noIssuer})
		p.JwksSourceSpecifier = &jwtv3.JwtProvider_RemoteJwks{RemoteJwks: &jwtv3.RemoteJwks{HttpUri: &corev3.HttpUri{
			Uri:              "https://none.invalid/",
			HttpUpstreamType: &corev3.HttpUri_Cluster{Cluster: noIssuer},
			Timeout:          durationpb.New(time.Second),
		}}}
		filter.Providers[noIssuer] = p
		need = requires(noIssuer)
	case 1:
		need = any[0]
	default:
		need = &jwtv3.JwtRequirement{RequiresType: &jwtv3.JwtRequirement_RequiresAny{RequiresAny: &jwtv3.JwtRequirementOrList{Requirements: any}}}
	}
	filter.Rules = []*jwtv3.RequirementRule{{
		Match:           &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		RequirementType: &jwtv3.RequirementRule_Requires{Requires: need},
	}}
	return &corev3.TypedExtensionConfig{Name: JWTResource, TypedConfig: toAny(filter)}
}

func provider(issuer string, audiences []string) *jwtv3.JwtProvider {
	return &jwtv3.JwtProvider{
		Issuer:            issuer,
		Audiences:         audiences,
		RequireExpiration: true,
		ClockSkewSeconds:  1, // 0 would mean 60
		PayloadInMetadata: payloadKey,
		HeaderInMetadata:  headerKey,
		Forward:           false, // the backend never sees the token
		// Checking a signature costs more than all other locks together. What is
		// remembered is that it was good: issuer, audience, begin and end are compared
		// each time, and a change of the keys or the issuers makes a new filter, which
		// remembers nothing.
		JwtCacheConfig: &jwtv3.JwtCacheConfig{JwtCacheSize: tokensRemembered},
		// Named, so that Envoy does not take ?access_token= as well.
		FromHeaders: []*jwtv3.JwtHeader{{Name: "authorization", ValuePrefix: "Bearer "}},
	}
}

func requires(provider string) *jwtv3.JwtRequirement {
	return &jwtv3.JwtRequirement{RequiresType: &jwtv3.JwtRequirement_ProviderName{ProviderName: provider}}
}
