package posture

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

var (
	now   = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	door  = types.NamespacedName{Namespace: "breakglass", Name: "emergency"}
	db    = types.NamespacedName{Namespace: "payments", Name: "db-failover"}
	slice = types.NamespacedName{Namespace: "payments", Name: "db-failover-1"}
)

// example is the repository of examples/, anew for each test, to be changed.
func example(t *testing.T) translator.Objects {
	t.Helper()
	set := source.Load(filepath.Join("..", "..", "examples", "repo"))
	for _, p := range set.Problems {
		t.Fatal(p)
	}
	return set.Objects
}

// told of one route: where it is reached, who could open it for how long, and what
// it reaches.
func told(p *Posture, key types.NamespacedName) string {
	var out []string
	for _, r := range p.Routes {
		if r.Key != activation.HTTPRoute(key) {
			continue
		}
		for _, at := range r.Places {
			out = append(out, at.URL())
		}
		for _, o := range r.Openers {
			out = append(out, fmt.Sprintf("%s for %s", o.Role.Name, o.Longest))
		}
		for _, b := range p.Backends(r)[:1] {
			out = append(out, fmt.Sprintf("to %s:%d", b.Service.Name, b.Port))
			for _, e := range b.Endpoints {
				out = append(out, fmt.Sprint("at ", e.AddrPort))
			}
		}
		if r.Refused != "" {
			out = append(out, "refused")
		}
	}
	return strings.Join(out, ", ")
}

func TestWhatARouteWouldLetHappen(t *testing.T) {
	const (
		url    = "http://db-failover.emergency.example.com:18080"
		opener = "db-failover for 30m0s"
		to     = "to db-failover:8080"
	)
	all := strings.Join([]string{url, opener, to, "at 127.0.0.1:18081"}, ", ")
	yes, no := true, false
	for name, c := range map[string]struct {
		change func(o translator.Objects)
		want   string
	}{
		"as it is": {func(translator.Objects) {}, all},
		"the limits are below the role's": {func(o translator.Objects) {
			o.Policies["emergency"].Spec.Limits.MaxDuration = new(gwv1.Duration("10m"))
		}, strings.Replace(all, "30m0s", "10m0s", 1)},
		"no listener lets its namespace in": {func(o translator.Objects) { delete(o.Namespaces["payments"].Labels, "breakglass.dev/emergency") },
			strings.Join([]string{opener, to, "at 127.0.0.1:18081", "refused"}, ", ")},
		"the label is of another role": {func(o translator.Objects) { o.HTTPRoutes[db].Labels["breakglass.dev/role"] = "deploy-rollback" },
			strings.Join([]string{url, to, "at 127.0.0.1:18081"}, ", ")},
		"the role is for other hostnames": {func(o translator.Objects) {
			o.Policies["emergency"].Spec.Roles[0].Hostnames = []gwv1.Hostname{"x.emergency.example.com"}
		}, strings.Join([]string{url, to, "at 127.0.0.1:18081"}, ", ")},
		"its parent is a Gateway of somebody else": {func(o translator.Objects) { o.GatewayClasses["emergency"].Spec.ControllerName = "example.com/x" }, ""},
		"no policy governs its Gateway": {func(o translator.Objects) { delete(o.Policies, "emergency") },
			strings.Join([]string{url, to, "at 127.0.0.1:18081"}, ", ")},
		"its section is not there": {func(o translator.Objects) { *o.HTTPRoutes[db].Spec.ParentRefs[0].SectionName = "https" },
			strings.Join([]string{opener, to, "at 127.0.0.1:18081", "refused"}, ", ")},
		"its endpoint is not ready": {func(o translator.Objects) { o.EndpointSlices[slice].Endpoints[0].Conditions.Ready = &no },
			strings.Join([]string{url, opener, to}, ", ")},
		"an endpoint twice": {func(o translator.Objects) {
			s := o.EndpointSlices[slice]
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{"127.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}})
		}, all},
		"the slice is of another Service": {func(o translator.Objects) { o.EndpointSlices[slice].Labels[discoveryv1.LabelServiceName] = "x" },
			strings.Join([]string{url, opener, to}, ", ")},
		"the slice has no port of that name": {func(o translator.Objects) { *o.EndpointSlices[slice].Ports[0].Name = "x" },
			strings.Join([]string{url, opener, to}, ", ")},
	} {
		t.Run(name, func(t *testing.T) {
			o := example(t)
			c.change(o)
			if got := told(Of(o, now), db); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// A ListenerSet opens ports and hostnames of its Gateway, if that lets it in.
func TestWhatAListenerSetWouldLetHappen(t *testing.T) {
	for from, want := range map[gwv1.FromNamespaces]string{
		gwv1.NamespacesFromAll: "https://more.example.com:18444", gwv1.NamespacesFromNone: "refused",
	} {
		o := example(t)
		set := &gwv1.ListenerSet{ObjectMeta: metav1.ObjectMeta{Namespace: db.Namespace, Name: "more"}, Spec: gwv1.ListenerSetSpec{
			ParentRef: gwv1.ParentGatewayReference{Name: gwv1.ObjectName(door.Name), Namespace: new(gwv1.Namespace(door.Namespace))},
			Listeners: []gwv1.ListenerEntry{{Name: "own", Port: 18444, Protocol: gwv1.HTTPSProtocolType, Hostname: new(gwv1.Hostname("more.example.com"))}},
		}}
		o.ListenerSets = map[types.NamespacedName]*gwv1.ListenerSet{{Namespace: set.Namespace, Name: set.Name}: set}
		o.Gateways[door].Spec.AllowedListeners = &gwv1.AllowedListeners{Namespaces: &gwv1.ListenerNamespaces{From: &from}}
		o.HTTPRoutes[db].Spec.Hostnames = []gwv1.Hostname{"more.example.com"}
		o.HTTPRoutes[db].Spec.ParentRefs = []gwv1.ParentReference{{Kind: new(gwv1.Kind("ListenerSet")), Name: "more"}}
		p := Of(o, now)
		if got := told(p, db); !strings.Contains(got, want) || strings.Contains(got, "https://") != (from == gwv1.NamespacesFromAll) {
			t.Errorf("from %s: %s", from, got)
		}
		own := len(o.Gateways[door].Spec.Listeners)
		if n := len(p.Gateways[0].Listeners); n != own && from == gwv1.NamespacesFromNone || n != own+1 && from == gwv1.NamespacesFromAll {
			t.Errorf("from %s: %d listeners", from, n)
		}
	}
}

func TestWhereAGatewayIsReached(t *testing.T) {
	for name, c := range map[string]struct {
		addresses []string
		want      string
		loopback  bool
	}{
		"loopback":              {[]string{"127.0.0.1"}, "[127.0.0.1]", true},
		"none: loopback":        {nil, "[127.0.0.1]", true},
		"both":                  {[]string{"::1", "192.0.2.1"}, "[::1 192.0.2.1]", false},
		"every interface":       {[]string{"0.0.0.0"}, "[0.0.0.0]", false},
		"a name is no address":  {[]string{"127.0.0.1", "door.example.com"}, "[127.0.0.1]", true},
		"loopback in other way": {[]string{"127.8.8.8"}, "[127.8.8.8]", true},
	} {
		t.Run(name, func(t *testing.T) {
			o := example(t)
			var addresses []gwv1.GatewaySpecAddress
			for _, a := range c.addresses {
				addresses = append(addresses, gwv1.GatewaySpecAddress{Value: a})
			}
			o.Gateways[door].Spec.Addresses = addresses
			p := Of(o, now)
			if len(p.Gateways) != 1 {
				t.Fatalf("%d Gateways", len(p.Gateways))
			}
			g := p.Gateways[0]
			if got := fmt.Sprint(g.Addresses); got != c.want || g.Loopback() != c.loopback || g.Policy == nil {
				t.Errorf("%s, loopback %t, policy %v", got, g.Loopback(), g.Policy)
			}
		})
	}
}

func TestHostnamesThatARouteAndAListenerHaveInCommon(t *testing.T) {
	for _, c := range []struct{ listener, route, want string }{
		{"", "", "*"},
		{"", "a.example.com", "a.example.com"},
		{"*.example.com", "", "*.example.com"},
		{"*.example.com", "A.example.com", "a.example.com"},
		{"*.Example.com", "a.b.example.com", "a.b.example.com"},
		{"*.example.com", "*.a.example.com", "*.a.example.com"},
		{"*.example.com", "*.example.com", "*.example.com"},
		{"*.example.com", "example.com", ""},
		{"*.example.com", "a.badexample.com", ""},
		{"*.a.example.com", "*.example.com", "*.a.example.com"},
		{"a.example.com", "*.example.com b.example.com", "a.example.com"},
		{"a.example.com", "b.example.com", ""},
	} {
		var route []gwv1.Hostname
		for h := range strings.FieldsSeq(c.route) {
			route = append(route, gwv1.Hostname(h))
		}
		listener := gwv1.Hostname(c.listener)
		if got := strings.Join(common(&listener, route), " "); got != c.want {
			t.Errorf("listener %q, route %q: got %q, want %q", c.listener, c.route, got, c.want)
		}
	}
	if got := common(nil, nil); len(got) != 1 || got[0] != "*" {
		t.Errorf("no hostname at all: %q", got)
	}
}
