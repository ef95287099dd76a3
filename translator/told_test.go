package translator

import (
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

func TestThatNobodyIsToldIsInThePolicyAndChangesNothingElse(t *testing.T) {
	in := load(t, "testdata/httproute-live/in.yaml", epoch)
	open := settle(t, in, nil)
	in.NobodyIsTold = "no alarm sink is configured"
	out := settle(t, in, nil)
	if d := difference(&Result{Gateways: out.Gateways}, &Result{Gateways: open.Gateways}); d != "" {
		t.Errorf("Envoy gets something else: %s", d)
	}
	was, is := open.Statuses.Policies["emergency"].Conditions, out.Statuses.Policies["emergency"].Conditions
	if len(is) != len(was)+1 {
		t.Fatalf("the policy says %+v", is)
	}
	if c := is[len(is)-1]; c.Type != v1alpha1.ConditionAlarmsDelivered || c.Status != "False" || c.Message != in.NobodyIsTold {
		t.Errorf("the policy says %+v", c)
	}
}
