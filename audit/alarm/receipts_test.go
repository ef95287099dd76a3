package alarm

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// desk is Receipts, the time they see, and what they record.
type desk struct {
	*Receipts
	now      time.Time
	recorded []any
}

func newDesk(sinks ...string) *desk {
	d := &desk{now: t0}
	d.Receipts = NewReceipts(ReceiptOptions{
		AlarmSinks: sinks, Late: map[string]time.Duration{"page": 700 * time.Millisecond}, Now: func() time.Time { return d.now }, Log: slog.New(slog.DiscardHandler),
		Append: func(_ string, v any) { d.recorded = append(d.recorded, v) },
	})
	return d
}

func alarmEntry(a audit.Alarm) merkle.Entry {
	b, _ := json.Marshal(a)
	return entry(audit.KindAlarm, string(b))
}

func (d *desk) take(sink, id string) {
	d.Delivered(sink, alarmEntry(audit.Alarm{V: 1, ID: id, Event: audit.AlarmRaised, Name: "X", Time: t0}), d.now)
}

func (d *desk) raise(ids ...string) {
	for _, id := range ids {
		d.Raised([]audit.Alarm{{V: 1, ID: id, Event: audit.AlarmRaised, Name: "X", Time: t0}})
	}
}

func TestWithoutAnAlarmSinkItIsSaidThatNobodyIsTold(t *testing.T) {
	d := newDesk()
	d.raise("a")
	if s := d.Status(); s.Problem != NoSinks || s.Problem != d.Problem() {
		t.Errorf("it says %+v", s)
	}
	if got := gathered(t, d)["breakglass_alarm_sinks"]; got != 0 {
		t.Errorf("breakglass_alarm_sinks is %v", got)
	}
}

func TestADeliveryIsRecordedAndCountedOnce(t *testing.T) {
	d := newDesk("page", "chat")
	d.raise("a", "b")
	if s := d.Status(); s.Undelivered != 2 || !s.Oldest.Equal(t0) || s.Problem != "" {
		t.Fatalf("it says %+v", s)
	}
	d.now = t0.Add(300 * time.Millisecond)
	d.take("page", "a")
	d.take("chat", "a")
	d.take("archive", "b") // no sink of alarms
	if s := d.Status(); s.Undelivered != 1 {
		t.Errorf("it says %+v", s)
	}
	if len(d.recorded) != 3 {
		t.Fatalf("recorded are %+v", d.recorded)
	}
	if a := d.recorded[0].(audit.Alarm); a.Event != audit.AlarmDelivered || a.Sink != "page" || a.ID != "a" || !a.At.Equal(d.now) || !a.Time.Equal(t0) {
		t.Errorf("the receipt is %+v", a)
	}
	// That of a receipt is none.
	d.Delivered("page", alarmEntry(audit.Alarm{V: 1, ID: "a", Event: audit.AlarmDelivered, Name: "X"}), d.now)
	if len(d.recorded) != 3 {
		t.Errorf("recorded are %+v", d.recorded)
	}
	m := gathered(t, d)
	if m["breakglass_alarm_delivery_seconds"] != 1 || m["breakglass_alarms_total"] != 2 || m["breakglass_alarm_sinks"] != 2 || m["breakglass_alarms_undelivered"] != 1 {
		t.Errorf("metrics are %v", m)
	}
}

func TestASinkThatHangsFailsBeforeItSaysSo(t *testing.T) {
	d := newDesk("page", "chat")
	d.raise("a")
	d.take("chat", "a")
	d.now = t0.Add(600 * time.Millisecond)
	if d.Tick(); len(d.recorded) != 1 {
		t.Fatalf("after 600 ms %+v", d.recorded)
	}
	d.now = t0.Add(800 * time.Millisecond)
	d.Tick()
	d.Tick()
	if s := d.recorded[1].(audit.Sink); len(d.recorded) != 2 || s.Sink != "page" || s.Event != audit.SinkFailing || !s.Since.Equal(t0) {
		t.Fatalf("after 800 ms %+v", d.recorded)
	}
	if d.Problem() != "" {
		t.Errorf("the other sink works, and it says %s", d.Problem())
	}
	// Much later it says so itself: that is no news.
	d.State(audit.Sink{V: 1, Sink: "page", Event: audit.SinkFailing, Reason: "timeout", Since: t0})
	if len(d.recorded) != 2 || d.Status().Sinks[0].Reason != "timeout" {
		t.Errorf("recorded are %+v", d.recorded)
	}
	d.State(audit.Sink{V: 1, Sink: "chat", Event: audit.SinkFailing, Reason: "gone", Since: t0})
	if p := d.Problem(); !strings.Contains(p, "none of the 2 alarm sinks") {
		t.Errorf("neither works, and it says %q", p)
	}
	d.State(audit.Sink{V: 1, Sink: "page", Event: audit.SinkWorking})
	if s := d.recorded[len(d.recorded)-1].(audit.Sink); s.Event != audit.SinkWorking || !s.Since.Equal(t0) {
		t.Errorf("it works again: %+v", s)
	}
	if d.Problem() != "" {
		t.Errorf("it says %s", d.Problem())
	}
}

func TestOneThatWasLateWorksWhenItHasTakenTheAlarm(t *testing.T) {
	d := newDesk("page")
	d.raise("a")
	d.now = t0.Add(time.Second)
	d.Tick()
	if !strings.Contains(d.Problem(), "page since") {
		t.Fatalf("it says %q", d.Problem())
	}
	d.take("page", "a")
	if s, ok := d.recorded[len(d.recorded)-1].(audit.Sink); !ok || s.Event != audit.SinkWorking || d.Problem() != "" {
		t.Errorf("recorded are %+v", d.recorded)
	}
}

func TestWhatWasNotDeliveredBeforeTheStartIsNotForgotten(t *testing.T) {
	d := newDesk("page", "new")
	past := map[string]uint64{"page": 8, "new": 9} // the second has just begun, at the end of the log
	has := func(sink string, seq uint64) bool { return past[sink] > seq }
	for seq, id := range map[uint64]string{7: "a", 8: "b", 9: "c"} {
		e := alarmEntry(audit.Alarm{V: 1, ID: id, Event: audit.AlarmRaised, Time: t0.Add(-time.Hour)})
		e.Seq = seq
		d.Recall(e, has)
	}
	if s := d.Status(); s.Undelivered != 1 || !s.Oldest.Equal(t0.Add(-time.Hour)) {
		t.Errorf("it says %+v", s)
	}
	if got := gathered(t, d)["breakglass_alarms_undelivered_seconds"]; got != 3600 {
		t.Errorf("the oldest is %v s old", got)
	}
	if d.Tick(); len(d.recorded) != 0 {
		t.Errorf("it has had no time to deliver it: %+v", d.recorded)
	}
	d.take("page", "c")
	if s := d.Status(); s.Undelivered != 0 {
		t.Errorf("it says %+v", s)
	}
}

// gathered are the metrics: values, and of histograms how often.
func gathered(t *testing.T, d *desk) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(d.Receipts)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			switch {
			case m.Gauge != nil:
				out[f.GetName()] += m.Gauge.GetValue()
			case m.Counter != nil:
				out[f.GetName()] += m.Counter.GetValue()
			case m.Histogram != nil:
				out[f.GetName()] += float64(m.Histogram.GetSampleCount())
			}
		}
	}
	return out
}
