package translator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// TestATranslatorThatRemembersSaysWhatOneThatDoesNotWould changes random worlds in
// every way in which one can change, and translates each with and without memory.
func TestATranslatorThatRemembersSaysWhatOneThatDoesNotWould(t *testing.T) {
	open, refused := 0, 0
	compare := func(t *rapid.T) {
		in := baseInput()
		reject := map[snapshot.Key]string{}
		envoys := map[types.NamespacedName]*fakeEnvoy{}
		var remembers Translator
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			in.Objects = copied(in.Objects)
			step(t, in, reject)
			surround(t, in)
			if rapid.IntRange(0, 5).Draw(t, "another Envoy") == 0 {
				clear(envoys)
			}
			for range rapid.IntRange(1, 5).Draw(t, "rounds") {
				got, want := remembers.Translate(*in), Translate(*in)
				if d := difference(got, want); d != "" {
					t.Fatalf("with memory: %s", d)
				}
				for _, g := range want.Gateways {
					if !g.LastDeadline.IsZero() {
						open++
					}
				}
				for _, f := range want.Facts {
					in.Records[f.Record.Key()] = f.Record
				}
				if tellStatuses(t, in, want); in.Cluster != nil && rapid.IntRange(0, 9).Draw(t, "forgets") == 0 {
					in.Records = map[types.NamespacedName]activation.Record{}
				}
				in.Delivery = map[types.NamespacedName]snapshot.Delivery{}
				for k, g := range want.Gateways {
					if envoys[k] == nil {
						envoys[k] = &fakeEnvoy{reject: reject, refuse: func(r *snapshot.Resource) string {
							if r.Version[0] == '3' || r.Version[0] == '7' {
								refused++
								return "no"
							}
							return ""
						}}
					}
					envoys[k].take(g.Snapshot)
					in.Delivery[k] = envoys[k]
				}
			}
		}
	}
	// Something opens in a few of a hundred worlds, and in some hundreds in none.
	for range 5 {
		if rapid.Check(t, compare); open > 0 && refused > 0 || t.Failed() {
			break
		}
	}
	if open == 0 || refused == 0 {
		t.Errorf("%d open worlds, %d refusals: the test proves nothing", open, refused)
	}
}

// copied is o in maps of its own: those of before must not change.
func copied(o Objects) Objects {
	o.Namespaces, o.GatewayClasses, o.Gateways, o.HTTPRoutes = maps.Clone(o.Namespaces), maps.Clone(o.GatewayClasses), maps.Clone(o.Gateways), maps.Clone(o.HTTPRoutes)
	o.GRPCRoutes = maps.Clone(o.GRPCRoutes)
	o.ReferenceGrants, o.Services, o.EndpointSlices = maps.Clone(o.ReferenceGrants), maps.Clone(o.Services), maps.Clone(o.EndpointSlices)
	o.ListenerSets = maps.Clone(o.ListenerSets)
	o.Secrets, o.ConfigMaps, o.Policies, o.Activations = maps.Clone(o.Secrets), maps.Clone(o.ConfigMaps), maps.Clone(o.Policies), maps.Clone(o.Activations)
	o.BackendTLSPolicies = maps.Clone(o.BackendTLSPolicies)
	return o
}

var keySet = func() *jwks.Set {
	s, err := jwks.Parse([]byte(goodKeys), []v1alpha1.Algorithm{"ES256"})
	if err != nil {
		panic(err)
	}
	return s
}()

// genSets changes the ListenerSets, and whether their Gateway lets them in.
func genSets(t *rapid.T, in *Input) {
	g := in.Gateways[key("door")].DeepCopy()
	from := mostly(t, "allowed listeners", gwv1.NamespacesFromSame, gwv1.NamespacesFromAll, gwv1.NamespacesFromNone)
	g.Spec.AllowedListeners = &gwv1.AllowedListeners{Namespaces: &gwv1.ListenerNamespaces{From: &from}}
	in.Gateways[key("door")] = g
	sets := map[types.NamespacedName]*gwv1.ListenerSet{}
	for _, name := range []string{"set0", "set1"}[:rapid.IntRange(0, 2).Draw(t, "sets")] {
		set := &gwv1.ListenerSet{ObjectMeta: metav1.ObjectMeta{Namespace: mostly(t, "namespace", "pay", "elsewhere"), Name: name, CreationTimestamp: metav1.NewTime(anyOf(t, "age", epoch, epoch.Add(-time.Hour)))}}
		set.Spec.ParentRef.Name = gwv1.ObjectName(mostly(t, "parent", "door", "window"))
		if set.Namespace != "pay" {
			set.Spec.ParentRef.Namespace = ptr(gwv1.Namespace("pay"))
		}
		for i := range rapid.IntRange(1, 2).Draw(t, "listeners") {
			l := gwv1.ListenerEntry{Name: gwv1.SectionName(fmt.Sprintf("l%d", i)), Port: anyOf[gwv1.PortNumber](t, "port", 80, 82, 443), Protocol: gwv1.HTTPProtocolType}
			l.Hostname = anyOf(t, "listener hostname", nil, ptr(gwv1.Hostname("a.example.com")), ptr(gwv1.Hostname("b.example.com")))
			if l.Port == 443 {
				l.Protocol, l.TLS = gwv1.HTTPSProtocolType, &gwv1.ListenerTLSConfig{CertificateRefs: []gwv1.SecretObjectReference{{Name: "cert"}}}
			}
			set.Spec.Listeners = append(set.Spec.Listeners, l)
		}
		sets[types.NamespacedName{Namespace: set.Namespace, Name: set.Name}] = set
	}
	in.ListenerSets = sets
}

// surround changes what stands around the routes.
func surround(t *rapid.T, in *Input) {
	happens := func(what string) bool { return rapid.IntRange(0, 5).Draw(t, what) == 0 }
	if happens("keys from elsewhere") && in.Policies["emergency"] != nil {
		p := in.Policies["emergency"].DeepCopy()
		for i := range p.Spec.Issuers {
			p.Spec.Issuers[i].JWKS = v1alpha1.JWKSSource{Remote: &v1alpha1.RemoteJWKS{URI: "https://keys.test/"}}
		}
		in.Policies["emergency"] = p
	}
	if happens("fetched") {
		in.RemoteKeys = map[jwks.Key]jwks.Result{{Policy: "emergency", Issuer: "i0"}: {
			Set: anyOf(t, "set", keySet, nil), Err: anyOf(t, "error", nil, errors.New("timeout")),
			Expires: in.Now.Add(anyOf(t, "stale after", time.Minute, time.Hour)), Stale: rapid.Bool().Draw(t, "stale"),
		}}
	}
	if happens("role") && in.Policies["emergency"] != nil {
		p := in.Policies["emergency"].DeepCopy()
		if len(p.Spec.Roles) > 0 && len(p.Spec.Roles[0].Grants) > 0 {
			p.Spec.Roles[0].Grants[0].Claims = []v1alpha1.ClaimMatch{{Path: []string{"groups"}, AnyOf: []string{anyOf(t, "group", "x", "y", "z")}}}
		}
		in.Policies["emergency"] = p
	}
	if happens("service") {
		in.Services, in.EndpointSlices = oneService()
		if rapid.Bool().Draw(t, "gone") {
			delete(in.Services, key("db"))
		}
	}
	if happens("endpoints") {
		for k, s := range in.EndpointSlices {
			s = s.DeepCopy()
			s.Endpoints[0].Addresses = []string{anyOf(t, "address", "127.0.0.1", "127.0.0.2", "10.0.0.1")}
			in.EndpointSlices[k] = s
		}
	}
	if happens("gateway") {
		g := in.Gateways[key("door")].DeepCopy()
		if g.Spec.TLS == nil {
			g.Spec.TLS = &gwv1.GatewayTLSConfig{}
		}
		if g.Spec.TLS.Backend = nil; rapid.Bool().Draw(t, "client certificate") {
			g.Spec.TLS.Backend = &gwv1.GatewayBackendTLS{ClientCertificateRef: &gwv1.SecretObjectReference{Name: "cert"}}
		}
		l := &g.Spec.Listeners[rapid.IntRange(0, 2).Draw(t, "listener")]
		l.Hostname = anyOf(t, "listener hostname", nil, ptr(gwv1.Hostname("a.example.com")), ptr(gwv1.Hostname("*.example.com")))
		l.Port = anyOf[gwv1.PortNumber](t, "port", 80, 81, 443)
		l.Protocol, l.TLS = gwv1.HTTPProtocolType, nil
		if l.Port == 443 {
			l.Protocol, l.TLS = gwv1.HTTPSProtocolType, &gwv1.ListenerTLSConfig{CertificateRefs: []gwv1.SecretObjectReference{{Name: "cert"}}}
		}
		in.Gateways[key("door")] = g
	}
	if happens("second gateway") {
		if delete(in.Gateways, key("window")); rapid.Bool().Draw(t, "there") {
			g := in.Gateways[key("door")].DeepCopy()
			g.Name = "window"
			for i := range g.Spec.Listeners {
				g.Spec.Listeners[i].Port += 1000
			}
			in.Gateways[key("window")] = g
		}
	}
	if happens("listener set") {
		genSets(t, in)
	}
	if happens("certificate") {
		in.Secrets = map[types.NamespacedName]*corev1.Secret{}
		if rapid.Bool().Draw(t, "there") {
			in.Secrets[key("cert")] = anyOf(t, "certificate", certificates...)
		}
	}
	if happens("clients") {
		g := in.Gateways[key("door")].DeepCopy()
		if g.Spec.TLS == nil {
			g.Spec.TLS = &gwv1.GatewayTLSConfig{}
		}
		if g.Spec.TLS.Frontend = nil; rapid.Bool().Draw(t, "asked") {
			v := &gwv1.FrontendTLSValidation{Mode: anyOf(t, "mode", gwv1.AllowValidOnly, gwv1.AllowInsecureFallback), CACertificateRefs: []gwv1.ObjectReference{{Kind: "ConfigMap", Name: "ca"}}}
			g.Spec.TLS.Frontend = &gwv1.FrontendTLSConfig{Default: gwv1.TLSConfig{Validation: v}}
		}
		in.Gateways[key("door")] = g
	}
	if happens("authorities of clients") {
		in.ConfigMaps = map[types.NamespacedName]*corev1.ConfigMap{}
		if rapid.Bool().Draw(t, "there") {
			in.ConfigMaps[key("ca")] = &corev1.ConfigMap{Data: map[string]string{"ca.crt": string(anyOf(t, "authority", certificates...).Data[corev1.TLSCertKey])}}
		}
	}
	if happens("TLS to backends") {
		surroundTLS(t, in)
	}
	if happens("class") {
		c := in.GatewayClasses["emergency"].DeepCopy()
		c.Spec.ParametersRef.Name = mostly(t, "parameters", "emergency", "nope")
		in.GatewayClasses["emergency"] = c
	}
	if happens("namespace") {
		in.Namespaces = map[string]*corev1.Namespace{"pay": {ObjectMeta: metav1.ObjectMeta{Name: "pay"}}}
	}
	in.ClockBehind = mostly(t, "behind", 0, time.Second)
	if rapid.IntRange(0, 2).Draw(t, "cluster") == 0 {
		in.Cluster = genCluster(t, in)
	}
}

// genCluster is what only a cluster has, or none of it.
func genCluster(t *rapid.T, in *Input) *Cluster {
	if rapid.IntRange(0, 4).Draw(t, "no cluster") == 0 {
		return nil
	}
	in.Namespaces = maps.Clone(in.Namespaces)
	if in.Namespaces == nil {
		in.Namespaces = map[string]*corev1.Namespace{}
	}
	if label := mostly(t, "opted in", v1alpha1.EmergencyRoutesAllowed, "no"); in.Namespaces["pay"] == nil || in.Namespaces["pay"].Labels[v1alpha1.EmergencyRoutesLabel] != label {
		in.Namespaces["pay"] = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "pay", Labels: map[string]string{v1alpha1.EmergencyRoutesLabel: label}}}
	}
	if p := in.Policies["emergency"]; p != nil { // or nothing would ever be open: the door is no loopback here
		p = p.DeepCopy()
		p.Spec.Scope = v1alpha1.Scope{AllowWildcardHostnames: true, AllowCatchAllPath: true, AllowAnyMethod: true, AllowUnlabelled: true, AllowPlainHTTP: true}
		in.Policies["emergency"] = p
	}
	c := &Cluster{
		GatewayNamespaces: map[string]bool{mostly(t, "Gateways in", "pay", "other"): true}, SecretNamespaces: map[string]bool{mostly(t, "Secrets of", "pay", "other"): true},
		Addresses: map[types.NamespacedName][]gwv1.GatewayStatusAddress{},
	}
	c.Follow, c.Refusing = rapid.IntRange(0, 3).Draw(t, "follows") == 0, mostly(t, "refuses", "", "the clocks differ")
	c.Distrusted = map[types.NamespacedName]string{key(anyOf(t, "distrusted", "act0", "act1", "nobody")): "nobody checked"}
	if rapid.Bool().Draw(t, "addressed") {
		c.Addresses[key("door")] = []gwv1.GatewayStatusAddress{{Value: anyOf(t, "address of the door", "10.0.0.1", "10.0.0.2")}}
	}
	for range rapid.IntRange(0, 2).Draw(t, "peers") {
		p := Peer{Name: anyOf(t, "peer", "one", "two"), Envoys: map[types.NamespacedName]int{key("door"): rapid.IntRange(0, 2).Draw(t, "Envoys")}, Serving: map[string]bool{}}
		for _, r := range in.Records {
			for _, target := range r.Targets {
				for _, o := range target.Openings {
					p.Serving[o] = true
				}
			}
		}
		if rapid.Bool().Draw(t, "lags") {
			clear(p.Serving)
		}
		c.Peers = append(c.Peers, p)
	}
	return c
}

// tellStatuses writes what was found to the objects, as a leader does.
func tellStatuses(t *rapid.T, in *Input, out *Result) {
	if in.Cluster == nil || in.Cluster.Follow || !rapid.Bool().Draw(t, "told") {
		return
	}
	in.Activations = maps.Clone(in.Activations)
	for k, s := range out.Statuses.Activations {
		if a := in.Activations[k]; a != nil {
			a = a.DeepCopy()
			s.DeepCopyInto(&a.Status)
			in.Activations[k] = a
		}
	}
}

// certificates are two pairs of one name.
var certificates = []*corev1.Secret{testCertificate("a"), testCertificate("b")}

// difference of two results, "" if they say the same.
func difference(got, want *Result) string {
	if len(got.Gateways) != len(want.Gateways) {
		return fmt.Sprintf("%d Gateways, want %d", len(got.Gateways), len(want.Gateways))
	}
	for k, w := range want.Gateways {
		g := got.Gateways[k]
		if g == nil || !g.LastDeadline.Equal(w.LastDeadline) || g.Unrecorded != w.Unrecorded || !slices.Equal(g.Ports, w.Ports) {
			return fmt.Sprintf("Gateway %s: %+v, want %+v", k, g, w)
		}
		if d := resourceDifference(g.Snapshot, w.Snapshot); d != "" {
			return fmt.Sprintf("Gateway %s: %s", k, d)
		}
	}
	for _, part := range []struct {
		name      string
		got, want any
	}{
		{"status of classes", got.Statuses.GatewayClasses, want.Statuses.GatewayClasses},
		{"status of Gateways", got.Statuses.Gateways, want.Statuses.Gateways},
		{"status of ListenerSets", got.Statuses.ListenerSets, want.Statuses.ListenerSets},
		{"status of routes", got.Statuses.Routes, want.Statuses.Routes},
		{"status of TLS policies", got.Statuses.BackendTLSPolicies, want.Statuses.BackendTLSPolicies},
		{"status of policies", got.Statuses.Policies, want.Statuses.Policies},
		{"status of activations", got.Statuses.Activations, want.Statuses.Activations},
		{"facts", got.Facts, want.Facts}, {"issuers", got.Issuers, want.Issuers},
		{"served leases", got.Served, want.Served}, {"records", got.Records, want.Records}, {"next instant", got.Next, want.Next},
	} {
		if !reflect.DeepEqual(part.got, part.want) {
			return fmt.Sprintf("%s:\n%+v\nwant\n%+v", part.name, part.got, part.want)
		}
	}
	return ""
}

func resourceDifference(got, want *snapshot.Snapshot) string {
	var out []string
	for r := range want.All() {
		if !got.Get(r.Key).Equal(r) {
			out = append(out, fmt.Sprintf("%v: %+v, want %+v", r.Key, got.Get(r.Key), r))
		}
	}
	for r := range got.All() {
		if want.Get(r.Key) == nil {
			out = append(out, fmt.Sprintf("%v is there and should not be", r.Key))
		}
	}
	if got.Len() != want.Len() && len(out) == 0 {
		out = append(out, fmt.Sprintf("says it has %d resources, want %d", got.Len(), want.Len()))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// TestAChangeTouchesWhatItChanges: among many routes, one that changes or opens
// changes its own resources only, and what Envoy acknowledges changes none.
func TestAChangeTouchesWhatItChanges(t *testing.T) {
	in := manyRoutes(t, 50)
	var tr Translator
	before := tr.Translate(*in)
	changed := func() []string {
		after := tr.Translate(*in)
		var names []string
		for k := range after.Gateways[key("door")].Snapshot.Differences(before.Gateways[key("door")].Snapshot) {
			names = append(names, k.Name)
		}
		slices.Sort(names)
		before = after
		return slices.Compact(names)
	}
	if got := changed(); len(got) > 0 {
		t.Errorf("nothing happened, and %v changed", got)
	}
	in.HTTPRoutes = maps.Clone(in.HTTPRoutes)
	r := in.HTTPRoutes[key("db-7")].DeepCopy()
	r.Spec.Rules[0].Matches[0].Path.Value = ptr("/other")
	in.HTTPRoutes[key("db-7")] = r
	if got := changed(); !slices.Equal(got, []string{"http-8080|db-7.example.com"}) {
		t.Errorf("one route changed, and with it %v", got)
	}
	in.Activations = maps.Clone(in.Activations)
	in.Activations[key("one")] = &v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "one"}, Spec: v1alpha1.ActivationSpec{
		TargetRefs: []v1alpha1.TargetReference{{Kind: "HTTPRoute", Name: "db-9"}}, Role: "db", Reason: "r", Incident: "I", Duration: ptr(gwv1.Duration("1m")),
	}}
	in.Records = maps.Clone(in.Records)
	for _, f := range tr.Translate(*in).Facts {
		in.Records[f.Record.Key()] = f.Record
	}
	for _, name := range changed() {
		if name != "http-8080|db-9.example.com" && !strings.HasPrefix(name, "open/") && !strings.HasPrefix(name, "lease/") {
			t.Errorf("db-9 was opened, and %s changed", name)
		}
	}
	if len(in.Records[key("one")].Targets) == 0 {
		t.Error("it was not opened: the test proves nothing")
	}
}

// TestALeaseThatIsRememberedFollowsItsDeadline: a second activation of the same
// route and role lengthens the window, and a policy that allows less shortens it.
func TestALeaseThatIsRememberedFollowsItsDeadline(t *testing.T) {
	in := manyRoutes(t, 3)
	var tr Translator
	settled := func() *Result {
		for range 4 {
			in.Records = maps.Clone(in.Records)
			for _, f := range tr.Translate(*in).Facts {
				in.Records[f.Record.Key()] = f.Record
			}
		}
		return tr.Translate(*in)
	}
	activate := func(name, duration string) {
		in.Activations = maps.Clone(in.Activations)
		in.Activations[key(name)] = &v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name}, Spec: v1alpha1.ActivationSpec{
			TargetRefs: []v1alpha1.TargetReference{{Kind: "HTTPRoute", Name: "db-1"}}, Role: "db", Reason: "r", Incident: "I", Duration: ptr(gwv1.Duration(duration)),
		}}
	}
	expires := func(want time.Duration) {
		t.Helper()
		out := settled()
		if d := difference(out, Translate(*in)); d != "" {
			t.Fatalf("with memory: %s", d)
		}
		opening := in.Records[key("one")].Targets["HTTPRoute/db-1"].Openings["#1"]
		lease := out.Gateways[key("door")].Snapshot.Get(snapshot.Key{Type: snapshot.Listener, Name: "lease/" + opening})
		if lease == nil || lease.Expires.Sub(in.Now) != want {
			t.Fatalf("lease %q is %+v, want one of %v", opening, lease, want)
		}
	}
	activate("one", "1m")
	expires(time.Minute)
	activate("two", "20m")
	expires(20 * time.Minute)
	p := in.Policies["emergency"].DeepCopy()
	p.Spec.Roles[0].MaxDuration = ptr(gwv1.Duration("5m"))
	in.Policies = map[string]*v1alpha1.EmergencyPolicy{"emergency": p}
	expires(5 * time.Minute)
}

// testCertificate is a Secret with a pair of its own.
func testCertificate(host string) *corev1.Secret {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotAfter: epoch.Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		panic(err)
	}
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "cert"}, Data: map[string][]byte{
		corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	}}
}
