package translator

import (
	"slices"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// Gateway API, HTTPRequestRedirectFilter.port: the port that is named, else that
// of the scheme, else the listener's. One that the scheme implies is said only where the
// host cannot be: the request may have a port in its own.
func TestARedirectStaysOnThePortOfItsListener(t *testing.T) {
	const host, wild = "a.test", ""
	for _, c := range []struct {
		name   string
		spec   gwv1.HTTPRequestRedirectFilter
		at     origin
		port   uint32
		toHost string
	}{
		{"the listener's port", gwv1.HTTPRequestRedirectFilter{}, origin{port: 18080, host: host}, 18080, ""},
		{"the listener's port, with TLS", gwv1.HTTPRequestRedirectFilter{}, origin{tls: true, port: 8443, host: wild}, 8443, ""},
		{"a standard listener", gwv1.HTTPRequestRedirectFilter{}, origin{port: 80, host: host}, 0, host},
		{"a standard listener, with TLS", gwv1.HTTPRequestRedirectFilter{}, origin{tls: true, port: 443, host: host}, 0, host},
		{"a standard listener, one host of many", gwv1.HTTPRequestRedirectFilter{}, origin{port: 80, host: wild}, 80, ""},
		{"plain HTTP on the port of TLS", gwv1.HTTPRequestRedirectFilter{}, origin{port: 443, host: host}, 443, ""},
		{"another host", gwv1.HTTPRequestRedirectFilter{Hostname: ptr(gwv1.PreciseHostname("else.test"))}, origin{port: 18080, host: host}, 18080, "else.test"},
		{"another host, on a standard listener", gwv1.HTTPRequestRedirectFilter{Hostname: ptr(gwv1.PreciseHostname("else.test"))}, origin{port: 80, host: wild}, 0, "else.test"},
		{"to https", gwv1.HTTPRequestRedirectFilter{Scheme: ptr("https")}, origin{port: 18080, host: host}, 0, host},
		{"to https, one host of many", gwv1.HTTPRequestRedirectFilter{Scheme: ptr("https")}, origin{port: 18080, host: wild}, 443, ""},
		{"to http", gwv1.HTTPRequestRedirectFilter{Scheme: ptr("http")}, origin{tls: true, port: 8443, host: host}, 0, host},
		{"a port", gwv1.HTTPRequestRedirectFilter{Port: ptr(gwv1.PortNumber(8083))}, origin{port: 18080, host: host}, 8083, ""},
		{"a port that goes without saying", gwv1.HTTPRequestRedirectFilter{Port: ptr(gwv1.PortNumber(80))}, origin{port: 18080, host: host}, 0, host},
		{"https on a port", gwv1.HTTPRequestRedirectFilter{Scheme: ptr("https"), Port: ptr(gwv1.PortNumber(8443))}, origin{port: 80, host: host}, 8443, ""},
		{"https on its port", gwv1.HTTPRequestRedirectFilter{Scheme: ptr("https"), Port: ptr(gwv1.PortNumber(443))}, origin{port: 80, host: host}, 0, host},
		{"https on the port of http", gwv1.HTTPRequestRedirectFilter{Scheme: ptr("https"), Port: ptr(gwv1.PortNumber(80))}, origin{port: 80, host: host}, 80, ""},
	} {
		got := (filters{redirect: &c.spec}).redirectAction(match{}, c.at)
		if got.GetPortRedirect() != c.port || got.GetHostRedirect() != c.toHost {
			t.Errorf("%s: port %d of %q, want %d of %q", c.name, got.GetPortRedirect(), got.GetHostRedirect(), c.port, c.toHost)
		}
	}
}

// redirecting is a world whose open rule redirects and has no backend.
func redirecting(t *testing.T) *Input {
	t.Helper()
	in := load(t, "testdata/httproute-live/in.yaml", epoch)
	rule := &in.HTTPRoutes[key("db")].Spec.Rules[0]
	rule.BackendRefs = nil
	rule.Filters = []gwv1.HTTPRouteFilter{{Type: gwv1.HTTPRouteFilterRequestRedirect, RequestRedirect: &gwv1.HTTPRequestRedirectFilter{Hostname: ptr(gwv1.PreciseHostname("else.test"))}}}
	return in
}

// A redirect reaches no backend, but it is an open route like any other: it has
// a lease that ends at the deadline and is not sent before it.
func TestARedirectHasALease(t *testing.T) {
	in := redirecting(t)
	out := settle(t, in, nil)
	snap := out.Gateways[key("door")].Snapshot
	w := in.Records[key("inc-1")]
	var opening string
	for _, target := range w.Targets {
		opening = target.Openings["failover"]
	}
	lease := snapshot.Key{Type: snapshot.Listener, Name: lock.LeaseName(opening)}
	if r := snap.Get(lease); r == nil || !r.Expires.Equal(w.Deadline) {
		t.Fatalf("lease %v, want one until %v", r, w.Deadline)
	}
	if cluster := (snapshot.Key{Type: snapshot.Cluster, Name: lock.ClusterName(opening, 0)}); snap.Get(cluster) != nil {
		t.Errorf("a redirect has %s", cluster.Name)
	}
	rc := snap.Get(snapshot.Key{Type: snapshot.Route, Name: "http-8080|db.example.com"})
	if !slices.Contains(rc.Needs, lease) {
		t.Errorf("the route needs %v, not its lease", rc.Needs)
	}
	var redirect *routev3.RedirectAction
	for _, r := range mustUnpack(t, rc.Body, &routev3.RouteConfiguration{}).GetVirtualHosts()[0].GetRoutes() {
		if r.GetRedirect().GetHostRedirect() == "else.test" {
			redirect = r.GetRedirect()
		}
	}
	if redirect.GetPortRedirect() != 8080 {
		t.Errorf("redirect %v", redirect)
	}
	checkLocked(t, snap, epoch)

	in.Now = w.Deadline
	snap = settle(t, in, nil).Gateways[key("door")].Snapshot
	if snap.Get(lease) != nil {
		t.Error("the lease is still there at the deadline")
	}
	checkLocked(t, snap, w.Deadline)
}
