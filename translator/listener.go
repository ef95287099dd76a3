package translator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
)

// listener is a Listener of a Gateway of ours.
type listener struct {
	gateway  *gateway
	set      *listenerSet // that it is of; nil: of the Gateway itself
	spec     *gwv1.Listener
	hostname string // lower case; "" for all
	// rank of the object that it is of: where two objects want one place, that of the
	// lower rank has it. 0 is the Gateway itself.
	rank                           int
	secrets                        []secret
	clients                        *clients // nil: none needs a certificate
	attached                       int32
	accepted, conflicted, resolved condition
	supported                      []gwv1.RouteGroupKind
}

type secret struct {
	name      string
	cert, key []byte
}

func (l *listener) tls() bool { return l.spec.Protocol == gwv1.HTTPSProtocolType }

// serving reports whether the listener takes part in the configuration.
func (l *listener) serving() bool {
	return l.gateway.accepted.ok() && l.accepted.ok() && !l.conflicted.ok() && (!l.tls() || len(l.secrets) > 0) && (l.clients == nil || l.clients.authorities != "")
}

// chain is the filter chain that serves the listener. Plain HTTP listeners of a
// port share one, because nothing tells them apart before the Host header.
func (l *listener) chain() string {
	switch {
	case l.tls() && l.set != nil: // names are those of one object
		return fmt.Sprintf("https-%d-%s/%s", l.spec.Port, l.set.key, l.spec.Name)
	case l.tls():
		return fmt.Sprintf("https-%d-%s", l.spec.Port, l.spec.Name)
	}
	return fmt.Sprintf("http-%d", l.spec.Port)
}

const (
	accepted   = string(gwv1.ListenerConditionAccepted)
	conflicted = string(gwv1.ListenerConditionConflicted)
	resolved   = string(gwv1.ListenerConditionResolvedRefs)
)

// home is the namespace of the object that the listener is of, and kind its kind.
func (l *listener) home() string {
	if l.set != nil {
		return l.set.key.Namespace
	}
	return l.gateway.key.Namespace
}

func (l *listener) kind() string {
	if l.set != nil {
		return "ListenerSet"
	}
	return "Gateway"
}

// generation of the object that the listener is of.
func (l *listener) generation() int64 {
	if l.set != nil {
		return l.set.obj.Generation
	}
	return l.gateway.obj.Generation
}

// makeListeners of a Gateway, and of its sets that are allowed, in the order in which
// they win.
func (g *gateway) makeListeners() {
	for i := range g.obj.Spec.Listeners {
		g.listeners = append(g.listeners, &listener{gateway: g, spec: &g.obj.Spec.Listeners[i]})
	}
	for i, set := range g.sets {
		if set.refused != "" {
			continue
		}
		for _, spec := range set.entries() {
			l := &listener{gateway: g, set: set, rank: i + 1, spec: &spec}
			set.listeners, g.listeners = append(set.listeners, l), append(g.listeners, l)
		}
	}
}

func (s *state) resolveListeners(g *gateway, taken map[string]*gateway) {
	g.makeListeners()
	for _, l := range g.listeners {
		if h := l.spec.Hostname; h != nil {
			l.hostname = strings.ToLower(string(*h))
		}
		l.accepted = yes(accepted, string(gwv1.ListenerReasonAccepted))
		l.conflicted = no(conflicted, string(gwv1.ListenerReasonNoConflicts), "")
		l.resolved = yes(resolved, string(gwv1.ListenerReasonResolvedRefs))
		s.checkProtocol(l)
		l.checkKinds()
		if l.tls() {
			s.resolveCertificates(l)
			s.resolveClients(l)
		}
	}
	conflicts(g.listeners)
	if s.in.Cluster != nil {
		g.bindings()
		return // each has pods of its own
	}
	for _, l := range g.listeners {
		for _, a := range g.addresses {
			at := fmt.Sprintf("%s:%d", a, l.spec.Port)
			if other := taken[at]; other != nil && other != g && l.accepted.ok() {
				l.accepted = no(accepted, string(gwv1.ListenerReasonPortUnavailable), fmt.Sprintf("%s is taken by Gateway %s", at, other.key))
			} else if l.serving() {
				taken[at] = g
			}
		}
	}
}

func (s *state) checkProtocol(l *listener) {
	switch l.spec.Protocol {
	case gwv1.HTTPProtocolType:
		if p := l.gateway.class.policy; p != nil && !p.obj.Spec.Scope.AllowPlainHTTP && !l.gateway.loopback() {
			l.accepted = no(accepted, "PlainHTTPNotAllowed", fmt.Sprintf("protocol HTTP on an address that is not loopback would send tokens in the clear: "+
				"use HTTPS, or set scope.allowPlainHTTP in EmergencyPolicy %s", p.obj.Name))
		}
	case gwv1.HTTPSProtocolType:
	default:
		l.accepted = no(accepted, string(gwv1.ListenerReasonUnsupportedProtocol), fmt.Sprintf("protocol %s cannot carry an identity: use HTTPS", l.spec.Protocol))
	}
}

// carriesHTTP reports whether the protocol is one that we serve.
func (l *listener) carriesHTTP() bool {
	return l.spec.Protocol == gwv1.HTTPProtocolType || l.spec.Protocol == gwv1.HTTPSProtocolType
}

// checkKinds keeps the route kinds that the listener allows and we serve.
func (l *listener) checkKinds() {
	l.supported = []gwv1.RouteGroupKind{}
	if !l.carriesHTTP() {
		return
	}
	for _, kind := range routeKinds {
		l.supported = append(l.supported, gwv1.RouteGroupKind{Group: ptr(gwv1.Group(gwv1.GroupName)), Kind: kind})
	}
	if l.spec.AllowedRoutes == nil || len(l.spec.AllowedRoutes.Kinds) == 0 {
		return
	}
	all := l.supported
	l.supported = []gwv1.RouteGroupKind{}
	for _, k := range l.spec.AllowedRoutes.Kinds {
		i := slices.IndexFunc(all, func(o gwv1.RouteGroupKind) bool {
			return k.Kind == o.Kind && (k.Group == nil || *k.Group == *o.Group)
		})
		switch {
		case i < 0:
			l.resolved = no(resolved, string(gwv1.ListenerReasonInvalidRouteKinds), fmt.Sprintf("allowedRoutes.kinds: %s is not supported here: only HTTPRoute and GRPCRoute are", k.Kind))
		case !l.supports(k.Kind):
			l.supported = append(l.supported, all[i])
		}
	}
}

// routeKinds are the kinds of routes that a listener takes.
var routeKinds = []gwv1.Kind{v1alpha1.KindHTTPRoute, v1alpha1.KindGRPCRoute}

func (l *listener) supports(kind gwv1.Kind) bool {
	return slices.ContainsFunc(l.supported, func(k gwv1.RouteGroupKind) bool { return k.Kind == kind })
}

func (s *state) resolveCertificates(l *listener) {
	if t := l.spec.TLS; t == nil || t.Mode != nil && *t.Mode != gwv1.TLSModeTerminate || len(t.CertificateRefs) == 0 {
		l.accepted = no(accepted, string(gwv1.ListenerReasonUnsupportedValue), "tls: only mode Terminate with certificateRefs is supported: what is passed through cannot be checked for a token")
		return
	}
	for i, ref := range l.spec.TLS.CertificateRefs {
		sec, reason, err := s.certificate(l, ref)
		if err != nil {
			l.unresolved(reason, fmt.Sprintf("tls.certificateRefs[%d]: %v", i, err))
			continue
		}
		l.secrets = append(l.secrets, sec)
	}
}

func (s *state) certificate(l *listener, ref gwv1.SecretObjectReference) (secret, gwv1.ListenerConditionReason, error) {
	invalid := gwv1.ListenerReasonInvalidCertificateRef
	if ref.Group != nil && *ref.Group != "" || ref.Kind != nil && *ref.Kind != "Secret" {
		return secret{}, invalid, fmt.Errorf("only a core Secret can be named")
	}
	key := Named(l.home(), ref.Namespace, ref.Name)
	if key.Namespace != l.home() && !s.granted(reference{
		fromKind: l.kind(), fromNamespace: l.home(), toGroup: "", toKind: "Secret", to: key,
	}) {
		return secret{}, gwv1.ListenerReasonRefNotPermitted, fmt.Errorf("Secret %s is in another namespace and no ReferenceGrant there permits it", key)
	}
	if why := s.unread("Secrets", key.Namespace); why != nil {
		return secret{}, invalid, why
	}
	obj := s.in.Secrets[key]
	if obj == nil {
		return secret{}, invalid, fmt.Errorf("Secret %s does not exist", key)
	}
	cert, private := obj.Data[corev1.TLSCertKey], obj.Data[corev1.TLSPrivateKeyKey]
	if err := checkPair(cert, private); err != nil {
		return secret{}, invalid, fmt.Errorf("Secret %s: tls.crt and tls.key are not a usable pair: %w", key, err)
	}
	return secret{name: "tls/" + key.String(), cert: cert, key: private}, "", nil
}

// checkPair takes what Envoy takes: Go takes more.
func checkPair(cert, private []byte) error {
	pair, err := tls.X509KeyPair(cert, private)
	if err != nil {
		return err
	}
	switch k := pair.PrivateKey.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < 2048 {
			return fmt.Errorf("the RSA key has %d bits: use at least 2048", k.N.BitLen())
		}
	case *ecdsa.PrivateKey:
		if c := k.Curve; c != elliptic.P256() && c != elliptic.P384() && c != elliptic.P521() {
			return fmt.Errorf("the curve %s is not supported: use P-256, P-384 or P-521", c.Params().Name)
		}
	default:
		return fmt.Errorf("keys of type %T are not supported: use RSA or ECDSA", k)
	}
	return nil
}

// chains groups the serving listeners of a Gateway into Envoy listeners.
func (g *gateway) chains() map[int32][]lock.Chain {
	out := map[int32][]lock.Chain{}
	for _, l := range g.listeners {
		if !l.serving() {
			continue
		}
		c := lock.Chain{Name: l.chain(), Hostname: l.hostname}
		for _, sec := range l.secrets {
			c.Secrets = append(c.Secrets, sec.name)
		}
		if l.clients != nil {
			c.Clients = &l.clients.Clients
		}
		port := int32(l.spec.Port)
		if !slices.ContainsFunc(out[port], func(o lock.Chain) bool { return o.Name == c.Name }) {
			out[port] = append(out[port], c)
		}
	}
	return out
}

func ptr[T any](v T) *T { return &v }
