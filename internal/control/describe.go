package control

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// What Status says of an object, from the object and its conditions. Whoever has
// both says the same: serve of what it found, the CLI of what a cluster tells.

// DescribeGateway leaves out the Envoys. The class is nil if it is not known.
func DescribeGateway(obj *gwv1.Gateway, class *gwv1.GatewayClass, st *gwv1.GatewayStatus) GatewayStatus {
	out := GatewayStatus{Namespace: obj.Namespace, Name: obj.Name, Class: string(obj.Spec.GatewayClassName)}
	if class != nil && class.Spec.ParametersRef != nil {
		out.Policy = class.Spec.ParametersRef.Name
	}
	for _, a := range st.Addresses {
		out.Addresses = append(out.Addresses, a.Value)
	}
	told := make(map[gwv1.SectionName]*gwv1.ListenerStatus, len(st.Listeners))
	for i := range st.Listeners {
		told[st.Listeners[i].Name] = &st.Listeners[i]
	}
	for _, spec := range obj.Spec.Listeners {
		item := ListenerStatus{Name: string(spec.Name), Protocol: string(spec.Protocol), Port: int32(spec.Port), Message: "nothing is known of it yet"}
		if ls := told[spec.Name]; ls != nil {
			item.Programmed = Condition(ls.Conditions, string(gwv1.ListenerConditionProgrammed)).Status == metav1.ConditionTrue
			item.AttachedRoutes, item.Message = ls.AttachedRoutes, complaint(ls.Conditions)
		}
		out.add(item, spec.Hostname)
	}
	return out
}

// add adds a listener, at the Gateway's address.
func (g *GatewayStatus) add(item ListenerStatus, hostname *gwv1.Hostname) {
	if hostname != nil {
		item.Hostname = string(*hostname)
	}
	if len(g.Addresses) > 0 {
		item.Address = g.Addresses[0]
	}
	g.Listeners = append(g.Listeners, item)
}

// AddSet adds the listeners of a ListenerSet of the Gateway, under names that say so.
func (g *GatewayStatus) AddSet(obj *gwv1.ListenerSet, st *gwv1.ListenerSetStatus) {
	told := make(map[gwv1.SectionName]*gwv1.ListenerEntryStatus, len(st.Listeners))
	for i := range st.Listeners {
		told[st.Listeners[i].Name] = &st.Listeners[i]
	}
	why := complaint(st.Conditions)
	for _, spec := range obj.Spec.Listeners {
		item := ListenerStatus{Name: fmt.Sprintf("%s/%s/%s", obj.Namespace, obj.Name, spec.Name), Protocol: string(spec.Protocol), Port: int32(spec.Port), Message: cmp.Or(why, "nothing is known of it yet")}
		if ls := told[spec.Name]; ls != nil {
			item.Programmed = Condition(ls.Conditions, string(gwv1.ListenerEntryConditionProgrammed)).Status == metav1.ConditionTrue
			item.AttachedRoutes, item.Message = ls.AttachedRoutes, complaint(ls.Conditions)
		}
		g.add(item, spec.Hostname)
	}
}

// SetParent is the Gateway that a ListenerSet is of.
func SetParent(set *gwv1.ListenerSet) types.NamespacedName {
	key := types.NamespacedName{Namespace: set.Namespace, Name: string(set.Spec.ParentRef.Name)}
	if ns := set.Spec.ParentRef.Namespace; ns != nil {
		key.Namespace = string(*ns)
	}
	return key
}

// gatewayOf a parentRef, which may name a ListenerSet of it.
func gatewayOf(namespace string, ref gwv1.ParentReference, sets map[types.NamespacedName]*gwv1.ListenerSet) types.NamespacedName {
	key := types.NamespacedName{Namespace: namespace, Name: string(ref.Name)}
	if ref.Namespace != nil {
		key.Namespace = string(*ref.Namespace)
	}
	if set := sets[key]; set != nil && ref.Kind != nil && *ref.Kind == "ListenerSet" {
		return SetParent(set)
	}
	return key
}

// DescribeRoute takes the parents that are Gateways of ours or ListenerSets of them, and a route
// of any kind in the shape of an HTTPRoute.
func DescribeRoute(kind string, obj *gwv1.HTTPRoute, parents []gwv1.RouteParentStatus, sets map[types.NamespacedName]*gwv1.ListenerSet) RouteStatus {
	out := RouteStatus{Kind: kind, Namespace: obj.Namespace, Name: obj.Name, Role: obj.Labels[v1alpha1.RoleLabel]}
	for _, h := range obj.Spec.Hostnames {
		out.Hostnames = append(out.Hostnames, string(h))
	}
	for _, r := range obj.Spec.Rules {
		for _, m := range r.Matches {
			item := MatchStatus{}
			if m.Method != nil {
				item.Method = string(*m.Method)
			}
			if m.Path != nil && m.Path.Value != nil {
				item.Path = *m.Path.Value
			}
			out.Matches = append(out.Matches, item)
		}
	}
	for _, p := range parents {
		if gateway := gatewayOf(obj.Namespace, p.ParentRef, sets).String(); !slices.Contains(out.Gateways, gateway) {
			out.Gateways = append(out.Gateways, gateway)
		}
		live := Condition(p.Conditions, v1alpha1.ConditionRouteLive)
		out.Live = out.Live || live.Status == metav1.ConditionTrue
		out.Reason, out.Message = live.Reason, live.Message
		for _, kind := range []gwv1.RouteConditionType{gwv1.RouteConditionResolvedRefs, gwv1.RouteConditionAccepted} {
			if c := Condition(p.Conditions, string(kind)); c.Status != metav1.ConditionTrue {
				out.Reason, out.Message = c.Reason, c.Message
			} else if kind == gwv1.RouteConditionAccepted {
				out.Accepted = true
			}
		}
	}
	return out
}

// DescribePolicy leaves out the issuers' keys.
func DescribePolicy(obj *v1alpha1.EmergencyPolicy, st *v1alpha1.EmergencyPolicyStatus) PolicyStatus {
	out := PolicyStatus{Name: obj.Name, Suspended: obj.Spec.Suspended}
	accepted := Condition(st.Conditions, v1alpha1.ConditionAccepted)
	out.Accepted, out.Message = accepted.Status == metav1.ConditionTrue, accepted.Message
	if refs := Condition(st.Conditions, v1alpha1.ConditionResolvedRefs); refs.Status != metav1.ConditionTrue {
		out.Message = refs.Message
	}
	return out
}

// NotServed says that a GatewayClass or Gateway is not as it should be, "" if it is.
func NotServed(what string, conditions []metav1.Condition, kind string) string {
	c := Condition(conditions, kind)
	if c.Status == metav1.ConditionTrue {
		return ""
	}
	if c.Message == "" {
		c.Message = "nothing is known of it yet"
	}
	return what + ": " + c.Message
}

// GatewayNotServed says what of a Gateway is not as it should be: of the whole, or of
// its listeners.
func GatewayNotServed(what string, st *gwv1.GatewayStatus) (out []string) {
	if no := NotServed(what, st.Conditions, string(gwv1.GatewayConditionProgrammed)); no != "" {
		return []string{no}
	}
	for _, l := range st.Listeners {
		if Condition(l.Conditions, string(gwv1.ListenerConditionProgrammed)).Status != metav1.ConditionTrue {
			out = append(out, fmt.Sprintf("%s: listener %s: %s", what, l.Name, complaint(l.Conditions)))
		}
	}
	return out
}

// Condition of a type; of one that is not there nothing is known.
func Condition(cs []metav1.Condition, kind string) metav1.Condition {
	for _, c := range cs {
		if c.Type == kind {
			return c
		}
	}
	return metav1.Condition{Type: kind, Status: metav1.ConditionUnknown}
}

// complaint is the first thing that conditions complain about.
func complaint(cs []metav1.Condition) string {
	for _, c := range cs {
		bad := c.Status == metav1.ConditionFalse
		if c.Type == string(gwv1.ListenerConditionConflicted) {
			bad = c.Status == metav1.ConditionTrue
		}
		if bad {
			return fmt.Sprintf("%s: %s", c.Reason, c.Message)
		}
	}
	return ""
}
