package controller

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// longAgo is when the conditions that are there last changed.
var longAgo = metav1.NewTime(installed)

func condition(kind string, status metav1.ConditionStatus, reason string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, LastTransitionTime: longAgo}
}

// found is an outcome of these objects and statuses.
func found(st translator.Statuses, objects ...source.Object) *outcome {
	return &outcome{set: source.NewSet(objects), result: &translator.Result{Statuses: st, Records: map[types.NamespacedName]activation.Record{}}}
}

func ourParent(name string, conditions ...metav1.Condition) gwv1.RouteParentStatus {
	return gwv1.RouteParentStatus{ParentRef: gwv1.ParentReference{Name: gwv1.ObjectName(name)}, ControllerName: v1alpha1.ControllerName, Conditions: conditions}
}

func routeStatus(parents ...gwv1.RouteParentStatus) (s gwv1.RouteStatus) {
	s.Parents = parents
	return s
}

func TestWhatOthersSayOfARouteStays(t *testing.T) {
	foreign := gwv1.RouteParentStatus{ParentRef: gwv1.ParentReference{Name: "ingress"}, ControllerName: "example.com/other", Conditions: []metav1.Condition{condition("Accepted", metav1.ConditionTrue, "Accepted")}}
	route := &gwv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "db"}}
	key := source.ObjectKey{Kind: "HTTPRoute", Namespace: "pay", Name: "db"}
	seen := source.Object{Key: key, Object: route.DeepCopy()}
	route.Status.Parents = []gwv1.RouteParentStatus{
		ourParent("gone", condition("Accepted", metav1.ConditionTrue, "Accepted")), foreign,
		ourParent("door", condition("Accepted", metav1.ConditionFalse, "X"), condition("theirs", metav1.ConditionTrue, "Y")),
	}
	o := found(translator.Statuses{Routes: map[activation.RouteKey]gwv1.RouteStatus{activation.HTTPRoute(pay("db")): routeStatus(
		ourParent("new", condition("Accepted", metav1.ConditionTrue, "Accepted")),
		ourParent("door", condition("Accepted", metav1.ConditionTrue, "Accepted")),
	)}}, seen)
	if !o.apply(key, route) {
		t.Fatal("nothing is to be written")
	}
	p := route.Status.Parents
	if len(p) != 3 || !reflect.DeepEqual(p[0], foreign) || p[1].ParentRef.Name != "door" || p[2].ParentRef.Name != "new" {
		t.Fatalf("parents are %+v", p)
	}
	if c := p[1].Conditions; len(c) != 2 || c[1] != condition("theirs", metav1.ConditionTrue, "Y") || c[0].LastTransitionTime == longAgo {
		t.Errorf("conditions are %+v", c)
	}
	if o.apply(key, route) {
		t.Error("written again, and nothing changed")
	}

	// It is no route of ours any more: what we said goes, the rest stays.
	o = found(translator.Statuses{}, seen)
	if !o.apply(key, route) || len(route.Status.Parents) != 1 || !reflect.DeepEqual(route.Status.Parents[0], foreign) {
		t.Errorf("parents are %+v", route.Status.Parents)
	}
}

func TestWhatOthersSayOfAPolicyStays(t *testing.T) {
	ancestor := func(name string, by gwv1.GatewayController, reason string) gwv1.PolicyAncestorStatus {
		return gwv1.PolicyAncestorStatus{AncestorRef: gwv1.ParentReference{Name: gwv1.ObjectName(name)}, ControllerName: by, Conditions: []metav1.Condition{condition("Accepted", metav1.ConditionTrue, reason)}}
	}
	foreign := ancestor("door", "example.com/other", "Accepted")
	policy := &gwv1.BackendTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "db"}}
	key := source.ObjectKey{Kind: "BackendTLSPolicy", Namespace: "pay", Name: "db"}
	seen := source.Object{Key: key, Object: policy.DeepCopy()}
	policy.Status.Ancestors = []gwv1.PolicyAncestorStatus{ancestor("gone", v1alpha1.ControllerName, "Accepted"), ancestor("door", v1alpha1.ControllerName, "X"), foreign}
	is := gwv1.PolicyStatus{Ancestors: []gwv1.PolicyAncestorStatus{ancestor("door", v1alpha1.ControllerName, "Accepted"), ancestor("new", v1alpha1.ControllerName, "Accepted")}}
	o := found(translator.Statuses{BackendTLSPolicies: map[types.NamespacedName]gwv1.PolicyStatus{pay("db"): is}}, seen)
	if !o.apply(key, policy) {
		t.Fatal("nothing is to be written")
	}
	a := policy.Status.Ancestors
	if len(a) != 3 || !reflect.DeepEqual(a[0], foreign) || a[1].AncestorRef.Name != "door" || a[1].Conditions[0].Reason != "Accepted" || a[1].Conditions[0].LastTransitionTime != longAgo || a[2].AncestorRef.Name != "new" {
		t.Fatalf("ancestors are %+v", a)
	}
	if o.apply(key, policy) {
		t.Error("written again, and nothing changed")
	}

	// The schema takes 16: what others said is not pushed out.
	policy.Status.Ancestors = nil
	for i := range 15 {
		policy.Status.Ancestors = append(policy.Status.Ancestors, ancestor(fmt.Sprint(i), "example.com/other", "Accepted"))
	}
	if !o.apply(key, policy) || len(policy.Status.Ancestors) != 16 || policy.Status.Ancestors[14].ControllerName == v1alpha1.ControllerName {
		t.Errorf("ancestors are %+v", policy.Status.Ancestors)
	}

	// No route of ours names its Service any more.
	policy.Status.Ancestors = append(is.Ancestors, foreign)
	o = found(translator.Statuses{}, seen)
	if !o.apply(key, policy) || !reflect.DeepEqual(policy.Status.Ancestors, []gwv1.PolicyAncestorStatus{foreign}) {
		t.Errorf("ancestors are %+v", policy.Status.Ancestors)
	}

	// It is another one now: what is known is not said of that.
	policy.Generation = 2
	o = found(translator.Statuses{BackendTLSPolicies: map[types.NamespacedName]gwv1.PolicyStatus{pay("db"): is}}, seen)
	if o.apply(key, policy) {
		t.Error("an older generation's status was written")
	}
}

func TestAParentThatIsNamedTwiceIsNotWrittenAgainAndAgain(t *testing.T) {
	twice := routeStatus(ourParent("door", condition("Accepted", metav1.ConditionTrue, "A")), ourParent("door", condition("Accepted", metav1.ConditionTrue, "A")))
	there := applyParents(nil, twice.Parents)
	for i := range there {
		there[i].Conditions[0].LastTransitionTime = longAgo
	}
	if again := applyParents(there, twice.Parents); !reflect.DeepEqual(again, there) {
		t.Errorf("%+v, was %+v", again, there)
	}
}

func TestATransitionIsOneOfStatus(t *testing.T) {
	there := []metav1.Condition{condition("Live", metav1.ConditionTrue, "Old")}
	same := merge(there, []metav1.Condition{{Type: "Live", Status: metav1.ConditionTrue, Reason: "New", Message: "m", ObservedGeneration: 7}})
	if c := same[0]; c.Reason != "New" || c.ObservedGeneration != 7 || c.LastTransitionTime != longAgo {
		t.Errorf("another reason: %+v", c)
	}
	if c := merge(there, []metav1.Condition{{Type: "Live", Status: metav1.ConditionFalse}})[0]; c.LastTransitionTime == longAgo || c.Reason == "" {
		t.Errorf("another status: %+v", c)
	}
	if there[0].Reason != "Old" {
		t.Error("what was there was changed in place")
	}
}

func TestAStatusIsOfTheGenerationThatIsThere(t *testing.T) {
	gateway := func(generation int64, uid types.UID) *gwv1.Gateway {
		return &gwv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "door", Generation: generation, UID: uid}}
	}
	key := source.ObjectKey{Kind: "Gateway", Namespace: "pay", Name: "door"}
	o := found(translator.Statuses{Gateways: map[types.NamespacedName]gwv1.GatewayStatus{pay("door"): {Conditions: []metav1.Condition{condition("Accepted", metav1.ConditionTrue, "A")}}}},
		source.Object{Key: key, Object: gateway(2, "uid")})
	for name, c := range map[string]struct {
		obj  *gwv1.Gateway
		want bool
	}{"this": {gateway(2, "uid"), true}, "newer": {gateway(3, "uid"), false}, "another": {gateway(2, "other"), false}} {
		if got := o.apply(key, c.obj); got != c.want || len(c.obj.Status.Conditions) > 0 != c.want {
			t.Errorf("%s: written %t", name, got)
		}
	}
}

func TestAGatewaysListenersKeepWhatOthersSayOfThem(t *testing.T) {
	status := gwv1.GatewayStatus{
		Conditions: []metav1.Condition{condition("theirs", metav1.ConditionTrue, "Y")},
		Listeners: []gwv1.ListenerStatus{
			{Name: "gone"}, {Name: "https", Conditions: []metav1.Condition{condition("theirs", metav1.ConditionTrue, "Y"), condition("Accepted", metav1.ConditionTrue, "A")}},
		},
	}
	applyGateway(&status, gwv1.GatewayStatus{
		Conditions: []metav1.Condition{condition("Accepted", metav1.ConditionTrue, "A")},
		Listeners:  []gwv1.ListenerStatus{{Name: "https", Conditions: []metav1.Condition{condition("Accepted", metav1.ConditionTrue, "A")}}},
	})
	if len(status.Conditions) != 2 || status.Conditions[0].Type != "theirs" || len(status.Listeners) != 1 ||
		len(status.Listeners[0].Conditions) != 2 || status.Listeners[0].Conditions[1].LastTransitionTime != longAgo {
		t.Errorf("%+v", status)
	}
}

func TestAnInsecureFrontendIsToldWhileItIsThere(t *testing.T) {
	const kind = "InsecureFrontendValidationMode"
	status := gwv1.GatewayStatus{Conditions: []metav1.Condition{condition("theirs", metav1.ConditionTrue, "Y")}}
	insecure := gwv1.GatewayStatus{Conditions: []metav1.Condition{condition("Accepted", metav1.ConditionTrue, "A"), condition(kind, metav1.ConditionTrue, "ConfigurationChanged")}}
	applyGateway(&status, insecure)
	if len(status.Conditions) != 3 || status.Conditions[2].Type != kind {
		t.Errorf("%+v", status)
	}
	overlaps := func(cs ...metav1.Condition) []gwv1.ListenerStatus {
		return []gwv1.ListenerStatus{{Name: "a", Conditions: append(cs, condition("Accepted", metav1.ConditionTrue, "A"))}}
	}
	insecure.Listeners = overlaps(condition("OverlappingTLSConfig", metav1.ConditionTrue, "OverlappingHostnames"))
	if applyGateway(&status, insecure); len(status.Listeners[0].Conditions) != 2 {
		t.Errorf("%+v", status)
	}
	insecure.Listeners = overlaps()
	if applyGateway(&status, insecure); len(status.Listeners[0].Conditions) != 1 {
		t.Errorf("%+v", status)
	}
	insecure.Conditions = insecure.Conditions[:1]
	applyGateway(&status, insecure)
	if len(status.Conditions) != 2 || status.Conditions[0].Type != "theirs" || status.Conditions[1].Type != "Accepted" {
		t.Errorf("%+v", status)
	}
}

// TestNoStatusTakesBackWhatAnEarlierLeaderSaid: who leads now has seen the object, and
// found what it writes before it saw it.
func TestNoStatusTakesBackWhatAnEarlierLeaderSaid(t *testing.T) {
	at := metav1.NewMicroTime(installed)
	later := metav1.NewMicroTime(installed.Add(time.Minute))
	target := func(o *v1alpha1.Opening) []v1alpha1.TargetStatus {
		return []v1alpha1.TargetStatus{{TargetReference: v1alpha1.TargetReference{Kind: "HTTPRoute", Name: "db"}, Opening: o}}
	}
	opened, ended := &v1alpha1.Opening{Digest: "1", At: at}, &v1alpha1.Opening{Digest: "1", At: at, EndedAt: &later}
	key := source.ObjectKey{Kind: "Activation", Namespace: "pay", Name: "a"}
	for name, c := range map[string]struct {
		there, is v1alpha1.ActivationStatus
		want      bool
	}{
		"an ending":          {v1alpha1.ActivationStatus{Phase: v1alpha1.PhaseRevoked, Deadline: &at}, v1alpha1.ActivationStatus{Phase: v1alpha1.PhaseLive, Deadline: &at}, false},
		"a shorter deadline": {v1alpha1.ActivationStatus{Phase: v1alpha1.PhaseLive, Deadline: &at}, v1alpha1.ActivationStatus{Phase: v1alpha1.PhaseLive, Deadline: &later}, false},
		"an opening":         {v1alpha1.ActivationStatus{Phase: v1alpha1.PhaseLive, Deadline: &at, Targets: target(opened)}, v1alpha1.ActivationStatus{Phase: v1alpha1.PhasePending, Deadline: &at, Targets: target(nil)}, false},
		"a target's ending":  {v1alpha1.ActivationStatus{Phase: v1alpha1.PhaseLive, Deadline: &at, Targets: target(ended)}, v1alpha1.ActivationStatus{Phase: v1alpha1.PhaseLive, Deadline: &at, Targets: target(opened)}, false},
		"nothing":            {v1alpha1.ActivationStatus{Phase: v1alpha1.PhaseLive, Deadline: &later, Targets: target(opened)}, v1alpha1.ActivationStatus{Phase: v1alpha1.PhaseLive, Deadline: &at, Targets: target(ended)}, true},
		"a window":           {v1alpha1.ActivationStatus{Phase: v1alpha1.PhaseLive, Deadline: &at, Targets: target(opened)}, v1alpha1.ActivationStatus{Phase: v1alpha1.PhaseRefused, Deadline: &later}, true},
	} {
		a := &v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "a", UID: "uid"}, Status: c.there}
		o := found(translator.Statuses{Activations: map[types.NamespacedName]v1alpha1.ActivationStatus{pay("a"): c.is}})
		if got := o.apply(key, a); got != c.want {
			t.Errorf("it takes back %s: written %t, want %t", name, got, c.want)
		}
		o.result.Records[pay("a")] = activation.Record{Namespace: "pay", Name: "a", UID: "another"}
		a.Status = c.there
		if o.apply(key, a) {
			t.Errorf("%s: written to another one of this name", name)
		}
	}
}

func TestAGatewayClassTellsWhatIsSupported(t *testing.T) {
	key := source.ObjectKey{Kind: "GatewayClass", Name: "emergency"}
	o := found(translator.Statuses{GatewayClasses: map[string]gwv1.GatewayClassStatus{"emergency": {SupportedFeatures: []gwv1.SupportedFeature{{Name: "Gateway"}}}}})
	class := &gwv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "emergency"}}
	class.Status.SupportedFeatures = []gwv1.SupportedFeature{{Name: "Claimed by the release before"}}
	if !o.apply(key, class) || !reflect.DeepEqual(class.Status.SupportedFeatures, []gwv1.SupportedFeature{{Name: "Gateway"}}) {
		t.Errorf("features are %v", class.Status.SupportedFeatures)
	}
	if o.apply(key, class) {
		t.Error("written again, and nothing changed")
	}
}

func TestWhatOthersSayOfAListenerSetStays(t *testing.T) {
	key := source.ObjectKey{Kind: "ListenerSet", Namespace: "pay", Name: "more"}
	set := &gwv1.ListenerSet{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "more"}}
	seen := source.Object{Key: key, Object: set.DeepCopy()}
	theirs := condition("theirs", metav1.ConditionTrue, "Y")
	set.Status = gwv1.ListenerSetStatus{
		Conditions: []metav1.Condition{condition("Accepted", metav1.ConditionUnknown, "Pending"), theirs},
		Listeners: []gwv1.ListenerEntryStatus{
			{Name: "gone", Conditions: []metav1.Condition{condition("Accepted", metav1.ConditionTrue, "A")}},
			{Name: "a", Conditions: []metav1.Condition{condition("Accepted", metav1.ConditionTrue, "A"), theirs}},
		},
	}
	is := gwv1.ListenerSetStatus{
		Conditions: []metav1.Condition{condition("Accepted", metav1.ConditionTrue, "Accepted")},
		Listeners: []gwv1.ListenerEntryStatus{
			{Name: "b", AttachedRoutes: 1, Conditions: []metav1.Condition{condition("Accepted", metav1.ConditionTrue, "A")}},
			{Name: "a", AttachedRoutes: 2, Conditions: []metav1.Condition{condition("Accepted", metav1.ConditionTrue, "A")}},
		},
	}
	o := found(translator.Statuses{ListenerSets: map[types.NamespacedName]gwv1.ListenerSetStatus{pay("more"): is}}, seen)
	if !o.apply(key, set) {
		t.Fatal("nothing is to be written")
	}
	st := set.Status
	if c := st.Conditions; len(c) != 2 || c[0].Reason != "Accepted" || c[0].LastTransitionTime == longAgo || c[1] != theirs {
		t.Errorf("conditions are %+v", c)
	}
	if l := st.Listeners; len(l) != 2 || l[0].Name != "b" || l[0].AttachedRoutes != 1 || l[1].AttachedRoutes != 2 || len(l[1].Conditions) != 2 || l[1].Conditions[0].LastTransitionTime != longAgo {
		t.Errorf("listeners are %+v", l)
	}
	if o.apply(key, set) {
		t.Error("written again, and nothing changed")
	}
	newer := set.DeepCopy()
	if newer.Generation = 7; o.apply(key, newer) {
		t.Error("written to another generation than it was made of")
	}
	if found(translator.Statuses{}, seen).apply(key, set) {
		t.Error("written to one that is not ours")
	}
}
