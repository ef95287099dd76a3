package translator

import (
	"fmt"
	"slices"
	"strings"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
)

// clients is what a listener wants of the certificates of its clients.
type clients struct {
	lock.Clients
	authorities string // PEM
}

// FrontendValidation is what a Gateway wants of clients of its HTTPS listeners on a port,
// nil for nothing, and the field that says so. What is said of the port takes the place
// of the default as a whole.
func FrontendValidation(g *gwv1.Gateway, port gwv1.PortNumber) (v *gwv1.FrontendTLSValidation, field string) {
	if g.Spec.TLS == nil || g.Spec.TLS.Frontend == nil {
		return nil, ""
	}
	f := g.Spec.TLS.Frontend
	for i := range f.PerPort {
		if f.PerPort[i].Port == port {
			return f.PerPort[i].TLS.Validation, fmt.Sprintf("spec.tls.frontend.perPort[%d].tls.validation", i)
		}
	}
	return f.Default.Validation, "spec.tls.frontend.default.validation"
}

// FrontendValidations are all that a Gateway says about certificates of clients, of
// whatever port.
func FrontendValidations(g *gwv1.Gateway) (out []*gwv1.FrontendTLSValidation) {
	if g.Spec.TLS == nil || g.Spec.TLS.Frontend == nil {
		return nil
	}
	f := g.Spec.TLS.Frontend
	if f.Default.Validation != nil {
		out = append(out, f.Default.Validation)
	}
	for _, p := range f.PerPort {
		if p.TLS.Validation != nil {
			out = append(out, p.TLS.Validation)
		}
	}
	return out
}

// insecureFrontend reports whether clients of some port need no certificate in spite
// of authorities that are named for them.
func (g *gateway) insecureFrontend() bool {
	return slices.ContainsFunc(FrontendValidations(g.obj), func(v *gwv1.FrontendTLSValidation) bool { return v.Mode == gwv1.AllowInsecureFallback })
}

// resolveClients finds the authorities of the clients of an HTTPS listener. Those
// that cannot be found are trusted by nobody; without any the listener is not served.
func (s *state) resolveClients(l *listener) {
	v, field := FrontendValidation(l.gateway.obj, l.spec.Port)
	if v == nil {
		return
	}
	l.clients = &clients{Clients: lock.Clients{
		Authorities: fmt.Sprintf("client-ca/%d", l.spec.Port),
		Anyone:      v.Mode == gwv1.AllowInsecureFallback,
	}}
	var found, wrong []string
	for i, ref := range v.CACertificateRefs {
		ca, reason, err := s.clientAuthority(l.gateway, ref)
		if err == nil {
			found = append(found, ca)
			continue
		}
		wrong = append(wrong, fmt.Sprintf("%s.caCertificateRefs[%d]: %v", field, i, err))
		l.unresolved(reason, wrong[len(wrong)-1])
	}
	if l.clients.authorities = strings.Join(found, ""); l.clients.authorities == "" {
		l.accepted = no(accepted, string(gwv1.ListenerReasonNoValidCACertificate),
			"no client could show a certificate that is trusted, so that nobody is let in: "+strings.Join(append(wrong, field+".caCertificateRefs names no authority")[:1], ""))
	}
}

// unresolved notes a reference of l that leads nowhere. The reason is that of the first.
func (l *listener) unresolved(reason gwv1.ListenerConditionReason, message string) {
	if l.resolved.ok() {
		l.resolved = no(resolved, string(reason), message)
		return
	}
	l.resolved.message += "; " + message
}

func (s *state) clientAuthority(g *gateway, ref gwv1.ObjectReference) (string, gwv1.ListenerConditionReason, error) {
	if ref.Group != "" || ref.Kind != "ConfigMap" {
		return "", gwv1.ListenerReasonInvalidCACertificateKind, noAuthorities(ref.Kind)
	}
	key := Named(g.key.Namespace, ref.Namespace, ref.Name)
	if key.Namespace != g.key.Namespace && !s.granted(reference{fromKind: "Gateway", fromNamespace: g.key.Namespace, toKind: "ConfigMap", to: key}) {
		return "", gwv1.ListenerReasonRefNotPermitted, fmt.Errorf("ConfigMap %s is in another namespace and no ReferenceGrant there permits it", key)
	}
	ca, err := s.authorities(key)
	return ca, gwv1.ListenerReasonInvalidCACertificateRef, err // the reason counts with an error only
}
