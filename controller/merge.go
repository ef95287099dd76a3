package controller

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// apply puts what o says of obj into its status, beside what others say there. It
// reports whether that is anything new.
func (o *outcome) apply(key source.ObjectKey, obj client.Object) bool {
	st, name := &o.result.Statuses, types.NamespacedName{Namespace: key.Namespace, Name: key.Name}
	was := obj.DeepCopyObject()
	switch obj := obj.(type) {
	case *v1alpha1.Activation:
		if is, ours := o.activation(name, obj); ours {
			is.Conditions = merge(obj.Status.Conditions, is.Conditions)
			is.Review = laterReview(obj.Status.Review, is.Review)
			obj.Status = is
		}
	case *v1alpha1.EmergencyPolicy:
		obj.Status.Conditions = merge(obj.Status.Conditions, st.Policies[key.Name].Conditions)
	case *gwv1.GatewayClass:
		if is, ours := st.GatewayClasses[key.Name]; ours {
			obj.Status.Conditions = merge(obj.Status.Conditions, is.Conditions)
			obj.Status.SupportedFeatures = is.SupportedFeatures
		}
	case *gwv1.Gateway:
		if is, ours := st.Gateways[name]; ours && o.current(key, obj) {
			applyGateway(&obj.Status, is)
		}
	case *gwv1.ListenerSet:
		if is, ours := st.ListenerSets[name]; ours && o.current(key, obj) {
			applySet(&obj.Status, is)
		}
	case *gwv1.HTTPRoute:
		return o.applyRoute(key, obj, &obj.Status.RouteStatus, activation.HTTPRoute(name))
	case *gwv1.GRPCRoute:
		return o.applyRoute(key, obj, &obj.Status.RouteStatus, activation.GRPCRoute(name))
	case *gwv1.BackendTLSPolicy:
		o.applyPolicy(key, obj)
	}
	return !equality.Semantic.DeepEqual(was, obj)
}

func (o *outcome) applyPolicy(key source.ObjectKey, obj *gwv1.BackendTLSPolicy) {
	if o.current(key, obj) {
		is := o.result.Statuses.BackendTLSPolicies[client.ObjectKeyFromObject(obj)]
		obj.Status.Ancestors = applyAncestors(obj.Status.Ancestors, is.Ancestors)
	}
}

// applyRoute reports whether it has changed status, which is obj's.
func (o *outcome) applyRoute(key source.ObjectKey, obj client.Object, status *gwv1.RouteStatus, route activation.RouteKey) bool {
	if !o.current(key, obj) {
		return false
	}
	was := status.DeepCopy()
	status.Parents = applyParents(status.Parents, o.result.Statuses.Routes[route].Parents)
	return !equality.Semantic.DeepEqual(was, status)
}

// activation is what o says of an Activation, if it is of this very one and takes
// nothing back.
func (o *outcome) activation(name types.NamespacedName, obj *v1alpha1.Activation) (is v1alpha1.ActivationStatus, ours bool) {
	is, ours = o.result.Statuses.Activations[name]
	if r, known := o.result.Records[name]; known && r.UID != "" && r.UID != obj.UID && !r.Removed {
		return is, false // what is known is of another one of this name
	}
	return is, ours && !older(is, obj.Status)
}

// older reports whether is was made before the loop has seen there, which another
// replica wrote when it led: it would take an ending back, or the memory of an
// opening. What it is made of next will have taken that over.
func older(is, there v1alpha1.ActivationStatus) bool {
	switch {
	case is.Phase.Final():
		return false
	case there.Phase.Final(), there.Deadline != nil && is.Deadline.After(there.Deadline.Time):
		return true
	}
	for _, was := range there.Targets {
		o := was.Opening
		if o == nil {
			continue
		}
		i := slices.IndexFunc(is.Targets, func(t v1alpha1.TargetStatus) bool {
			return activation.TargetKey(t.TargetReference) == activation.TargetKey(was.TargetReference)
		})
		if i < 0 || is.Targets[i].Opening == nil || o.EndedAt != nil && is.Targets[i].Opening.EndedAt == nil {
			return true
		}
	}
	return false
}

// laterReview is what is known of a review: a verdict that is there stays, what is
// overdue gets no time, and a due time moves no later.
func laterReview(there, is *v1alpha1.ReviewStatus) *v1alpha1.ReviewStatus {
	switch {
	case there == nil:
		return is
	case is == nil, there.State.Reviewed(), there.State == v1alpha1.ReviewOverdue && is.State == v1alpha1.ReviewPending:
		return there
	case is.State == there.State && there.Due != nil && (is.Due == nil || is.Due.After(there.Due.Time)):
		return there
	}
	return is
}

// current reports whether o was made of this generation of an object: if not, a
// newer one is on its way.
func (o *outcome) current(key source.ObjectKey, obj client.Object) bool {
	used, ok := o.set.Object(key).(client.Object)
	return ok && used.GetUID() == obj.GetUID() && used.GetGeneration() == obj.GetGeneration()
}

func applyGateway(status *gwv1.GatewayStatus, is gwv1.GatewayStatus) {
	status.Conditions = merge(status.Conditions, is.Conditions)
	status.Addresses, status.AttachedListenerSets = is.Addresses, is.AttachedListenerSets
	listeners := make([]gwv1.ListenerStatus, 0, len(is.Listeners))
	for _, l := range is.Listeners {
		if i := slices.IndexFunc(status.Listeners, func(old gwv1.ListenerStatus) bool { return old.Name == l.Name }); i >= 0 {
			l.Conditions = merge(status.Listeners[i].Conditions, l.Conditions)
		} else {
			l.Conditions = merge(nil, l.Conditions)
		}
		listeners = append(listeners, l)
	}
	status.Listeners = listeners
}

func applySet(status *gwv1.ListenerSetStatus, is gwv1.ListenerSetStatus) {
	status.Conditions = merge(status.Conditions, is.Conditions)
	listeners := make([]gwv1.ListenerEntryStatus, 0, len(is.Listeners))
	for _, l := range is.Listeners {
		var there []metav1.Condition
		if i := slices.IndexFunc(status.Listeners, func(old gwv1.ListenerEntryStatus) bool { return old.Name == l.Name }); i >= 0 {
			there = status.Listeners[i].Conditions
		}
		l.Conditions = merge(there, l.Conditions)
		listeners = append(listeners, l)
	}
	status.Listeners = listeners
}

// applyParents replaces what we said of a route's parents, and leaves what others
// say. The order of what stays does not change.
func applyParents(old, is []gwv1.RouteParentStatus) []gwv1.RouteParentStatus {
	out := make([]gwv1.RouteParentStatus, 0, len(old))
	placed := make([]bool, len(is))
	for _, p := range old {
		if p.ControllerName != v1alpha1.ControllerName {
			out = append(out, p)
			continue
		}
		i := unplaced(is, placed, p.ParentRef)
		if i < 0 {
			continue
		}
		placed[i] = true
		n := is[i]
		n.Conditions = merge(p.Conditions, n.Conditions)
		out = append(out, n)
	}
	for i, n := range is {
		if !placed[i] {
			n.Conditions = merge(nil, n.Conditions)
			out = append(out, n)
		}
	}
	return out
}

// maxAncestors is as many as the schema takes.
const maxAncestors = 16

// applyAncestors replaces what we said of a policy, and leaves what others say. What
// has no place any more is left out, as the Gateway API asks for.
func applyAncestors(old, is []gwv1.PolicyAncestorStatus) []gwv1.PolicyAncestorStatus {
	out := slices.DeleteFunc(slices.Clone(old), func(a gwv1.PolicyAncestorStatus) bool { return a.ControllerName == v1alpha1.ControllerName })
	for _, n := range is {
		if len(out) == maxAncestors {
			break
		}
		i := slices.IndexFunc(old, func(a gwv1.PolicyAncestorStatus) bool {
			return a.ControllerName == n.ControllerName && equality.Semantic.DeepEqual(a.AncestorRef, n.AncestorRef)
		})
		var there []metav1.Condition
		if i >= 0 {
			there = old[i].Conditions
		}
		n.Conditions = merge(there, n.Conditions)
		out = append(out, n)
	}
	return out
}

// unplaced finds the first in is of a parentRef that has no place yet: a route may
// name a parent twice. -1: none.
func unplaced(is []gwv1.RouteParentStatus, placed []bool, ref gwv1.ParentReference) int {
	for i, n := range is {
		if !placed[i] && equality.Semantic.DeepEqual(n.ParentRef, ref) {
			return i
		}
	}
	return -1
}

// onlyWhileTrue are conditions that are there while they are so, as the Gateway API has
// it, and are never False.
var onlyWhileTrue = map[string]bool{
	string(gwv1.GatewayConditionInsecureFrontendValidationMode): true,
	string(gwv1.ListenerConditionOverlappingTLSConfig):          true,
}

// merge puts our conditions among those that are there: of other types none is
// touched, and one that says the same keeps its time.
func merge(there, is []metav1.Condition) []metav1.Condition {
	out := slices.DeleteFunc(slices.Clone(there), func(c metav1.Condition) bool {
		return onlyWhileTrue[c.Type] && meta.FindStatusCondition(is, c.Type) == nil
	})
	now := metav1.NewTime(time.Now())
	for _, c := range is {
		c.LastTransitionTime = now
		if c.Reason == "" {
			c.Reason = c.Type // the schema wants one
		}
		i := slices.IndexFunc(out, func(o metav1.Condition) bool { return o.Type == c.Type })
		if i < 0 {
			out = append(out, c)
			continue
		}
		if out[i].Status == c.Status {
			c.LastTransitionTime = out[i].LastTransitionTime
		}
		out[i] = c
	}
	return out
}

// transient reports whether is says no more than that something is being opened, which
// will be something else in a moment. What the other replicas must know is no such thing.
func transient(was, is client.Object) bool {
	switch is := is.(type) {
	case *v1alpha1.Activation:
		return opening(is.Status.Conditions, v1alpha1.ConditionLive) && equality.Semantic.DeepEqual(memory(was.(*v1alpha1.Activation)), memory(is))
	case *gwv1.HTTPRoute:
		return openingRoute(is.Status.Parents)
	case *gwv1.GRPCRoute:
		return openingRoute(is.Status.Parents)
	}
	return false
}

func openingRoute(parents []gwv1.RouteParentStatus) bool {
	return slices.ContainsFunc(parents, func(p gwv1.RouteParentStatus) bool {
		return p.ControllerName == v1alpha1.ControllerName && opening(p.Conditions, v1alpha1.ConditionRouteLive)
	})
}

func opening(conditions []metav1.Condition, kind string) bool {
	c := meta.FindStatusCondition(conditions, kind)
	return c != nil && c.Status == metav1.ConditionFalse && c.Reason == activation.ReasonOpening
}

// memory is what the replicas have in common of an Activation.
func memory(a *v1alpha1.Activation) (out []any) {
	for _, t := range a.Status.Targets {
		if t.Opening != nil {
			out = append(out, *t.Opening)
		}
	}
	return append(out, a.Status.LiveAt != nil)
}
