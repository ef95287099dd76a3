package translator

import (
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

func backendRef(name string, weight int32) gwv1.HTTPBackendRef {
	return gwv1.HTTPBackendRef{BackendRef: gwv1.BackendRef{Weight: &weight, BackendObjectReference: gwv1.BackendObjectReference{
		Name: gwv1.ObjectName(name), Port: ptr(gwv1.PortNumber(80)),
	}}}
}

// Gateway API, HTTPRouteRule.backendRefs: a backendRef that is invalid answers
// 500 to its share of the requests, and no more than that.
func TestABackendThatIsMissingBreaksItsOwnShareOnly(t *testing.T) {
	for _, c := range []struct {
		name   string
		refs   []gwv1.HTTPBackendRef
		expect string // clusters with their weights, or 500
	}{
		{"one of two", []gwv1.HTTPBackendRef{backendRef("gone", 1), backendRef("db", 3)}, "none:1 1:3 500"},
		{"without weight", []gwv1.HTTPBackendRef{backendRef("gone", 0), backendRef("db", 3)}, "1"},
		{"all", []gwv1.HTTPBackendRef{backendRef("gone", 1), backendRef("lost", 3)}, "500"},
		{"all that have a weight", []gwv1.HTTPBackendRef{backendRef("gone", 1), backendRef("db", 0)}, "500"},
		{"no weight at all", []gwv1.HTTPBackendRef{backendRef("db", 0)}, "500"},
		{"nothing", []gwv1.HTTPBackendRef{backendRef("db", 1), backendRef("db", 0)}, "0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := load(t, "testdata/httproute-live/in.yaml", epoch)
			in.HTTPRoutes[key("db")].Spec.Rules[0].BackendRefs = c.refs
			out := settle(t, in, nil)
			snap := out.Gateways[key("door")].Snapshot
			checkLocked(t, snap, epoch)
			rc := snap.Get(snapshot.Key{Type: snapshot.Route, Name: "http-8080|db.example.com"})
			var got string
			for _, r := range mustUnpack(t, rc.Body, &routev3.RouteConfiguration{}).GetVirtualHosts()[0].GetRoutes() {
				if strings.HasPrefix(r.GetName(), "pay/db/failover/") {
					got = shares(r)
				}
			}
			if got != c.expect {
				t.Errorf("goes to %s, want %s", got, c.expect)
			}
			told := out.Statuses.Routes[routeKey("db")].Parents[0].Conditions[1]
			for i, ref := range c.refs {
				if ref.Name != "db" && (told.Status != metav1.ConditionFalse || !strings.Contains(told.Message, "Service pay/"+string(ref.Name)+" does not exist")) {
					t.Errorf("backendRefs[%d] is not told: %+v", i, told)
				}
			}
		})
	}
}

// shares of a route's clusters.
func shares(r *routev3.Route) string {
	short := func(name string) string {
		if name == lock.NoCluster {
			return "none"
		}
		return name[strings.LastIndexByte(name, '/')+1:]
	}
	if r.GetDirectResponse().GetStatus() == 500 {
		return "500"
	}
	a := r.GetRoute()
	if a.GetCluster() != "" {
		return short(a.GetCluster())
	}
	var out []string
	for _, w := range a.GetWeightedClusters().GetClusters() {
		out = append(out, short(w.GetName())+":"+w.GetWeight().String()[len("value:"):])
	}
	if a.GetClusterNotFoundResponseCode() == routev3.RouteAction_INTERNAL_SERVER_ERROR {
		out = append(out, "500")
	}
	return strings.Join(out, " ")
}
