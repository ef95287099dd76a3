// Package lock is the only place that can make an Envoy route that reaches
// anything. Its types make an unlocked route impossible to express:
//
//   - a Route is opaque, and comes from Closed, which answers by itself and
//     reaches nothing, or from Lock.Open, which attaches the lock;
//   - a RouteConfiguration is made of Routes only;
//   - every HttpConnectionManager made here denies by default.
//
// The locks of an open route, in the order in which Envoy asks for them:
//
//	filter            what it needs                                       set by
//	breakglass.cors   nothing: it answers what a browser asks before a    per open route that says so
//	                  request, and reaches nothing (cors.go)
//	breakglass.jwt    a verified token, for every path                    ECDS, from the policy
//	breakglass.window now < deadline, now < exp, exp - iat within the     static, over the route's metadata
//	                  issuer's bound, iat not in the future, a role       and the token's claims
//	breakglass.role   a grant of the role fits the claims                 per route; without one: deny
//	breakglass.intent who asks for what is on the disk                    static; open routes of a policy
//	                                                                      that is not Strict, and closed
//	                                                                      ones, switch it off
//	breakglass.end    ends the stream at the token's exp                  static
//	(lease)           the internal listener behind the cluster exists     its LDS TTL ends the streams
//
// A missing filter configuration, missing metadata, an expression that fails:
// each of them denies.
package lock

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// MetadataNamespace holds the lock's data on a route.
const MetadataNamespace = "breakglass.dev"

// The HTTP filters, by name. A route's own configuration refers to them.
const (
	filterLimit  = "breakglass.limit"
	filterJWT    = "breakglass.jwt"
	filterWindow = "breakglass.window"
	filterRole   = "breakglass.role"
	filterIntent = "breakglass.intent"
	filterEnd    = "breakglass.end"
)

// What the metadata of an open route say that it answers: see answersLocked.
const (
	answerLocked = "locked"
	answerStrict = "strict"
)

// DeadlineLayout is how a deadline is told: RFC 3339 with microseconds.
const DeadlineLayout = "2006-01-02T15:04:05.000000Z"

// Route is a route of a RouteConfiguration.
type Route struct{ route *routev3.Route }

// Name of the route.
func (r Route) Name() string { return r.route.GetName() }

// Open reports whether r can reach anything.
func (r Route) Open() bool { return r.route.GetDirectResponse() == nil }

// Lock is what must be true for a rule to be served. Its zero value opens
// nothing.
type Lock struct {
	// Deadline by Envoy's clock.
	Deadline time.Time
	// Role and what proves it.
	Role   string
	Grants []Grant
	// For the log.
	Route, Rule, Opening   string
	Activations, Incidents []string
	// Strict: a request is forwarded only after its intent is durable. Gateway is for
	// the intent.
	Strict  bool
	Gateway string
}

// Grant fits tokens of one issuer that have all the claims.
type Grant struct {
	Issuer string
	// Audiences, one of which the token must name exactly. jwt_authn compares
	// them loosely: it ignores a scheme and a final slash.
	Audiences        []string
	MaxTokenLifetime time.Duration
	Claims           []Claim
}

// Claim fits a string that is one of AnyOf, or a list that holds one of them.
type Claim struct {
	Path  []string
	AnyOf []string
}

// complete reports whether the lock can keep anybody out. One that cannot
// yields a closed route.
func (l Lock) complete() bool {
	if l.Deadline.IsZero() || l.Role == "" || l.Opening == "" || len(l.Grants) == 0 || l.Strict && l.Gateway == "" {
		return false
	}
	return !slices.ContainsFunc(l.Grants, func(g Grant) bool { return !g.complete() })
}

func (g Grant) complete() bool {
	if g.Issuer == "" || !filled(g.Audiences) || g.MaxTokenLifetime < time.Second || len(g.Claims) == 0 {
		return false
	}
	return !slices.ContainsFunc(g.Claims, func(c Claim) bool { return !filled(c.Path) || !filled(c.AnyOf) })
}

// filled: there is something, and nothing in it is empty.
func filled(list []string) bool { return len(list) > 0 && !slices.Contains(list, "") }

// Action is what an open route does with a request that has passed the locks.
type Action struct {
	Forward  *routev3.RouteAction
	Redirect *routev3.RedirectAction
	// Status, if not 0, answers by itself.
	Status uint32
	// CORS, if set, is what browsers are told of the route.
	CORS *corsv3.CorsPolicy
	// Headers to add and remove.
	RequestAdd, ResponseAdd       []*corev3.HeaderValueOption
	RequestRemove, ResponseRemove []string
}

// Validate applies the rules that Envoy's API states for its own messages.
func (a Action) Validate() error {
	probe := &routev3.Route{
		Match: anyPath(), Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 404}},
		RequestHeadersToAdd: a.RequestAdd, RequestHeadersToRemove: a.RequestRemove,
		ResponseHeadersToAdd: a.ResponseAdd, ResponseHeadersToRemove: a.ResponseRemove,
	}
	if a.Forward != nil {
		probe.Action = &routev3.Route_Route{Route: a.Forward}
	} else if a.Redirect != nil {
		probe.Action = &routev3.Route_Redirect{Redirect: a.Redirect}
	}
	if a.CORS != nil {
		if err := a.CORS.ValidateAll(); err != nil {
			return err
		}
	}
	return probe.ValidateAll()
}

// Open makes a route that is served only through the lock. An incomplete lock
// makes a closed route.
func (l Lock) Open(name string, match *routev3.RouteMatch, do Action) Route {
	if !l.complete() {
		return Closed(name, match, 404)
	}
	r := &routev3.Route{
		Name:                    name,
		Match:                   match,
		Metadata:                l.metadata(),
		TypedPerFilterConfig:    map[string]*anypb.Any{filterRole: toAny(rolePerRoute(l.Role, l.Grants))},
		RequestHeadersToAdd:     do.RequestAdd,
		RequestHeadersToRemove:  do.RequestRemove,
		ResponseHeadersToAdd:    do.ResponseAdd,
		ResponseHeadersToRemove: do.ResponseRemove,
	}
	if !l.Strict {
		r.TypedPerFilterConfig[filterIntent] = noIntent()
	}
	if do.CORS != nil {
		maps.Copy(r.TypedPerFilterConfig, corsPerRoute(do.CORS))
	}
	switch {
	case do.Forward != nil:
		r.Action = &routev3.Route_Route{Route: do.Forward}
	case do.Redirect != nil:
		r.Action = &routev3.Route_Redirect{Redirect: do.Redirect}
	case do.Status != 0:
		r.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: do.Status}}
	default:
		return Closed(name, match, 404)
	}
	return Route{r}
}

func (l Lock) metadata() *corev3.Metadata {
	lifetimes := map[string]*structpb.Value{}
	for _, g := range l.Grants {
		// An issuer has one bound; if two grants ever disagreed the smaller holds.
		seconds := g.MaxTokenLifetime.Seconds()
		if old, ok := lifetimes[g.Issuer]; !ok || seconds < old.GetNumberValue() {
			lifetimes[g.Issuer] = structpb.NewNumberValue(float64(int64(seconds)))
		}
	}
	str := structpb.NewStringValue
	fields := map[string]*structpb.Value{
		"answer":      str(answerLocked),
		"deadline":    structpb.NewNumberValue(float64(l.Deadline.UnixMicro())), // exact until the year 2255
		"role":        str(l.Role),
		"lifetimes":   structpb.NewStructValue(&structpb.Struct{Fields: lifetimes}),
		"route":       str(l.Route),
		"rule":        str(l.Rule),
		"opening":     str(l.Opening),
		"activations": str(strings.Join(l.Activations, ",")),
		"incidents":   str(strings.Join(l.Incidents, ",")),
	}
	if l.Strict {
		fields["answer"], fields["gateway"] = str(answerStrict), str(l.Gateway)
	}
	return metadata(fields)
}

func metadata(fields map[string]*structpb.Value) *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{MetadataNamespace: {Fields: fields}}}
}

// Closed makes a route that answers by itself, to anybody, and reaches nothing.
func Closed(name string, match *routev3.RouteMatch, status uint32) Route {
	return Route{&routev3.Route{
		Name:  name,
		Match: match,
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: status,
		}},
		Metadata: metadata(map[string]*structpb.Value{"answer": structpb.NewStringValue("closed")}),
		TypedPerFilterConfig: map[string]*anypb.Any{
			filterJWT:    toAny(&jwtv3.PerRouteConfig{RequirementSpecifier: &jwtv3.PerRouteConfig_Disabled{Disabled: true}}),
			filterIntent: noIntent(),
		},
	}}
}

// VirtualHost is the routes of one or more domains, in order of precedence.
type VirtualHost struct {
	Name    string
	Domains []string
	Routes  []Route
	// Misdirected: what matches none of them is answered 421 (RFC 9110, 15.5.20) and
	// not 404: a new connection would find it.
	Misdirected bool
}

// notForBackends are headers that Envoy or we add for our own use, and those with
// which a client could have a backend act on another method than the rule named.
var notForBackends = []string{
	scopeHeader, nowHeader, "x-envoy-external-address", "x-envoy-internal",
	"x-http-method-override", "x-http-method", "x-method-override",
}

// RouteConfiguration makes a RouteConfiguration in which every virtual host
// ends in a 404 or 421 of its own: what matches no route must not fall through to a
// wider host.
func RouteConfiguration(name string, hosts []VirtualHost) *routev3.RouteConfiguration {
	rc := &routev3.RouteConfiguration{Name: name, RequestHeadersToRemove: notForBackends, IgnorePortInHostMatching: true}
	for _, h := range hosts {
		vh := &routev3.VirtualHost{Name: h.Name, Domains: h.Domains}
		for _, r := range h.Routes {
			vh.Routes = append(vh.Routes, r.route)
		}
		last := Closed("none", anyPath(), 404)
		if h.Misdirected {
			last = Closed("misdirected", anyPath(), 421)
		}
		vh.Routes = append(vh.Routes, last.route)
		rc.VirtualHosts = append(rc.VirtualHosts, vh)
	}
	return rc
}

func anyPath() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
}

// Reserved reports whether a route's own header filters may not name header:
// Envoy's control headers (one of them carries the end of the stream), the
// token, and ours.
func Reserved(header string) bool {
	h := strings.ToLower(header)
	switch h {
	case "authorization", "proxy-authorization", "host", "connection", "upgrade", "transfer-encoding", "content-length", "te", "trailer", "keep-alive", "x-request-id", "x-forwarded-for":
		return true
	}
	return h == "" || h[0] == ':' ||
		strings.HasPrefix(h, "x-envoy-") || strings.HasPrefix(h, "x-breakglass-")
}

func toAny(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	// Only messages of this package come here; deterministic bytes keep versions stable.
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(err)
	}
	return a
}

// sortedKeys keeps output deterministic.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
