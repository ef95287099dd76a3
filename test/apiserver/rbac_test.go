//go:build apiserver

package apiserver_test

import (
	"context"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/admission"
	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

const controller = "system:serviceaccount:" + namespace + ":breakglass-controller"

// aggregated binds a user to what the ClusterRole of this name is made of. On a
// cluster a controller puts the parts together; there is none here.
func aggregated(t *testing.T, name, user string) {
	t.Helper()
	var whole rbacv1.ClusterRole
	if err := installed.admin.Get(t.Context(), client.ObjectKey{Name: name}, &whole); err != nil {
		t.Fatal(err)
	}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "test-" + name}, Rules: rulesOf(t, whole)}
	if err := installed.admin.Create(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = installed.admin.Delete(context.Background(), role) })
	if err := installed.bind(t.Context(), "payments", role.Name, user); err != nil {
		t.Fatal(err)
	}
}

// rulesOf is what the role's own rules and its parts say; admin has edit as a part.
func rulesOf(t *testing.T, role rbacv1.ClusterRole) []rbacv1.PolicyRule {
	t.Helper()
	if role.AggregationRule == nil {
		return role.Rules
	}
	var rules []rbacv1.PolicyRule
	for _, s := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&s)
		if err != nil {
			t.Fatal(err)
		}
		var parts rbacv1.ClusterRoleList
		if err := installed.admin.List(t.Context(), &parts, client.MatchingLabelsSelector{Selector: selector}); err != nil {
			t.Fatal(err)
		}
		for _, part := range parts.Items {
			rules = append(rules, rulesOf(t, part)...)
		}
	}
	return rules
}

// may asks the API server itself.
func may(t *testing.T, user string, attributes authorizationv1.ResourceAttributes) bool {
	t.Helper()
	allowed, err := installed.may(t.Context(), user, attributes)
	if err != nil {
		t.Fatal(err)
	}
	return allowed
}

func TestEditorsAndAdminsOfANamespaceCannotBreakTheGlass(t *testing.T) {
	for _, role := range []string{"view", "edit", "admin"} {
		user := role + "or"
		aggregated(t, role, user)
		// Once the API server knows of the role, so that a no below means something.
		works := authorizationv1.ResourceAttributes{Namespace: "payments", Group: "apps", Resource: "deployments", Verb: "create"}
		if role == "view" {
			works.Verb = "list"
		}
		err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
			return may(t, user, works), nil
		})
		if err != nil {
			t.Fatalf("the %s of the test can do nothing", role)
		}
		for _, verb := range []string{"create", "update", "patch", "delete", "deletecollection"} {
			if may(t, user, authorizationv1.ResourceAttributes{Namespace: "payments", Group: "breakglass.dev", Resource: "activations", Verb: verb}) {
				t.Errorf("the %s of a namespace may %s Activations", role, verb)
			}
		}
		if may(t, user, authorizationv1.ResourceAttributes{Namespace: "payments", Group: "breakglass.dev", Resource: "emergencyroles", Name: "diagnostics-readonly", Verb: "activate"}) {
			t.Errorf("the %s of a namespace may activate", role)
		}
		if may(t, user, authorizationv1.ResourceAttributes{Group: "breakglass.dev", Resource: "emergencypolicies", Verb: "update"}) {
			t.Errorf("the %s of a namespace may write policies", role)
		}
		refused(t, installed.as(user).Create(t.Context(), activation("by-"+role)), `cannot create resource "activations"`)
	}
	if !may(t, "viewor", authorizationv1.ResourceAttributes{Namespace: "payments", Group: "breakglass.dev", Resource: "activations", Verb: "list"}) {
		t.Error("a viewer of a namespace does not see Activations")
	}
}

func TestPeopleMayWhatTheirRolesSay(t *testing.T) {
	in := func(group, resource, verb string) authorizationv1.ResourceAttributes {
		return authorizationv1.ResourceAttributes{Namespace: "payments", Group: group, Resource: resource, Verb: verb}
	}
	for _, test := range []struct {
		user string
		what authorizationv1.ResourceAttributes
		want bool
	}{
		{"erin", in("gateway.networking.k8s.io", "httproutes", "create"), true},
		{"erin", in("breakglass.dev", "activations", "create"), false},
		{"alice", in("breakglass.dev", "activations", "create"), true},
		{"alice", in("gateway.networking.k8s.io", "httproutes", "create"), false},
		{"carol", in("breakglass.dev", "activations", "patch"), true},
		{"frank", in("breakglass.dev", "activations", "watch"), true},
		{"frank", in("breakglass.dev", "activations", "create"), false},
	} {
		if got := may(t, test.user, test.what); got != test.want {
			t.Errorf("%s %s %s: %v", test.user, test.what.Verb, test.what.Resource, got)
		}
	}
}

func TestTheControllerReadsAndWritesWhatItNeeds(t *testing.T) {
	c := installed.as(controller)
	for _, list := range []client.ObjectList{
		&gwv1.GatewayClassList{}, &gwv1.GatewayList{}, &gwv1.HTTPRouteList{}, &v1alpha1.ActivationList{}, &v1alpha1.EmergencyPolicyList{},
		&corev1.NamespaceList{}, &corev1.ServiceList{},
	} {
		if err := c.List(t.Context(), list); err != nil {
			t.Errorf("%T: %v", list, err)
		}
	}
	// The admission objects only by name: a list or watch needs the field selector.
	policies := &admissionv1.ValidatingAdmissionPolicyList{}
	if err := c.List(t.Context(), policies, client.MatchingFields{"metadata.name": admission.Name}); err != nil || len(policies.Items) != 1 {
		t.Errorf("%d policies, error %v", len(policies.Items), err)
	}
	refused(t, c.List(t.Context(), policies), "cannot list")
	for _, in := range []string{namespace, "default"} {
		for _, list := range []client.ObjectList{&corev1.SecretList{}, &corev1.ConfigMapList{}} {
			if err := c.List(t.Context(), list, client.InNamespace(in)); err != nil {
				t.Errorf("%T in %s: %v", list, in, err)
			}
		}
	}
	refused(t, c.List(t.Context(), &corev1.SecretList{}, client.InNamespace("payments")), "cannot list")
	refused(t, c.List(t.Context(), &corev1.SecretList{}), "cannot list")
	a := made(t, "with-status")
	a.Status.Phase = v1alpha1.PhaseLive
	if err := c.Status().Update(t.Context(), a); err != nil {
		t.Error(err)
	}
	refused(t, c.Update(t.Context(), a), "cannot update")
	refused(t, c.Create(t.Context(), activation("by-the-controller")), "cannot create")
}
