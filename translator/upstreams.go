package translator

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
)

// Upstreams says how backends are spoken to, for whoever reviews or exports manifests.
type Upstreams struct{ s state }

// NewUpstreams reads the BackendTLSPolicies of o.
func NewUpstreams(o Objects) *Upstreams {
	u := &Upstreams{state{in: Input{Objects: o}}}
	u.s.resolveTLSPolicies(func(types.NamespacedName) {})
	return u
}

// Winner is the policy that counts for a target: a Service, or, unless sectionName is
// "", its port of that name. It does not exist if there is none.
func (u *Upstreams) Winner(service types.NamespacedName, sectionName string) (policy types.NamespacedName, exists bool) {
	if p := u.s.winner(service, sectionName); p != nil {
		return p.key, true
	}
	return types.NamespacedName{}, false
}

// Describe says for people how a port of a Service is spoken to, and whether that is
// over TLS. An error: it is not.
func (u *Upstreams) Describe(svc *corev1.Service, port int32) (text string, secure bool, err error) {
	i := slices.IndexFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == port })
	if i < 0 {
		return "", false, fmt.Errorf("Service %s/%s has no port %d", svc.Namespace, svc.Name, port)
	}
	tls, err := u.s.upstreamTLS(svc, svc.Spec.Ports[i])
	switch {
	case err != nil:
		return "", false, err
	case tls == nil && needsTLS(svc.Spec.Ports[i]):
		return "", false, fmt.Errorf("appProtocol %s needs a BackendTLSPolicy", deref(svc.Spec.Ports[i].AppProtocol))
	case tls == nil:
		return "in plain text", false, nil
	}
	names := append(slices.Clone(tls.DNSNames), tls.URIs...)
	if len(names) == 0 {
		names = []string{tls.SNI}
	}
	return fmt.Sprintf("over TLS as %s, if it is %s by the word of authorities %s", tls.SNI, strings.Join(names, " or "), activation.Digest(tls.CA)), true, nil
}

// CheckAuthorities says what is wrong with a ca.crt.
func CheckAuthorities(text string) error {
	_, err := readAuthorities(text)
	return err
}
