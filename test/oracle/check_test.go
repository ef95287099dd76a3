//go:build envoy

package oracle

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// check compares the gateway's own word on the activations with the oracle's. It
// may take a moment: an extension of the beacon alone is a change to acknowledge.
func (p *play) check() {
	GinkgoHelper()
	p.settle(time.Now())
	Eventually(func() string {
		began := time.Now()
		st := p.Status()
		for _, a := range p.Acts {
			i := slices.IndexFunc(st.Activations, func(o v1alpha1.Activation) bool { return o.Name == a.Name && o.Namespace == a.Namespace })
			if i < 0 {
				if len(a.Open) > 0 {
					return a.Name + " is not known"
				}
				continue
			}
			if c := cmp.Or(p.complainOfDeadline(a, st.Activations[i].Status), p.complainOfPhase(a, st.Activations[i].Status, began)); c != "" {
				return c
			}
		}
		return ""
	}, "3s", "5ms").Should(BeEmpty(), p.dump)
}

func (p *play) complainOfDeadline(a *act, told v1alpha1.ActivationStatus) string {
	if told.Deadline == nil {
		return ""
	}
	const slack = 2 * time.Millisecond // it is told in microseconds
	d := told.Deadline.Time
	earliest, latest := p.between(a)
	switch {
	case len(a.Open) > 0 && (d.Before(earliest.Add(-slack)) || d.After(latest.Add(slack))):
		return fmt.Sprintf("the deadline of %s is %s, and must be from %s to %s", a.Name, d.Format(clockTime), earliest.Format(clockTime), latest.Format(clockTime))
	case !a.Deadline.IsZero() && d.After(a.Deadline):
		return fmt.Sprintf("the deadline of %s moved later, from %s to %s", a.Name, a.Deadline.Format(clockTime), d.Format(clockTime))
	}
	a.Deadline = d
	return ""
}

func (p *play) complainOfPhase(a *act, told v1alpha1.ActivationStatus, began time.Time) string {
	for _, ts := range told.Targets {
		t, isLive := target{Route: ts.Name}, ts.Phase == v1alpha1.PhaseLive
		if ts.SectionName != nil {
			t.Rule = string(*ts.SectionName)
		}
		isOpen := slices.Contains(a.Open, t)
		switch {
		case isLive && !isOpen:
			return fmt.Sprintf("%v of %s is Live and must not be", t, a.Name)
		case !isLive && isOpen && p.accepted(p.route(a.Namespace, t.Route)) && !p.hidden(a.Namespace, t) && before(time.Now(), began, a.Deadline) == good:
			return fmt.Sprintf("%v of %s must be Live: %+v", t, a.Name, told)
		}
	}
	return ""
}
