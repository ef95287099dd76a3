package v1alpha1

import (
	"time"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// DurationOr parses a Duration that the schema has checked. One that is unset, or
// in spite of the schema cannot be read, is the default: never "no limit".
func DurationOr(d *gwv1.Duration, unset time.Duration) time.Duration {
	if d == nil {
		return unset
	}
	v, err := time.ParseDuration(string(*d))
	if err != nil {
		return unset
	}
	return v
}

// PositiveOr is DurationOr where zero and less mean nothing: they count as unset.
func PositiveOr(d *gwv1.Duration, unset time.Duration) time.Duration {
	if v := DurationOr(d, unset); v > 0 {
		return v
	}
	return unset
}
