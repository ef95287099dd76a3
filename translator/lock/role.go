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
		all := []*rbacconfigv3.Principal{claim([]string{"iss"}, []string{g.Issuer}), claim([]string{"aud"}, g.Audiences)}
		for _, c := range g.Claims {
			all = append(all, claim(c.Path, c.AnyOf))
		}
		any = append(any, &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_AndIds{AndIds: &rbacconfigv3.Principal_Set{Ids: all}}})
	}
	return &rbacv3.RBACPerRoute{Rbac: &rbacv3.RBAC{Rules: allow(map[string]*rbacconfigv3.Policy{
		role: {
			Permissions: []*rbacconfigv3.Permission{{Rule: &rbacconfigv3.Permission_Any{Any: true}}},
			Principals:  []*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_OrIds{OrIds: &rbacconfigv3.Principal_Set{Ids: any}}}},
		},
	})}}
}

func allow(policies map[string]*rbacconfigv3.Policy) *rbacconfigv3.RBAC {
	return &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_ALLOW, Policies: policies}
}

// claim fits a verified claim that is one of the values or a list that holds one.
func claim(path, anyOf []string) *rbacconfigv3.Principal {
	segments := []*matcherv3.MetadataMatcher_PathSegment{pathSegment(payloadKey)}
	for _, p := range path {
		segments = append(segments, pathSegment(p))
	}
	var values []*matcherv3.ValueMatcher
	for _, v := range anyOf {
		is := &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{StringMatch: exactly(v)}}
		holds := &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_ListMatch{ListMatch: &matcherv3.ListMatcher{
			MatchPattern: &matcherv3.ListMatcher_OneOf{OneOf: is},
		}}}
		values = append(values, is, holds)
	}
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_SourcedMetadata{SourcedMetadata: &rbacconfigv3.SourcedMetadata{
		MetadataSource: rbacconfigv3.MetadataSource_DYNAMIC,
		MetadataMatcher: &matcherv3.MetadataMatcher{
			Filter: jwtMetadata,
			Path:   segments,
			Value:  &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_OrMatch{OrMatch: &matcherv3.OrMatcher{ValueMatchers: values}}},
		},
	}}}
}

func pathSegment(key string) *matcherv3.MetadataMatcher_PathSegment {
	return &matcherv3.MetadataMatcher_PathSegment{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: key}}
}

func exactly(v string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: v}}
}

// window and roleDefault are the static filters. A route can replace the second
// by its own grants; nothing replaces the first.
func windowFilter() *rbacv3.RBAC {
	return &rbacv3.RBAC{Rules: allow(map[string]*rbacconfigv3.Policy{
		"closed": anyoneIf(exprClosed),
		"window": anyoneIf(exprWindow),
	})}
}

func roleDefault() *rbacv3.RBAC {
	return &rbacv3.RBAC{Rules: allow(map[string]*rbacconfigv3.Policy{"closed": anyoneIf(exprClosed)})}
}
