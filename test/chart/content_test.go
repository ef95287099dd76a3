//go:build helm

package chart_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/breakglass-gateway/breakglass-gateway/api/admission"
)

// one finds the object of this kind and name, and reads it into its type.
func one[T any](t *testing.T, objects []*unstructured.Unstructured, kind, name string) *T {
	t.Helper()
	for _, o := range objects {
		if o.GetKind() == kind && o.GetName() == name {
			out := new(T)
			if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, out, true); err != nil {
				t.Fatal(err)
			}
			return out
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return nil
}

func TestTheAdmissionObjectsAreThoseThatTheControllerExpects(t *testing.T) {
	for _, name := range cases(t) {
		objects := rendered(t, name)
		for _, set := range []admission.Set{admission.Activations, admission.Reviews} {
			got := admission.Objects{
				Mutating:          one[admissionv1.MutatingAdmissionPolicy](t, objects, "MutatingAdmissionPolicy", set.Name),
				MutatingBinding:   one[admissionv1.MutatingAdmissionPolicyBinding](t, objects, "MutatingAdmissionPolicyBinding", set.Name),
				Validating:        one[admissionv1.ValidatingAdmissionPolicy](t, objects, "ValidatingAdmissionPolicy", set.Name),
				ValidatingBinding: one[admissionv1.ValidatingAdmissionPolicyBinding](t, objects, "ValidatingAdmissionPolicyBinding", set.Name),
			}
			// Labels too: one that changes with a release would make it newer than it is.
			if !reflect.DeepEqual(got, set.Expected()) {
				t.Errorf("%s: rendered %+v", name, got)
			}
		}
	}
}

// An API server drops what a stale CRD does not have, such as a field of a status.
func TestTheChartHasTheCRDsAndPoliciesOfThisVersion(t *testing.T) {
	for _, dir := range []struct{ ours, charts, pattern string }{
		{"../../api/crds", chart + "/crds", "breakglass.dev_*.yaml"},
		{"../../api/admission", chart + "/files/admission", "*.yaml"},
	} {
		here, err := filepath.Glob(filepath.Join(dir.ours, dir.pattern))
		if err != nil || len(here) < 2 {
			t.Fatalf("%s has %v, error %v", dir.ours, here, err)
		}
		there, err := filepath.Glob(filepath.Join(dir.charts, "*"))
		if err != nil || len(there) != len(here) {
			t.Errorf("%s has %v, want as many as %v (error %v)", dir.charts, there, here, err)
		}
		for _, f := range here {
			want, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(dir.charts, filepath.Base(f)))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("the chart has another %s: run make generate (error %v)", f, err)
			}
		}
	}
}

func TestCRDsAreInstalledOnceAndUpgradedBeforeAnUpgrade(t *testing.T) {
	crds := func(objects []*unstructured.Unstructured) map[string]*unstructured.Unstructured {
		out := map[string]*unstructured.Unstructured{}
		for _, o := range objects {
			if o.GetKind() == "CustomResourceDefinition" {
				out[o.GetName()] = o
			}
		}
		return out
	}
	render := func(args ...string) map[string]*unstructured.Unstructured {
		text, err := template(t, args...)
		if err != nil {
			t.Fatal(err)
		}
		return crds(parse(t, text))
	}
	if n := len(render()); n != 0 {
		t.Errorf("%d CRDs among the templates of an install", n)
	}
	if n := len(render("--is-upgrade", "--set", "crds.upgrade=false")); n != 0 {
		t.Errorf("%d CRDs in an upgrade that should have none", n)
	}
	installed, upgraded := render("--include-crds"), render("--is-upgrade")
	if len(installed) != 3 || len(upgraded) != 3 {
		t.Fatalf("%d CRDs installed, %d upgraded", len(installed), len(upgraded))
	}
	for name, crd := range upgraded {
		if !strings.HasSuffix(name, ".breakglass.dev") {
			t.Errorf("%s is not ours", name)
		}
		annotations := crd.GetAnnotations()
		if annotations["helm.sh/hook"] != "pre-upgrade" {
			t.Errorf("%s has annotations %v", name, annotations)
		}
		delete(annotations, "helm.sh/hook")
		delete(annotations, "helm.sh/hook-weight")
		crd.SetAnnotations(annotations)
		if !reflect.DeepEqual(crd, installed[name]) {
			t.Errorf("%s is another when it is upgraded", name)
		}
	}
}

func TestTheControllerAndTheAuditLogServiceAreHardened(t *testing.T) {
	for _, name := range cases(t) {
		objects := rendered(t, name)
		for _, set := range []string{"breakglass-controller", "breakglass-audit"} {
			if name == "bare" && set == "breakglass-audit" {
				continue // it is left out
			}
			pod := one[appsv1.StatefulSet](t, objects, "StatefulSet", set).Spec.Template.Spec
			c := pod.Containers[0]
			switch {
			case len(pod.Containers) != 1 || len(pod.InitContainers) != 0,
				pod.HostNetwork || pod.HostPID || pod.HostIPC,
				!*pod.SecurityContext.RunAsNonRoot || *pod.SecurityContext.RunAsUser != 65532 || pod.SecurityContext.SeccompProfile.Type != "RuntimeDefault",
				*c.SecurityContext.AllowPrivilegeEscalation || !*c.SecurityContext.ReadOnlyRootFilesystem || c.SecurityContext.Privileged != nil,
				!reflect.DeepEqual(fmt.Sprint(c.SecurityContext.Capabilities.Drop), "[ALL]") || len(c.SecurityContext.Capabilities.Add) != 0,
				c.LivenessProbe.HTTPGet.Path != "/healthz" || c.ReadinessProbe.HTTPGet.Path != "/readyz":
				t.Errorf("%s: %+v", name, pod)
			}
			for _, v := range pod.Volumes {
				if v.HostPath != nil {
					t.Errorf("%s: a volume of the host", name)
				}
			}
		}
	}
}

// A port-forward reaches the loopback of a pod, and nothing else does: readers come by the API server only.
func TestReadersOfTheAuditLogComeToTheLoopbackOfThePodOnly(t *testing.T) {
	set := one[appsv1.StatefulSet](t, rendered(t, "default"), "StatefulSet", "breakglass-audit")
	c := set.Spec.Template.Spec.Containers[0]
	if !slices.Contains(c.Args, "--read-address=127.0.0.1:18002") {
		t.Errorf("the arguments are %q", c.Args)
	}
	for _, port := range c.Ports {
		if port.ContainerPort == 18002 {
			t.Error("the port for readers is told to others")
		}
	}
	if *set.Spec.Replicas != 1 {
		t.Error("a log has one writer")
	}
}

func TestSinksAreInThePodsOfWhoeverTellsThem(t *testing.T) {
	objects := rendered(t, "full")
	for _, name := range []string{"breakglass-controller", "breakglass-audit"} {
		pod := one[appsv1.StatefulSet](t, objects, "StatefulSet", name).Spec.Template
		var file struct {
			Sinks []struct{ Name string }
		}
		if err := yaml.Unmarshal([]byte(pod.Annotations["breakglass.dev/sinks"]), &file); err != nil || len(file.Sinks) != 2 || file.Sinks[0].Name != "alertmanager" {
			t.Errorf("%s: %+v, error %v", name, file, err)
		}
		c := pod.Spec.Containers[0]
		if !slices.Contains(c.Args, "--sinks=/etc/breakglass/sinks/sinks.yaml") {
			t.Errorf("%s has the arguments %q", name, c.Args)
		}
		at := map[string]string{}
		for _, m := range c.VolumeMounts {
			at[m.Name] = m.MountPath
		}
		for _, v := range pod.Spec.Volumes {
			if at[v.Name] == "" {
				t.Errorf("%s: volume %s is not mounted", name, v.Name)
			}
			if v.Secret != nil && v.Secret.SecretName == "siem-token" && at[v.Name] != "/etc/breakglass/secrets/siem-token" {
				t.Errorf("%s: the Secret is at %s", name, at[v.Name])
			}
		}
	}
}

func TestAlertsAndDashboardAskForMetricsThatExist(t *testing.T) {
	var known []string
	var files []string
	for _, pattern := range []string{"../../internal/*/*.go", "../../controller/*.go", "../../audit/*/*.go"} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, more...)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?:desc\("|NewDesc\("breakglass_)([a-z_]+)"`).FindAllStringSubmatch(string(text), -1) {
			known = append(known, "breakglass_"+m[1])
		}
	}
	if len(known) < 15 {
		t.Fatalf("knows only %v", known)
	}
	for _, f := range []string{"alerts.yaml", "alerts-audit.yaml", "dashboard.json"} {
		text, err := os.ReadFile(filepath.Join(chart, "files", f))
		if err != nil {
			t.Fatal(err)
		}
		asked := regexp.MustCompile(`\bbreakglass_[a-z_]+`).FindAllString(string(text), -1)
		if len(asked) < 5 {
			t.Errorf("%s asks only for %v", f, asked)
		}
		for _, name := range asked {
			if !slices.Contains(known, name) {
				t.Errorf("%s asks for %s, which nobody tells", f, name)
			}
		}
	}
}

func TestEveryAlertSaysWhatItIsAndWhatToDo(t *testing.T) {
	var text []byte
	for _, f := range []string{"alerts.yaml", "alerts-audit.yaml"} {
		part, err := os.ReadFile(filepath.Join(chart, "files", f))
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, part...)
	}
	var spec struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalStrict(text, &spec); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range append(spec.Groups[0].Rules, spec.Groups[1].Rules...) {
		if seen[r.Alert] || r.Expr == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" || !slices.Contains([]string{"info", "warning", "critical"}, r.Labels["severity"]) {
			t.Errorf("%+v", r)
		}
		seen[r.Alert] = true
	}
	if len(seen) < 10 {
		t.Errorf("only %d alerts", len(seen))
	}
}
