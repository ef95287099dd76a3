package translator

import (
	"regexp"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// question is a request as far as finding a route for it is concerned.
type question struct {
	chain, host, path string
	headers           map[string]string
}

// grpcTo is a gRPC request.
func grpcTo(host, path string, headers ...string) question {
	a := question{"http-80", host, path, map[string]string{":method": "POST", "content-type": "application/grpc"}}
	for i := 0; i < len(headers); i += 2 {
		a.headers[headers[i]] = headers[i+1]
	}
	return a
}

// ask finds the route that Envoy would find: the exact scope of the host, else that
// of all others, in it the narrowest virtual host, and in that the first match.
func ask(t testing.TB, out *Result, gateway types.NamespacedName, a question) *routev3.Route {
	t.Helper()
	s := out.Gateways[gateway].Snapshot
	r := s.Get(snapshot.Key{Type: snapshot.Route, Name: lock.ScopeKey(a.chain, a.host)})
	if r == nil {
		r = s.Get(snapshot.Key{Type: snapshot.Route, Name: lock.ScopeKey(a.chain, "*")})
	}
	if r == nil {
		t.Fatalf("chain %s serves nothing", a.chain)
	}
	var best *routev3.VirtualHost
	for _, vh := range mustUnpack(t, r.Body, &routev3.RouteConfiguration{}).GetVirtualHosts() {
		for _, d := range vh.GetDomains() {
			if d == "*" || d == a.host || strings.HasPrefix(d, "*") && strings.HasSuffix(a.host, d[1:]) {
				if best == nil || len(d) > len(best.GetDomains()[0]) {
					best = vh
				}
			}
		}
	}
	for _, route := range best.GetRoutes() {
		if a.fits(route.GetMatch()) {
			return route
		}
	}
	t.Fatalf("nothing fits %+v", a)
	return nil
}

func (a question) fits(m *routev3.RouteMatch) bool {
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Path:
		if a.path != p.Path {
			return false
		}
	case *routev3.RouteMatch_Prefix:
		if !strings.HasPrefix(a.path, p.Prefix) {
			return false
		}
	case *routev3.RouteMatch_PathSeparatedPrefix:
		if a.path != p.PathSeparatedPrefix && !strings.HasPrefix(a.path, p.PathSeparatedPrefix+"/") {
			return false
		}
	case *routev3.RouteMatch_SafeRegex:
		if !regexp.MustCompile(`^(?:` + p.SafeRegex.GetRegex() + `)$`).MatchString(a.path) {
			return false
		}
	}
	if m.GetGrpc() != nil && !strings.HasPrefix(a.headers["content-type"], "application/grpc") {
		return false
	}
	for _, h := range m.GetHeaders() {
		value, there := a.headers[h.GetName()]
		want := h.GetStringMatch()
		if !there || want.GetSafeRegex() == nil && value != want.GetExact() ||
			want.GetSafeRegex() != nil && !regexp.MustCompile(`^(?:`+want.GetSafeRegex().GetRegex()+`)$`).MatchString(value) {
			return false
		}
	}
	return true
}
