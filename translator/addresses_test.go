package translator

import (
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

func addresses(values ...string) (out []gwv1.GatewaySpecAddress) {
	for _, v := range values {
		out = append(out, gwv1.GatewaySpecAddress{Type: new(gwv1.IPAddressType), Value: v})
	}
	return out
}

func given(values ...string) (out []gwv1.GatewayStatusAddress) {
	for _, v := range values {
		out = append(out, gwv1.GatewayStatusAddress{Type: new(gwv1.IPAddressType), Value: v})
	}
	return out
}

// wantGateway: Accepted and Programmed of a Gateway with these reasons, True where the
// reason is that of True.
func wantGateway(t *testing.T, s gwv1.GatewayStatus, accepted, programmed, message string) {
	t.Helper()
	text := ""
	for kind, reason := range map[string]string{"Accepted": accepted, "Programmed": programmed} {
		i := slices.IndexFunc(s.Conditions, func(c metav1.Condition) bool { return c.Type == kind })
		if i < 0 {
			t.Errorf("no condition %s", kind)
			continue
		}
		c := s.Conditions[i]
		if c.Reason != reason || (c.Status == metav1.ConditionTrue) != (reason == kind) {
			t.Errorf("%s is %s, reason %q, want %q: %s", kind, c.Status, c.Reason, reason, c.Message)
		}
		text += c.Message + "\n"
	}
	if !strings.Contains(text, message) {
		t.Errorf("no word of %q:\n%s", message, text)
	}
}

// The steps of the suite's GatewayStaticAddresses and GatewayOptionalAddressValue are
// among these.
func TestTheAddressesOfAGatewayInAClusterAreThoseThatItAskedFor(t *testing.T) {
	const usable, other, out = "10.99.1.9", "10.99.1.1", "192.0.2.1"
	odd := gwv1.GatewaySpecAddress{Type: new(gwv1.AddressType("test/fake-invalid-type")), Value: "fake address teehee!"}
	untyped := []gwv1.GatewaySpecAddress{{Value: out}, {Value: usable}}
	for name, c := range map[string]struct {
		asks                          []gwv1.GatewaySpecAddress
		has                           []gwv1.GatewayStatusAddress
		accepted, programmed, message string
	}{
		"nothing asked, nothing there":       {nil, nil, "Accepted", "AddressNotAssigned", "no address yet"},
		"nothing asked, one there":           {nil, given(usable), "Accepted", "Programmed", ""},
		"any asked, nothing there":           {addresses(""), nil, "Accepted", "AddressNotAssigned", "no address yet"},
		"any asked, one there":               {addresses(""), given(usable), "Accepted", "Programmed", ""},
		"any asked, a name there":            {addresses(""), []gwv1.GatewayStatusAddress{{Type: new(gwv1.HostnameAddressType), Value: "lb.example.com"}}, "Accepted", "AddressNotAssigned", "lb.example.com"},
		"a type that is not supported":       {append([]gwv1.GatewaySpecAddress{odd}, untyped...), given(usable), "UnsupportedAddress", "Invalid", "spec.addresses[0].type: test/fake-invalid-type"},
		"a name is none that can be had":     {[]gwv1.GatewaySpecAddress{{Type: new(gwv1.HostnameAddressType), Value: "a.example.com"}}, given(usable), "UnsupportedAddress", "Invalid", "spec.addresses[0].type: Hostname"},
		"an address that is none":            {addresses("10.0.0"), given(usable), "UnsupportedAddress", "Invalid", `spec.addresses[0].value: "10.0.0"`},
		"one of two cannot be had":           {untyped, given(usable), "Accepted", "AddressNotUsable", "was not given 192.0.2.1: it has 10.99.1.9"},
		"nothing that was asked for":         {untyped, nil, "Accepted", "AddressNotUsable", "was not given 192.0.2.1, 10.99.1.9: it has no address yet"},
		"the one that was asked for":         {addresses(usable), given(usable), "Accepted", "Programmed", ""},
		"the one before":                     {addresses(usable), given(other), "Accepted", "AddressNotUsable", "it has 10.99.1.1"},
		"the same, written differently":      {addresses("2001:DB8::0:1"), given("2001:db8::1"), "Accepted", "Programmed", ""},
		"a name and any of which one is had": {addresses(usable, ""), given(usable), "Accepted", "Programmed", ""},
	} {
		t.Run(name, func(t *testing.T) {
			in := inCluster(t)
			in.Gateways[key("door")].Spec.Addresses = c.asks
			in.Cluster.Addresses[key("door")] = c.has
			s := settle(t, in, nil).Statuses.Gateways[key("door")]
			wantGateway(t, s, c.accepted, c.programmed, c.message)
			if !slices.EqualFunc(s.Addresses, c.has, func(a, b gwv1.GatewayStatusAddress) bool { return a.Value == b.Value }) {
				t.Errorf("its addresses are %+v", s.Addresses)
			}
			for _, l := range s.Listeners {
				if l.Conditions[0].Type != "Accepted" || l.Conditions[0].Status != metav1.ConditionTrue {
					t.Errorf("the listener suffers: %+v", l.Conditions)
				}
			}
		})
	}
}

func TestTheAddressesOfAGatewayOnAHost(t *testing.T) {
	for name, c := range map[string]struct {
		asks       []gwv1.GatewaySpecAddress
		binds      []string
		programmed string
		envoySays  string
	}{
		"none":                  {nil, []string{"127.0.0.1"}, "Programmed", ""},
		"any":                   {addresses(""), []string{"127.0.0.1"}, "Programmed", ""},
		"one":                   {addresses("127.0.0.9"), []string{"127.0.0.9"}, "Programmed", ""},
		"one, and any":          {addresses("127.0.0.9", ""), []string{"127.0.0.9", "127.0.0.1"}, "Programmed", ""},
		"twice the same":        {addresses("::1", "0::1"), []string{"::1"}, "Programmed", ""},
		"one that is elsewhere": {addresses("127.0.0.9"), []string{"127.0.0.9"}, "AddressNotUsable", "cannot bind '127.0.0.9:8080': Cannot assign requested address"},
		"one that is in use":    {addresses("127.0.0.9"), []string{"127.0.0.9"}, "Pending", "cannot bind '127.0.0.9:8080': Address already in use"},
	} {
		t.Run(name, func(t *testing.T) {
			in := load(t, "testdata/httproute-live/in.yaml", epoch)
			in.Gateways[key("door")].Spec.Addresses = c.asks
			reject := map[snapshot.Key]string{}
			if c.envoySays != "" {
				reject[snapshot.Key{Type: snapshot.Listener, Name: lock.ListenerName(8080)}] = c.envoySays
			}
			s := settle(t, in, reject).Statuses.Gateways[key("door")]
			wantGateway(t, s, "Accepted", c.programmed, c.envoySays)
			var got []string
			for _, a := range s.Addresses {
				got = append(got, a.Value)
			}
			if !slices.Equal(got, c.binds) {
				t.Errorf("its addresses are %v, want %v", got, c.binds)
			}
		})
	}
}

// The suite's GatewayInvalidParametersRef.
func TestAGatewayHasNoParametersOfItsOwn(t *testing.T) {
	in := inCluster(t)
	in.Gateways[key("door")].Spec.Infrastructure = &gwv1.GatewayInfrastructure{ParametersRef: &gwv1.LocalParametersReference{Group: "invalid.io", Kind: "InvalidParameters", Name: "invalid"}}
	out := settle(t, in, nil)
	wantGateway(t, out.Statuses.Gateways[key("door")], "InvalidParameters", "Invalid", "spec.infrastructure.parametersRef: InvalidParameters invalid")
	if n := out.Gateways[key("door")].Snapshot.Len(); n > 0 {
		t.Errorf("it is served: %d resources", n)
	}
	in = load(t, "testdata/httproute-live/in.yaml", epoch)
	in.Gateways[key("door")].Spec.Infrastructure = &gwv1.GatewayInfrastructure{ParametersRef: &gwv1.LocalParametersReference{Kind: "EmergencyPolicy", Group: "breakglass.dev", Name: "emergency"}}
	wantGateway(t, settle(t, in, nil).Statuses.Gateways[key("door")], "InvalidParameters", "Invalid", "spec.infrastructure.parametersRef")
}
