// Package reporttest writes logs of incidents that never were, for tests of reports.
package reporttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
)

// Began is when the first thing happens.
var Began = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

// Gateway and Epoch of all requests.
const Gateway, Epoch = "breakglass/emergency", "b6f1c1d2a3e4f506"

// Log is being written.
type Log struct {
	Drafts []merkle.Draft
	n, j   uint64
}

// Add an entry that is recorded at a time after Began.
func (l *Log) Add(at time.Duration, kind string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	l.Drafts = append(l.Drafts, merkle.Draft{Time: Began.Add(at), Kind: kind, Data: data})
}

// Control is an entry that comes from the journal.
func (l *Log) Control(at time.Duration, kind string, v any) {
	l.j++
	l.Add(at, kind, v)
	l.Drafts[len(l.Drafts)-1].Cursors = map[string]string{"journal": fmt.Sprintf("j1:%d", l.j)}
}

// Request that began at a time and took a while.
func (l *Log) Request(at, took time.Duration, edit func(*audit.RequestEntry)) {
	l.n++
	id := fmt.Sprintf("%08x-1f6a-4b52-9f0e-3a5d7c9b%04x", l.n, l.n&0xffff)
	r := audit.RequestEntry{
		V: 1, Key: id, Type: audit.TypeEnd, Gateway: Gateway, Epoch: Epoch, N: l.n, StreamID: id, Connection: fmt.Sprint(l.n/7 + 1),
		Start: Began.Add(at), DurationMs: float64(took.Microseconds()) / 1000, Method: "POST", Host: "db.emergency.example.com",
		Path: "/v1/promote?replica=redacted", Status: 200, Details: "via_upstream", BytesIn: 128, BytesOut: 512,
		Route: "payments/db-failover", Rule: "promote", Activations: []string{"payments/inc-4711"}, Role: "db-failover", Incident: "INC-4711",
		Opening: "lease-1", Issuer: "https://sso.example.com", Subject: "alice@example.com", JTI: "9b1c6d02", ClientAddress: "192.0.2.7:51234",
		UpstreamAddress: "10.0.3.4:8443", UpstreamCluster: "payments/db-failover/promote",
	}
	if edit != nil {
		edit(&r)
	}
	if r.Type != audit.TypeEnd {
		l.n--
		r.N = 0
	}
	l.Add(at+took, audit.KindRequest, r)
	if r.Type == audit.TypeEnd {
		l.Drafts[len(l.Drafts)-1].Cursors = map[string]string{"count/" + r.Gateway + " " + r.Epoch: fmt.Sprint(r.N)}
	}
}

// Record is an activation as it is first seen.
func Record() activation.Record {
	return activation.Record{
		Namespace: "payments", Name: "inc-4711", Origin: activation.Control, RequestedBy: "unix:user=alice,uid=1000",
		Spec: v1alpha1.ActivationSpec{
			Role: "db-failover", Incident: "INC-4711", Reason: "the primary is gone and the failover is stuck",
			TargetRefs: []v1alpha1.TargetReference{{Kind: "HTTPRoute", Name: "db-failover"}},
		},
		Start: Began.Add(time.Minute), Deadline: Began.Add(11 * time.Minute),
	}
}

// Fact is recorded as a controller does, with what more is in the record.
func (l *Log) Fact(at time.Duration, event activation.Event, r activation.Record, more map[string]any) {
	b, err := json.Marshal(activation.Fact{Event: event, Time: Began.Add(at), Record: r})
	if err != nil {
		panic(err)
	}
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		panic(err)
	}
	if record, ok := v["record"].(map[string]any); ok {
		maps.Copy(record, more)
	}
	l.Control(at, audit.KindActivation, v)
}

// Alarm is raised, and, a while later, delivered to sinks.
func (l *Log) Alarm(at time.Duration, id, name, severity, summary string, labels map[string]string, delivered map[string]time.Duration) {
	a := audit.Alarm{V: 1, ID: id, Event: audit.AlarmRaised, Name: name, Severity: severity, Time: Began.Add(at), Summary: summary, Labels: labels}
	l.Add(at+time.Millisecond, audit.KindAlarm, a)
	a.Event, a.Summary, a.Labels = audit.AlarmDelivered, "", nil // a receipt names the alarm alone
	for _, sink := range []string{"alertmanager", "pager"} {
		if after, ok := delivered[sink]; ok {
			a.Sink, a.At = sink, Began.Add(at+after)
			l.Add(at+after+time.Millisecond, audit.KindAlarm, a)
		}
	}
}

// Requests are n ordinary ones of a few people within the window, of which some were
// refused. The log has what an incident needs besides.
func Requests(n int) *Log {
	l := &Log{}
	r := Record()
	l.Control(0, audit.KindStart, map[string]any{"version": "test", "config": "/etc/breakglass/repo", "first": true})
	l.Fact(time.Minute, activation.Requested, r, nil)
	r.Targets = map[string]activation.Target{"HTTPRoute/db-failover": {Route: "payments/db-failover", Digest: "d3", OpenedAt: Began.Add(time.Minute + 20*time.Millisecond)}}
	l.Fact(time.Minute+20*time.Millisecond, activation.Opened, r, nil)
	step := 590 * time.Second / time.Duration(n)
	for i := range n {
		l.Request(61*time.Second+time.Duration(i)*step, 3217*time.Microsecond, func(q *audit.RequestEntry) {
			q.Subject = fmt.Sprintf("user-%d@example.com", i%7)
			q.JTI = fmt.Sprintf("jti-%d", i%23)
			q.ClientAddress = fmt.Sprintf("192.0.2.%d:%d", i%11, 40000+i%20000)
			q.Path = fmt.Sprintf("/v1/shards/%d/promote?replica=redacted", i%500)
			switch {
			case i%50 == 0:
				q.Subject, q.Issuer, q.JTI, q.Status, q.Denied = "", "", "", 401, "token: Jwt is missing"
			case i%97 == 0:
				q.Status = 503
			}
		})
	}
	r.Phase, r.EndedAt, r.Reason = v1alpha1.PhaseExpired, r.Deadline, "Expired"
	l.Fact(11*time.Minute, activation.Expired, r, nil)
	return l
}

// Write makes a Merkle log of it in dir.
func (l *Log) Write(ctx context.Context, dir string) error {
	log, err := merkle.Open(dir, merkle.Options{
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Retention: -1, Origin: "test.example.com/log", Now: func() time.Time { return Began },
	})
	if err != nil {
		return err
	}
	for rest := l.Drafts; len(rest) > 0 && err == nil; {
		n := min(len(rest), 1000)
		err = log.Append(ctx, rest[:n]...)
		rest = rest[n:]
	}
	return errors.Join(err, log.Close())
}
