package lint

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/internal/posture"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// soon is when a certificate's end is worth a warning.
const soon = 30 * 24 * time.Hour

var gatewayRules = []Rule{
	{ID: "BG050", Name: "routes-from-all", Severity: Warning, Summary: "A listener takes routes of every namespace: whoever may write an HTTPRoute anywhere has a place in the emergency door.",
		Remedy: "use from: Selector with a label that reviewers give, or from: Same", check: eachListener(routesFromAll)},
	{ID: "BG051", Name: "listener-without-hostname", Severity: Info, Summary: "A listener has no hostname, so that routes decide alone which names the emergency door answers to.",
		Remedy: "set hostname, for example *.emergency.example.com", check: eachListener(withoutHostname)},
	{ID: "BG052", Name: "plain-http", Severity: Error, Summary: "A listener speaks plain HTTP on an address that is not loopback: tokens cross the network in the clear.",
		Remedy: "use HTTPS, or bind it to loopback and come in over ssh", check: eachListener(plainHTTP)},
	{ID: "BG053", Name: "every-interface", Severity: Warning, Summary: "A Gateway is bound to every interface of its host.",
		Remedy: "name the address of the management network", check: eachGateway(everyInterface)},
	{ID: "BG054", Name: "certificate-expires", Severity: Warning, Summary: "A certificate of a listener ends within 30 days, or has ended (error).",
		Remedy: "renew it: on the day nobody will have the time", check: eachListener(certificateExpires)},
	{ID: "BG055", Name: "wide-reference-grant", Severity: Warning, Summary: "A ReferenceGrant lets another namespace use every Secret or Service of its own.",
		Remedy: "name the object in spec.to[].name", check: wideReferenceGrant},
	{ID: "BG056", Name: "any-client-certificate", Severity: Warning, Summary: "A Gateway asks its clients for certificates and takes any, and none.",
		Remedy: "set mode: AllowValidOnly, or do not ask", check: eachGateway(anyClientCertificate)},
}

func gatewayKey(g *posture.Gateway) source.ObjectKey { return objectKey("Gateway", g.Key) }

func eachGateway(check func(*run, *posture.Gateway)) func(*run) {
	return func(r *run) {
		for _, g := range r.Gateways {
			check(r, g)
		}
	}
}

func eachListener(check func(r *run, g *posture.Gateway, l *posture.Listener)) func(*run) {
	return eachGateway(func(r *run, g *posture.Gateway) {
		for _, l := range g.Listeners {
			check(r, g, l)
		}
	})
}

func listenerKey(l *posture.Listener) source.ObjectKey { return objectKey(l.Kind, l.Key) }

func routesFromAll(r *run, _ *posture.Gateway, l *posture.Listener) {
	if a := l.AllowedRoutes; a != nil && a.Namespaces != nil && a.Namespaces.From != nil && *a.Namespaces.From == gwv1.NamespacesFromAll {
		r.add(listenerKey(l), l.Field+".allowedRoutes.namespaces.from", "listener %s takes routes from all namespaces", l.Name)
	}
}

func withoutHostname(r *run, _ *posture.Gateway, l *posture.Listener) {
	if l.Hostname == nil || *l.Hostname == "" {
		r.add(listenerKey(l), l.Field, "listener %s has no hostname", l.Name)
	}
}

func plainHTTP(r *run, g *posture.Gateway, l *posture.Listener) {
	if l.Protocol == gwv1.HTTPProtocolType && !g.Loopback() {
		r.add(listenerKey(l), l.Field+".protocol", "listener %s sends tokens in the clear", l.Name)
	}
}

func everyInterface(r *run, g *posture.Gateway) {
	for i, a := range g.Addresses {
		if a.IsUnspecified() {
			r.add(gatewayKey(g), fmt.Sprintf("spec.addresses[%d]", i), "%s is every address of the host", a)
		}
	}
}

func anyClientCertificate(r *run, g *posture.Gateway) {
	for _, v := range translator.FrontendValidations(g.Object) {
		if v.Mode == gwv1.AllowInsecureFallback {
			r.add(gatewayKey(g), "spec.tls.frontend", "mode AllowInsecureFallback lets in clients with any certificate and with none: what it asks for proves nothing")
			return
		}
	}
}

func certificateExpires(r *run, _ *posture.Gateway, l *posture.Listener) {
	if l.TLS == nil {
		return
	}
	for _, ref := range l.TLS.CertificateRefs {
		key := types.NamespacedName{Namespace: l.Key.Namespace, Name: string(ref.Name)}
		if ref.Namespace != nil {
			key.Namespace = string(*ref.Namespace)
		}
		obj := r.Objects.Secrets[key]
		if obj == nil {
			continue // not in a reviewed repository, rightly
		}
		block, _ := pem.Decode(obj.Data[corev1.TLSCertKey])
		if block == nil {
			continue // told by BG002
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue // likewise
		}
		end := cert.NotAfter.UTC().Format(time.RFC3339)
		switch {
		case !r.At.Before(cert.NotAfter):
			r.addAs(Error, objectKey("Secret", key), "", "the certificate of listener %s of %s ended at %s", l.Name, listenerKey(l), end)
		case r.At.Before(cert.NotBefore):
			r.addAs(Error, objectKey("Secret", key), "", "the certificate of listener %s of %s begins only at %s", l.Name, listenerKey(l), cert.NotBefore.UTC().Format(time.RFC3339))
		case cert.NotAfter.Sub(r.At) < soon:
			r.add(objectKey("Secret", key), "", "the certificate of listener %s of %s ends at %s", l.Name, listenerKey(l), end)
		}
	}
}

func wideReferenceGrant(r *run) {
	for _, key := range posture.SortedKeys(r.Objects.ReferenceGrants) {
		grant := r.Objects.ReferenceGrants[key]
		for i, to := range grant.Spec.To {
			if to.Name != nil {
				continue
			}
			for _, from := range grant.Spec.From {
				r.add(objectKey("ReferenceGrant", key), fmt.Sprintf("spec.to[%d]", i), "%ss of namespace %s may use every %s of namespace %s", from.Kind, from.Namespace, to.Kind, key.Namespace)
			}
		}
	}
}
