package translator

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

func TestAnExactListenerHasItsHostAlone(t *testing.T) {
	wild, exact := &listener{hostname: "*.ex.test"}, &listener{hostname: "a.ex.test"}
	longer := &listener{hostname: "*.b.ex.test"}
	g := &gateway{listeners: []*listener{{}, wild, exact, longer}, accepted: yes("", "")}
	for _, l := range g.listeners {
		l.gateway, l.spec = g, &gwv1.Listener{Protocol: gwv1.HTTPProtocolType, Port: 80}
		l.accepted, l.conflicted = yes("", ""), no("", "", "")
	}

	for host, want := range map[string]*listener{
		"a.ex.test": exact, "ab.ex.test": wild, "x.b.ex.test": longer, "*.b.ex.test": longer, "*.ex.test": wild, "other.test": g.listeners[0],
	} {
		if got := g.mostSpecific(g.listeners[0], host); got != want {
			t.Errorf("%s belongs to listener %q, want %q", host, got.hostname, want.hostname)
		}
	}
}

func TestTwoRulesOfOneNameAreRefused(t *testing.T) {
	in := load(t, "testdata/httproute-live/in.yaml", epoch)
	r := in.HTTPRoutes[key("db")]
	r.Spec.Rules[1].Name = r.Spec.Rules[0].Name
	out := settle(t, in, nil)
	s := out.Statuses.Routes[routeKey("db")].Parents[0].Conditions[0]
	if s.Status != metav1.ConditionFalse || !strings.Contains(s.Message, `spec.rules[1].name: "failover" is the name of spec.rules[0] too`) {
		t.Errorf("%+v", s)
	}
	if p := out.Statuses.Activations[key("inc-1")].Phase; p == v1alpha1.PhaseLive {
		t.Errorf("the activation is %s", p)
	}
}

func TestAWildcardCoversWhatIsNarrowerAndNotItself(t *testing.T) {
	for host, want := range map[string]bool{
		"a.example.com": true, "b.a.example.com": true, "*.a.example.com": true,
		"*.example.com": false, "example.com": false, ".example.com": false, "badexample.com": false, "*": false, "": false,
	} {
		if got := Covers("*.example.com", host); got != want {
			t.Errorf("%q: %t", host, got)
		}
	}
	if Covers("a.example.com", "a.example.com") {
		t.Error("an exact hostname is no wildcard")
	}
}
