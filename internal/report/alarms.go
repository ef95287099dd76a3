package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

// alarm takes one that names the activations, or was raised in their time. Each
// replica may have raised it, and each sink have taken it more than once.
func (b *builder) alarm(e *Entry) error {
	var x audit.Alarm
	if err := json.Unmarshal(e.Data, &x); err != nil {
		return err
	}
	if x.Event == audit.AlarmDelivered {
		b.delivered(e, &x)
		return nil
	}
	of := b.asked.Incident != "" && x.Labels["incident"] == b.asked.Incident
	for key := range strings.SplitSeq(x.Labels["activation"], ",") {
		of = of || len(b.byKey[key]) > 0
	}
	if !of && !b.meanwhile(x.Time) {
		return nil
	}
	b.used(e)
	a := b.alarms[x.ID]
	if a == nil {
		a = &Alarm{ID: b.alarmID(x.ID), Name: b.plain(x.Name), Severity: b.plain(x.Severity), Time: x.Time, Summary: b.show(Text, x.Summary), Labels: b.labels(x.Labels)}
		b.alarms[x.ID] = a
	}
	earliest(&a.Time, x.Time)
	a.Raised, a.Of = append(a.Raised, e.ref()), a.Of || of
	return nil
}

// delivered notes a receipt, which names the alarm alone. In the log of a cluster it
// may come before the alarm, which came from another log.
func (b *builder) delivered(e *Entry, x *audit.Alarm) {
	d := Delivery{Sink: b.plain(x.Sink), At: x.At, Entry: e.ref()}
	if d.At.IsZero() {
		d.At = e.Time
	}
	for i := range b.receipts[x.ID] {
		if old := &b.receipts[x.ID][i]; old.Sink == d.Sink {
			if d.At.Before(old.At) {
				*old = d
			}
			return
		}
	}
	b.receipts[x.ID] = append(b.receipts[x.ID], d)
}

// alarmID may have been made of a name that is not to be seen.
func (b *builder) alarmID(id string) string {
	if b.policy.mode(Text) != Keep {
		return b.pseudonym("alarm", id)
	}
	return b.plain(id)
}

func (b *builder) alarmList() []Alarm {
	out := make([]Alarm, 0, len(b.alarms))
	for _, id := range sorted(b.alarms) {
		a := b.alarms[id]
		a.Delivered = b.receipts[id]
		for _, d := range a.Delivered {
			b.used(&Entry{Log: d.Entry.Log, Entry: entryAt(d.Entry.Seq)})
		}
		slices.SortFunc(a.Delivered, func(x, y Delivery) int { return cmp.Or(x.At.Compare(y.At), cmp.Compare(x.Sink, y.Sink)) })
		for i := range a.Delivered {
			a.Delivered[i].LatencyMs = milliseconds(a.Delivered[i].At.Sub(a.Time))
		}
		out = append(out, *a)
	}
	slices.SortStableFunc(out, func(x, y Alarm) int { return x.Time.Compare(y.Time) })
	return out
}

// told is who had which alarm, in figures.
type told struct {
	opened, silent int // activations; those of which nobody had an alarm
	undelivered    int
	slowest        float64
	first          string // the first that was delivered of the activations
}

func whoWasTold(r *Report) (t told) {
	for i := range r.Activations {
		a := &r.Activations[i]
		if a.Opened.IsZero() {
			continue
		}
		t.opened++
		if !slices.ContainsFunc(r.Alarms, func(x Alarm) bool {
			return slices.Contains(strings.Split(x.Labels["activation"], ","), a.Key()) && len(x.Delivered) > 0
		}) {
			t.silent++
		}
	}
	for i := range r.Alarms {
		a := &r.Alarms[i]
		if len(a.Delivered) == 0 {
			t.undelivered++
			continue
		}
		t.slowest = max(t.slowest, a.Delivered[0].LatencyMs)
		if a.Of && t.first == "" {
			t.first = fmt.Sprintf("%s reached %s after %s", a.Name, a.Delivered[0].Sink, ms(a.Delivered[0].LatencyMs))
		}
	}
	return t
}

// alarms says whether somebody was told.
func alarms(r *Report) Verdict {
	t, all := whoWasTold(r), len(r.Alarms)
	switch {
	case all == 0 && t.opened == 0:
		return Verdict{Nothing, "Nothing was opened, and no alarm was raised."}
	case all == 0:
		return Verdict{Bad, "No alarm is in the log: nobody is known to have been told."}
	case t.silent > 0:
		return Verdict{Bad, fmt.Sprintf("NOT delivered: of %s that were opened, %d reached nobody as far as the log knows.", number(t.opened, "activation", "activations"), t.silent)}
	case t.undelivered > 0:
		return Verdict{Attention, fmt.Sprintf("%d of %s not delivered to anybody.", t.undelivered, number(all, "alarm", "alarms"))}
	case t.first != "" && all == 1:
		return Verdict{Good, "Delivered: " + t.first + "."}
	case t.first != "":
		return Verdict{Good, fmt.Sprintf("Delivered: %s; all %d alarms within %s.", t.first, all, ms(t.slowest))}
	}
	return Verdict{Good, fmt.Sprintf("Delivered: %s within %s.", number(all, "alarm", "alarms"), ms(t.slowest))}
}
