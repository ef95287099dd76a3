// Package admission holds the four objects by which the API server itself decides
// who may break the glass: a MutatingAdmissionPolicy that writes down who asks, a
// ValidatingAdmissionPolicy that refuses what may not be asked, and their bindings.
// There is no webhook that could be down.
//
// The controller trusts spec.requestedBy and the check of the role only while these
// objects are in force as they are here. Check says whether they are, and since when.
//
// Four more do the same for ActivationReviews, under a name of their own: a change of
// those leaves Activations as settled as they were.
package admission

import (
	"embed"
	"fmt"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/yaml"
)

// Name of all four objects, and ReviewsName of those for reviews.
const (
	Name        = "breakglass-activations"
	ReviewsName = "breakglass-activationreviews"
)

// Set is one of the two: four objects of one name.
type Set struct{ Name, suffix string }

// The sets.
var (
	Activations = Set{Name: Name}
	Reviews     = Set{Name: ReviewsName, suffix: "-reviews"}
)

// What the policies are about, for those who write Roles.
const (
	// RoleResource is the resource of breakglass.dev whose names are emergency roles. There are no
	// such objects: it exists in RBAC rules only.
	RoleResource = "emergencyroles"
	// ActivateVerb on the name of a role, in the Activation's namespace, is what an activator needs.
	ActivateVerb = "activate"
)

// FS holds one object per file, named as its kind in lower case, with -reviews of
// those for reviews, as an API server returns it: every field that has a default is
// written out.
//
//go:embed *.yaml
var FS embed.FS

// Objects are the four, as expected or as found. Nil: not there.
type Objects struct {
	Mutating          *admissionv1.MutatingAdmissionPolicy
	MutatingBinding   *admissionv1.MutatingAdmissionPolicyBinding
	Validating        *admissionv1.ValidatingAdmissionPolicy
	ValidatingBinding *admissionv1.ValidatingAdmissionPolicyBinding
}

// Expected are the objects for Activations.
func Expected() Objects { return Activations.Expected() }

// Expected are the objects as this release wants them. They are new at each call.
func (s Set) Expected() Objects {
	return Objects{
		Mutating:          read[admissionv1.MutatingAdmissionPolicy]("mutatingadmissionpolicy" + s.suffix + ".yaml"),
		MutatingBinding:   read[admissionv1.MutatingAdmissionPolicyBinding]("mutatingadmissionpolicybinding" + s.suffix + ".yaml"),
		Validating:        read[admissionv1.ValidatingAdmissionPolicy]("validatingadmissionpolicy" + s.suffix + ".yaml"),
		ValidatingBinding: read[admissionv1.ValidatingAdmissionPolicyBinding]("validatingadmissionpolicybinding" + s.suffix + ".yaml"),
	}
}

func read[T any](name string) *T {
	text, err := FS.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	var obj T
	if err := yaml.UnmarshalStrict(text, &obj); err != nil {
		panic(fmt.Sprintf("%s: %v", name, err)) // a test reads it too
	}
	return &obj
}
