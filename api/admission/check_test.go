package admission_test

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/admission"
)

var installed = time.Date(2026, 11, 25, 3, 0, 0, 0, time.UTC)

// asFound are the objects as an API server would return them, each made at another time.
func asFound() admission.Objects {
	o := admission.Expected()
	for i, meta := range []*metav1.ObjectMeta{&o.Mutating.ObjectMeta, &o.MutatingBinding.ObjectMeta, &o.Validating.ObjectMeta, &o.ValidatingBinding.ObjectMeta} {
		meta.CreationTimestamp = metav1.NewTime(installed.Add(time.Duration(i) * time.Second))
		meta.UID, meta.Generation = "u", int64(i+1)
	}
	return o
}

func TestEveryFileIsOneOfTheFourObjectsOfASet(t *testing.T) {
	files, err := fs.Glob(admission.FS, "*.yaml")
	if err != nil || len(files) != 8 {
		t.Fatalf("files %v, error %v", files, err)
	}
	for _, set := range []admission.Set{admission.Activations, admission.Reviews} {
		o := set.Expected()
		for kind, meta := range map[string]metav1.TypeMeta{
			"MutatingAdmissionPolicy": o.Mutating.TypeMeta, "MutatingAdmissionPolicyBinding": o.MutatingBinding.TypeMeta,
			"ValidatingAdmissionPolicy": o.Validating.TypeMeta, "ValidatingAdmissionPolicyBinding": o.ValidatingBinding.TypeMeta,
		} {
			if meta.Kind != kind || meta.APIVersion != admissionv1.SchemeGroupVersion.String() {
				t.Errorf("%s says %+v", kind, meta)
			}
		}
		if r := set.Check(o); !r.InForce() || o.MutatingBinding.Spec.PolicyName != set.Name || o.ValidatingBinding.Spec.PolicyName != set.Name {
			t.Errorf("%s: %v", set.Name, r.Problems)
		}
	}
	if r := admission.Reviews.Check(admission.Expected()); r.InForce() {
		t.Error("the policies for Activations pass as those for reviews")
	}
}

func TestTheCheckOfTheRoleIsOfTheDocumentedVerbAndResource(t *testing.T) {
	rule := admission.Expected().Validating.Spec.Validations[0].Expression
	for _, want := range []string{"authorizer.group('breakglass.dev')", ".resource('" + admission.RoleResource + "')", ".check('" + admission.ActivateVerb + "')"} {
		if !strings.Contains(rule, want) {
			t.Errorf("%s is not in %s", want, rule)
		}
	}
}

func TestTheObjectsAsExpectedAreInForceSinceTheNewest(t *testing.T) {
	found := asFound()
	// A controller's status is no change of what is in force.
	later := metav1.NewTime(installed.Add(time.Hour))
	found.Validating.ManagedFields = []metav1.ManagedFieldsEntry{{Subresource: "status", Time: &later}, {}}
	found.Validating.Status.ObservedGeneration = 7
	found.Mutating.Labels = map[string]string{"more": "labels"}
	r := admission.Check(found)
	if !r.InForce() || !r.Since.Equal(installed.Add(3*time.Second)) || r.Revision != "u/1,u/2,u/3,u/4" {
		t.Errorf("report is %+v", r)
	}
	if r.Trusts(r.Since.Add(admission.Margin-1)) || !r.Trusts(r.Since.Add(admission.Margin)) {
		t.Error("an Activation is trusted from Since + Margin on, and not before")
	}
}

func TestAChangeThatWasUndoneIsATimeFromWhichToTrust(t *testing.T) {
	found := asFound()
	changed := metav1.NewTime(installed.Add(time.Minute))
	found.MutatingBinding.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl", Time: &changed}}
	found.MutatingBinding.Generation += 2
	r := admission.Check(found)
	if !r.InForce() || !r.Since.Equal(changed.Time) || r.Revision == admission.Check(asFound()).Revision {
		t.Errorf("report is %+v", r)
	}
}

func TestWhatIsMissingOrAlteredIsNamed(t *testing.T) {
	ignore := admissionv1.Ignore
	now := metav1.Now()
	for _, test := range []struct {
		name   string
		change func(*admission.Objects)
		want   string
	}{
		{"no mutating policy", func(o *admission.Objects) { o.Mutating = nil }, "the MutatingAdmissionPolicy breakglass-activations is missing"},
		{"no mutating binding", func(o *admission.Objects) { o.MutatingBinding = nil }, "the MutatingAdmissionPolicyBinding breakglass-activations is missing"},
		{"no policy", func(o *admission.Objects) { o.Validating = nil }, "the ValidatingAdmissionPolicy breakglass-activations is missing"},
		{"no binding", func(o *admission.Objects) { o.ValidatingBinding = nil }, "the ValidatingAdmissionPolicyBinding breakglass-activations is missing"},
		{"another name", func(o *admission.Objects) { o.Validating.Name = "x" }, "has another name"},
		{"going", func(o *admission.Objects) { o.ValidatingBinding.DeletionTimestamp = &now }, "is being deleted"},
		{"ignored when it fails", func(o *admission.Objects) { o.Validating.Spec.FailurePolicy = &ignore }, "spec.failurePolicy was changed"},
		{"a default that is gone", func(o *admission.Objects) { o.Mutating.Spec.FailurePolicy = nil }, "spec.failurePolicy is missing"},
		{"an expression", func(o *admission.Objects) { o.Validating.Spec.Validations[0].Expression = "true" }, "spec.validations[0].expression was changed"},
		{"a condition more", func(o *admission.Objects) {
			o.Validating.Spec.MatchConditions = []admissionv1.MatchCondition{{Name: "never", Expression: "false"}}
		}, "spec.matchConditions should not be there"},
		{"a rule less", func(o *admission.Objects) { o.Validating.Spec.Validations = o.Validating.Spec.Validations[:2] }, "spec.validations has 2 entries and should have 7"},
		{"an excluded rule", func(o *admission.Objects) {
			o.Mutating.Spec.MatchConstraints.ExcludeResourceRules = o.Mutating.Spec.MatchConstraints.ResourceRules
		}, "spec.matchConstraints.excludeResourceRules should not be there"},
		{"a selector", func(o *admission.Objects) {
			o.Mutating.Spec.MatchConstraints.NamespaceSelector.MatchLabels = map[string]string{"a": "b"}
		}, "spec.matchConstraints.namespaceSelector.matchLabels should not be there"},
		{"only warns", func(o *admission.Objects) {
			o.ValidatingBinding.Spec.ValidationActions = []admissionv1.ValidationAction{"Warn"}
		}, "spec.validationActions[0] was changed"},
		{"bound to little", func(o *admission.Objects) { o.MutatingBinding.Spec.MatchResources = &admissionv1.MatchResources{} }, "spec.matchResources should not be there"},
	} {
		t.Run(test.name, func(t *testing.T) {
			found := asFound()
			test.change(&found)
			r := admission.Check(found)
			if len(r.Problems) != 1 || !strings.Contains(r.Problems[0], test.want) || r.Trusts(installed.Add(time.Hour)) {
				t.Errorf("report is %+v, want %q", r, test.want)
			}
		})
	}
}

func TestNothingAtAllIsFourProblemsAndNeverTrusted(t *testing.T) {
	r := admission.Check(admission.Objects{})
	if len(r.Problems) != 4 || !r.Since.IsZero() || r.Trusts(time.Now().Add(time.Hour)) {
		t.Errorf("report is %+v", r)
	}
}
