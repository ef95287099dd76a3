package alarm

import (
	"testing"
)

// What rules cost of each request, where an offline issuer is in a policy, so that
// each is looked at.
func BenchmarkLookAtARequest(b *testing.B) {
	for name, policy := range map[string]string{"offline issuer": policyV1, "none": policyV2} {
		b.Run(name, func(b *testing.B) {
			r := New(Options{})
			r.Look(entry("policy", policy))
			e := request(t0, "https://sso", "alice@example.test", "", "pay/inc-1")
			b.ReportAllocs()
			for b.Loop() {
				r.Look(e)
			}
		})
	}
}
