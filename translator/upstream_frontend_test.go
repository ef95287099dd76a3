package translator

import (
	"fmt"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// authority is a certificate, as text.
func authority(name string) string { return string(testCertificate(name).Data["tls.crt"]) }

func authoritiesYAML(namespace, name, text string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: %s}\ndata:\n  ca.crt: |\n%s---\n", name, namespace, indent([]byte(text)))
}

func withFrontend(gateway, frontend string) string {
	return strings.Replace(gateway, "  gatewayClassName: emergency\n", "  gatewayClassName: emergency\n  tls: {frontend: "+frontend+"}\n", 1)
}

func validation(refs string) string { return "{validation: {caCertificateRefs: [" + refs + "]}}" }

func configMap(name string) string { return "{group: '', kind: ConfigMap, name: " + name + "}" }

// asksFor is what the chain of a listener asks of certificates of clients: who signs
// them, and whether anybody is let in; nil for nothing.
func asksFor(t *testing.T, out *Result, gateway string, port int32, sni string) (authorities string, anyone bool, asks bool) {
	t.Helper()
	snap := out.Gateways[inInfra(gateway)].Snapshot
	chain := chainFor(t, snap, port, sni)
	if chain == "" {
		t.Fatalf("port %d of %s does not listen for %s", port, gateway, sni)
	}
	l := mustUnpack(t, snap.Get(snapshot.Key{Type: snapshot.Listener, Name: lock.ListenerName(port)}).Body, &listenerv3.Listener{})
	for _, fc := range l.GetFilterChains() {
		if fc.GetName() != chain || fc.GetTransportSocket() == nil {
			continue
		}
		down := mustUnpack(t, fc.GetTransportSocket().GetTypedConfig(), &tlsv3.DownstreamTlsContext{})
		v := down.GetCommonTlsContext().GetCombinedValidationContext()
		if v == nil {
			if down.GetCommonTlsContext().GetValidationContextType() != nil || down.GetRequireClientCertificate().GetValue() {
				t.Fatalf("a certificate without authorities: %v", down)
			}
			return "", false, false
		}
		if !down.GetDisableStatelessSessionResumption() || !down.GetDisableStatefulSessionResumption() {
			t.Error("who comes again is not asked again")
		}
		untrusted := v.GetDefaultValidationContext().GetTrustChainVerification() == tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED
		if anyone = !down.GetRequireClientCertificate().GetValue(); anyone != untrusted {
			t.Errorf("required %t, untrusted %t", !anyone, untrusted)
		}
		secret := snap.Get(snapshot.Key{Type: snapshot.Secret, Name: v.GetValidationContextSdsSecretConfig().GetName()})
		if secret == nil {
			t.Fatalf("nobody has secret %s", v.GetValidationContextSdsSecretConfig().GetName())
		}
		trusted := mustUnpack(t, secret.Body, &tlsv3.Secret{}).GetValidationContext()
		if trusted.GetTrustChainVerification() != tlsv3.CertificateValidationContext_VERIFY_TRUST_CHAIN || trusted.GetTrustedCa().GetInlineString() == "" {
			t.Errorf("the secret trusts anybody: %v", trusted)
		}
		return trusted.GetTrustedCa().GetInlineString(), anyone, true
	}
	return "", false, false
}

// GatewayFrontendClientCertificateValidation and its InsecureFallback: perPort takes the
// place of the default.
func TestUpstreamClientsShowACertificateOfTheAuthoritiesOfTheirPort(t *testing.T) {
	one, two := authority("one"), authority("two")
	listeners := []string{
		"{name: https, port: 443, " + tlsOptions + "}", "{name: other, port: 443, hostname: other.org, " + tlsOptions + "}", "{name: open, port: 9443, " + tlsOptions + "}",
		"{name: https-with-hostname, port: 8443, hostname: second-example.org, " + tlsOptions + "}", "{name: http, port: 80, protocol: HTTP}",
	}
	manifests := func(mode string) string {
		v := func(name string) string {
			return "{validation: {mode: " + mode + ", caCertificateRefs: [" + configMap(name) + "]}}"
		}
		return certificateYAML(infra, "cert") + authoritiesYAML(infra, "one", one) + authoritiesYAML(infra, "two", two) +
			withFrontend(gatewayYAML("gw", listeners...), "{default: "+v("one")+", perPort: [{port: 8443, tls: "+v("two")+"}, {port: 9443, tls: {}}, {port: 80, tls: "+v("two")+"}]}") +
			routeYAML("r", "[{name: gw}]", "", "/")
	}
	for _, mode := range []string{"AllowValidOnly", "AllowInsecureFallback"} {
		t.Run(mode, func(t *testing.T) {
			insecure := mode == "AllowInsecureFallback"
			out := upstream(t, manifests(mode))
			for _, c := range []struct {
				port int32
				sni  string
				want string
			}{{443, "example.org", one}, {443, "other.org", one}, {8443, "second-example.org", two}} {
				if got, anyone, asks := asksFor(t, out, "gw", c.port, c.sni); !asks || got != c.want || anyone != insecure {
					t.Errorf("port %d, SNI %s: asks %t, anyone %t, the right authority %t", c.port, c.sni, asks, anyone, got == c.want)
				}
			}
			for _, port := range []int32{9443, 80} {
				if _, _, asks := asksFor(t, out, "gw", port, "example.org"); asks {
					t.Errorf("port %d asks for a certificate", port)
				}
			}
			for _, l := range []string{"https", "other", "open", "https-with-hostname", "http"} {
				c, _ := conditionsOf(t, out, "gw", l)
				wantConditions(t, c, "Accepted True Accepted, ResolvedRefs True ResolvedRefs, Programmed True Programmed")
			}
			got := conditionMap(out.Statuses.Gateways[inInfra("gw")].Conditions)
			if want := map[bool]string{true: "True ConfigurationChanged"}[insecure]; got["InsecureFrontendValidationMode"] != want {
				t.Errorf("InsecureFrontendValidationMode is %q, want %q", got["InsecureFrontendValidationMode"], want)
			}
		})
	}
}

// GatewayInvalidFrontendClientCertificateValidation and
// GatewayFrontendInvalidDefaultClientCertificateValidation: HTTPS listeners of the port
// let nobody in, and nothing else is touched.
func TestUpstreamAuthoritiesThatCannotBeFoundLetNobodyIn(t *testing.T) {
	good := authority("good")
	foreign := "{group: '', kind: ConfigMap, name: ca, namespace: web}"
	grant := "apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: grant, namespace: web}\n" +
		"spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: INFRA}], to: [{group: '', kind: %s}]}\n---\n"
	for _, c := range []struct {
		name, refs, more string
		resolved         string
		served           bool
	}{
		{name: "no such ConfigMap", refs: configMap("nope"), resolved: "False InvalidCACertificateRef"},
		{name: "another kind", refs: "{group: '', kind: Service, name: backend}", resolved: "False InvalidCACertificateKind"},
		{name: "a Secret", refs: "{group: '', kind: Secret, name: cert}", resolved: "False InvalidCACertificateKind"},
		{name: "another group", refs: "{group: x.io, kind: ConfigMap, name: good}", resolved: "False InvalidCACertificateKind"},
		{name: "another namespace", refs: foreign, more: authoritiesYAML("web", "ca", good), resolved: "False RefNotPermitted"},
		{name: "another namespace, a grant for Secrets", refs: foreign, more: authoritiesYAML("web", "ca", good) + fmt.Sprintf(grant, "Secret"), resolved: "False RefNotPermitted"},
		{name: "another namespace, granted", refs: foreign, more: authoritiesYAML("web", "ca", good) + fmt.Sprintf(grant, "ConfigMap"), resolved: "True ResolvedRefs", served: true},
		{name: "an empty one", refs: configMap("empty"), more: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: empty, namespace: INFRA}\ndata: {ca.crt: ''}\n---\n", resolved: "False InvalidCACertificateRef"},
		{name: "another key", refs: configMap("key"), more: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: key, namespace: INFRA}\ndata: {tls.crt: x}\n---\n", resolved: "False InvalidCACertificateRef"},
		{name: "no certificate in it", refs: configMap("text"), more: authoritiesYAML(infra, "text", "hello\n"), resolved: "False InvalidCACertificateRef"},
		{name: "a damaged certificate", refs: configMap("damaged"), more: authoritiesYAML(infra, "damaged", strings.Replace(good, "MII", "XII", 1)), resolved: "False InvalidCACertificateRef"},
		{name: "a good one and a damaged one in it", refs: configMap("half"), more: authoritiesYAML(infra, "half", good+strings.Replace(good, "MII", "=II", 1)), resolved: "False InvalidCACertificateRef"},
		{name: "a private key", refs: configMap("private"), more: authoritiesYAML(infra, "private", good+string(testCertificate("x").Data["tls.key"])), resolved: "False InvalidCACertificateRef"},
		{name: "one of two", refs: configMap("nope") + ", " + configMap("good"), resolved: "False InvalidCACertificateRef", served: true},
		{name: "one", refs: configMap("good"), resolved: "True ResolvedRefs", served: true},
	} {
		for _, of := range []string{"default", "port"} {
			t.Run(c.name+", of the "+of, func(t *testing.T) {
				frontend := "{default: " + validation(c.refs) + ", perPort: [{port: 8443, tls: " + validation(configMap("good")) + "}]}"
				bad, other := "https", "https-8443"
				if of == "port" {
					frontend = "{default: " + validation(configMap("good")) + ", perPort: [{port: 8443, tls: " + validation(c.refs) + "}]}"
					bad, other = other, bad
				}
				out := upstream(t, certificateYAML(infra, "cert")+authoritiesYAML(infra, "good", good)+c.more+withFrontend(gatewayYAML("gw",
					"{name: https, port: 443, "+tlsOptions+"}", "{name: https-8443, port: 8443, "+tlsOptions+"}", "{name: http, port: 80, protocol: HTTP}"), frontend)+
					routeYAML("r", "[{name: gw}]", "", "/"))
				port := map[string]int32{"https": 443, "https-8443": 8443}
				got, _ := conditionsOf(t, out, "gw", bad)
				if c.served {
					wantConditions(t, got, "Accepted True Accepted, Programmed True Programmed, ResolvedRefs "+c.resolved)
					if ca, anyone, asks := asksFor(t, out, "gw", port[bad], ""); ca != good || anyone || !asks {
						t.Error("it does not ask for a certificate of the good authority")
					}
				} else {
					wantConditions(t, got, "Accepted False NoValidCACertificate, Programmed False Invalid, ResolvedRefs "+c.resolved)
					if got := answer(t, out, "gw", port[bad], "", "example.org", "/"); got != "no connection" {
						t.Errorf("somebody gets %s", got)
					}
				}
				for _, l := range []string{other, "http"} {
					got, _ := conditionsOf(t, out, "gw", l)
					wantConditions(t, got, "Accepted True Accepted, Programmed True Programmed, ResolvedRefs True ResolvedRefs")
				}
				if got := answer(t, out, "gw", 80, "", "example.org", "/"); got != "r" {
					t.Errorf("plain HTTP: %s", got)
				}
				wantConditions(t, conditionMap(out.Statuses.Gateways[inInfra("gw")].Conditions),
					map[bool]string{true: "Accepted True Accepted", false: "Accepted True ListenersNotValid"}[c.served]+", Programmed True Programmed")
			})
		}
	}
}

// In a cluster ConfigMaps are read where Secrets are, and nowhere else.
func TestAuthoritiesAreReadInListedNamespacesOnly(t *testing.T) {
	manifests := certificateYAML(infra, "cert") + authoritiesYAML(infra, "ca", authority("ca")) + "apiVersion: v1\nkind: Namespace\nmetadata: {name: INFRA, labels: {breakglass.dev/emergency-routes: allowed}}\n---\n" +
		withFrontend(gatewayYAML("gw", "{name: https, port: 443, "+tlsOptions+"}"), "{default: "+validation(configMap("ca"))+"}")
	for _, read := range []bool{false, true} {
		out := upstream(t, manifests, func(in *Input) {
			in.Gateways[inInfra("gw")].Spec.Addresses = nil
			in.Cluster = &Cluster{Cluster: activation.Cluster{}, GatewayNamespaces: map[string]bool{infra: true}, SecretNamespaces: map[string]bool{infra: read}}
		})
		got, l := conditionsOf(t, out, "gw", "https")
		if want := map[bool]string{true: "True Accepted", false: "False NoValidCACertificate"}[read]; got["Accepted"] != want {
			t.Errorf("read %t: Accepted is %s, want %s: %+v", read, got["Accepted"], want, l.Conditions)
		}
	}
}

// What is trusted changes in its own secret, and nothing else does; authorities that
// are gone take the listener along.
func TestAChangedAuthorityChangesItsSecretAlone(t *testing.T) {
	one, two := authority("one"), authority("two")
	var in Input
	upstream(t, certificateYAML(infra, "cert")+authoritiesYAML(infra, "ca", one)+
		withFrontend(gatewayYAML("gw", "{name: https, port: 443, "+tlsOptions+"}"), "{default: "+validation(configMap("ca"))+"}")+routeYAML("r", "[{name: gw}]", "", "/"),
		func(i *Input) { in = *i })
	var tr Translator
	before := tr.Translate(in)
	change := func(ca string) *Result {
		in.ConfigMaps = map[types.NamespacedName]*corev1.ConfigMap{}
		if ca != "" {
			in.ConfigMaps[inInfra("ca")] = &corev1.ConfigMap{Data: map[string]string{"ca.crt": ca}}
		}
		return tr.Translate(in)
	}
	after := change(two)
	for k := range after.Gateways[inInfra("gw")].Snapshot.Differences(before.Gateways[inInfra("gw")].Snapshot) {
		if k.Name != "client-ca/443" {
			t.Errorf("with the authority changed %v", k)
		}
	}
	if got, _, _ := asksFor(t, after, "gw", 443, ""); got != two {
		t.Error("the old authority is trusted")
	}
	if got := answer(t, change(""), "gw", 443, "", "example.org", "/"); got != "no connection" {
		t.Errorf("without authorities: %s", got)
	}
	if got := answer(t, change(one), "gw", 443, "", "example.org", "/"); got == "no connection" {
		t.Error("with the authority again nobody can connect")
	}
}

// A listener that is of nobody's port of the Gateway, as of another object, has the same authorities.
func TestClientsOfAPortAreOneWhoeverListens(t *testing.T) {
	g := &gateway{obj: &gwv1.Gateway{Spec: gwv1.GatewaySpec{TLS: &gwv1.GatewayTLSConfig{Frontend: &gwv1.FrontendTLSConfig{
		Default: gwv1.TLSConfig{Validation: &gwv1.FrontendTLSValidation{CACertificateRefs: []gwv1.ObjectReference{{Kind: "ConfigMap", Name: "nope"}}}},
	}}}}}
	l := &listener{gateway: g, spec: &gwv1.Listener{Protocol: gwv1.HTTPSProtocolType, Port: 4711}, accepted: yes("", ""), resolved: yes("", ""), secrets: []secret{{}}}
	g.accepted = yes("", "")
	new(state).resolveClients(l)
	if l.clients == nil || l.accepted.ok() || l.serving() {
		t.Errorf("%+v", l)
	}
}
