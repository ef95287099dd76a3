package translator

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Allows reports whether routes of namespace may attach to a listener of a Gateway
// in the namespace home.
func Allows(l *gwv1.Listener, home, namespace string, namespaces map[string]*corev1.Namespace) bool {
	from := gwv1.NamespacesFromSame
	var selector *metav1.LabelSelector
	if a := l.AllowedRoutes; a != nil && a.Namespaces != nil {
		if a.Namespaces.From != nil {
			from = *a.Namespaces.From
		}
		selector = a.Namespaces.Selector
	}
	return selects(from, selector, home, namespace, namespaces)
}

// selects reports whether a rule of a Gateway or listener in the namespace home is for
// objects of namespace.
func selects(from gwv1.FromNamespaces, selector *metav1.LabelSelector, home, namespace string, namespaces map[string]*corev1.Namespace) bool {
	switch from {
	case gwv1.NamespacesFromAll:
		return true
	case gwv1.NamespacesFromSame:
		return namespace == home
	case gwv1.NamespacesFromSelector:
		sel, err := metav1.LabelSelectorAsSelector(selector)
		ns := namespaces[namespace]
		return err == nil && ns != nil && sel.Matches(labels.Set(ns.Labels))
	}
	return false
}

// AllowsKind reports whether routes of kind may attach to a listener.
func AllowsKind(l *gwv1.Listener, kind string) bool {
	return l.AllowedRoutes == nil || len(l.AllowedRoutes.Kinds) == 0 || slices.ContainsFunc(l.AllowedRoutes.Kinds, func(k gwv1.RouteGroupKind) bool {
		return string(k.Kind) == kind && (k.Group == nil || *k.Group == gwv1.GroupName)
	})
}

// CommonHostnames lists the hostnames that a listener and a route have in common, in
// lower case; "*" for all of a listener without a hostname.
func CommonHostnames(listener string, route []gwv1.Hostname) []string {
	if len(route) == 0 {
		if listener == "" {
			return []string{"*"}
		}
		return []string{listener}
	}
	set := map[string]bool{}
	for _, h := range route {
		host := strings.ToLower(string(h))
		switch {
		case listener == "" || host == listener || Covers(listener, host):
			set[host] = true
		case Covers(host, listener):
			set[listener] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// Covers reports whether wildcard, "*.example.com", covers host, which
// may itself be a narrower wildcard.
func Covers(wildcard, host string) bool {
	suffix, ok := strings.CutPrefix(wildcard, "*")
	if !ok || host == wildcard {
		return false
	}
	return strings.HasSuffix(strings.TrimPrefix(host, "*"), suffix) && strings.TrimPrefix(host, "*") != suffix
}
