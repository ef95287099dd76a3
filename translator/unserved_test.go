package translator

import (
	"fmt"
	"testing"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// A typo in the name of a class or a Gateway makes no status of its own, so it
// must be told in another way.
func TestWhatNobodyServesIsTold(t *testing.T) {
	in := load(t, "testdata/httproute-live/in.yaml", epoch)
	before := fmt.Sprint(in.Unserved(settle(t, in, nil)))
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
	got := in.Unserved(settle(t, in, nil))
	if len(got) != 2 || got[0].Kind != "Gateway" || got[0].Key != key("stray") || got[0].Field != "spec.gatewayClassName" ||
		got[1].Kind != "HTTPRoute" || got[1].Key != key("db") || got[1].Field != "spec.parentRefs" {
		t.Errorf("told: %+v", got)
	}
}
