package translator

import (
	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
)

// requestLimits are those of the policy, and the default where it has none.
func (p *policy) requestLimits() lock.Limits {
	l, spec := lock.DefaultLimits, p.obj.Spec.Requests
	for _, x := range []struct {
		to   *lock.Rate
		from *v1alpha1.Rate
	}{{&l.WithToken, spec.WithToken}, {&l.WithoutToken, spec.WithoutToken}, {&l.AllWithoutToken, spec.AllWithoutToken}} {
		if x.from != nil && x.from.PerSecond > 0 && x.from.Burst > 0 {
			*x.to = lock.Rate{PerSecond: uint32(x.from.PerSecond), Burst: uint32(x.from.Burst)}
		}
	}
	return l
}
