//go:build apiserver

package apiserver_test

import (
	"context"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/breakglass-gateway/breakglass-gateway/api/admission"
)

// found reads the four objects as the controller would.
func found(t *testing.T) admission.Objects {
	t.Helper()
	return foundOn(t, installed)
}

func foundOn(t *testing.T, s *apiServer) admission.Objects {
	t.Helper()
	o := admission.Objects{
		Mutating: &admissionv1.MutatingAdmissionPolicy{}, MutatingBinding: &admissionv1.MutatingAdmissionPolicyBinding{},
		Validating: &admissionv1.ValidatingAdmissionPolicy{}, ValidatingBinding: &admissionv1.ValidatingAdmissionPolicyBinding{},
	}
	get(t, s, o.Mutating, &o.Mutating)
	get(t, s, o.MutatingBinding, &o.MutatingBinding)
	get(t, s, o.Validating, &o.Validating)
	get(t, s, o.ValidatingBinding, &o.ValidatingBinding)
	return o
}

// get reads obj, and makes *at nil if it is not there.
func get[T any](t *testing.T, s *apiServer, obj client.Object, at **T) {
	t.Helper()
	err := s.admin.Get(t.Context(), client.ObjectKey{Name: admission.Name}, obj)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	if err != nil {
		*at = nil
	}
}

func TestTheObjectsAreReturnedAsExpected(t *testing.T) {
	got, want := found(t), admission.Expected()
	for name, pair := range map[string][2]any{
		"mutating": {got.Mutating.Spec, want.Mutating.Spec}, "mutating binding": {got.MutatingBinding.Spec, want.MutatingBinding.Spec},
		"validating": {got.Validating.Spec, want.Validating.Spec}, "validating binding": {got.ValidatingBinding.Spec, want.ValidatingBinding.Spec},
	} {
		if !equality.Semantic.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s\n got: %+v\nwant: %+v", name, pair[0], pair[1])
		}
	}
	r := admission.Check(got)
	if !r.InForce() {
		t.Error(r.Problems)
	}
	// Nothing was changed since it was made, whatever has been read and asked since.
	if r.Since.IsZero() || r.Since.After(time.Now()) || !r.Trusts(r.Since.Add(admission.Margin)) {
		t.Errorf("since %v", r.Since)
	}
}

// The policies are changed and deleted as by somebody who may, and put back.
func TestAnAlteredOrDeletedPolicyIsFound(t *testing.T) {
	before := admission.Check(found(t))
	for _, test := range []struct {
		name, want string
		object     client.Object
		change     func(client.Object)
	}{
		{"the failure policy", "the MutatingAdmissionPolicy breakglass-activations is not as this release wants it: spec.failurePolicy was changed", admission.Expected().Mutating, func(o client.Object) {
			o.(*admissionv1.MutatingAdmissionPolicy).Spec.FailurePolicy = new(admissionv1.Ignore)
		}},
		{"a validation", "spec.validations[0].expression was changed", admission.Expected().Validating, func(o client.Object) {
			o.(*admissionv1.ValidatingAdmissionPolicy).Spec.Validations[0].Expression = "true"
		}},
		{"the actions", "the ValidatingAdmissionPolicyBinding breakglass-activations is not as this release wants it: spec.validationActions[0] was changed", admission.Expected().ValidatingBinding, func(o client.Object) {
			o.(*admissionv1.ValidatingAdmissionPolicyBinding).Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Audit}
		}},
		{"a smaller binding", "spec.matchResources should not be there", admission.Expected().MutatingBinding, func(o client.Object) {
			o.(*admissionv1.MutatingAdmissionPolicyBinding).Spec.MatchResources = &admissionv1.MatchResources{}
		}},
		{"nothing of the policy", "the ValidatingAdmissionPolicy breakglass-activations is missing", admission.Expected().Validating, nil},
		{"nothing of the binding", "the MutatingAdmissionPolicyBinding breakglass-activations is missing", admission.Expected().MutatingBinding, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			restore(t, test.object)
			obj := test.object.DeepCopyObject().(client.Object)
			if err := installed.admin.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
				t.Fatal(err)
			}
			var err error
			if test.change == nil {
				err = installed.admin.Delete(t.Context(), obj)
			} else {
				test.change(obj)
				err = installed.admin.Update(t.Context(), obj)
			}
			if err != nil {
				t.Fatal(err)
			}
			r := admission.Check(found(t))
			if len(r.Problems) != 1 || !strings.Contains(r.Problems[0], test.want) || r.Revision == before.Revision {
				t.Errorf("report is %+v", r)
			}
		})
	}
	after := admission.Check(found(t))
	if !after.InForce() || after.Revision == before.Revision || after.Since.Before(before.Since) {
		t.Errorf("put back, the report is %+v; before it was %+v", after, before)
	}
}

// Without its mutating half the validating one lets nobody in, under his name or another.
func TestWithoutTheMutatingPolicyNobodyGetsIn(t *testing.T) {
	binding := admission.Expected().MutatingBinding
	restore(t, binding)
	if err := installed.admin.Delete(t.Context(), binding.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		last = installed.as("alice").Create(ctx, activation("without"), client.DryRunAll)
		return last != nil, nil
	})
	if err != nil {
		t.Fatal("the API server still mutates")
	}
	refused(t, last, "spec.requestedBy is not who asked: leave it out; if you did, the MutatingAdmissionPolicy breakglass-activations or its binding is missing: install the Helm chart of breakglass again")
	forged := activation("forged")
	forged.Spec.RequestedBy = "carol"
	refused(t, installed.as("alice").Create(t.Context(), forged), "spec.requestedBy is not who asked")
}

// restore puts the object back when the test ends, and waits until it is in force.
func restore(t *testing.T, want client.Object) {
	t.Helper()
	t.Cleanup(func() {
		ctx := context.Background()
		obj := want.DeepCopyObject().(client.Object)
		err := installed.admin.Get(ctx, client.ObjectKeyFromObject(obj), obj)
		if client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
		fresh := want.DeepCopyObject().(client.Object)
		if err == nil {
			fresh.SetResourceVersion(obj.GetResourceVersion())
			err = installed.admin.Update(ctx, fresh)
		} else {
			err = installed.admin.Create(ctx, fresh)
		}
		if err == nil {
			err = installed.settled(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}
