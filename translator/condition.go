package translator

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// condition is a metav1.Condition without the parts that depend on history:
// whoever writes a status adds the transition time.
type condition struct {
	kind            string
	status          metav1.ConditionStatus
	reason, message string
}

func yes(kind, reason string) condition {
	return condition{kind: kind, status: metav1.ConditionTrue, reason: reason}
}

func no(kind, reason, message string) condition {
	return condition{kind: kind, status: metav1.ConditionFalse, reason: reason, message: message}
}

func (c condition) ok() bool { return c.status == metav1.ConditionTrue }

// at completes the condition for an object of this generation.
func (c condition) at(generation int64) metav1.Condition {
	return metav1.Condition{Type: c.kind, Status: c.status, Reason: c.reason, Message: c.message, ObservedGeneration: generation}
}

func conditionsAt(generation int64, cs ...condition) []metav1.Condition {
	out := make([]metav1.Condition, 0, len(cs))
	for _, c := range cs {
		out = append(out, c.at(generation))
	}
	return out
}
