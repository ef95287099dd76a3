package lint

import (
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
	"github.com/breakglass-gateway/breakglass-gateway/internal/posture"
)

const (
	longToken  = time.Hour
	longStale  = 7 * 24 * time.Hour
	fewRSABits = 3072 // NIST SP 800-57 part 1: 128 bits of security
)

var issuerRules = []Rule{
	{ID: "BG030", Name: "long-token-lifetime", Severity: Warning, Summary: "Tokens that live longer than an hour are accepted: a stolen one is good for as long.",
		Remedy: "lower maxTokenLifetime; a new token costs a moment", check: eachIssuer(longTokenLifetime)},
	{ID: "BG031", Name: "key-without-kid", Severity: Warning, Summary: "A key of a set of several has no kid: it is tried for every token, and cannot be told from its successor.",
		Remedy: "give each key a kid of its own", check: eachIssuer(keyWithoutKid)},
	{ID: "BG032", Name: "weak-key", Severity: Warning, Summary: "An RSA key has fewer than 3072 bits. (Fewer than 2048, symmetric and private keys are never accepted.)",
		Remedy: "use ES256, EdDSA or RSA with at least 3072 bits at the next rotation", check: eachIssuer(weakKey)},
	{ID: "BG033", Name: "shared-audience", Severity: Warning, Summary: "Two policies accept the same issuer with the same audience: a token for one door fits the other.",
		Remedy: "give each emergency door an audience of its own", check: sharedAudience},
	{ID: "BG034", Name: "generic-audience", Severity: Warning, Summary: "An audience is one that tokens for ordinary services have too: any of them could be replayed here.",
		Remedy: "register an audience for the emergency door alone", check: eachIssuer(genericAudience)},
	{ID: "BG035", Name: "shared-key", Severity: Warning, Summary: "Two issuers have the same public key: who signs for one signs for the other.",
		Remedy: "give each issuer a key of its own", check: sharedKey},
	{ID: "BG036", Name: "local-key-source", Severity: Warning, Summary: "A remote key set may be fetched from loopback and link-local addresses, which a policy could use to read what only this host reaches.",
		Remedy: "remove allowLocalTargets, or serve the keys from a ConfigMap", check: eachIssuer(localKeySource)},
	{ID: "BG037", Name: "long-stale-keys", Severity: Warning, Summary: "Keys are used for more than 7 days after they could last be fetched: a key that was withdrawn is good for as long.",
		Remedy: "lower maxStale", check: eachIssuer(longStaleKeys)},
	{ID: "BG038", Name: "no-offline-issuer", Severity: Warning, Summary: "Every role needs an identity provider that is fetched from: on the day it is down since a while, nobody can come in.",
		Remedy: "add an issuer with offline: true, and keep its key in a safe", check: eachPolicy(noOfflineIssuer)},
	{ID: "BG039", Name: "unused-issuer", Severity: Info, Summary: "An issuer is trusted and no role is granted to its tokens.",
		Remedy: "remove it", check: eachIssuer(unusedIssuer)},
}

func eachIssuer(check func(r *run, p *v1alpha1.EmergencyPolicy, field string, iss *v1alpha1.Issuer)) func(*run) {
	return eachPolicy(func(r *run, p *v1alpha1.EmergencyPolicy) {
		for i := range p.Spec.Issuers {
			check(r, p, fmt.Sprintf("spec.issuers[%d]", i), &p.Spec.Issuers[i])
		}
	})
}

// keysOf an issuer, as far as they are in the manifests. What is wrong with them
// BG002 tells.
func (r *run) keysOf(iss *v1alpha1.Issuer) []jose.JSONWebKey {
	var text []byte
	switch src := iss.JWKS; {
	case src.Inline != nil:
		text = []byte(*src.Inline)
	case src.SecretRef != nil:
		if obj := r.Objects.Secrets[types.NamespacedName{Namespace: src.SecretRef.Namespace, Name: src.SecretRef.Name}]; obj != nil {
			text = obj.Data[src.SecretRef.Key]
		}
	case src.ConfigMapRef != nil:
		if obj := r.Objects.ConfigMaps[types.NamespacedName{Namespace: src.ConfigMapRef.Namespace, Name: src.ConfigMapRef.Name}]; obj != nil {
			text = []byte(obj.Data[src.ConfigMapRef.Key])
		}
	}
	set, err := jwks.Parse(text, iss.Algorithms)
	if err != nil {
		return nil
	}
	// One entry per key and algorithm: a key once is enough.
	var keys []jose.JSONWebKey
	for _, k := range set.Keys() {
		if !slices.ContainsFunc(keys, func(o jose.JSONWebKey) bool { return o.KeyID == k.KeyID && thumbprint(o) == thumbprint(k) }) {
			keys = append(keys, k)
		}
	}
	return keys
}

func thumbprint(k jose.JSONWebKey) string {
	return jwks.Thumbprint(k)
}

func longTokenLifetime(r *run, p *v1alpha1.EmergencyPolicy, field string, iss *v1alpha1.Issuer) {
	if d := v1alpha1.DurationOr(iss.MaxTokenLifetime, time.Hour); d > longToken {
		r.add(policyKey(p), field+".maxTokenLifetime", "tokens of issuer %s may live for %s", iss.Name, posture.Short(d))
	}
}

func keyWithoutKid(r *run, p *v1alpha1.EmergencyPolicy, field string, iss *v1alpha1.Issuer) {
	keys := r.keysOf(iss)
	for _, k := range keys {
		if len(keys) > 1 && k.KeyID == "" {
			r.add(policyKey(p), field+".jwks", "issuer %s has %d keys, and one has no kid (%s)", iss.Name, len(keys), thumbprint(k))
		}
	}
}

func weakKey(r *run, p *v1alpha1.EmergencyPolicy, field string, iss *v1alpha1.Issuer) {
	for _, k := range r.keysOf(iss) {
		if pub, ok := k.Key.(*rsa.PublicKey); ok && pub.N.BitLen() < fewRSABits {
			r.add(policyKey(p), field+".jwks", "key %q of issuer %s is RSA with %d bits", k.KeyID, iss.Name, pub.N.BitLen())
		}
	}
}

func sharedAudience(r *run) {
	first := map[string]string{}
	eachIssuer(func(r *run, p *v1alpha1.EmergencyPolicy, field string, iss *v1alpha1.Issuer) {
		for i, a := range iss.Audiences {
			id := iss.Issuer + "\x00" + a
			switch other := first[id]; other {
			case "":
				first[id] = p.Name
			case p.Name:
			default:
				r.add(policyKey(p), fmt.Sprintf("%s.audiences[%d]", field, i), "EmergencyPolicy %s accepts audience %q of %s too", other, a, iss.Issuer)
			}
		}
	})(r)
}

// genericAudiences are what identity providers write when nobody asked for one.
var genericAudiences = []string{"account", "api://default", "kubernetes", "https://kubernetes.default.svc", "https://kubernetes.default.svc.cluster.local",
	"default", "api", "*", "openid", "https://management.azure.com", "https://graph.microsoft.com", "00000003-0000-0000-c000-000000000000"}

func genericAudience(r *run, p *v1alpha1.EmergencyPolicy, field string, iss *v1alpha1.Issuer) {
	for i, a := range iss.Audiences {
		if slices.Contains(genericAudiences, strings.ToLower(strings.TrimRight(a, "/"))) {
			r.add(policyKey(p), fmt.Sprintf("%s.audiences[%d]", field, i), "audience %q of issuer %s is not for this door alone", a, iss.Name)
		}
	}
}

func sharedKey(r *run) {
	first := map[string]string{}
	eachIssuer(func(r *run, p *v1alpha1.EmergencyPolicy, field string, iss *v1alpha1.Issuer) {
		for _, k := range r.keysOf(iss) {
			print, here := thumbprint(k), iss.Name+" of EmergencyPolicy "+p.Name
			other, taken := first[print]
			if !taken {
				first[print] = here
			} else if other != here {
				r.add(policyKey(p), field+".jwks", "key %s of issuer %s is also one of issuer %s", print, iss.Name, other)
			}
		}
	})(r)
}

func localKeySource(r *run, p *v1alpha1.EmergencyPolicy, field string, iss *v1alpha1.Issuer) {
	if rem := iss.JWKS.Remote; rem != nil && rem.AllowLocalTargets {
		r.add(policyKey(p), field+".jwks.remote.allowLocalTargets", "keys of issuer %s may come from a local address", iss.Name)
	}
}

func longStaleKeys(r *run, p *v1alpha1.EmergencyPolicy, field string, iss *v1alpha1.Issuer) {
	if rem := iss.JWKS.Remote; rem != nil && v1alpha1.DurationOr(rem.MaxStale, 24*time.Hour) > longStale {
		r.add(policyKey(p), field+".jwks.remote.maxStale", "keys of issuer %s are used for %s after the last good fetch", iss.Name, posture.Short(v1alpha1.DurationOr(rem.MaxStale, 0)))
	}
}

func noOfflineIssuer(r *run, p *v1alpha1.EmergencyPolicy) {
	for _, iss := range p.Spec.Issuers {
		if iss.Offline || iss.JWKS.Remote == nil {
			return
		}
	}
	r.add(policyKey(p), "spec.issuers", "all keys are fetched from identity providers")
}

func unusedIssuer(r *run, p *v1alpha1.EmergencyPolicy, field string, iss *v1alpha1.Issuer) {
	for _, role := range p.Spec.Roles {
		if slices.ContainsFunc(role.Grants, func(g v1alpha1.Grant) bool { return g.Issuer == iss.Name }) {
			return
		}
	}
	r.add(policyKey(p), field, "no role is granted to tokens of issuer %s", iss.Name)
}
