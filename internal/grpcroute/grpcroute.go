// Package grpcroute shows a GRPCRoute in the shape of an HTTPRoute.
//
// A gRPC request is a POST over HTTP/2 to the path /SERVICE/METHOD ("gRPC over
// HTTP2", section Requests), so that whatever is said of one kind of route can be
// said of the other, and is said once: by the translator, to reviewers and in
// status. The two kinds stay apart by their names, see activation.RouteKey.
package grpcroute

import (
	"regexp"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// anything is a service or a method that is not named.
const anything = "[^/]+"

// HTTP is the HTTPRoute that does with the requests of obj what obj says. It has the
// name and the labels of obj, and no status; its rules, their matches, filters and
// backendRefs are those of obj, in their order. What HTTPRoute has no word for is
// left as it is: obj may hold anything, checked or not.
func HTTP(obj *gwv1.GRPCRoute) *gwv1.HTTPRoute {
	out := &gwv1.HTTPRoute{ObjectMeta: obj.ObjectMeta, Spec: gwv1.HTTPRouteSpec{
		CommonRouteSpec: obj.Spec.CommonRouteSpec, Hostnames: obj.Spec.Hostnames,
	}}
	for _, r := range obj.Spec.Rules {
		rule := gwv1.HTTPRouteRule{Name: r.Name, Filters: filters(r.Filters), SessionPersistence: r.SessionPersistence}
		for _, m := range r.Matches {
			rule.Matches = append(rule.Matches, match(m))
		}
		if len(r.Matches) == 0 {
			rule.Matches = []gwv1.HTTPRouteMatch{match(gwv1.GRPCRouteMatch{})}
		}
		for _, b := range r.BackendRefs {
			rule.BackendRefs = append(rule.BackendRefs, gwv1.HTTPBackendRef{BackendRef: b.BackendRef, Filters: filters(b.Filters)})
		}
		out.Spec.Rules = append(out.Spec.Rules, rule)
	}
	return out
}

func match(m gwv1.GRPCRouteMatch) gwv1.HTTPRouteMatch {
	post := gwv1.HTTPMethodPost
	kind, path := Path(m.Method)
	out := gwv1.HTTPRouteMatch{Path: &gwv1.HTTPPathMatch{Type: &kind, Value: &path}, Method: &post}
	for _, h := range m.Headers {
		header := gwv1.HTTPHeaderMatch{Name: gwv1.HTTPHeaderName(h.Name), Value: h.Value}
		if h.Type != nil {
			kind := gwv1.HeaderMatchType(*h.Type)
			header.Type = &kind
		}
		out.Headers = append(out.Headers, header)
	}
	return out
}

// Path of the requests that m fits.
func Path(m *gwv1.GRPCMethodMatch) (gwv1.PathMatchType, string) {
	service, method := Named(m)
	regular := m != nil && m.Type != nil && *m.Type == gwv1.GRPCMethodMatchRegularExpression
	switch {
	case service == "" && method == "":
		return gwv1.PathMatchPathPrefix, "/"
	case regular:
		return gwv1.PathMatchRegularExpression, "/" + group(service) + "/" + group(method)
	case method == "":
		return gwv1.PathMatchPathPrefix, "/" + service
	case service == "":
		return gwv1.PathMatchRegularExpression, "/" + anything + "/" + regexp.QuoteMeta(method)
	}
	return gwv1.PathMatchExact, "/" + service + "/" + method
}

func group(expr string) string {
	if expr == "" {
		return anything
	}
	return "(?:" + expr + ")"
}

// Named are the service and the method that m names, "" for any.
func Named(m *gwv1.GRPCMethodMatch) (service, method string) {
	if m == nil {
		return "", ""
	}
	if m.Service != nil {
		service = *m.Service
	}
	if m.Method != nil {
		method = *m.Method
	}
	return service, method
}

func filters(all []gwv1.GRPCRouteFilter) (out []gwv1.HTTPRouteFilter) {
	for _, f := range all {
		out = append(out, gwv1.HTTPRouteFilter{
			Type:                  gwv1.HTTPRouteFilterType(f.Type),
			RequestHeaderModifier: f.RequestHeaderModifier, ResponseHeaderModifier: f.ResponseHeaderModifier,
			RequestMirror: f.RequestMirror, ExtensionRef: f.ExtensionRef,
		})
	}
	return out
}
