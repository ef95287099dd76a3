package translator

import (
	"fmt"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
)

// clientCertificate is what a Gateway shows to backends that it speaks TLS to.
type clientCertificate struct {
	secret
	// reason and message say why there is none although one is named.
	reason, message string
}

// resolveClientCertificate finds what spec.tls.backend names.
func (s *state) resolveClientCertificate(g *gateway) {
	if t := g.obj.Spec.TLS; t == nil || t.Backend == nil || t.Backend.ClientCertificateRef == nil {
		return
	}
	sec, reason, err := s.certificate(&listener{gateway: g}, *g.obj.Spec.TLS.Backend.ClientCertificateRef)
	switch {
	case err == nil:
		g.client.secret = sec
		return
	case reason != gwv1.ListenerReasonRefNotPermitted:
		reason = gwv1.ListenerConditionReason(gwv1.GatewayReasonInvalidClientCertificateRef)
	}
	g.client.reason = string(reason)
	g.client.message = fmt.Sprintf("backends with a BackendTLSPolicy answer 503: spec.tls.backend.clientCertificateRef: %v", err)
}

// missing reports whether a certificate is named and there is none.
func (c *clientCertificate) missing() bool { return c.reason != "" }

// toward is a backend as this Gateway reaches it. Without the certificate that it is
// to show it reaches none that has a BackendTLSPolicy: one that asks for a
// certificate only if there is one would take it for somebody else.
func (g *gateway) toward(b lock.Backend) lock.Backend {
	if b.TLS == nil {
		return b
	}
	tls := *b.TLS
	if b.TLS = &tls; g.client.missing() {
		b.Endpoints = nil
	}
	tls.ClientSecret = g.client.name
	return b
}

// refs is the condition of all references of a Gateway. Those of its ListenerSets are
// told there: others may write them.
func (g *gateway) refs() condition {
	kind := string(gwv1.GatewayConditionResolvedRefs)
	if g.client.missing() {
		return no(kind, g.client.reason, g.client.message)
	}
	for _, l := range g.listeners {
		if l.set == nil && !l.resolved.ok() {
			return no(kind, string(gwv1.GatewayReasonListenersNotResolved), fmt.Sprintf("listener %s: %s", l.spec.Name, l.resolved.message))
		}
	}
	return yes(kind, string(gwv1.GatewayReasonResolvedRefs))
}
