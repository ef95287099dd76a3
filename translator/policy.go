package translator

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
)

// policy is an EmergencyPolicy with its keys.
type policy struct {
	obj     *v1alpha1.EmergencyPolicy
	issuers map[string]*issuer
	// problems of issuers, in the order of the spec.
	problems []string
	decision *activation.Policy
}

type issuer struct {
	spec        *v1alpha1.Issuer
	jwks        string // as Envoy reads it; "" if there are no usable keys
	maxLifetime time.Duration
}

func (s *state) resolvePolicies() {
	s.policies = make(map[string]*policy, len(s.in.Policies))
	s.issuers = make(map[string][]IssuerKeys, len(s.in.Policies))
	for name, obj := range s.in.Policies {
		p := &policy{obj: obj, issuers: map[string]*issuer{}}
		for i := range obj.Spec.Issuers {
			spec := &obj.Spec.Issuers[i]
			iss := &issuer{spec: spec, maxLifetime: v1alpha1.DurationOr(spec.MaxTokenLifetime, time.Hour)}
			known := IssuerKeys{Name: spec.Name, Offline: spec.Offline}
			if res := s.in.RemoteKeys[jwks.Key{Policy: name, Issuer: spec.Name}]; res.Stale {
				known.Stale, known.Error = true, fmt.Sprintf("the keys of before are in use: %v", res.Err)
			}
			set, err := s.keys(name, spec)
			if err != nil {
				known.Error = err.Error()
				p.problems = append(p.problems, fmt.Sprintf("issuer %s: %v", spec.Name, err))
			} else {
				iss.jwks, known.Keys = set.Envoy(), len(set.Keys())
				known.Digest = activation.Digest(iss.jwks)
			}
			s.issuers[name] = append(s.issuers[name], known)
			p.issuers[spec.Name] = iss
		}
		p.decision = &activation.Policy{Name: name, Spec: obj.Spec, Usable: func(name string) bool {
			iss := p.issuers[name]
			return iss != nil && iss.jwks != ""
		}}
		s.policies[name] = p
	}
}

// keys finds the key set of an issuer.
func (s *state) keys(policy string, spec *v1alpha1.Issuer) (*jwks.Set, error) {
	src := spec.JWKS
	switch {
	case src.Inline != nil:
		return jwks.Parse([]byte(*src.Inline), spec.Algorithms)
	case src.SecretRef != nil:
		ref := src.SecretRef
		if why := s.unread("Secrets", ref.Namespace); why != nil {
			return nil, fmt.Errorf("jwks.secretRef: %w", why)
		}
		obj := s.in.Secrets[types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}]
		if obj == nil {
			return nil, fmt.Errorf("jwks.secretRef: Secret %s/%s does not exist", ref.Namespace, ref.Name)
		}
		return parseKeys(obj.Data[ref.Key], ref, "Secret", spec.Algorithms)
	case src.ConfigMapRef != nil:
		ref := src.ConfigMapRef
		if why := s.unread("ConfigMaps", ref.Namespace); why != nil {
			return nil, fmt.Errorf("jwks.configMapRef: %w", why)
		}
		obj := s.in.ConfigMaps[types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}]
		if obj == nil {
			return nil, fmt.Errorf("jwks.configMapRef: ConfigMap %s/%s does not exist", ref.Namespace, ref.Name)
		}
		return parseKeys([]byte(obj.Data[ref.Key]), ref, "ConfigMap", spec.Algorithms)
	case src.Remote != nil:
		return s.remoteKeys(jwks.Key{Policy: policy, Issuer: spec.Name}, src.Remote.URI)
	}
	return nil, errors.New("jwks names no source: set inline, remote, secretRef or configMapRef")
}

func parseKeys(data []byte, ref *v1alpha1.KeySetReference, kind string, algs []v1alpha1.Algorithm) (*jwks.Set, error) {
	if len(data) == 0 {
		return nil, fmt.Errorf("%s %s/%s has no key %q in data", kind, ref.Namespace, ref.Name, ref.Key)
	}
	set, err := jwks.Parse(data, algs)
	if err != nil {
		return nil, fmt.Errorf("%s %s/%s, key %q: %w", kind, ref.Namespace, ref.Name, ref.Key, err)
	}
	return set, nil
}

// remoteKeys are the last good answer, as long as it may be used.
func (s *state) remoteKeys(key jwks.Key, uri string) (*jwks.Set, error) {
	res, ok := s.in.RemoteKeys[key]
	switch {
	case !ok:
		return nil, fmt.Errorf("jwks.remote: %s was not fetched yet", uri)
	case res.Set == nil && res.Err != nil:
		return nil, fmt.Errorf("jwks.remote: %w", res.Err)
	case res.Set == nil:
		return nil, fmt.Errorf("jwks.remote: %s was not fetched yet", uri)
	case !s.in.Now.Before(res.Expires):
		s.since = later(s.since, res.Expires)
		return nil, fmt.Errorf("jwks.remote: the last good answer of %s is older than maxStale", uri)
	}
	if s.until.IsZero() || res.Expires.Before(s.until) {
		s.until = res.Expires
	}
	return res.Set, nil
}

// usable lists the issuers that can sign valid tokens now, for the token filter.
func (p *policy) usable() []lock.Issuer {
	var out []lock.Issuer
	if p == nil {
		return nil
	}
	for i := range p.obj.Spec.Issuers {
		spec := &p.obj.Spec.Issuers[i]
		if iss := p.issuers[spec.Name]; iss.jwks != "" {
			out = append(out, lock.Issuer{Name: spec.Name, Issuer: spec.Issuer, Audiences: spec.Audiences, JWKS: iss.jwks})
		}
	}
	return out
}

// grants of a role, as far as their issuers exist.
func (p *policy) grants(role *v1alpha1.Role) []lock.Grant {
	var out []lock.Grant
	for _, g := range role.Grants {
		iss := p.issuers[g.Issuer]
		if iss == nil {
			continue
		}
		grant := lock.Grant{Issuer: iss.spec.Issuer, Audiences: iss.spec.Audiences, MaxTokenLifetime: iss.maxLifetime}
		for _, c := range g.Claims {
			grant.Claims = append(grant.Claims, lock.Claim{Path: c.Path, AnyOf: c.AnyOf})
		}
		out = append(out, grant)
	}
	return out
}

func (p *policy) problem() string { return strings.Join(p.problems, "; ") }
