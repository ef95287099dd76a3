package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

func TestAlarmsAndWhoWasToldAreToldInWords(t *testing.T) {
	at := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	tell := func(kind string, v any) telling {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return tellEntry(merkle.Entry{Kind: kind, Data: b})
	}
	raised := tell(audit.KindAlarm, audit.Alarm{V: 1, Event: audit.AlarmRaised, Name: audit.AlarmOpened, Severity: "critical", Time: at, Summary: "The glass is broken", Labels: map[string]string{"role": "db"}})
	if raised.event != "alarm raised" || raised.object != "ActivationOpened" || raised.role != "db" || raised.message != "critical: The glass is broken" {
		t.Errorf("raised: %+v", raised)
	}
	got := tell(audit.KindAlarm, audit.Alarm{V: 1, ID: "opened/a", Event: audit.AlarmDelivered, Time: at, Sink: "pager", At: at.Add(120 * time.Millisecond)})
	if got.event != "alarm delivered" || got.who != "sink pager" || got.message != "120ms after its cause: opened/a" || !got.at.Equal(at.Add(120*time.Millisecond)) {
		t.Errorf("delivered: %+v", got)
	}
	if got := tell(audit.KindSink, audit.Sink{V: 1, Sink: "pager", Event: audit.SinkFailing, Reason: "refused", Behind: 3}); got.object != "sink pager" || got.message != "refused (3 entries wait)" {
		t.Errorf("failing: %+v", got)
	}
}

func TestTheStatusSaysWhichAlarmSinkFailsAndWhatWaits(t *testing.T) {
	now := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	a := &control.AlarmStatus{Sinks: []control.AlarmSink{{Name: "pager", Failing: now.Add(-time.Minute), Reason: "gone\nfor ever"}, {Name: "chat"}}, Undelivered: 2, Oldest: now.Add(-time.Hour)}
	got := alarmLines(a, now, true)
	for _, want := range []string{"the alarm sink pager takes nothing since ", ": gone for ever\n", "alarms go to chat\n", "nobody has been told of yet: 2, the oldest of "} {
		if !strings.Contains(got, want) {
			t.Errorf("it lacks %q:\n%s", want, got)
		}
	}
	if got := alarmLines(nil, now, true); got != "" {
		t.Errorf("of a cluster of which it is not known it says %q", got)
	}
}
