package translator

import (
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	internalupstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// genTLSPolicy draws from what a schema lets through and from what it should not.
func genTLSPolicy(t *rapid.T, name string) *gwv1.BackendTLSPolicy {
	p := &gwv1.BackendTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name, Generation: rapid.Int64Range(1, 3).Draw(t, "generation")}}
	if rapid.Bool().Draw(t, "younger") {
		p.CreationTimestamp = metav1.NewTime(epoch.Add(-time.Minute))
	}
	for range mostly(t, "targets", 1, 0, 2) {
		r := gwv1.LocalPolicyTargetReferenceWithSectionName{SectionName: anyOf(t, "section", nil, ptr(gwv1.SectionName("")), ptr(gwv1.SectionName("http")), ptr(gwv1.SectionName("nope")))}
		r.Kind, r.Name = mostly[gwv1.Kind](t, "target kind", "Service", "Backend"), mostly[gwv1.ObjectName](t, "target", "db", "nope")
		p.Spec.TargetRefs = append(p.Spec.TargetRefs, r)
	}
	v := &p.Spec.Validation
	v.Hostname = mostly[gwv1.PreciseHostname](t, "server", "db.internal", "", "10.0.0.1")
	for range mostly(t, "authorities", 1, 0, 2) {
		v.CACertificateRefs = append(v.CACertificateRefs, gwv1.LocalObjectReference{Kind: mostly[gwv1.Kind](t, "authority kind", "ConfigMap", "Secret"), Name: mostly[gwv1.ObjectName](t, "authority", "ca", "nope")})
	}
	if mostly(t, "sans", false, true) {
		v.SubjectAltNames = []gwv1.SubjectAltName{{Type: mostly(t, "san", gwv1.URISubjectAltNameType, gwv1.HostnameSubjectAltNameType, "IP"), URI: "spiffe://a/b"}}
	}
	if mostly(t, "options", false, true) {
		p.Spec.Options = map[gwv1.AnnotationKey]gwv1.AnnotationValue{"a": "b"}
	}
	return p
}

// surroundTLS changes how backends are spoken to.
func surroundTLS(t *rapid.T, in *Input) {
	if in.BackendTLSPolicies == nil {
		in.BackendTLSPolicies = map[types.NamespacedName]*gwv1.BackendTLSPolicy{}
	}
	k := key(anyOf(t, "TLS policy", "one", "two"))
	if delete(in.BackendTLSPolicies, k); mostly(t, "is there", true, false) {
		in.BackendTLSPolicies[k] = genTLSPolicy(t, k.Name)
	}
	in.ConfigMaps = map[types.NamespacedName]*corev1.ConfigMap{}
	if mostly(t, "authority", true, false) {
		in.ConfigMaps[key("ca")] = caConfigMap(string(anyOf(t, "of", certificates...).Data[corev1.TLSCertKey]))
	}
}

func caConfigMap(text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "ca"}, Data: map[string]string{"ca.crt": text}}
}

// towards is what Envoy would do with requests to a rule's backend: "plain", "none"
// (nothing is reached), or how it verifies.
func towards(t *testing.T, out *Result, gateway, opening string) string {
	t.Helper()
	r := out.Gateways[key(gateway)].Snapshot.Get(snapshot.Key{Type: snapshot.Cluster, Name: "open/" + opening + "/0"})
	if r == nil {
		return "none"
	}
	c := mustUnpack(t, r.Body, &clusterv3.Cluster{})
	if len(c.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()) == 0 {
		return "none"
	}
	inner := mustUnpack(t, c.GetTransportSocket().GetTypedConfig(), &internalupstreamv3.InternalUpstreamTransport{}).GetTransportSocket()
	if inner.GetName() == "envoy.transport_sockets.raw_buffer" {
		return "plain"
	}
	u := mustUnpack(t, inner.GetTypedConfig(), &tlsv3.UpstreamTlsContext{})
	v := u.GetCommonTlsContext().GetValidationContext()
	if v.GetTrustedCa().GetInlineString() == "" || len(v.GetMatchTypedSubjectAltNames()) == 0 || u.GetSni() == "" || v.GetTrustChainVerification() != tlsv3.CertificateValidationContext_VERIFY_TRUST_CHAIN {
		t.Fatalf("a backend is not verified: %v", u)
	}
	said := []string{"sni " + u.GetSni()}
	for _, m := range v.GetMatchTypedSubjectAltNames() {
		said = append(said, strings.ToLower(m.GetSanType().String())+" "+m.GetMatcher().GetExact())
	}
	for _, s := range u.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs() {
		said = append(said, "shows "+s.GetName())
	}
	return strings.Join(append(said, u.GetCommonTlsContext().GetAlpnProtocols()...), ", ")
}

// tlsWorld is the golden case without its policies, and one route to port 443 of
// Service db. change changes it; what Envoy does is said for each Gateway.
func tlsWorld(t *testing.T, change func(*Input)) (*Result, func(gateway string) string) {
	t.Helper()
	in := load(t, "testdata/backend-tls/in.yaml", epoch)
	in.BackendTLSPolicies = map[types.NamespacedName]*gwv1.BackendTLSPolicy{}
	r := in.HTTPRoutes[key("db")]
	r.Spec.Rules = r.Spec.Rules[:1]
	in.Services[key("db")].Spec.Ports[0].AppProtocol = nil
	change(in)
	out := settle(t, in, nil)
	for _, g := range out.Gateways {
		checkLocked(t, g.Snapshot, epoch)
	}
	opening := in.Records[key("inc-1")].Targets["HTTPRoute/db"].Openings["#0"]
	return out, func(gateway string) string { return towards(t, out, gateway, opening) }
}

// policyOf Service db, that is met.
func policyOf(name string, change ...func(*gwv1.BackendTLSPolicy)) *gwv1.BackendTLSPolicy {
	p := &gwv1.BackendTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name, Generation: 7}}
	p.Spec.TargetRefs = []gwv1.LocalPolicyTargetReferenceWithSectionName{{LocalPolicyTargetReference: gwv1.LocalPolicyTargetReference{Kind: "Service", Name: "db"}}}
	p.Spec.Validation = gwv1.BackendTLSPolicyValidation{Hostname: "abc.example.com", CACertificateRefs: []gwv1.LocalObjectReference{{Kind: "ConfigMap", Name: "ca"}}}
	for _, c := range change {
		c(p)
	}
	return p
}

func port(name string) func(*gwv1.BackendTLSPolicy) {
	return func(p *gwv1.BackendTLSPolicy) { p.Spec.TargetRefs[0].SectionName = ptr(gwv1.SectionName(name)) }
}

func server(name gwv1.PreciseHostname) func(*gwv1.BackendTLSPolicy) {
	return func(p *gwv1.BackendTLSPolicy) { p.Spec.Validation.Hostname = name }
}

func created(at time.Time) func(*gwv1.BackendTLSPolicy) {
	return func(p *gwv1.BackendTLSPolicy) { p.CreationTimestamp = metav1.NewTime(at) }
}

func sans(names ...gwv1.SubjectAltName) func(*gwv1.BackendTLSPolicy) {
	return func(p *gwv1.BackendTLSPolicy) { p.Spec.Validation.SubjectAltNames = names }
}

func authorities(refs ...gwv1.LocalObjectReference) func(*gwv1.BackendTLSPolicy) {
	return func(p *gwv1.BackendTLSPolicy) { p.Spec.Validation.CACertificateRefs = refs }
}

// verdict on a policy, for each of its ancestors.
func verdict(t *testing.T, out *Result, name string) string {
	t.Helper()
	var said []string
	for _, a := range out.Statuses.BackendTLSPolicies[key(name)].Ancestors {
		if *a.AncestorRef.Group != gwv1.GroupName || *a.AncestorRef.Kind != "Gateway" || *a.AncestorRef.Namespace != "pay" || a.ControllerName != "breakglass.dev/gateway-controller" {
			t.Errorf("ancestor %+v", a)
		}
		var conditions []string
		for _, c := range a.Conditions {
			if c.ObservedGeneration != 7 {
				t.Errorf("%s was observed at generation %d", c.Type, c.ObservedGeneration)
			}
			conditions = append(conditions, fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason))
		}
		said = append(said, string(a.AncestorRef.Name)+": "+strings.Join(conditions, " "))
	}
	return strings.Join(said, "; ")
}

const (
	met     = "door: Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs; nameless: Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs"
	loses   = "door: Accepted=False/Conflicted ResolvedRefs=True/ResolvedRefs; nameless: Accepted=False/Conflicted ResolvedRefs=True/ResolvedRefs"
	asShown = ", dns abc.example.com, shows tls/pay/client, http/1.1"
)

func unmet(reason string) string {
	return fmt.Sprintf("door: Accepted=False/NoValidCACertificate ResolvedRefs=False/%s; nameless: Accepted=False/NoValidCACertificate ResolvedRefs=False/%s", reason, reason)
}

// The cases of the conformance tests BackendTLSPolicy*, and what they leave open.
func TestABackendIsReachedAsItsPolicySaysOrNotAtAll(t *testing.T) {
	uri := gwv1.SubjectAltName{Type: gwv1.URISubjectAltNameType, URI: "spiffe://abc.example.com/test-identity"}
	dns := gwv1.SubjectAltName{Type: gwv1.HostnameSubjectAltNameType, Hostname: "dce.example.com"}
	ca := gwv1.LocalObjectReference{Kind: "ConfigMap", Name: "ca"}
	nope := gwv1.LocalObjectReference{Kind: "ConfigMap", Name: "nope"}
	for _, c := range []struct {
		name     string
		policies []*gwv1.BackendTLSPolicy
		change   func(*Input)
		does     string
		verdicts map[string]string
	}{
		{name: "no policy", does: "plain"},
		{name: "the whole Service", policies: []*gwv1.BackendTLSPolicy{policyOf("a")}, does: "sni abc.example.com" + asShown, verdicts: map[string]string{"a": met}},
		{name: "the port", policies: []*gwv1.BackendTLSPolicy{policyOf("a", port("https"))}, does: "sni abc.example.com" + asShown, verdicts: map[string]string{"a": met}},
		{name: "another port", policies: []*gwv1.BackendTLSPolicy{policyOf("a", port("plain"))}, does: "plain", verdicts: map[string]string{"a": met}},
		{name: "a port that there is not", policies: []*gwv1.BackendTLSPolicy{policyOf("a", port("htps"))}, does: "none",
			verdicts: map[string]string{"a": strings.ReplaceAll(loses, "Conflicted", "TargetNotFound")}},
		{name: "a port that there is not, and the whole Service", policies: []*gwv1.BackendTLSPolicy{policyOf("a", port("htps")), policyOf("b")}, does: "sni abc.example.com" + asShown},
		{name: "another Service", policies: []*gwv1.BackendTLSPolicy{policyOf("a", func(p *gwv1.BackendTLSPolicy) { p.Spec.TargetRefs[0].Name = "old" })}, does: "plain", verdicts: map[string]string{"a": ""}},
		{name: "another kind", policies: []*gwv1.BackendTLSPolicy{policyOf("a", func(p *gwv1.BackendTLSPolicy) { p.Spec.TargetRefs[0].Kind = "Backend" })}, does: "plain", verdicts: map[string]string{"a": ""}},
		{name: "two of the Service: first by name", policies: []*gwv1.BackendTLSPolicy{policyOf("a"), policyOf("b", server("other"))}, does: "sni abc.example.com" + asShown,
			verdicts: map[string]string{"a": met, "b": loses}},
		{name: "two of the Service: the older", policies: []*gwv1.BackendTLSPolicy{policyOf("a", created(epoch), server("other")), policyOf("b", created(epoch.Add(-time.Second)))},
			does: "sni abc.example.com" + asShown, verdicts: map[string]string{"a": loses, "b": met}},
		{name: "two of the port", policies: []*gwv1.BackendTLSPolicy{policyOf("a", port("https")), policyOf("b", port("https"), server("other"))}, does: "sni abc.example.com" + asShown,
			verdicts: map[string]string{"a": met, "b": loses}},
		{name: "the port before the Service", policies: []*gwv1.BackendTLSPolicy{policyOf("a", server("other"), created(epoch.Add(-time.Hour))), policyOf("b", port("https"), created(epoch))},
			does: "sni abc.example.com" + asShown, verdicts: map[string]string{"a": met, "b": met}},
		{name: "the older is not met", policies: []*gwv1.BackendTLSPolicy{policyOf("a", authorities(nope)), policyOf("b")}, does: "none", verdicts: map[string]string{"a": unmet("InvalidCACertificateRef"), "b": loses}},
		{name: "no such ConfigMap", policies: []*gwv1.BackendTLSPolicy{policyOf("a", authorities(nope))}, does: "none", verdicts: map[string]string{"a": unmet("InvalidCACertificateRef")}},
		{name: "an empty ConfigMap", policies: []*gwv1.BackendTLSPolicy{policyOf("a")}, change: func(in *Input) { in.ConfigMaps[key("ca")].Data = nil }, does: "none", verdicts: map[string]string{"a": unmet("InvalidCACertificateRef")}},
		{name: "another kind of authority", policies: []*gwv1.BackendTLSPolicy{policyOf("a", authorities(gwv1.LocalObjectReference{Group: "invalid.io", Kind: "InvalidKind", Name: "ca"}))}, does: "none",
			verdicts: map[string]string{"a": unmet("InvalidKind")}},
		{name: "one of two authorities", policies: []*gwv1.BackendTLSPolicy{policyOf("a", authorities(nope, ca))}, does: "sni abc.example.com" + asShown,
			verdicts: map[string]string{"a": strings.ReplaceAll(met, "ResolvedRefs=True/ResolvedRefs", "ResolvedRefs=False/InvalidCACertificateRef")}},
		{name: "names", policies: []*gwv1.BackendTLSPolicy{policyOf("a", sans(uri, dns))}, does: "sni abc.example.com, dns dce.example.com, uri spiffe://abc.example.com/test-identity, shows tls/pay/client, http/1.1",
			verdicts: map[string]string{"a": met}},
		{name: "HTTP/2", policies: []*gwv1.BackendTLSPolicy{policyOf("a")}, change: func(in *Input) { in.Services[key("db")].Spec.Ports[0].AppProtocol = ptr("kubernetes.io/h2c") },
			does: "sni abc.example.com, dns abc.example.com, shows tls/pay/client, h2"},
		{name: "HTTPS with a policy", policies: []*gwv1.BackendTLSPolicy{policyOf("a")}, change: func(in *Input) { in.Services[key("db")].Spec.Ports[0].AppProtocol = ptr("HTTPS") }, does: "sni abc.example.com" + asShown},
		{name: "HTTPS without a policy", change: func(in *Input) { in.Services[key("db")].Spec.Ports[0].AppProtocol = ptr("https") }, does: "none"},
		{name: "WebSocket over TLS with a policy", policies: []*gwv1.BackendTLSPolicy{policyOf("a")}, change: func(in *Input) { in.Services[key("db")].Spec.Ports[0].AppProtocol = ptr("kubernetes.io/wss") },
			does: "sni abc.example.com" + asShown},
		{name: "WebSocket over TLS without a policy", change: func(in *Input) { in.Services[key("db")].Spec.Ports[0].AppProtocol = ptr("kubernetes.io/wss") }, does: "none"},
		{name: "authorities of the system", policies: []*gwv1.BackendTLSPolicy{policyOf("a", authorities(), func(p *gwv1.BackendTLSPolicy) {
			p.Spec.Validation.WellKnownCACertificates = ptr(gwv1.WellKnownCACertificatesSystem)
		})}, does: "none", verdicts: map[string]string{"a": strings.ReplaceAll(loses, "Conflicted", "Invalid")}},
		{name: "options", policies: []*gwv1.BackendTLSPolicy{policyOf("a", func(p *gwv1.BackendTLSPolicy) {
			p.Spec.Options = map[gwv1.AnnotationKey]gwv1.AnnotationValue{"x.org/min": "1.3"}
		})}, does: "none",
			verdicts: map[string]string{"a": strings.ReplaceAll(loses, "Conflicted", "Invalid")}},
		{name: "an address as name", policies: []*gwv1.BackendTLSPolicy{policyOf("a", server("10.0.0.1"))}, does: "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, does := tlsWorld(t, func(in *Input) {
				for _, p := range c.policies {
					in.BackendTLSPolicies[key(p.Name)] = p
				}
				if c.change != nil {
					c.change(in)
				}
			})
			if got := does("door"); got != c.does {
				t.Errorf("Envoy does %q, want %q", got, c.does)
			}
			for name, want := range c.verdicts {
				if got := verdict(t, out, name); got != want {
					t.Errorf("policy %s:\n%s\nwant\n%s", name, got, want)
				}
			}
			told := out.Statuses.Routes[routeKey("db")].Parents[0].Conditions[1]
			if resolved := told.Status == metav1.ConditionTrue; resolved == (c.does == "none") {
				t.Errorf("the route says %+v", told)
			}
		})
	}
}

// An Envoy that has the name but not the certificate would let anybody in for it.
func TestAClientCertificateThatIsMissingReachesNoBackendWithAPolicy(t *testing.T) {
	out, does := tlsWorld(t, func(in *Input) { in.BackendTLSPolicies[key("a")] = policyOf("a") })
	if got := does("nameless"); got != "none" {
		t.Errorf("Envoy does %q", got)
	}
	for gateway, want := range map[string]string{"door": "True/ResolvedRefs", "nameless": "False/InvalidClientCertificateRef"} {
		for _, c := range out.Statuses.Gateways[key(gateway)].Conditions {
			if got := fmt.Sprintf("%s/%s", c.Status, c.Reason); c.Type == "ResolvedRefs" && got != want || c.Type == "Accepted" && got != "True/Accepted" {
				t.Errorf("Gateway %s: %s is %s (%s)", gateway, c.Type, got, c.Message)
			}
		}
	}
	if _, does := tlsWorld(t, func(*Input) {}); does("nameless") != "plain" || does("door") != "plain" {
		t.Errorf("a backend without a policy is shown a certificate, or waits for one: %s, %s", does("nameless"), does("door"))
	}
}

// The cases of the conformance test GatewayInvalidTLSBackendConfiguration.
func TestAClientCertificateRefThatIsWrongIsTold(t *testing.T) {
	for _, c := range []struct {
		name   string
		ref    gwv1.SecretObjectReference
		reason string
	}{
		{"no such Secret", gwv1.SecretObjectReference{Name: "nonexistent"}, "InvalidClientCertificateRef"},
		{"another group", gwv1.SecretObjectReference{Group: ptr(gwv1.Group("wrong.group.company.io")), Name: "client"}, "InvalidClientCertificateRef"},
		{"another kind", gwv1.SecretObjectReference{Kind: ptr(gwv1.Kind("WrongKind")), Name: "client"}, "InvalidClientCertificateRef"},
		{"malformed", gwv1.SecretObjectReference{Name: "malformed"}, "InvalidClientCertificateRef"},
		{"not permitted", gwv1.SecretObjectReference{Name: "client", Namespace: ptr(gwv1.Namespace("web"))}, "RefNotPermitted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, does := tlsWorld(t, func(in *Input) {
				in.BackendTLSPolicies[key("a")] = policyOf("a")
				in.Secrets[key("malformed")] = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "malformed"}}
				in.Gateways[key("door")].Spec.TLS.Backend.ClientCertificateRef = &c.ref
			})
			conditions := out.Statuses.Gateways[key("door")].Conditions
			if got := conditions[2]; got.Type != "ResolvedRefs" || got.Status != metav1.ConditionFalse || got.Reason != c.reason || !strings.Contains(got.Message, "spec.tls.backend.clientCertificateRef") {
				t.Errorf("%+v", got)
			}
			if got := conditions[0]; got.Status != metav1.ConditionTrue || got.Reason != "Accepted" {
				t.Errorf("%+v", got)
			}
			if got := does("door"); got != "none" {
				t.Errorf("Envoy does %q", got)
			}
		})
	}
}

func TestInAClusterAConfigMapIsReadOnlyWhereTheInstallationSaysSo(t *testing.T) {
	in := load(t, "testdata/backend-tls/in.yaml", epoch)
	in.Cluster = &Cluster{GatewayNamespaces: map[string]bool{"pay": true}, SecretNamespaces: map[string]bool{"vault": true}}
	s := state{in: *in}
	p := s.tlsPolicy(key("db-https"), in.BackendTLSPolicies[key("db-https")])
	if p.tls != nil || !strings.Contains(p.accepted.message, "add it to secretNamespaces of the installation") || p.resolved.reason != "InvalidCACertificateRef" {
		t.Errorf("%+v", p)
	}
	s.in.Cluster.SecretNamespaces["pay"] = true
	if p := s.tlsPolicy(key("db-https"), in.BackendTLSPolicies[key("db-https")]); p.tls == nil {
		t.Errorf("%+v", p)
	}
}

func TestOnlyCertificatesAreAuthorities(t *testing.T) {
	a, b := string(certificates[0].Data[corev1.TLSCertKey]), string(certificates[1].Data[corev1.TLSCertKey])
	private := string(certificates[0].Data[corev1.TLSPrivateKeyKey])
	for _, c := range []struct{ name, text, want, why string }{
		{"one", a, a, ""},
		{"two, with words around them", "# a\n" + a + "\n# b\r\n" + b + "\n# end\n", a + b, ""},
		{"nothing", "", "", "there is no certificate"},
		{"words", "trust me", "", "there is no certificate"},
		{"a private key too", a + private, "", "there is a PRIVATE KEY"},
		{"a CRL", string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("x")})), "", "there is a X509 CRL"},
		{"no certificate within", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), "", "a certificate cannot be read"},
		{"the first is damaged", strings.Replace(a, "MII", "*", 1) + b, "", "is damaged"},
		{"the last is cut off", a + b[:len(b)/2], "", "is damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := readAuthorities(c.text)
			if got != c.want || (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
				t.Errorf("%q, %v", got, err)
			}
			if err != nil && strings.Contains(err.Error(), "MHc") {
				t.Error("it quotes a key")
			}
		})
	}
}

// A route that goes takes its Gateway from the policy's status, and one Gateway's
// status follows another's without their being asked again.
func TestAPolicyHasAnAncestorForEachGatewayThatReachesItsService(t *testing.T) {
	in := load(t, "testdata/backend-tls/in.yaml", epoch)
	var tr Translator
	ancestors := func() string {
		var names []string
		for _, a := range tr.Translate(*in).Statuses.BackendTLSPolicies[key("db-https")].Ancestors {
			names = append(names, string(a.AncestorRef.Name))
		}
		return strings.Join(names, " ")
	}
	route := func(change func(*gwv1.HTTPRoute)) {
		in.HTTPRoutes = maps.Clone(in.HTTPRoutes)
		r := in.HTTPRoutes[key("db")].DeepCopy()
		change(r)
		in.HTTPRoutes[key("db")] = r
	}
	late := in.HTTPRoutes
	in.HTTPRoutes = nil
	if got := ancestors(); got != "" {
		t.Errorf("reached by %q", got)
	}
	in.HTTPRoutes = late
	if got := ancestors(); got != "door nameless" {
		t.Errorf("reached by %q", got)
	}
	route(func(r *gwv1.HTTPRoute) { r.Spec.ParentRefs = r.Spec.ParentRefs[:1] })
	if got := ancestors(); got != "door" {
		t.Errorf("reached by %q", got)
	}
	route(func(r *gwv1.HTTPRoute) { r.Spec.Rules = slices.Clone(r.Spec.Rules[3:]) })
	if got := ancestors(); got != "" {
		t.Errorf("reached by %q", got)
	}
}

// What was open before a client certificate came, went or was renewed is spoken to
// with what there is now.
func TestAClientCertificateThatComesAndGoesIsFollowed(t *testing.T) {
	in := load(t, "testdata/backend-tls/in.yaml", epoch)
	settle(t, in, nil) // so that it is on record as open
	var tr Translator
	client := in.Secrets[key("client")]
	renewed := client.DeepCopy()
	renewed.Data = certificates[0].Data
	saw := map[string]bool{}
	for _, now := range []*corev1.Secret{client, nil, renewed, client, nil} {
		in.Secrets = map[types.NamespacedName]*corev1.Secret{}
		if now != nil {
			in.Secrets[key("client")] = now
		}
		got := tr.Translate(*in)
		if d := difference(got, Translate(*in)); d != "" {
			t.Fatalf("with memory: %s", d)
		}
		saw[towards(t, got, "door", in.Records[key("inc-1")].Targets["HTTPRoute/db"].Openings["#0"])] = true
	}
	if len(saw) != 2 || !saw["none"] {
		t.Errorf("Envoy did %v: the test proves nothing", saw)
	}
}

// In a directory a target that is misspelt is a backend in plain text: somebody is to
// be told.
func TestATLSPolicyThatDoesNotCountIsToldOfWithoutACluster(t *testing.T) {
	for _, c := range []struct {
		name       string
		policies   []*gwv1.BackendTLSPolicy
		field, why string
	}{
		{"met", []*gwv1.BackendTLSPolicy{policyOf("b")}, "", ""},
		{"another Service", []*gwv1.BackendTLSPolicy{policyOf("b", func(p *gwv1.BackendTLSPolicy) { p.Spec.TargetRefs[0].Name = "bd" })}, "spec.targetRefs", "names no Service that an accepted route reaches"},
		{"another port", []*gwv1.BackendTLSPolicy{policyOf("b", port("htps"))}, "spec.targetRefs", `has no port named "htps"`},
		{"a conflict", []*gwv1.BackendTLSPolicy{policyOf("a"), policyOf("b")}, "spec.targetRefs", "BackendTLSPolicy pay/a"},
		{"no authority", []*gwv1.BackendTLSPolicy{policyOf("b", authorities(gwv1.LocalObjectReference{Kind: "ConfigMap", Name: "nope"}))}, "spec.validation", "ConfigMap pay/nope does not exist"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var objects Objects
			out, _ := tlsWorld(t, func(in *Input) {
				for _, p := range c.policies {
					in.BackendTLSPolicies[key(p.Name)] = p
				}
				objects = in.Objects
			})
			var field, why string
			for _, u := range FindUnserved(objects, out) {
				if u.Kind == "BackendTLSPolicy" && u.Key == key("b") {
					field, why = u.Field, u.Message
				}
			}
			if field != c.field || !strings.Contains(why, c.why) || why == "" != (c.why == "") {
				t.Errorf("%s: %s", field, why)
			}
		})
	}
}
