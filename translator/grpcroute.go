package translator

import (
	"cmp"
	"fmt"
	"regexp"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/grpcroute"
)

// grpcRoute reads a GRPCRoute: from here on it is the HTTPRoute that does the same,
// but for what follows in this file.
func grpcRoute(key activation.RouteKey, obj *gwv1.GRPCRoute) *route {
	return &route{key: key, obj: grpcroute.HTTP(obj), grpc: obj, digest: activation.Digest(obj.Spec)}
}

// RoutesOf are all routes of o, each in the shape of an HTTPRoute.
func RoutesOf(o *Objects) map[activation.RouteKey]*gwv1.HTTPRoute {
	out := make(map[activation.RouteKey]*gwv1.HTTPRoute, len(o.HTTPRoutes)+len(o.GRPCRoutes))
	for key, obj := range o.HTTPRoutes {
		out[activation.HTTPRoute(key)] = obj
	}
	for key, obj := range o.GRPCRoutes {
		out[activation.GRPCRoute(key)] = grpcroute.HTTP(obj)
	}
	return out
}

// RouteOf is one of them, nil if it is not there.
func RouteOf(o *Objects, key activation.RouteKey) *gwv1.HTTPRoute {
	if key.Kind != v1alpha1.KindGRPCRoute {
		return o.HTTPRoutes[key.NamespacedName]
	}
	if obj := o.GRPCRoutes[key.NamespacedName]; obj != nil {
		return grpcroute.HTTP(obj)
	}
	return nil
}

// grpcMatch is of a GRPCRouteMatch what orders it: how long the names of the service
// and of the method are, 0 for any.
type grpcMatch struct{ service, method int }

// precedes orders as Gateway API does (GRPCRouteRule.matches): the longest service,
// then the longest method. More headers follow.
func (a *grpcMatch) precedes(b *grpcMatch) int {
	return cmp.Or(cmp.Compare(b.service, a.service), cmp.Compare(b.method, a.method))
}

// readMethods adds to the matches of a rule what only a GRPCRoute says.
func (r *route) readMethods(ru *rule) {
	specs := r.grpc.Spec.Rules[ru.index].Matches
	if len(specs) == 0 {
		specs = []gwv1.GRPCRouteMatch{{}}
	}
	for i, spec := range specs {
		service, method := grpcroute.Named(spec.Method)
		m := &ru.matches[i]
		m.grpc = &grpcMatch{len(service), len(method)}
		if err := checkMethod(spec.Method); err != nil {
			m.invalid = err
		}
	}
}

// What an API server with the CRD takes as a name.
var (
	serviceName = regexp.MustCompile(`^\.?[A-Za-z_][A-Za-z_0-9]*(\.[A-Za-z_][A-Za-z_0-9]*)*$`)
	methodName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z_0-9]*$`)
)

// checkMethod checks the service and the method each by itself: of one path they would
// together mean what neither says.
func checkMethod(m *gwv1.GRPCMethodMatch) error {
	service, method := grpcroute.Named(m)
	for _, part := range []struct {
		field, value string
		form         *regexp.Regexp
	}{{"service", service, serviceName}, {"method", method, methodName}} {
		var err error
		switch kind := gwv1.GRPCMethodMatchExact; {
		case part.value == "":
		case m.Type != nil && *m.Type != kind:
			err = checkRegex(part.value)
		case !part.form.MatchString(part.value):
			err = fmt.Errorf("%q is not the name of a %s: it has to match %s", part.value, part.field, part.form)
		}
		if err != nil {
			return fmt.Errorf("method.%s: %w", part.field, err)
		}
	}
	return nil
}

// unsupportedFilter finds a filter that a GRPCRoute does not have. The schema has it
// so; what is read here may have passed none.
func (r *route) unsupportedFilter(rule int) error {
	if r.grpc == nil {
		return nil
	}
	for i, f := range r.grpc.Spec.Rules[rule].Filters {
		switch f.Type {
		case gwv1.GRPCRouteFilterRequestHeaderModifier, gwv1.GRPCRouteFilterResponseHeaderModifier, gwv1.GRPCRouteFilterRequestMirror:
		default:
			return fmt.Errorf("filters[%d].type: %s is not supported: supported are RequestHeaderModifier, ResponseHeaderModifier, RequestMirror", i, f.Type)
		}
	}
	return nil
}

// brokenStatus is the answer of a rule without a backend. Of 503 Envoy makes
// UNAVAILABLE, as Gateway API wants it of a GRPCRoute; of 500 UNKNOWN.
func (ru *rule) brokenStatus() uint32 {
	if ru.route.grpc != nil {
		return 503
	}
	return 500
}

// brokenCode is brokenStatus for the share of one backend.
func (ru *rule) brokenCode() routev3.RouteAction_ClusterNotFoundResponseCode {
	if ru.route.grpc != nil {
		return routev3.RouteAction_SERVICE_UNAVAILABLE
	}
	return routev3.RouteAction_INTERNAL_SERVER_ERROR
}
