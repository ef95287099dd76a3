//go:build apiserver

package apiserver_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

func TestWhoAsksIsWhoTheAPIServerSawWhateverHeWrote(t *testing.T) {
	for _, claimed := range []string{"", "the CEO", "alice"} {
		a := activation("who-" + strings.ToLower(strings.ReplaceAll(claimed, " ", "-")) + "x")
		a.Spec.RequestedBy, a.Spec.RevokedBy = claimed, ""
		if err := installed.as("alice").Create(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if a.Spec.RequestedBy != "alice" || a.Spec.RevokedBy != "" || a.Spec.TargetRefs[0].Kind != "HTTPRoute" {
			t.Errorf("stored as %+v", a.Spec)
		}
	}
}

func TestWhoeverMayNotActivateTheRoleReadsWhatToAskFor(t *testing.T) {
	a := activation("not-bob")
	err := installed.as("bob").Create(t.Context(), a)
	refused(t, err, "you (bob) may not activate the emergency role diagnostics-readonly in namespace payments: check spec.role, or ask for a RoleBinding to the ClusterRole breakglass-activator-diagnostics-readonly")
	if !apierrors.IsForbidden(err) {
		t.Errorf("not forbidden but %v", apierrors.ReasonForError(err))
	}
	other := activation("not-this-role")
	other.Spec.Role = "db-failover"
	refused(t, installed.as("alice").Create(t.Context(), other), "you (alice) may not activate the emergency role db-failover in namespace payments")
	// The right to activate is in another namespace.
	elsewhere := activation("not-here")
	elsewhere.Namespace = "delivery"
	refused(t, installed.as("alice").Create(t.Context(), elsewhere), "may not activate the emergency role diagnostics-readonly in namespace delivery")
}

func TestABadActivationIsRefusedWithASentence(t *testing.T) {
	past := metav1.NewTime(time.Now().Add(-time.Minute))
	zero := gwv1.Duration("0s")
	for _, test := range []struct {
		name   string
		change func(*v1alpha1.Activation)
		want   string
	}{
		{"no incident", func(a *v1alpha1.Activation) { a.Spec.Incident = "" }, "name the incident this is for, or set spec.drill: true for a rehearsal"},
		{"no reason", func(a *v1alpha1.Activation) { a.Spec.Reason = " \t" }, "say why, in words a reviewer can use"},
		{"no role", func(a *v1alpha1.Activation) { a.Spec.Role = "" }, "spec.role"},
		{"no target", func(a *v1alpha1.Activation) { a.Spec.TargetRefs = nil }, "spec.targetRefs"},
		{"a target twice", func(a *v1alpha1.Activation) { a.Spec.TargetRefs = append(a.Spec.TargetRefs, a.Spec.TargetRefs[0]) }, "a target is named twice: remove one"},
		{"another kind", func(a *v1alpha1.Activation) { a.Spec.TargetRefs[0].Kind = "TCPRoute" }, "supported values: \"HTTPRoute\""},
		{"no time", func(a *v1alpha1.Activation) { a.Spec.Duration = &zero }, "must be at least 1s"},
		{"too late", func(a *v1alpha1.Activation) { a.Spec.NotAfter = &past }, "has passed, so nothing could open: give a later one, or leave it out"},
		{"revoked", func(a *v1alpha1.Activation) { a.Spec.Revoked = true }, "an Activation cannot begin as revoked: leave spec.revoked out"},
		{"a finalizer", func(a *v1alpha1.Activation) { a.Finalizers = []string{"example.com/stay"} }, "an Activation takes no finalizers, so that deleting it closes at once"},
		{"a namespace without the label", func(a *v1alpha1.Activation) { a.Namespace = "closed" }, "namespace closed may not have emergency routes, so nothing could open: check the namespace, or have it labelled breakglass.dev/emergency-routes=allowed"},
		{"a namespace with another label", func(a *v1alpha1.Activation) { a.Namespace = "refused" }, "namespace refused may not have emergency routes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := activation("bad")
			test.change(a)
			refused(t, installed.as("alice").Create(t.Context(), a), test.want)
		})
	}
	t.Run("no spec", func(t *testing.T) {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Activation"))
		u.SetNamespace("payments")
		u.SetName("bad")
		refused(t, installed.as("alice").Create(t.Context(), u), "spec: Required value")
	})
	t.Run("a drill needs no incident, and a later end is good", func(t *testing.T) {
		a := activation("good")
		future := metav1.NewTime(time.Now().Add(time.Hour))
		a.Spec.Incident, a.Spec.Drill, a.Spec.NotAfter = "", true, &future
		if err := installed.as("alice").Create(t.Context(), a); err != nil {
			t.Error(err)
		}
	})
}

func TestARevokerRevokesUnderHisOwnNameAndForGood(t *testing.T) {
	a := made(t, "to-revoke")
	carol, dan := installed.as("carol"), installed.as("dan")
	if err := carol.Patch(t.Context(), a, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"revoked":true,"revokedBy":"mallory"}}`))); err != nil {
		t.Fatal(err)
	}
	if !a.Spec.Revoked || a.Spec.RevokedBy != "carol" || a.Spec.RequestedBy != "alice" {
		t.Errorf("stored as %+v", a.Spec)
	}
	for _, patch := range []string{`{"spec":{"revoked":false}}`, `{"spec":{"revoked":null}}`, `{"spec":{"revoked":null,"revokedBy":null}}`} {
		refused(t, dan.Patch(t.Context(), a.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(patch))), "revocation is final: make a new Activation under a new name")
	}
	// Once revoked, nobody takes it over; what a client says of people is put right.
	for _, patch := range []string{`{"spec":{"revokedBy":"dan"}}`, `{"spec":{"revokedBy":null}}`, `{"spec":{"requestedBy":"dan"}}`, `{"spec":{"requestedBy":null}}`, `{"spec":{"revoked":true}}`, `{"metadata":{"labels":{"a":"b"}}}`} {
		b := a.DeepCopy()
		if err := dan.Patch(t.Context(), b, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
			t.Errorf("%s: %v", patch, err)
		}
		if b.Spec.RevokedBy != "carol" || b.Spec.RequestedBy != "alice" {
			t.Errorf("after %s: %+v", patch, b.Spec)
		}
	}
}

func TestARevokerCanDoNothingElse(t *testing.T) {
	a := made(t, "not-to-change")
	carol := installed.as("carol")
	for _, patch := range []string{
		`{"spec":{"duration":"4h"}}`, `{"spec":{"role":"db-failover"}}`, `{"spec":{"reason":"x"}}`, `{"spec":{"incident":"INC-2"}}`,
		`{"spec":{"targetRefs":[{"name":"other"}]}}`, `{"spec":{"notAfter":"2036-01-01T00:00:00Z"}}`, `{"spec":{"drill":true}}`,
	} {
		refused(t, carol.Patch(t.Context(), a.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(patch))), "an Activation cannot be changed, only revoked (spec.revoked: true): make a new one under a new name")
	}
	refused(t, carol.Patch(t.Context(), a.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":["example.com/stay"]}}`))), "takes no finalizers")
	b := a.DeepCopy()
	if err := carol.Patch(t.Context(), b, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"revokedBy":"carol"}}`))); err != nil || b.Spec.RevokedBy != "" {
		t.Errorf("revokedBy %q without revoked, error %v", b.Spec.RevokedBy, err)
	}
	refused(t, carol.Create(t.Context(), activation("by-a-revoker")), `cannot create resource "activations"`)
	// Apply creates what is not there, if one may create.
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "breakglass.dev/v1alpha1", "kind": "Activation", "metadata": map[string]any{"namespace": "payments", "name": "by-apply"},
		"spec": map[string]any{"targetRefs": []any{map[string]any{"name": "r"}}, "role": "diagnostics-readonly", "reason": "r", "incident": "i"},
	}}
	refused(t, carol.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("test")), `cannot create resource "activations"`)
	refused(t, carol.Delete(t.Context(), a.DeepCopy()), "cannot delete")
	b = a.DeepCopy()
	b.Status.Phase = v1alpha1.PhaseExpired
	refused(t, carol.Status().Update(t.Context(), b), "activations/status")
}

func TestAnActivatorCannotChangeOrRevoke(t *testing.T) {
	a := made(t, "not-to-revoke")
	a.Spec.Revoked = true
	refused(t, installed.as("alice").Update(t.Context(), a), "cannot update")
	refused(t, installed.as("alice").Delete(t.Context(), a), "cannot delete")
}

func TestKubectlApplyTwiceIsOnce(t *testing.T) {
	alice, err := installed.env.AddUser(envtest.User{Name: "alice"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	kubectl, err := alice.Kubectl()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "a.yaml")
	// Group and kind are said: kubectl would else see a difference to the defaults, and ask to patch.
	text := `{apiVersion: breakglass.dev/v1alpha1, kind: Activation, metadata: {name: applied, namespace: payments},
spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: diagnostics}], role: diagnostics-readonly, reason: r, incident: INC-1}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"created", "unchanged"} {
		stdout, stderr, err := kubectl.Run("apply", "-f", file)
		out, _ := io.ReadAll(io.MultiReader(stdout, stderr))
		if err != nil || !strings.Contains(string(out), "activation.breakglass.dev/applied "+want) {
			t.Errorf("want %s, got error %v: %s", want, err, out)
		}
	}
	stdout, _, err := kubectl.Run("get", "activation", "applied", "-n", "payments")
	out, _ := io.ReadAll(stdout)
	if err != nil || !strings.Contains(string(out), "ROUTE         ROLE                   INCIDENT   PHASE   DEADLINE") {
		t.Errorf("error %v: %s", err, out)
	}
}
