package lint

import (
	"cmp"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

var liveRules = []Rule{
	{ID: "BG080", Name: "not-ready", Severity: Error, Live: true, Summary: "Something that should be served cannot be.",
		Remedy: "breakglass status says what to do", check: notReady},
	{ID: "BG081", Name: "gateway-not-programmed", Severity: Error, Live: true, Summary: "A listener of a Gateway is not served by its Envoy.",
		Remedy: "correct what the message names", check: notProgrammed},
	{ID: "BG082", Name: "route-refused-by-envoy", Severity: Error, Live: true, Summary: "Envoy refused a route that the manifests have.",
		Remedy: "correct the route: the message is Envoy's", check: refusedByEnvoy},
	{ID: "BG083", Name: "keys-stale", Severity: Warning, Live: true, Summary: "The keys of an issuer could not be fetched lately, and an older answer is in use.",
		Remedy: "mend the way to the identity provider before maxStale is over", check: eachIssuerStatus(keysStale)},
	{ID: "BG084", Name: "no-usable-keys", Severity: Error, Live: true, Summary: "An issuer has no usable key: nobody can hold a role through it.",
		Remedy: "correct its jwks", check: eachIssuerStatus(noUsableKeys)},
	{ID: "BG085", Name: "offline-issuer-used", Severity: Warning, Live: true, Summary: "Tokens of an offline issuer were used within the last day: its key is out of the safe.",
		Remedy: "ask who used it, put it back, and replace it if nobody can say: breakglass audit list --kind request", check: offlineUsed},
	{ID: "BG086", Name: "last-good-in-use", Severity: Warning, Live: true, Summary: "A manifest is wrong, and serve uses the version before: what is served is not what the files say.",
		Remedy: "correct the file", check: lastGood},
	{ID: "BG087", Name: "clock-behind", Severity: Warning, Live: true, Summary: "The system's clock is behind the one that windows are judged by: it was set back.",
		Remedy: "correct the system's clock", check: clockBehind},
}

func notReady(r *run) {
	for _, why := range r.Live.Status.NotReady {
		r.addLive("", "%s", why)
	}
}

func notProgrammed(r *run) {
	for _, g := range r.Live.Status.Gateways {
		key := types.NamespacedName{Namespace: g.Namespace, Name: g.Name}
		for i, l := range g.Listeners {
			if l.Programmed {
				continue
			}
			at, field := objectKey("Gateway", key), fmt.Sprintf("spec.listeners[%d]", i)
			if of := strings.Split(l.Name, "/"); len(of) == 3 { // of a ListenerSet
				at, field = objectKey("ListenerSet", types.NamespacedName{Namespace: of[0], Name: of[1]}), "spec.listeners"
			}
			r.add(at, field, "listener %s is not programmed: %s", l.Name, l.Message)
		}
	}
}

func refusedByEnvoy(r *run) {
	for _, rt := range r.Live.Status.Routes {
		if rt.Reason == "RefusedByEnvoy" || strings.Contains(rt.Message, "Envoy rejected") {
			r.add(objectKey(cmp.Or(rt.Kind, v1alpha1.KindHTTPRoute), types.NamespacedName{Namespace: rt.Namespace, Name: rt.Name}), "", "%s", rt.Message)
		}
	}
}

func eachIssuerStatus(check func(r *run, policy string, field string, iss control.IssuerStatus)) func(*run) {
	return func(r *run) {
		for _, p := range r.Live.Status.Policies {
			for i, iss := range p.Issuers {
				check(r, p.Name, fmt.Sprintf("spec.issuers[%d]", i), iss)
			}
		}
	}
}

func keysStale(r *run, policy, field string, iss control.IssuerStatus) {
	if iss.Stale {
		r.add(objectKey("EmergencyPolicy", types.NamespacedName{Name: policy}), field+".jwks", "the keys of issuer %s are stale (%d in use)", iss.Name, iss.Keys)
	}
}

func noUsableKeys(r *run, policy, field string, iss control.IssuerStatus) {
	if iss.Keys == 0 {
		r.add(objectKey("EmergencyPolicy", types.NamespacedName{Name: policy}), field+".jwks", "issuer %s has no usable key: %s", iss.Name, iss.Error)
	}
}

func offlineUsed(r *run) {
	for _, name := range sortedNames(r.Objects.Policies) {
		for i, iss := range r.Objects.Policies[name].Spec.Issuers {
			if n := r.Live.Requests[iss.Issuer]; iss.Offline && n > 0 {
				r.add(objectKey("EmergencyPolicy", types.NamespacedName{Name: name}), fmt.Sprintf("spec.issuers[%d]", i), "%d requests came in with tokens of issuer %s within a day", n, iss.Name)
			}
		}
	}
}

func lastGood(r *run) {
	for _, p := range r.Live.Status.Problems {
		if p.LastGood {
			r.findings = append(r.findings, Finding{
				ID: r.rule.ID, Name: r.rule.Name, Severity: r.rule.Severity, Object: p.Object, Field: p.Field,
				File: p.File, Line: p.Line, Message: p.Message, Remedy: r.rule.Remedy,
			})
		}
	}
}

func clockBehind(r *run) {
	if d := r.Live.Status.ClockBehind; d != "" {
		r.addLive("", "the system's clock is %s behind", d)
	}
}
