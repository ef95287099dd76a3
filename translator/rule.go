package translator

import (
	"fmt"
	"slices"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
)

// rule is one rule of a route.
type rule struct {
	route    *route
	index    int
	key      string // its name, or its index
	spec     *gwv1.HTTPRouteRule
	matches  []match
	filters  filters
	backends []backend
	mirrors  []mirror // resolved
}

// reached are the backends of which the rule has clusters: the nth has the nth.
func (ru *rule) reached() []backend {
	out := slices.Clone(ru.backends)
	for _, m := range ru.mirrors {
		out = append(out, m.backend)
	}
	return out
}

// resolveRules reads the rules of a route. What is not supported refuses the
// whole route: half a route is not what was reviewed.
func (s *state) resolveRules(r *route) {
	r.resolved = yes(string(gwv1.RouteConditionResolvedRefs), string(gwv1.RouteReasonResolvedRefs))
	if scope := r.obj.Spec.UseDefaultGateways; scope != "" && scope != gwv1.GatewayDefaultScopeNone {
		r.unsupported = "spec.useDefaultGateways is not supported, and would attach the route to doors that need no emergency: name its Gateways in spec.parentRefs"
	}
	for i := range r.obj.Spec.Rules {
		spec := &r.obj.Spec.Rules[i]
		ru := &rule{route: r, index: i, key: fmt.Sprintf("#%d", i), spec: spec}
		if spec.Name != nil {
			ru.key = string(*spec.Name)
		}
		ru.matches = readMatches(spec.Matches)
		if r.grpc != nil {
			r.readMethods(ru)
		}
		refuse := func(err error) {
			if err != nil && r.unsupported == "" {
				r.unsupported = fmt.Sprintf("spec.rules[%d].%v", i, err)
			}
		}
		var err error
		ru.filters, err = readFilters(spec.Filters)
		refuse(r.unsupportedFilter(i))
		refuse(err)
		refuse(unsupportedRule(spec))
		refuse(checkRetry(spec.Retry))
		refuse(r.uniqueName(spec))
		for j, m := range ru.matches {
			if m.invalid != nil {
				refuse(fmt.Errorf("matches[%d].%w", j, m.invalid))
			}
		}
		if spec.Timeouts != nil {
			refuse(checkTimeouts(spec.Timeouts))
		}
		refuse(s.resolveBackends(ru))
		if err == nil {
			refuse(ru.tryAction())
		}
		r.rules = append(r.rules, ru)
	}
}

// tryAction asks the rules that Envoy itself states for its API, so that a value
// Envoy would reject refuses this route and not its whole hostname.
func (ru *rule) tryAction() error {
	for _, m := range ru.matches {
		if err := ru.action("try", m, origin{port: 1}).Validate(); err != nil {
			return fmt.Errorf("filters: Envoy would reject this: %w", err)
		}
	}
	return nil
}

// uniqueName: an activation names a rule by its name, so that two of one name
// would open together.
func (r *route) uniqueName(spec *gwv1.HTTPRouteRule) error {
	for _, other := range r.rules {
		if spec.Name != nil && other.spec.Name != nil && *spec.Name == *other.spec.Name {
			return fmt.Errorf("name: %q is the name of spec.rules[%d] too: give each rule its own", *spec.Name, other.index)
		}
	}
	return nil
}

func unsupportedRule(spec *gwv1.HTTPRouteRule) error {
	if spec.SessionPersistence != nil {
		return fmt.Errorf("sessionPersistence is not supported: remove it")
	}
	return nil
}

func checkTimeouts(t *gwv1.HTTPRouteTimeouts) error {
	request, backend := v1alpha1.DurationOr(t.Request, 0), v1alpha1.DurationOr(t.BackendRequest, 0)
	if request > 0 && backend > request {
		return fmt.Errorf("timeouts.backendRequest %s is longer than timeouts.request %s", backend, request)
	}
	return nil
}

// timeout of a forwarded request. 0 is none: the deadline and the token bound
// every stream, and an SRE's stream must not end after Envoy's default 15 s.
func (ru *rule) timeout() *durationpb.Duration {
	var d time.Duration
	if t := ru.spec.Timeouts; t != nil {
		d = v1alpha1.DurationOr(t.Request, 0)
	}
	return durationpb.New(d)
}

// action is what the rule does with a request that has passed the locks.
func (ru *rule) action(opening string, m match, at origin) lock.Action {
	do := lock.Action{CORS: ru.filters.cors}
	if !ru.perBackend() {
		do.RequestAdd, do.RequestRemove = ru.filters.request.envoy()
		do.ResponseAdd, do.ResponseRemove = ru.filters.response.envoy()
	}
	switch {
	case ru.filters.redirect != nil:
		do.Redirect = ru.filters.redirectAction(m, at)
	case !ru.reaches():
		do.Status = ru.brokenStatus()
	default:
		do.Forward = ru.forward(opening)
		ru.filters.rewriteTo(do.Forward, m)
		ru.mirrorTo(do.Forward, opening)
	}
	return do
}

// perBackend reports whether headers are edited for each backend. Envoy would do
// what belongs to the backend before what belongs to the rule: all of it is then
// said of the backend.
func (ru *rule) perBackend() bool {
	return ru.reaches() && ru.filters.redirect == nil &&
		slices.ContainsFunc(ru.backends, func(b backend) bool { return len(b.filters.request)+len(b.filters.response) > 0 })
}

// reaches reports whether any request reaches a backend.
func (ru *rule) reaches() bool {
	return slices.ContainsFunc(ru.backends, func(b backend) bool { return b.weight > 0 && !b.broken })
}

// forward balances over the backends. A backendRef that cannot be resolved
// answers an error to its own share of the requests, as Gateway API asks for: its
// cluster is one that never exists.
func (ru *rule) forward(opening string) *routev3.RouteAction {
	a := &routev3.RouteAction{Timeout: ru.timeout(), RetryPolicy: ru.retryPolicy()}
	var weighted []*routev3.WeightedCluster_ClusterWeight
	for i, b := range ru.backends {
		if b.weight == 0 {
			continue
		}
		w := &routev3.WeightedCluster_ClusterWeight{Name: lock.ClusterName(opening, i), Weight: wrapperspb.UInt32(uint32(b.weight))}
		if b.broken {
			w.Name = lock.NoCluster
			a.ClusterNotFoundResponseCode = ru.brokenCode()
		}
		if ru.perBackend() {
			w.RequestHeadersToAdd, w.RequestHeadersToRemove = ru.filters.request.then(b.filters.request).envoy()
			w.ResponseHeadersToAdd, w.ResponseHeadersToRemove = ru.filters.response.then(b.filters.response).envoy()
		}
		weighted = append(weighted, w)
	}
	if len(weighted) == 1 && !ru.perBackend() {
		a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: weighted[0].GetName()}
		return a
	}
	a.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: &routev3.WeightedCluster{Clusters: weighted}}
	return a
}
