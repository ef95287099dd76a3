package translator

import (
	"strings"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

func TestWhatIsOpenIsServedWhileTheAuditLogIsBeingOpenedAndThePolicySaysSo(t *testing.T) {
	in := load(t, "testdata/httproute-live/in.yaml", epoch)
	open := settle(t, in, nil)
	in.AuditPending = "the log is being opened"
	out := settle(t, in, nil)
	if d := difference(&Result{Gateways: out.Gateways}, &Result{Gateways: open.Gateways}); d != "" {
		t.Errorf("Envoy gets something else: %s", d)
	}
	if c := out.Statuses.Policies["emergency"].Conditions[0]; c.Type != v1alpha1.ConditionAccepted ||
		!strings.Contains(c.Message, "what is open stays open") || !strings.Contains(c.Message, in.AuditPending) {
		t.Errorf("the policy says %+v", c)
	}
	in.AuditFailing = "line 3 was edited"
	if out := settle(t, in, nil); !out.Gateways[key("door")].LastDeadline.IsZero() || open.Gateways[key("door")].LastDeadline.IsZero() {
		t.Error("what is known to fail is not more than what is not known yet")
	}
}
