package translator

import (
	"fmt"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// A typo in the name of a class or a Gateway makes no status of its own, so it
// must be told in another way.
func TestWhatNobodyServesIsTold(t *testing.T) {
	in := load(t, "testdata/httproute-live/in.yaml", epoch)
	before := fmt.Sprint(FindUnserved(in.Objects, settle(t, in, nil)))
	if before != "[]" {
		t.Fatalf("all is served, and told is %s", before)
	}
	stray := *in.Gateways[key("door")]
	stray.Spec.GatewayClassName = "emergancy"
	in.Gateways[key("stray")] = &stray
	foreign := stray
	foreign.Spec.GatewayClassName = "other"
	in.Gateways[key("foreign")] = &foreign
	in.GatewayClasses["other"] = &gwv1.GatewayClass{Spec: gwv1.GatewayClassSpec{ControllerName: "example.com/other"}}
	in.HTTPRoutes[key("db")].Spec.ParentRefs = []gwv1.ParentReference{{Name: "stray"}}
	for _, s := range in.EndpointSlices {
		for name, change := range map[string]func(*discoveryv1.EndpointSlice){
			"metadata.labels": func(s *discoveryv1.EndpointSlice) { s.Labels = nil },
			"addressType":     func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeFQDN },
			"ports":           func(s *discoveryv1.EndpointSlice) { s.Ports[0].Name = ptr("htp") },
			"":                func(s *discoveryv1.EndpointSlice) { s.Endpoints = nil }, // not useless, not ready
		} {
			bad := s.DeepCopy()
			change(bad)
			if field, why := uselessSlice(in.Objects, bad); field != name || (why == "") != (name == "") {
				t.Errorf("%s: told %s: %s", name, field, why)
			}
		}
	}
	got := FindUnserved(in.Objects, settle(t, in, nil))
	if len(got) != 2 || got[0].Kind != "Gateway" || got[0].Key != key("stray") || got[0].Field != "spec.gatewayClassName" ||
		got[1].Kind != "HTTPRoute" || got[1].Key != key("db") || got[1].Field != "spec.parentRefs" {
		t.Errorf("told: %+v", got)
	}
}
