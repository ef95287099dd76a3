package translator

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/internal/compare"
	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
)

// tlsPolicy is a BackendTLSPolicy that targets a Service.
type tlsPolicy struct {
	key types.NamespacedName
	obj *gwv1.BackendTLSPolicy
	// tls is nil while the policy cannot be met: what it targets is then reached by
	// nobody.
	tls *lock.UpstreamTLS
	// By itself, whatever other policies say.
	accepted, resolved condition
}

const (
	policyAccepted = string(gwv1.PolicyConditionAccepted)
	policyResolved = string(gwv1.BackendTLSPolicyConditionResolvedRefs)
)

// tlsPolicies are kept from one translation to the next.
type tlsPolicies struct {
	made bool
	// byService are those that target a Service or a port of it, in the order in
	// which they win.
	byService map[types.NamespacedName][]*tlsPolicy
	// look are the Services whose policies may have another status now, told what was
	// published: it is copied before a change.
	look map[types.NamespacedName]bool
	told map[types.NamespacedName]gwv1.PolicyStatus
}

// resolveTLSPolicies brings s.tls up to date, and calls touch with each Service of
// which a policy may say something else now.
func (s *state) resolveTLSPolicies(touch func(service types.NamespacedName)) {
	if s.tls.made && compare.Same(s.was.BackendTLSPolicies, s.in.BackendTLSPolicies) &&
		compare.Same(s.was.ConfigMaps, s.in.ConfigMaps) && s.was.Cluster.sameRules(s.in.Cluster) {
		return
	}
	old := s.tls.byService
	s.tls.made, s.tls.byService = true, map[types.NamespacedName][]*tlsPolicy{}
	for key, obj := range s.in.BackendTLSPolicies {
		p := s.tlsPolicy(key, obj)
		for _, svc := range p.services() {
			s.tls.byService[svc] = append(s.tls.byService[svc], p)
		}
	}
	for svc, ps := range s.tls.byService {
		slices.SortFunc(ps, (*tlsPolicy).before)
		if !slices.EqualFunc(old[svc], ps, (*tlsPolicy).same) {
			touch(svc)
		}
	}
	for svc := range old {
		if s.tls.byService[svc] == nil {
			touch(svc)
		}
	}
}

func (s *state) tlsPolicy(key types.NamespacedName, obj *gwv1.BackendTLSPolicy) *tlsPolicy {
	p := &tlsPolicy{key: key, obj: obj, accepted: yes(policyAccepted, string(gwv1.PolicyReasonAccepted)),
		resolved: yes(policyResolved, string(gwv1.BackendTLSPolicyReasonResolvedRefs))}
	ca := s.policyAuthorities(p)
	t, err := readValidation(&obj.Spec)
	if err != nil && p.accepted.ok() {
		p.accepted = no(policyAccepted, string(gwv1.PolicyReasonInvalid), err.Error())
	}
	if p.accepted.ok() {
		t.CA = ca
		p.tls = t
	}
	return p
}

// policyAuthorities are the certificates that the references of a policy lead to. What
// cannot be resolved is left out, and is told; if nothing is left the policy is not
// accepted.
func (s *state) policyAuthorities(p *tlsPolicy) string {
	var out, wrong []string
	for i, ref := range p.obj.Spec.Validation.CACertificateRefs {
		ca, reason, err := s.authority(p.key.Namespace, ref)
		if err == nil {
			out = append(out, ca)
			continue
		}
		if p.resolved.ok() {
			p.resolved = no(policyResolved, string(reason), "")
		}
		wrong = append(wrong, fmt.Sprintf("spec.validation.caCertificateRefs[%d]: %v", i, err))
	}
	p.resolved.message = strings.Join(wrong, "; ")
	if len(wrong) > 0 && len(out) == 0 {
		p.accepted = no(policyAccepted, string(gwv1.BackendTLSPolicyReasonNoValidCACertificate), "no backend is reached by it: "+p.resolved.message)
	}
	return strings.Join(out, "")
}

func (s *state) authority(namespace string, ref gwv1.LocalObjectReference) (string, gwv1.PolicyConditionReason, error) {
	if ref.Group != "" || ref.Kind != "ConfigMap" {
		return "", gwv1.BackendTLSPolicyReasonInvalidKind, noAuthorities(ref.Kind)
	}
	key := types.NamespacedName{Namespace: namespace, Name: string(ref.Name)}
	ca, err := s.authorities(key)
	return ca, gwv1.BackendTLSPolicyReasonInvalidCACertificateRef, err // the reason counts with an error only
}

// readValidation reads what a policy wants of a backend's certificate, without the
// authorities.
func readValidation(spec *gwv1.BackendTLSPolicySpec) (*lock.UpstreamTLS, error) {
	v := &spec.Validation
	t := &lock.UpstreamTLS{SNI: strings.ToLower(string(v.Hostname))}
	_, notIP := netip.ParseAddr(t.SNI)
	switch {
	case deref(v.WellKnownCACertificates) != "":
		return nil, fmt.Errorf("spec.validation.wellKnownCACertificates is not supported: what a host or an image trusts was reviewed by nobody; " +
			"put the authority's certificate into a ConfigMap and name it in caCertificateRefs")
	case len(v.CACertificateRefs) == 0:
		return nil, fmt.Errorf("spec.validation.caCertificateRefs: name a ConfigMap with the authority's certificate")
	case t.SNI == "" || notIP == nil:
		return nil, fmt.Errorf("spec.validation.hostname must be a DNS name")
	case len(spec.Options) > 0:
		return nil, fmt.Errorf("spec.options: none is supported here: remove them")
	}
	for i, san := range v.SubjectAltNames {
		switch {
		case san.Type == gwv1.HostnameSubjectAltNameType && san.Hostname != "":
			t.DNSNames = append(t.DNSNames, strings.ToLower(string(san.Hostname)))
		case san.Type == gwv1.URISubjectAltNameType && san.URI != "":
			t.URIs = append(t.URIs, string(san.URI))
		default:
			return nil, fmt.Errorf("spec.validation.subjectAltNames[%d]: type %s is not supported, or has no value: write a hostname or a uri", i, san.Type)
		}
	}
	return t, nil
}

// section of a target: the name of a port, "" for all of the Service.
func section(t gwv1.LocalPolicyTargetReferenceWithSectionName) string {
	return string(deref(t.SectionName))
}

// targets of a policy that are Services.
func (p *tlsPolicy) targets() []gwv1.LocalPolicyTargetReferenceWithSectionName {
	return slices.DeleteFunc(slices.Clone(p.obj.Spec.TargetRefs), func(t gwv1.LocalPolicyTargetReferenceWithSectionName) bool {
		return t.Group != "" || t.Kind != "Service"
	})
}

// services that a policy targets, each once.
func (p *tlsPolicy) services() []types.NamespacedName {
	var out []types.NamespacedName
	for _, t := range p.targets() {
		svc := types.NamespacedName{Namespace: p.key.Namespace, Name: string(t.Name)}
		if !slices.Contains(out, svc) {
			out = append(out, svc)
		}
	}
	return out
}

// has reports whether a policy targets this section of a Service.
func (p *tlsPolicy) has(service, sectionName string) bool {
	return slices.ContainsFunc(p.targets(), func(t gwv1.LocalPolicyTargetReferenceWithSectionName) bool {
		return string(t.Name) == service && section(t) == sectionName
	})
}

// before: the older policy wins, then the one first by name.
func (p *tlsPolicy) before(q *tlsPolicy) int {
	return cmp.Or(p.obj.CreationTimestamp.Compare(q.obj.CreationTimestamp.Time), cmp.Compare(p.key.String(), q.key.String()))
}

// same reports whether nothing that is made of a policy is another now.
func (p *tlsPolicy) same(q *tlsPolicy) bool {
	ca := func(p *tlsPolicy) string {
		if p.tls == nil {
			return ""
		}
		return p.tls.CA
	}
	return p.obj == q.obj && p.accepted == q.accepted && p.resolved == q.resolved && ca(p) == ca(q)
}

// winner is the policy that counts for a section of a Service, nil for none.
func (s *state) winner(service types.NamespacedName, sectionName string) *tlsPolicy {
	for _, p := range s.tls.byService[service] {
		if p.has(service.Name, sectionName) {
			return p
		}
	}
	return nil
}

// upstreamTLS is what the policies say of a port of a Service: nil for nothing. An
// error: it must not be reached.
func (s *state) upstreamTLS(svc *corev1.Service, port corev1.ServicePort) (*lock.UpstreamTLS, error) {
	key := types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
	var p *tlsPolicy
	if port.Name != "" {
		p = s.winner(key, port.Name)
	}
	if p == nil {
		p = s.winner(key, "")
	}
	switch {
	case p == nil:
		return nil, s.misplaced(svc)
	case p.tls == nil:
		return nil, fmt.Errorf("BackendTLSPolicy %s: %s", p.key, p.accepted.message)
	}
	t := *p.tls
	return &t, nil
}

// misplaced says which policy targets a port that a Service does not have: whichever
// was meant, it is not to be reached in plain text.
func (s *state) misplaced(svc *corev1.Service) error {
	for _, p := range s.tls.byService[types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}] {
		for _, t := range p.targets() {
			if string(t.Name) == svc.Name && !hasPort(svc, section(t)) {
				return fmt.Errorf("BackendTLSPolicy %s: %w", p.key, noPort(svc, section(t)))
			}
		}
	}
	return nil
}

// hasPort reports whether a Service has the section of a target.
func hasPort(svc *corev1.Service, sectionName string) bool {
	return sectionName == "" || slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == sectionName })
}

func noPort(svc *corev1.Service, sectionName string) error {
	var names []string
	for _, p := range svc.Spec.Ports {
		names = append(names, portName(p))
	}
	return fmt.Errorf("Service %s/%s has no port named %q (it has %s): correct sectionName", svc.Namespace, svc.Name, sectionName, strings.Join(names, ", "))
}
