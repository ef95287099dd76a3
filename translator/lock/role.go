package lock

import (
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

const jwtMetadata = "envoy.filters.http.jwt_authn"

// rolePerRoute lets in whoever has the role, and nobody else.
func rolePerRoute(role string, grants []Grant) *rbacv3.RBACPerRoute {
	var any []*rbacconfigv3.Principal
	for _, g := range grants {
		fits := []*rbacconfigv3.Principal{claim([]string{"iss"}, []string{g.Issuer}), claim([]string{"aud"}, g.Audiences)}
		for _, c := range g.Claims {
			fits = append(fits, claim(c.Path, c.AnyOf))
		}
		any = append(any, all(fits...))
	}
	return &rbacv3.RBACPerRoute{Rbac: &rbacv3.RBAC{Rules: allow(map[string]*rbacconfigv3.Policy{
		role: whoever(&rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_OrIds{OrIds: &rbacconfigv3.Principal_Set{Ids: any}}}),
	})}}
}

func allow(policies map[string]*rbacconfigv3.Policy) *rbacconfigv3.RBAC {
	return &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_ALLOW, Policies: policies}
}

// whoever is the principal may do anything.
func whoever(p *rbacconfigv3.Principal) *rbacconfigv3.Policy {
	return &rbacconfigv3.Policy{
		Permissions: []*rbacconfigv3.Permission{{Rule: &rbacconfigv3.Permission_Any{Any: true}}},
		Principals:  []*rbacconfigv3.Principal{p},
	}
}

func all(p ...*rbacconfigv3.Principal) *rbacconfigv3.Principal {
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_AndIds{AndIds: &rbacconfigv3.Principal_Set{Ids: p}}}
}

func not(p *rbacconfigv3.Principal) *rbacconfigv3.Principal {
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_NotId{NotId: p}}
}

// claim fits a verified claim that is one of the values or a list that holds one.
func claim(path, anyOf []string) *rbacconfigv3.Principal {
	var values []*matcherv3.ValueMatcher
	for _, v := range anyOf {
		is := the(v)
		holds := &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_ListMatch{ListMatch: &matcherv3.ListMatcher{
			MatchPattern: &matcherv3.ListMatcher_OneOf{OneOf: is},
		}}}
		values = append(values, is, holds)
	}
	return ofToken(&matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_OrMatch{OrMatch: &matcherv3.OrMatcher{ValueMatchers: values}}},
		append([]string{payloadKey}, path...)...)
}

// ofToken fits what jwt_authn says of the token.
func ofToken(value *matcherv3.ValueMatcher, path ...string) *rbacconfigv3.Principal {
	return metadataIs(rbacconfigv3.MetadataSource_DYNAMIC, jwtMetadata, value, path...)
}

// ofRoute fits what the route's own metadata says.
func ofRoute(value *matcherv3.ValueMatcher, path ...string) *rbacconfigv3.Principal {
	return metadataIs(rbacconfigv3.MetadataSource_ROUTE, MetadataNamespace, value, path...)
}

// metadataIs does not fit where there is nothing at the path.
func metadataIs(source rbacconfigv3.MetadataSource, filter string, value *matcherv3.ValueMatcher, path ...string) *rbacconfigv3.Principal {
	var segments []*matcherv3.MetadataMatcher_PathSegment
	for _, p := range path {
		segments = append(segments, pathSegment(p))
	}
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_SourcedMetadata{SourcedMetadata: &rbacconfigv3.SourcedMetadata{
		MetadataSource:  source,
		MetadataMatcher: &matcherv3.MetadataMatcher{Filter: filter, Path: segments, Value: value},
	}}}
}

// the string v.
func the(v string) *matcherv3.ValueMatcher {
	return &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{StringMatch: exactly(v)}}
}

// anything fits a value of any kind, also null.
func anything() *matcherv3.ValueMatcher {
	return &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_PresentMatch{PresentMatch: true}}
}

func pathSegment(key string) *matcherv3.MetadataMatcher_PathSegment {
	return &matcherv3.MetadataMatcher_PathSegment{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: key}}
}

func exactly(v string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: v}}
}

// windowFilter and roleDefault are the static filters. A route can replace the
// second by its own grants; nothing replaces the first.
func windowFilter() *rbacv3.RBAC {
	window := whoever(all(
		ofRoute(answersLocked(), "answer"),
		ofRoute(anything(), "role"), not(ofRoute(the(""), "role")),
		// Extensions that change what a signature means (RFC 7515 section 4.1.11, RFC
		// 7797). jwt_authn reads over them, and none is understood here.
		not(ofToken(anything(), headerKey, "crit")), not(ofToken(anything(), headerKey, "b64")),
	))
	window.Condition = exprWindow
	return &rbacv3.RBAC{Rules: allow(map[string]*rbacconfigv3.Policy{"closed": closed(), "window": window})}
}

func roleDefault() *rbacv3.RBAC {
	return &rbacv3.RBAC{Rules: allow(map[string]*rbacconfigv3.Policy{"closed": closed()})}
}

// answersLocked fits what the metadata of open routes say that they answer. Those of
// a Strict policy say another word: an Envoy whose filters are of before there was
// one to ask for intents, and would forward without, knows it not and refuses.
func answersLocked() *matcherv3.ValueMatcher {
	return &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_OrMatch{OrMatch: &matcherv3.OrMatcher{
		ValueMatchers: []*matcherv3.ValueMatcher{the(answerLocked), the(answerStrict)},
	}}}
}

// closed routes answer by themselves, to anybody.
func closed() *rbacconfigv3.Policy { return whoever(ofRoute(the("closed"), "answer")) }
