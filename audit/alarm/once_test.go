package alarm

import (
	"fmt"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

func TestWhatTwoReplicasRaiseIsDeliveredOnce(t *testing.T) {
	var o Once
	again := func(seq uint64, id, event string) bool {
		e := alarmEntry(audit.Alarm{V: 1, ID: id, Event: event})
		e.Seq = seq
		return o.Again(e)
	}
	for range 2 {
		if again(10, "a", audit.AlarmRaised) {
			t.Error("the first is delivered, by each sink")
		}
	}
	if !again(15, "a", audit.AlarmRaised) {
		t.Error("the second is not")
	}
	if again(16, "a", audit.AlarmDelivered) || again(17, "b", audit.AlarmRaised) {
		t.Error("a receipt is one of its own, and another alarm is another")
	}
	// A sink that is behind one that began later.
	if again(5, "b", audit.AlarmRaised) || !again(17, "b", audit.AlarmRaised) {
		t.Error("the earliest is the one that counts")
	}
	for i := range 3 * keptIDs {
		again(uint64(100+i), fmt.Sprint(i), audit.AlarmRaised)
	}
	if n := len(o.first); n > keptIDs {
		t.Errorf("%d ids are remembered", n)
	}
}
