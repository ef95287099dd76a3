package translator

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
)

// listenerSet is a ListenerSet whose parent is a Gateway of ours: more listeners for it,
// on its addresses and under its policy.
type listenerSet struct {
	key     types.NamespacedName
	obj     *gwv1.ListenerSet
	gateway *gateway
	// refused says why the set is not allowed, "" if it is: then its listeners are
	// among those of its Gateway.
	refused   string
	listeners []*listener
}

// resolveSets finds the sets of all Gateways, in the order in which they win.
func (s *state) resolveSets() {
	s.sets = map[types.NamespacedName]*listenerSet{}
	of := map[types.NamespacedName]*gateway{}
	for _, g := range s.gateways {
		of[g.key] = g
	}
	for key, obj := range s.in.ListenerSets {
		ref := obj.Spec.ParentRef
		parent := Named(key.Namespace, ref.Namespace, ref.Name)
		g := of[parent]
		if g == nil || ref.Group != nil && *ref.Group != gwv1.GroupName || ref.Kind != nil && *ref.Kind != "Gateway" {
			continue // not ours
		}
		set := &listenerSet{key: key, obj: obj, gateway: g}
		set.refused = s.notAllowed(set)
		s.sets[key] = set
		g.sets = append(g.sets, set)
	}
	for _, g := range s.gateways {
		slices.SortFunc(g.sets, func(a, b *listenerSet) int {
			return cmp.Or(a.obj.CreationTimestamp.Compare(b.obj.CreationTimestamp.Time), cmp.Compare(a.key.String(), b.key.String()))
		})
	}
}

// notAllowed says why a set may not add listeners to its Gateway, "" if it may. In a
// cluster both sides must want it: whoever has the Gateway, and whoever says which
// namespaces have to do with emergencies.
func (s *state) notAllowed(set *listenerSet) string {
	g, namespace := set.gateway, set.key.Namespace
	from := gwv1.NamespacesFromNone
	var rule gwv1.ListenerNamespaces
	if a := g.obj.Spec.AllowedListeners; a != nil && a.Namespaces != nil {
		rule = *a.Namespaces
		if rule.From != nil {
			from = *rule.From
		}
	}
	if !selects(from, rule.Selector, g.key.Namespace, namespace, s.in.Namespaces) {
		return fmt.Sprintf("Gateway %s does not allow ListenerSets of namespace %s (spec.allowedListeners)", g.key, namespace)
	}
	if c := s.in.Cluster; c != nil && c.GatewayNamespaces[namespace] {
		return "" // its owners may have whole Gateways
	}
	return s.optedIn(namespace)
}

// entries are the listeners of the set, as those of a Gateway are written.
func (set *listenerSet) entries() []gwv1.Listener {
	var out []gwv1.Listener
	for _, e := range set.obj.Spec.Listeners {
		out = append(out, gwv1.Listener(e))
	}
	return out
}

// parentSet is the ListenerSet that a parentRef of a route names, nil if it is not that
// of a Gateway of ours.
func (s *state) parentSet(route activation.RouteKey, ref gwv1.ParentReference) *listenerSet {
	if ref.Group != nil && *ref.Group != gwv1.GroupName || ref.Kind == nil || *ref.Kind != "ListenerSet" {
		return nil
	}
	key := Named(route.Namespace, ref.Namespace, ref.Name)
	return s.sets[key]
}

// setStatus is of the set and its listeners.
func (s *state) setStatus(set *listenerSet) gwv1.ListenerSetStatus {
	ok := yes(string(gwv1.ListenerSetConditionAccepted), string(gwv1.ListenerSetReasonAccepted))
	programmed := yes(string(gwv1.ListenerSetConditionProgrammed), string(gwv1.ListenerSetReasonProgrammed))
	refuse := func(accepted, unprogrammed gwv1.ListenerSetConditionReason, message string) {
		ok, programmed = no(ok.kind, string(accepted), message), no(programmed.kind, string(unprogrammed), message)
	}
	var out gwv1.ListenerSetStatus
	valid, wrong, late := 0, "", ""
	for _, l := range set.listeners {
		ls, why := s.listenerStatus(l)
		out.Listeners = append(out.Listeners, gwv1.ListenerEntryStatus(ls))
		if why != "" {
			why = fmt.Sprintf("listener %s: %s", l.spec.Name, why)
		}
		if l.serving() {
			valid++
			late = cmp.Or(late, why)
		} else {
			wrong = cmp.Or(wrong, why)
		}
	}
	switch {
	case set.refused != "":
		refuse(gwv1.ListenerSetReasonNotAllowed, gwv1.ListenerSetReasonNotAllowed, set.refused)
	case !set.gateway.accepted.ok():
		refuse(gwv1.ListenerSetReasonParentNotAccepted, "ParentNotProgrammed", fmt.Sprintf("Gateway %s is not accepted: see its status", set.gateway.key))
	case valid == 0:
		refuse(gwv1.ListenerSetReasonListenersNotValid, gwv1.ListenerSetReasonListenersNotValid, wrong)
	default:
		if wrong != "" {
			ok.reason, ok.message = string(gwv1.ListenerSetReasonListenersNotValid), wrong
		}
		if late != "" {
			programmed = no(programmed.kind, string(gwv1.ListenerSetReasonPending), late)
		}
		if !s.reachable(set.gateway).ok() {
			programmed = no(programmed.kind, "ParentNotProgrammed", fmt.Sprintf("Gateway %s has not the addresses that it should: see its status", set.gateway.key))
		}
	}
	out.Conditions = conditionsAt(set.obj.Generation, ok, programmed)
	return out
}

// attachedSets counts the accepted sets of a Gateway; nil if it has none at all, since
// the API server may be one that knows none.
func (s *state) attachedSets(g *gateway) *int32 {
	if len(g.sets) == 0 {
		return nil
	}
	var n int32
	for _, set := range g.sets {
		if g.accepted.ok() && slices.ContainsFunc(set.listeners, (*listener).serving) {
			n++
		}
	}
	return &n
}
