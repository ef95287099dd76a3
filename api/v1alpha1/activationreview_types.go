package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ActivationReview is somebody's verdict on an Activation that was open and has
// ended. Every such Activation needs one, drills included. It opens nothing and
// closes nothing.
//
// Who reviews must not be who activated. The first that is accepted is the verdict:
// it is recorded, and neither another one nor deleting this one changes it. One that
// is not accepted has no effect; status says why, and what to do.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=arev,categories=breakglass
// +kubebuilder:printcolumn:name="ACTIVATION",type=string,JSONPath=`.spec.activationRef.name`
// +kubebuilder:printcolumn:name="VERDICT",type=string,JSONPath=`.spec.verdict`
// +kubebuilder:printcolumn:name="REVIEWER",type=string,JSONPath=`.spec.reviewedBy`
// +kubebuilder:printcolumn:name="ACCEPTED",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="REASON",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].reason`,priority=1
// +kubebuilder:printcolumn:name="AGE",type=date,JSONPath=`.metadata.creationTimestamp`
type ActivationReview struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ActivationReviewSpec   `json:"spec"`
	Status ActivationReviewStatus `json:"status,omitempty"`
}

// ActivationReviewList is a list of ActivationReview.
//
// +kubebuilder:object:root=true
type ActivationReviewList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ActivationReview `json:"items"`
}

// Verdict of a review.
//
// +kubebuilder:validation:Enum=Drill;Justified;Misuse
type Verdict string

const (
	// VerdictDrill: a rehearsal, and nothing but.
	VerdictDrill Verdict = "Drill"
	// VerdictJustified: there was need, and what was done was what was needed.
	VerdictJustified Verdict = "Justified"
	// VerdictMisuse: there was no need, or more was done than was needed.
	VerdictMisuse Verdict = "Misuse"
)

// ActivationReviewSpec is what is said of an Activation. None of it can be changed.
//
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="an ActivationReview cannot be changed: what was accepted is recorded; if it was not, make a new one"
type ActivationReviewSpec struct {
	// ActivationRef names the Activation.
	ActivationRef ActivationReference `json:"activationRef"`

	// Verdict in one word.
	Verdict Verdict `json:"verdict"`

	// Note says how the verdict was reached, for whoever reads it in a year.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	// +kubebuilder:validation:XValidation:rule="self.matches('[^ \\\\t\\\\n\\\\r]')",message="say how you came to the verdict, in words an auditor can use"
	Note string `json:"note"`

	// FollowUps are what is to be done because of it: a ticket, a sentence. At most 16.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.all(f, f.matches('[^ \\\\t\\\\n\\\\r]'))",message="a follow-up says nothing: leave it out"
	FollowUps []string `json:"followUps,omitempty"`

	// ReviewedBy is who reviews, as the API server saw it. What a client writes here
	// is replaced.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	ReviewedBy string `json:"reviewedBy,omitempty"`
}

// ActivationReference names an Activation in the namespace of the review.
type ActivationReference struct {
	// Name of the Activation. It may have been deleted since.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// UID, if it has to be this very one. A name is spent once, so there is no other
	// that was ever open.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	UID string `json:"uid,omitempty"`
}

// ActivationReviewStatus is what became of a review.
type ActivationReviewStatus struct {
	// AcceptedAt is when it was recorded as the verdict.
	//
	// +optional
	AcceptedAt *metav1.MicroTime `json:"acceptedAt,omitempty"`
	// Conditions: Accepted.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
