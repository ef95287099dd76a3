package translator

import (
	"bytes"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// What Envoy refuses replaces nothing: it keeps the version before. So the
// translator must find a version it takes, at once, in which only the bad route
// is missing.
func TestARouteThatEnvoyRefusesStopsNoOther(t *testing.T) {
	for name, poison := range map[string]string{
		"the match of a route": "/db/secret",       // also closed: not even its place can be held
		"its open form":        "pay/narrow/other", // closed it is taken
	} {
		t.Run(name, func(t *testing.T) {
			in := load(t, "testdata/dormant-keeps-its-place/in.yaml", epoch)
			out := settleWith(t, in, func() *fakeEnvoy {
				return &fakeEnvoy{refuse: func(r *snapshot.Resource) string {
					checkPlaces(t, r)
					if name == "its open form" {
						for _, er := range mustUnpack(t, r.Body, &routev3.RouteConfiguration{}).GetVirtualHosts()[0].GetRoutes() {
							if strings.HasPrefix(er.GetName(), poison) && er.GetDirectResponse() == nil {
								return "poison"
							}
						}
						return ""
					}
					if bytes.Contains(r.Body.GetValue(), []byte(poison)) {
						return "poison"
					}
					return ""
				}}
			})
			wide := out.Statuses.Activations[key("web-1")]
			if name == "its open form" && wide.Phase != v1alpha1.PhaseLive {
				t.Errorf("the good route's activation is %s", wide.Phase)
			}
			if name != "its open form" && !strings.Contains(wide.Targets[0].Message, "HTTPRoute pay/narrow comes before it") {
				t.Errorf("the wide route would serve what belongs to the narrow one: %+v", wide)
			}
			s := out.Statuses.Activations[key("db-1")]
			if s.Phase != v1alpha1.PhasePending || !strings.Contains(s.Targets[0].Message, "poison") {
				t.Errorf("the refused route's activation: %+v", s)
			}
			for _, g := range out.Gateways {
				checkLocked(t, g.Snapshot, epoch)
			}
		})
	}
}

// checkPlaces: whatever Envoy is asked to take, the wide route is open only where
// the narrow one has its place before it.
func checkPlaces(t *testing.T, r *snapshot.Resource) {
	t.Helper()
	for _, vh := range mustUnpack(t, r.Body, &routev3.RouteConfiguration{}).GetVirtualHosts() {
		placed := false
		for _, er := range vh.GetRoutes() {
			placed = placed || strings.HasPrefix(er.GetName(), "pay/narrow/")
			if strings.HasPrefix(er.GetName(), "pay/awide/") && er.GetDirectResponse() == nil && !placed {
				t.Errorf("Envoy was sent %s open without the narrow route's place: %v", er.GetName(), vh.GetRoutes())
			}
		}
	}
}

func TestUnicodeClassesThatRE2MayNotKnowAreRefused(t *testing.T) {
	for _, expr := range []string{`/\p{Letter}+`, `/\P{ASCII}`, `/[\p{Greek}]`, `/\p{}`} {
		if checkRegex(expr) == nil {
			t.Errorf("%s is taken", expr)
		}
	}
	for _, expr := range []string{`/\pL+`, `/\p{Lu}\P{^Nd}`, `/\\pX`, `/a[0-9]{1,63}`, `/[[:alpha:]]+`} {
		if err := checkRegex(expr); err != nil {
			t.Errorf("%s: %v", expr, err)
		}
	}
}
