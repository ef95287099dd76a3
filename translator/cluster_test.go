package translator

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// namespace with or without the label that lets it have emergency routes.
func namespace(name string, optedIn bool) *corev1.Namespace {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if optedIn {
		ns.Labels = map[string]string{v1alpha1.EmergencyRoutesLabel: v1alpha1.EmergencyRoutesAllowed}
	}
	return ns
}

// inCluster is the world of testdata/httproute-live in a cluster.
func inCluster(t testing.TB) *Input {
	t.Helper()
	in := load(t, "testdata/httproute-live/in.yaml", time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC))
	in.Namespaces = map[string]*corev1.Namespace{"pay": namespace("pay", true)}
	in.Policies["emergency"].Spec.Scope.AllowPlainHTTP = true
	in.Cluster = &Cluster{
		GatewayNamespaces: map[string]bool{"pay": true}, SecretNamespaces: map[string]bool{"pay": true},
		Addresses: map[types.NamespacedName][]gwv1.GatewayStatusAddress{key("door"): {{Value: "10.96.0.7"}}},
	}
	return in
}

// wantOpen settles, with a Translator that remembers beside one that does not.
func wantOpen(t testing.TB, in *Input, open bool, why string) *Result {
	t.Helper()
	out := settle(t, in, nil)
	c := out.Statuses.Routes[routeKey("db")].Parents[0].Conditions
	if got := !out.Gateways[key("door")].LastDeadline.IsZero(); got != open {
		t.Errorf("open: %t, want %t: %+v", got, open, c)
	}
	text := ""
	for _, x := range c {
		text += x.Reason + ": " + x.Message + "\n"
	}
	if !strings.Contains(text, why) {
		t.Errorf("the route's status does not say %q:\n%s", why, text)
	}
	return out
}

func TestARouteIsOpenInACluster(t *testing.T) {
	out := wantOpen(t, inCluster(t), true, "open for role db")
	s := out.Statuses.Gateways[key("door")]
	if len(s.Addresses) != 1 || s.Addresses[0].Value != "10.96.0.7" {
		t.Errorf("the Gateway's addresses are %v", s.Addresses)
	}
	for _, c := range s.Conditions {
		if c.Status != metav1.ConditionTrue {
			t.Errorf("%+v", c)
		}
	}
}

func TestGatewaysAreThoseOfListedNamespaces(t *testing.T) {
	in := inCluster(t)
	in.Cluster.GatewayNamespaces = map[string]bool{"other": true}
	out := settle(t, in, nil)
	c := out.Statuses.Gateways[key("door")].Conditions
	if c[0].Status != metav1.ConditionFalse || c[0].Reason != "NamespaceNotAllowed" || out.Gateways[key("door")].Snapshot.Len() > 0 {
		t.Errorf("%+v, %d resources", c, out.Gateways[key("door")].Snapshot.Len())
	}
}

func TestANamespaceThatOptsOutIsClosedAtOnce(t *testing.T) {
	in := inCluster(t)
	wantOpen(t, in, true, "open for role db")
	for name, ns := range map[string]*corev1.Namespace{"no label": namespace("pay", false), "another value": namespace("pay", true), "no namespace": nil} {
		if name == "another value" {
			ns.Labels[v1alpha1.EmergencyRoutesLabel] = "Allowed"
		}
		in.Namespaces = map[string]*corev1.Namespace{"pay": ns}
		if out := Translate(*in); !out.Gateways[key("door")].LastDeadline.IsZero() {
			t.Errorf("%s: open", name)
		}
		wantOpen(t, in, false, "has not opted in to emergency routes")
	}
}

// TestARouteOfANamespaceThatHasNotOptedInTakesNoPlace: with a narrower match it would
// be a 404 in the middle of somebody else's open route.
func TestARouteOfANamespaceThatHasNotOptedInTakesNoPlace(t *testing.T) {
	in := inCluster(t)
	in.Gateways[key("door")].Spec.Listeners[0].AllowedRoutes = &gwv1.AllowedRoutes{Namespaces: &gwv1.RouteNamespaces{From: new(gwv1.NamespacesFromAll)}}
	before := wantOpen(t, in, true, "open for role db").Gateways[key("door")].Snapshot
	in.Namespaces["tenant"] = namespace("tenant", false)
	r := in.HTTPRoutes[key("db")].DeepCopy()
	r.Namespace, r.Spec.ParentRefs[0].Namespace = "tenant", new(gwv1.Namespace("pay"))
	in.HTTPRoutes[types.NamespacedName{Namespace: "tenant", Name: "db"}] = r
	out := wantOpen(t, in, true, "open for role db")
	if d := resourceDifference(out.Gateways[key("door")].Snapshot, before); d != "" {
		t.Errorf("a tenant who may not have routes here changes the door:\n%s", d)
	}
	in.Namespaces = map[string]*corev1.Namespace{"pay": in.Namespaces["pay"], "tenant": namespace("tenant", true)}
	if d := resourceDifference(settle(t, in, nil).Gateways[key("door")].Snapshot, before); d == "" {
		t.Error("nor does one who may: the test proves nothing")
	}
}

func TestARouteWithAForeignParentIsRefusedAlsoWhenItComesLater(t *testing.T) {
	service := gwv1.ParentReference{Kind: new(gwv1.Kind("Service")), Group: new(gwv1.Group("")), Name: "db"}
	for name, ref := range map[string]gwv1.ParentReference{"another Gateway": {Name: "ingress"}, "a Service": service, "a Gateway elsewhere": {Name: "door", Namespace: new(gwv1.Namespace("other"))}} {
		in := inCluster(t)
		wantOpen(t, in, true, "open for role db")
		in.HTTPRoutes = maps.Clone(in.HTTPRoutes)
		r := in.HTTPRoutes[key("db")].DeepCopy()
		r.Spec.ParentRefs = append(r.Spec.ParentRefs, ref)
		in.HTTPRoutes[key("db")] = r
		if out := Translate(*in); !out.Gateways[key("door")].LastDeadline.IsZero() {
			t.Errorf("%s: open at once", name)
		}
		out := wantOpen(t, in, false, "ForeignParent")
		if s := out.Statuses.Routes[routeKey("db")]; len(s.Parents) != 1 {
			t.Errorf("%s: we speak for a parent that is not ours: %+v", name, s.Parents)
		}
	}

	// The route is as it was; its second Gateway becomes somebody else's.
	in := inCluster(t)
	second := in.Gateways[key("door")].DeepCopy()
	second.Name = "second"
	in.Gateways[key("second")] = second
	in.HTTPRoutes[key("db")].Spec.ParentRefs = append(in.HTTPRoutes[key("db")].Spec.ParentRefs, gwv1.ParentReference{Name: "second"})
	wantOpen(t, in, true, "open for role db")
	in.Gateways = maps.Clone(in.Gateways)
	second = second.DeepCopy()
	second.Spec.GatewayClassName = "ingress"
	in.Gateways[key("second")] = second
	wantOpen(t, in, false, "ForeignParent")
}

func TestBackendsThatAreNobodysAreRefused(t *testing.T) {
	refused := []string{
		"127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "0.1.2.3", "::", "169.254.169.254", "169.254.170.2", "fe80::1", "fe80::a9fe:a9fe", "224.0.0.1", "ff02::1", "255.255.255.255",
		"100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254",
		"::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::ffff:100.100.100.200",
		"64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "2002:7f00:1::", "::169.254.169.254", "::ffff:0:169.254.169.254",
		"fd00:ec2::254%eth0", "fe80::1%eth0", "::1%lo",
	}
	allowed := []string{"10.0.0.1", "192.168.1.1", "8.8.8.8", "100.100.100.201", "fd00::1", "2001:db8::1", "64:ff9b::a00:1", "2002:a00:1::1", "::ffff:10.0.0.1", "168.63.129.17"}
	for _, a := range refused {
		if Unreachable(netip.MustParseAddr(a)) == "" {
			t.Errorf("%s is taken", a)
		}
	}
	for _, a := range allowed {
		if why := Unreachable(netip.MustParseAddr(a)); why != "" {
			t.Errorf("%s %s", a, why)
		}
	}

	// One of them in a Service, and none of its endpoints is asked.
	in := inCluster(t)
	for k, s := range in.EndpointSlices {
		s = s.DeepCopy()
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{"169.254.169.254"}})
		in.EndpointSlices[k] = s
	}
	out := wantOpen(t, in, true, "which is link-local or multicast")
	for r := range out.Gateways[key("door")].Snapshot.All() {
		if r.Key.Type == snapshot.Cluster && strings.Contains(r.Body.String(), "10.0.0.1") {
			t.Errorf("%s has endpoints", r.Key.Name)
		}
	}
	in.Services[key("db")].Spec.Type = corev1.ServiceTypeExternalName
	wantOpen(t, in, true, "is of type ExternalName")
}

func TestSecretsAreThoseOfListedNamespaces(t *testing.T) {
	in := inCluster(t)
	l := &in.Gateways[key("door")].Spec.Listeners[0]
	l.Protocol, l.TLS = gwv1.HTTPSProtocolType, &gwv1.ListenerTLSConfig{CertificateRefs: []gwv1.SecretObjectReference{{Name: "cert"}}}
	in.Secrets = map[types.NamespacedName]*corev1.Secret{key("cert"): certificates[0]}
	wantOpen(t, in, true, "open for role db")
	in.Cluster.SecretNamespaces = nil // it is there, of an installation that listed more
	out := wantOpen(t, in, true, "no listener serves")
	if m := out.Statuses.Gateways[key("door")].Listeners[0].Conditions[2].Message; !strings.Contains(m, "Secrets of namespace pay are not read") {
		t.Errorf("it says %q", m)
	}
	for r := range out.Gateways[key("door")].Snapshot.All() {
		if r.Key.Type == snapshot.Secret {
			t.Errorf("Envoy is given %s", r.Key.Name)
		}
	}

	in = inCluster(t)
	ref := &v1alpha1.KeySetReference{Namespace: "elsewhere", Name: "keys", Key: "jwks"}
	named := types.NamespacedName{Namespace: "elsewhere", Name: "keys"}
	in.Secrets = map[types.NamespacedName]*corev1.Secret{named: {Data: map[string][]byte{"jwks": []byte(goodKeys)}}}
	in.ConfigMaps = map[types.NamespacedName]*corev1.ConfigMap{named: {Data: map[string]string{"jwks": goodKeys}}}
	for _, src := range []v1alpha1.JWKSSource{{SecretRef: ref}, {ConfigMapRef: ref}} {
		in.Policies["emergency"].Spec.Issuers[0].JWKS = src
		out := settle(t, in, nil)
		if i := out.Issuers["emergency"][0]; i.Keys != 0 || !strings.Contains(i.Error, "of namespace elsewhere are not read") {
			t.Errorf("%+v: %+v", src, i)
		}
	}
}

func TestPortsHaveAPlaceInThePod(t *testing.T) {
	for port, at := range map[gwv1.PortNumber]string{80: "10080", 8443: "8443", 9103: "", 10080: "", 11023: "", 11024: "11024"} {
		in := inCluster(t)
		in.Gateways[key("door")].Spec.Listeners[0].Port = port
		out := settle(t, in, nil)
		c := out.Statuses.Gateways[key("door")].Listeners[0].Conditions[0]
		r := out.Gateways[key("door")].Snapshot.Get(snapshot.Key{Type: snapshot.Listener, Name: lock.ListenerName(int32(port))})
		if at == "" {
			if c.Status != metav1.ConditionFalse || c.Reason != string(gwv1.ListenerReasonPortUnavailable) || r != nil {
				t.Errorf("port %d: %+v, Envoy is given %v", port, c, r)
			}
			continue
		}
		if r == nil {
			t.Errorf("port %d: %+v", port, c)
			continue
		}
		var l listenerv3.Listener
		if err := r.Body.UnmarshalTo(&l); err != nil {
			t.Fatal(err)
		}
		if a := l.GetAddress().GetSocketAddress(); fmt.Sprint(a.GetPortValue()) != at || a.GetAddress() != "0.0.0.0" {
			t.Errorf("port %d is bound at %v, want %s", port, a, at)
		}
	}
	// Two Gateways have the same ports: each has pods of its own.
	in := inCluster(t)
	second := in.Gateways[key("door")].DeepCopy()
	second.Name = "second"
	in.Gateways[key("second")] = second
	if c := settle(t, in, nil).Statuses.Gateways[key("second")].Listeners[0].Conditions[0]; c.Status != metav1.ConditionTrue {
		t.Errorf("%+v", c)
	}
}

// awayEnvoy is an Envoy that is not there.
type awayEnvoy struct{ fakeEnvoy }

func (*awayEnvoy) Connected() bool { return false }

func TestProgrammedAndLiveAreWhatTheEnvoysOfAllReplicasSay(t *testing.T) {
	in := inCluster(t)
	settle(t, in, nil)
	here := in.Delivery
	lease := in.Records[key("inc-1")].Targets["HTTPRoute/db"].Openings
	serving := map[string]bool{}
	for _, o := range lease {
		serving[o] = true
	}
	none := map[types.NamespacedName]snapshot.Delivery{key("door"): &awayEnvoy{}}
	peer := func(n int, serving map[string]bool) []Peer {
		return []Peer{{Name: "two", Envoys: map[types.NamespacedName]int{key("door"): n}, Serving: serving}}
	}
	for name, c := range map[string]struct {
		delivery         map[types.NamespacedName]snapshot.Delivery
		peers            []Peer
		programmed, live bool
		says             string
	}{
		"Envoys here":                           {here, nil, true, true, ""},
		"none anywhere":                         {none, nil, false, false, "is not connected"},
		"none here, and another has none":       {none, peer(0, serving), false, false, "is not connected"},
		"none here, and another's have it":      {none, peer(2, serving), true, true, ""},
		"none here, and another's lag":          {none, peer(2, nil), true, false, "connected to two has not acknowledged it yet"},
		"here and another's have it":            {here, peer(1, serving), true, true, ""},
		"here, and another's lag":               {here, peer(1, map[string]bool{"x": true}), true, false, "connected to two has not acknowledged it yet"},
		"here, and another says less than none": {here, peer(-1, nil), true, true, ""},
	} {
		in.Delivery, in.Cluster.Peers = c.delivery, c.peers
		out := Translate(*in)
		a := out.Statuses.Activations[key("inc-1")]
		if (a.Phase == v1alpha1.PhaseLive) != c.live || !c.live && !strings.Contains(a.Conditions[1].Message, c.says) {
			t.Errorf("%s: %s %+v", name, a.Phase, a.Conditions)
		}
		if g := out.Statuses.Gateways[key("door")].Conditions[1]; (g.Status == metav1.ConditionTrue) != c.programmed {
			t.Errorf("%s: %+v", name, g)
		}
		if out.Gateways[key("door")].LastDeadline.IsZero() {
			t.Errorf("%s: what a peer says closes a window", name)
		}
	}
	in.Delivery, in.Cluster.Peers = here, nil
	in.Cluster.Addresses = nil
	if g := Translate(*in).Statuses.Gateways[key("door")].Conditions[1]; g.Reason != string(gwv1.GatewayReasonAddressNotAssigned) {
		t.Errorf("without an address: %+v", g)
	}
}

// TestATranslatorThatRemembersIsRightInACluster: all that only a cluster has changes at
// random, and now and then what else there is.
func TestATranslatorThatRemembersIsRightInACluster(t *testing.T) {
	base, open, followed := inCluster(t), 0, 0
	base.Policies["emergency"].Spec.Issuers[0].JWKS = v1alpha1.JWKSSource{SecretRef: &v1alpha1.KeySetReference{Namespace: "pay", Name: "keys", Key: "jwks"}}
	base.Secrets = map[types.NamespacedName]*corev1.Secret{key("keys"): {Data: map[string][]byte{"jwks": []byte(goodKeys)}}}
	rapid.Check(t, func(rt *rapid.T) {
		world := *base
		in := &world
		in.Objects, in.Records = copied(base.Objects), map[types.NamespacedName]activation.Record{}
		envoys := map[types.NamespacedName]*fakeEnvoy{}
		var remembers Translator
		for range rapid.IntRange(1, 10).Draw(rt, "steps") {
			in.Objects = copied(in.Objects)
			if in.Cluster = genCluster(rt, in); rapid.IntRange(0, 3).Draw(rt, "something else") == 0 {
				in.Objects = copied(base.Objects)
				if rapid.Bool().Draw(rt, "another Gateway") {
					r := in.HTTPRoutes[key("db")].DeepCopy()
					r.Spec.ParentRefs = append(r.Spec.ParentRefs, gwv1.ParentReference{Name: "foreign"})
					in.HTTPRoutes[key("db")] = r
				}
			}
			in.Now = in.Now.Add(anyOf(rt, "time", 0, time.Second, time.Minute))
			for range rapid.IntRange(1, 4).Draw(rt, "rounds") {
				got, want := remembers.Translate(*in), Translate(*in)
				if d := difference(got, want); d != "" {
					rt.Fatalf("with memory: %s", d)
				}
				for _, g := range want.Gateways {
					if !g.LastDeadline.IsZero() && in.Cluster != nil {
						open++
						if in.Cluster.Follow {
							followed++
						}
					}
				}
				in.Records = maps.Clone(in.Records)
				for _, f := range want.Facts {
					in.Records[f.Record.Key()] = f.Record
				}
				if tellStatuses(rt, in, want); rapid.IntRange(0, 5).Draw(rt, "forgets") == 0 {
					in.Records = map[types.NamespacedName]activation.Record{}
				}
				in.Delivery = map[types.NamespacedName]snapshot.Delivery{}
				for k, g := range want.Gateways {
					if envoys[k] == nil {
						envoys[k] = &fakeEnvoy{}
					}
					envoys[k].take(g.Snapshot)
					in.Delivery[k] = envoys[k]
				}
			}
		}
	})
	if open == 0 || followed == 0 {
		t.Errorf("%d open worlds, %d of them of who follows: the test proves nothing", open, followed)
	}
}
