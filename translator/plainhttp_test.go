package translator

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// A token is worth what it opens: it does not cross a network in the clear
// unless the policy says so.
func TestPlainHTTPStaysOnLoopbackUnlessThePolicyAllowsIt(t *testing.T) {
	for _, c := range []struct {
		name      string
		addresses []string
		allow     bool
		served    bool
	}{
		{"no address is loopback", nil, false, true},
		{"loopback", []string{"127.0.0.1"}, false, true},
		{"all of loopback", []string{"127.8.8.8", "::1"}, false, true},
		{"every address", []string{"0.0.0.0"}, false, false},
		{"every address of IPv6", []string{"::"}, false, false},
		{"a network", []string{"192.0.2.1"}, false, false},
		{"loopback and a network", []string{"127.0.0.1", "192.0.2.1"}, false, false},
		{"a network, allowed", []string{"192.0.2.1"}, true, true},
		{"every address, allowed", []string{"0.0.0.0"}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := load(t, "testdata/httproute-live/in.yaml", epoch)
			in.Policies["emergency"].Spec.Scope.AllowPlainHTTP = c.allow
			g := in.Gateways[key("door")]
			for _, a := range c.addresses {
				g.Spec.Addresses = append(g.Spec.Addresses, gwv1.GatewaySpecAddress{Type: ptr(gwv1.IPAddressType), Value: a})
			}
			out := settle(t, in, nil)
			listener := out.Statuses.Gateways[key("door")].Listeners[0]
			var told metav1.Condition
			for _, cond := range listener.Conditions {
				if cond.Type == string(gwv1.ListenerConditionAccepted) {
					told = cond
				}
			}
			bound := out.Gateways[key("door")].Snapshot.Get(snapshot.Key{Type: snapshot.Listener, Name: "port/8080"}) != nil
			phase := out.Statuses.Activations[key("inc-1")].Phase
			if bound != c.served || (told.Status == metav1.ConditionTrue) != c.served || (phase == v1alpha1.PhaseLive) != c.served {
				t.Errorf("bound %t, Accepted %s %q, activation %s; want served: %t", bound, told.Status, told.Message, phase, c.served)
			}
			if !c.served && (told.Reason != "PlainHTTPNotAllowed" || !strings.Contains(told.Message, "scope.allowPlainHTTP in EmergencyPolicy emergency")) {
				t.Errorf("what to do is not told: %+v", told)
			}
		})
	}
}
