package diff

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
	"github.com/breakglass-gateway/breakglass-gateway/internal/posture"
)

func policy(p *posture.Posture, obj *v1alpha1.EmergencyPolicy) *about {
	a := newAbout()
	a.flag("is in force (not suspended)", !obj.Spec.Suspended)
	for i := range obj.Spec.Issuers {
		issuer(p, a, &obj.Spec.Issuers[i])
	}
	known := &activation.Policy{Name: obj.Name, Spec: obj.Spec}
	for i := range obj.Spec.Roles {
		role(a, known, &obj.Spec.Roles[i])
	}
	l := obj.Spec.Limits
	length(a, "the default window is", l.DefaultDuration, 15*time.Minute)
	length(a, "the longest window is", l.MaxDuration, 4*time.Hour)
	length(a, "the longest window of a drill is", l.DrillMaxDuration, 15*time.Minute)
	number(a, "may be open at one time:", l.MaxOpen, 16)
	number(a, "a route may be opened in a day:", l.MaxPerDay, 24)
	a.flag("takes an Activation without notAfter", !l.RequireNotAfter)
	s := obj.Spec.Scope
	a.flag("scope allows wildcard hostnames", s.AllowWildcardHostnames)
	a.flag("scope allows paths that cover everything", s.AllowCatchAllPath)
	a.flag("scope allows any method", s.AllowAnyMethod)
	a.flag("scope allows routes without a role", s.AllowUnlabelled)
	a.flag("scope allows plain HTTP on the network", s.AllowPlainHTTP)
	number(a, "rules that a route may have:", s.MaxRules, 8)
	a.flag("forwards a request before an entry of it is durable", !obj.Spec.Audit.Strict())
	a.flag("stays open while the audit log cannot be kept", obj.Spec.Audit.OnFailure == v1alpha1.AuditDegrade)
	a.flag("opens a role of which a review is overdue", obj.Spec.Review.OnOverdue != v1alpha1.OverdueRefuse)
	length(a, "what was opened may go without a review for", obj.Spec.Review.Within, 72*time.Hour)
	return a
}

func issuer(p *posture.Posture, a *about, iss *v1alpha1.Issuer) {
	a.has("trusts tokens of", fmt.Sprintf("issuer %s, %s", iss.Name, iss.Issuer))
	of := "issuer " + iss.Name
	a.has(of+" is taken for audience", iss.Audiences...)
	algorithms := iss.Algorithms
	if len(algorithms) == 0 {
		algorithms = jwks.DefaultAlgorithms
	}
	for _, alg := range algorithms {
		a.has(of+" may sign with", string(alg))
	}
	length(a, of+": tokens may live for", iss.MaxTokenLifetime, time.Hour)
	a.is(of+" is offline", 0, fmt.Sprint(iss.Offline))
	keys(p, a, of+" has keys from", iss)
}

// keys by what is known of them: each key, where they are in the manifests, else
// where they come from. Another key is another signer.
func keys(p *posture.Posture, a *about, topic string, iss *v1alpha1.Issuer) {
	var text []byte
	from := ""
	switch src := iss.JWKS; {
	case src.Remote != nil:
		a.has(topic, src.Remote.URI)
		a.flag(topic+" local addresses", src.Remote.AllowLocalTargets)
		length(a, topic+" there, and uses them after the last fetch for", src.Remote.MaxStale, 24*time.Hour)
		if ca := src.Remote.CACertificates; ca != nil {
			a.is(topic+" there, by CA certificates", 0, activation.Digest(*ca))
		}
		return
	case src.Inline != nil:
		text, from = []byte(*src.Inline), "the policy itself"
	case src.SecretRef != nil:
		ref := src.SecretRef
		from = fmt.Sprintf("Secret %s/%s, %s", ref.Namespace, ref.Name, ref.Key)
		if obj := p.Objects.Secrets[types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}]; obj != nil {
			text = obj.Data[ref.Key]
		}
	case src.ConfigMapRef != nil:
		ref := src.ConfigMapRef
		from = fmt.Sprintf("ConfigMap %s/%s, %s", ref.Namespace, ref.Name, ref.Key)
		if obj := p.Objects.ConfigMaps[types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}]; obj != nil {
			text = []byte(obj.Data[ref.Key])
		}
	}
	set, err := jwks.Parse(text, iss.Algorithms)
	if err != nil {
		a.has(topic, from+" (not in these manifests, or not usable)")
		return
	}
	for _, k := range set.Keys() {
		a.has(topic, fmt.Sprintf("%s: key %s, kid %q", from, jwks.Thumbprint(k), k.KeyID))
	}
}

func role(a *about, p *activation.Policy, r *v1alpha1.Role) {
	of := "role " + r.Name
	a.is(of+" may hold a route open for", int64(p.Longest(r.Name, false)), "at most "+posture.Short(p.Longest(r.Name, false)))
	for _, g := range r.Grants {
		for _, one := range each(g) {
			a.has(of+" is held by", one)
		}
	}
	hosts := make([]string, 0, len(r.Hostnames))
	for _, h := range r.Hostnames {
		hosts = append(hosts, strings.ToLower(string(h)))
	}
	a.bounded(of+" may open hostnames", hosts)
	a.bounded(of+" may open namespaces", r.Namespaces)
}

// each combination of one value per claim that holds the role, so that one value
// more shows as one. A grant of too many is told as a whole.
func each(g v1alpha1.Grant) []string {
	const most = 64
	out := []string{"tokens of issuer " + g.Issuer}
	for n, c := range g.Claims {
		path, link := strings.Join(c.Path, "."), " with "
		if n > 0 {
			link = " and "
		}
		if len(out)*len(c.AnyOf) > most {
			values := slices.Clone(c.AnyOf)
			slices.Sort(values)
			for i := range out {
				out[i] += fmt.Sprintf("%s%s one of %s", link, path, strings.Join(values, ", "))
			}
			continue
		}
		var next []string
		for _, o := range out {
			for _, v := range c.AnyOf {
				next = append(next, fmt.Sprintf("%s%s %q", o, link+path, v))
			}
		}
		out = next
	}
	return out
}

func length(a *about, topic string, d *gwv1.Duration, unset time.Duration) {
	v := v1alpha1.DurationOr(d, unset)
	a.is(topic, int64(v), posture.Short(v))
}

func number(a *about, topic string, n *int32, unset int32) {
	if n != nil {
		unset = *n
	}
	a.is(topic, int64(unset), fmt.Sprint(unset))
}

func selectorText(s *metav1.LabelSelector) (string, error) {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return "", err
	}
	if sel.Empty() {
		return "any label or none", nil
	}
	return sel.String(), nil
}
