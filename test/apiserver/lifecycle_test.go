//go:build apiserver

package apiserver_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/breakglass-gateway/breakglass-gateway/api/admission"
	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// A release is installed, upgraded to one with newer CRDs, and removed, on an API
// server of its own.
func TestAReleaseIsInstalledUpgradedAndRemoved(t *testing.T) {
	s, err := startAPIServer()
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	run := func(args ...string) string {
		t.Helper()
		out, err := s.helm(append(args, "--namespace", namespace)...)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return out
	}

	// With nothing said it installs, and says what is missing.
	if out := run("install", "breakglass", olderChart(t), "--create-namespace", "--set", "audit.service.enabled=false"); !strings.Contains(out, "There is no EmergencyPolicy yet") {
		t.Errorf("the notes are:\n%s", out)
	}
	if revokedBy(t, s) {
		t.Fatal("the older CRD is not older")
	}
	settledAt := admission.Check(foundOn(t, s))
	if !settledAt.InForce() {
		t.Fatal(settledAt.Problems)
	}

	run("upgrade", "breakglass", chart, "--values", "testdata/values.yaml")
	if !revokedBy(t, s) {
		t.Error("the upgrade left the CRD as it was")
	}
	if !auditService(t, s) {
		t.Error("the upgrade brought no audit log service")
	}
	if now := admission.Check(foundOn(t, s)); !now.InForce() || !now.Since.Equal(settledAt.Since) || now.Revision != settledAt.Revision {
		t.Errorf("an upgrade that changes nothing of the policies made them newer: %+v, before %+v", now, settledAt)
	}
	var policy v1alpha1.EmergencyPolicy
	if err := s.admin.Get(t.Context(), client.ObjectKey{Name: "emergency"}, &policy); err != nil || policy.Spec.Issuers[0].Audiences[0] != "breakglass/test" {
		t.Errorf("the policy is %+v, error %v", policy.Spec, err)
	}
	if err := s.people(); err != nil {
		t.Fatal(err)
	}
	a := activation("kept")
	if err := s.as("alice").Create(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	// An upgrade to the same is no change, and what was asked for is still there.
	run("upgrade", "breakglass", chart, "--values", "testdata/values.yaml")
	if err := s.admin.Get(t.Context(), client.ObjectKeyFromObject(a), a); err != nil {
		t.Error(err)
	}

	// Everything that values can say is something that the API server takes.
	for _, name := range []string{"door", "issuer-keys"} {
		if err := s.admin.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	run("upgrade", "breakglass", chart, "--values", "../chart/testdata/full.values.yaml", // but for what needs CRDs of others
		"--set", "monitoring.serviceMonitor.enabled=false", "--set", "monitoring.prometheusRule.enabled=false",
		"--set", "controller.persistence.size=1Gi", "--set", "controller.persistence.storageClass=",
		"--set", "audit.service.size=10Gi", "--set", "audit.service.storageClass=")

	run("upgrade", "breakglass", chart, "--values", "testdata/values.yaml", "--set", "audit.service.enabled=false")
	if auditService(t, s) {
		t.Error("the audit log service is there although it is not enabled")
	}

	run("uninstall", "breakglass")
	for _, left := range leftovers(t, s) {
		t.Errorf("left behind: %s", left)
	}
	if !revokedBy(t, s) {
		t.Error("the CRDs went with the release, and every Activation with them")
	}
	// And again, over CRDs that are there.
	run("install", "breakglass", chart, "--values", "testdata/values.yaml")
	run("uninstall", "breakglass")

	// The commands of docs/install.md for the rest.
	for _, name := range []string{"activations.breakglass.dev", "emergencypolicies.breakglass.dev"} {
		if err := s.admin.Delete(t.Context(), &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Error(err)
		}
	}
}

// olderChart is the chart as it was before Activations said who revoked.
func olderChart(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "breakglass")
	if err := os.CopyFS(dir, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "crds", "breakglass.dev_activations.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(text, &crd); err != nil {
		t.Fatal(err)
	}
	root := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	spec := root.Properties["spec"]
	delete(spec.Properties, "revokedBy")
	var rules apiextensionsv1.ValidationRules
	for _, r := range spec.XValidations {
		if !strings.Contains(r.Rule, "revokedBy") {
			rules = append(rules, r)
		}
	}
	spec.XValidations = rules
	root.Properties["spec"] = spec
	if text, err = yaml.Marshal(crd); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func revokedBy(t *testing.T, s *apiServer) bool {
	t.Helper()
	var crd apiextensionsv1.CustomResourceDefinition
	if err := s.admin.Get(t.Context(), client.ObjectKey{Name: "activations.breakglass.dev"}, &crd); err != nil {
		t.Fatal(err)
	}
	_, has := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties["revokedBy"]
	return has
}

func auditService(t *testing.T, s *apiServer) bool {
	t.Helper()
	err := s.admin.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "breakglass-audit"}, &appsv1.StatefulSet{})
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return err == nil
}

// leftovers are the objects that still carry the chart's label, of every kind that
// the API server has.
func leftovers(t *testing.T, s *apiServer) []string {
	t.Helper()
	var out []string
	add := func(gvk schema.GroupVersionKind, options ...client.ListOption) {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(gvk)
		if err := s.admin.List(t.Context(), list, options...); err != nil {
			t.Fatal(err)
		}
		for _, o := range list.Items {
			out = append(out, o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName())
		}
	}
	for _, kind := range s.listable(t) {
		add(kind, client.MatchingLabels{"app.kubernetes.io/name": "breakglass"})
	}
	add(corev1.SchemeGroupVersion.WithKind("ConfigMap"), client.InNamespace(namespace))
	add(corev1.SchemeGroupVersion.WithKind("Secret"), client.InNamespace(namespace))
	return out
}
