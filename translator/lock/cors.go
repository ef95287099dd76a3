package lock

import (
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A browser asks before it sends a request of a script to another origin, and
// gives no token with that question (Fetch standard, section 4.8): the preflight.
// Only a route that says so answers it, only while it is open, and Envoy does it by
// itself: no preflight reaches a backend, and nothing else is answered before the
// token filter. A route without CORS, open or closed, answers a preflight as it
// answers anything.

// corsFilters are before the token filter. Without configuration of a route's own
// they do nothing.
const (
	filterBrowser = "breakglass.browser"
	filterCORS    = "breakglass.cors"
)

// corsPerRoute is the configuration of an open route that answers preflights.
func corsPerRoute(policy *corsv3.CorsPolicy) map[string]*anypb.Any {
	policy = proto.CloneOf(policy)
	// An origin that is not allowed gets an answer that allows nothing, and is
	// not asked for a token that a browser cannot send.
	policy.ForwardNotMatchingPreflights = wrapperspb.Bool(false)
	policy.FilterEnabled, policy.ShadowEnabled = nil, nil
	return map[string]*anypb.Any{
		filterBrowser: toAny(&rbacv3.RBACPerRoute{Rbac: &rbacv3.RBAC{Rules: beforeDeadline()}}),
		filterCORS:    toAny(policy),
	}
}

// beforeDeadline denies whatever comes after the route's deadline. Of requests the
// window filter does so; it is after the filter that answers preflights.
func beforeDeadline() *rbacconfigv3.RBAC {
	p := whoever(ofRoute(answersLocked(), "answer"))
	p.Condition = exprBeforeDeadline
	return allow(map[string]*rbacconfigv3.Policy{"open": p})
}
