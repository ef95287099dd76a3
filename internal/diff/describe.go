package diff

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/posture"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// kinds in the order in which they are told: who may come in, through which door,
// to what.
var kinds = []string{"EmergencyPolicy", "Gateway", "HTTPRoute", "GRPCRoute", "ReferenceGrant", "Activation"}

func order(object string) int {
	kind, _, _ := strings.Cut(object, " ")
	return slices.Index(kinds, kind)
}

// describe a posture, by object.
func describe(p *posture.Posture) map[string]*about {
	out := map[string]*about{}
	for name, obj := range p.Objects.Policies {
		out["EmergencyPolicy "+name] = policy(p, obj)
	}
	for _, g := range p.Gateways {
		out["Gateway "+g.Key.String()] = gateway(p, g)
	}
	for _, r := range p.Routes {
		out[r.Key.String()] = route(p, r)
	}
	for key, obj := range p.Objects.ReferenceGrants {
		out["ReferenceGrant "+key.String()] = referenceGrant(key, obj)
	}
	for key, a := range p.Objects.Activations {
		x := newAbout()
		for _, t := range a.Spec.TargetRefs {
			x.has("opens, as soon as it is served,", fmt.Sprintf("%s %s for role %s", t.Kind, types.NamespacedName{Namespace: key.Namespace, Name: t.Name}, a.Spec.Role))
		}
		x.flag("is not revoked", !a.Spec.Revoked)
		out["Activation "+key.String()] = x
	}
	return out
}

func gateway(p *posture.Posture, g *posture.Gateway) *about {
	a := newAbout()
	for _, ip := range g.Addresses {
		for _, l := range g.Listeners {
			host := "any hostname"
			if l.Hostname != nil && *l.Hostname != "" {
				host = string(*l.Hostname)
			}
			a.has("listens on", fmt.Sprintf("%s port %d, %s, for %s (listener %s)", ip, l.Port, l.Protocol, host, l.Text()))
		}
	}
	for _, l := range g.Listeners {
		a.has(fmt.Sprintf("listener %s takes routes from", l.Text()), allowed(l))
		if l.TLS == nil {
			continue
		}
		for _, ref := range l.TLS.CertificateRefs {
			a.is(fmt.Sprintf("listener %s shows", l.Text()), 0, certificateOf(p, l.Key.Namespace, ref))
		}
		a.bounded(fmt.Sprintf("listener %s lets in clients with a certificate of", l.Text()), authoritiesOf(p, g, l.Port))
	}
	if t := g.Object.Spec.TLS; t != nil && t.Backend != nil && t.Backend.ClientCertificateRef != nil {
		a.is("shows to backends", 0, certificateOf(p, g.Key.Namespace, *t.Backend.ClientCertificateRef))
	}
	name := "none"
	if g.Policy != nil {
		name = g.Policy.Name
	}
	a.is("is under EmergencyPolicy", 0, name)
	return a
}

func certificateOf(p *posture.Posture, namespace string, ref gwv1.SecretObjectReference) string {
	text := "Secret " + string(ref.Name)
	key := types.NamespacedName{Namespace: namespace, Name: string(ref.Name)}
	if ref.Namespace != nil {
		key.Namespace = string(*ref.Namespace)
		text = "Secret " + key.String()
	}
	if obj := p.Objects.Secrets[key]; obj != nil {
		text += ", certificate " + activation.Digest(obj.Data["tls.crt"])
	}
	return text
}

// authoritiesOf the clients of HTTPS listeners on a port; none: they need no
// certificate.
func authoritiesOf(p *posture.Posture, g *posture.Gateway, port gwv1.PortNumber) (out []string) {
	v, _ := translator.FrontendValidation(g.Object, port)
	if v == nil || v.Mode == gwv1.AllowInsecureFallback {
		return nil
	}
	for _, ref := range v.CACertificateRefs {
		key := translator.Named(g.Key.Namespace, ref.Namespace, ref.Name)
		text := fmt.Sprintf("%s %s", ref.Kind, key)
		if obj := p.Objects.ConfigMaps[key]; obj != nil && ref.Kind == "ConfigMap" {
			text += ", authorities " + activation.Digest(obj.Data[translator.AuthoritiesKey])
		}
		out = append(out, text)
	}
	return out
}

func allowed(l *posture.Listener) string {
	from := gwv1.NamespacesFromSame
	if l.AllowedRoutes != nil && l.AllowedRoutes.Namespaces != nil && l.AllowedRoutes.Namespaces.From != nil {
		from = *l.AllowedRoutes.Namespaces.From
	}
	switch from {
	case gwv1.NamespacesFromAll:
		return "all namespaces"
	case gwv1.NamespacesFromSame:
		return "namespace " + l.Key.Namespace
	}
	selector, err := selectorText(l.AllowedRoutes.Namespaces.Selector)
	if err != nil {
		return "no namespace: the selector is not valid"
	}
	return "namespaces with " + selector
}

func route(p *posture.Posture, r *posture.Route) *about {
	a := newAbout()
	if r.Refused == "" {
		a.is("is accepted", 1, "yes")
	} else {
		a.is("is accepted", 0, "no: "+r.Refused)
	}
	for _, o := range r.Openers {
		a.is("could be opened by role "+o.Role.Name, int64(o.Longest), "for at most "+posture.Short(o.Longest))
	}
	for i := range r.Object.Spec.Rules {
		rule := &r.Object.Spec.Rules[i]
		for _, place := range r.Places {
			for _, m := range rule.Matches {
				a.has("could be reached at", matched(place, m))
			}
		}
		name := fmt.Sprintf("rule %d", i)
		if rule.Name != nil {
			name = "rule " + string(*rule.Name)
		}
		describeRule(a, name, rule)
	}
	for _, b := range p.Backends(r) {
		if b.Copies {
			a.has("sends copies of requests to", backend(b))
		} else {
			a.has("reaches", backend(b))
		}
		spokenTo(a, b)
	}
	return a
}

// describeRule says what the rule does with requests.
func describeRule(a *about, name string, rule *gwv1.HTTPRouteRule) {
	if len(rule.Filters) > 0 {
		a.is(name+" has filters", 0, filters(rule.Filters))
	} else {
		a.is(name+" has filters", 0, "none")
	}
	if t := rule.Timeouts; t != nil && t.Request != nil {
		a.is(name+" has a timeout of", 0, string(*t.Request))
	}
	if t := rule.Timeouts; t != nil && t.BackendRequest != nil {
		a.is(name+" has a timeout of each try of", 0, string(*t.BackendRequest))
	}
	if rule.Retry != nil {
		a.is(name+" tries again", 0, "what fails ("+activation.Digest(rule.Retry)+")")
	}
	for j, b := range rule.BackendRefs {
		if len(b.Filters) > 0 {
			a.is(fmt.Sprintf("%s has filters of backend %d", name, j), 0, filters(b.Filters))
		}
	}
}

func matched(p posture.Place, m gwv1.HTTPRouteMatch) string {
	method := "any method"
	if m.Method != nil {
		method = string(*m.Method)
	}
	path, how := "/", " and all below it"
	if m.Path != nil {
		if m.Path.Value != nil {
			path = *m.Path.Value
		}
		if m.Path.Type != nil {
			switch *m.Path.Type {
			case gwv1.PathMatchExact:
				how = ""
			case gwv1.PathMatchRegularExpression:
				how = " as a regular expression"
			}
		}
	}
	text := fmt.Sprintf("%s %s%s%s", method, p.URL(), path, how)
	for _, h := range m.Headers {
		text += fmt.Sprintf(", with header %s", h.Name)
	}
	for _, q := range m.QueryParams {
		text += fmt.Sprintf(", with query %s", q.Name)
	}
	return text
}

func filters(list []gwv1.HTTPRouteFilter) string {
	var names []string
	for _, f := range list {
		name := string(f.Type)
		if u := f.URLRewrite; u != nil && u.Path != nil {
			switch {
			case u.Path.ReplaceFullPath != nil:
				name += " to " + *u.Path.ReplaceFullPath
			case u.Path.ReplacePrefixMatch != nil:
				name += " of the prefix to " + *u.Path.ReplacePrefixMatch
			}
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ") + " (" + activation.Digest(list) + ")"
}

func backend(b posture.Backend) string {
	text := fmt.Sprintf("Service %s port %d", b.Service, b.Port)
	if b.Object == nil {
		return text + ", which is not in the manifests"
	}
	var at []string
	for _, e := range b.Endpoints {
		at = append(at, e.AddrPort.String())
	}
	if len(at) == 0 {
		return text + ", without endpoints in the manifests"
	}
	return text + " at " + strings.Join(at, ", ")
}

// spokenTo says how: plain text is wider than TLS, and that wider than not at all.
func spokenTo(a *about, b posture.Backend) {
	topic := fmt.Sprintf("speaks to Service %s port %d", b.Service, b.Port)
	switch {
	case b.Object == nil:
	case b.Secure:
		a.is(topic, -1, b.Spoken)
	case b.Spoken == "":
		a.is(topic, -2, "not at all")
	default:
		a.is(topic, 0, b.Spoken)
	}
}

func referenceGrant(key types.NamespacedName, obj *gwv1.ReferenceGrant) *about {
	a := newAbout()
	for _, from := range obj.Spec.From {
		for _, to := range obj.Spec.To {
			name := "every " + string(to.Kind)
			if to.Name != nil {
				name = string(to.Kind) + " " + string(*to.Name)
			}
			a.has("permits", fmt.Sprintf("%ss of namespace %s to use %s of namespace %s", from.Kind, from.Namespace, name, key.Namespace))
		}
	}
	return a
}
