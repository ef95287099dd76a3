package reporttest

import (
	"fmt"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
)

const sec, minute = time.Second, time.Minute

// Incident is a night with everything in it: a failover, a second activation that is
// revoked and one that is refused; people who came, one who should not have, and
// strangers; a stream that was cut at the deadline; alarms, a change of policy, a gap;
// readers; and a review on the next day. Controllers record what they decide twice.
func Incident() *Log {
	l := &Log{}
	l.Control(0, audit.KindStart, map[string]any{"version": "test", "config": "/etc/breakglass/repo", "first": true})
	l.Control(0, audit.KindConfig, map[string]any{"v": 1, "loaded": true, "objects": 12, "digest": "4e07408562bedb8b60ce"})
	l.policy(0, "9f86d081884c7d659a2f")
	first := l.opened()
	l.night()
	second := l.revoked()
	l.refused()
	first.Phase, first.EndedAt, first.Reason = v1alpha1.PhaseExpired, first.Deadline, "Expired"
	t := first.Targets["HTTPRoute/db-failover"]
	t.EndedAt, t.Reason = first.Deadline, "Expired"
	first.Targets = map[string]activation.Target{"HTTPRoute/db-failover": t}
	due := map[string]any{"reviewDue": Began.Add(72 * time.Hour)}
	l.Fact(11*minute+4*time.Millisecond, activation.Expired, first, due)
	l.Alarm(11*minute, "ended/payments/inc-4711", audit.AlarmEnded, "info", "payments/inc-4711 has expired", of("payments/inc-4711"), map[string]time.Duration{"alertmanager": 61 * time.Millisecond, "pager": 84 * time.Millisecond})
	l.Request(9*minute+12*sec, 107*sec+998*time.Millisecond+400*time.Microsecond+time.Millisecond*2, func(q *audit.RequestEntry) {
		q.Method, q.Path, q.Cut, q.BytesIn, q.BytesOut = "GET", "/v1/replica/events", audit.CutClosed, 0, 1_934_112
	})
	l.Add(30*minute, audit.KindRead, audit.Read{V: 1, By: "carol@example.com", Groups: []string{"auditors"}, What: "/v1/entries?incident=INC-4711", Address: "198.51.100.20:50112"})
	l.Add(31*minute, audit.KindRead, audit.Read{V: 1, By: "mallory@example.com", What: "/v1/entries?subject=alice%40example.com", Address: "203.0.113.66:41000", Refused: "may not get auditlogs"})
	due["review"] = map[string]any{
		"verdict": "justified", "by": "carol@example.com", "at": Began.Add(30 * time.Hour), "source": "control",
		"note": "The failover was needed. The runbook lacks the step that made it hang.", "followUps": []string{"Runbook: promote before fencing", "Give mallory's team the right role or none"},
	}
	l.Fact(30*time.Hour, "reviewed", first, due)
	l.Alarm(30*time.Hour, "reviewed/payments/inc-4711", audit.AlarmReviewed, "info", "payments/inc-4711 was reviewed as justified", of("payments/inc-4711"), map[string]time.Duration{"alertmanager": 76 * time.Millisecond})
	l.Fact(30*time.Hour+minute, "reviewed", second, map[string]any{"review": map[string]any{
		"verdict": "justified", "by": "carol@example.com", "at": Began.Add(30*time.Hour + minute), "note": "Closed again at once.", "source": "control",
	}})
	return l
}

func of(activation string) map[string]string {
	return map[string]string{"activation": activation, "role": "db-failover", "incident": "INC-4711", "requestedBy": "unix:user=alice,uid=1000"}
}

func (l *Log) policy(at time.Duration, digest string) {
	l.Control(at, audit.KindPolicy, map[string]any{
		"name": "emergency", "digest": digest, "file": "policies/emergency.yaml", "ownerUID": 1000, "classes": []string{"emergency"}, "keys": map[string]string{"sso": "k1", "offline": "k2"},
		"spec": map[string]any{"roles": []any{map[string]any{
			"name": "db-failover", "grants": []any{map[string]any{"issuer": "sso"}, map[string]any{"issuer": "offline"}}, "hostnames": []string{"*.emergency.example.com"}, "namespaces": []string{"payments"}, "maxDuration": "30m",
		}}},
	})
}

// opened is the first activation, as far as it is live.
func (l *Log) opened() activation.Record {
	r := Record()
	l.Fact(minute, activation.Requested, r, nil)
	l.Fact(minute+3*time.Millisecond, activation.Requested, r, nil) // the other replica
	r.Targets = map[string]activation.Target{"HTTPRoute/db-failover": {
		Route: "payments/db-failover", Digest: "a1b2c3d4e5f60718293a", Openings: map[string]string{"promote": "lease-1"}, OpenedAt: Began.Add(minute + 12*time.Millisecond),
	}}
	l.Fact(minute+12*time.Millisecond, activation.Opened, r, nil)
	l.Alarm(minute+12*time.Millisecond, "opened/payments/inc-4711/2026-11-24T03:01:00Z", audit.AlarmOpened, "critical",
		"payments/inc-4711 is open for db-failover until 03:11:00Z: the primary is gone and the failover is stuck", of("payments/inc-4711"), map[string]time.Duration{"alertmanager": 143 * time.Millisecond, "pager": 388 * time.Millisecond})
	r.LiveAt = Began.Add(minute + 21*time.Millisecond)
	l.Fact(minute+21*time.Millisecond, activation.Live, r, nil)
	return r
}

// night is what came through the door, and what did not.
func (l *Log) night() {
	status := func(q *audit.RequestEntry) { q.Method, q.Path, q.BytesIn = "GET", "/v1/replica/status", 0 }
	for i := range 120 {
		at := 70*sec + time.Duration(i*i)*29*time.Millisecond
		l.Request(at, 4*time.Millisecond, status)
		if i%3 == 0 {
			l.Request(at+200*time.Millisecond, 31*time.Millisecond, func(q *audit.RequestEntry) {
				q.Path, q.Subject, q.JTI, q.ClientAddress = fmt.Sprintf("/v1/shards/%d/promote", i/30), "bob@example.com", "c7725fe1", "198.51.100.3:40022"
			})
		}
	}
	l.Request(3*minute, 812*time.Millisecond, func(q *audit.RequestEntry) { q.Status, q.Attempts = 503, 2 })
	l.Request(4*minute, 9*time.Millisecond, func(q *audit.RequestEntry) {
		q.Issuer, q.Subject, q.JTI, q.ClientAddress = "https://breakglass.example.com/offline", "on-call laptop 3", "", "192.0.2.40:60111"
	})
	for i := range 9 {
		l.Request(4*minute+time.Duration(i)*700*time.Millisecond, time.Millisecond, func(q *audit.RequestEntry) {
			q.Subject, q.JTI, q.Status, q.Denied, q.ClientAddress, q.UpstreamAddress = "mallory@example.com", "00ff", 403, "rbac: none", "203.0.113.66:41000", ""
		})
	}
	for i := range 40 {
		l.Request(5*minute+time.Duration(i)*90*time.Millisecond, 400*time.Microsecond, func(q *audit.RequestEntry) {
			q.Subject, q.Issuer, q.JTI, q.Status, q.Denied, q.ClientAddress, q.UpstreamAddress = "", "", "", 401, "token: Jwt is missing", "[2001:db8:7::19]:7001", ""
			q.Path = fmt.Sprintf("/.env?%d", i%5)
		})
	}
	l.Request(6*minute, 300*time.Microsecond, func(q *audit.RequestEntry) {
		q.Subject, q.Issuer, q.JTI, q.Status, q.Denied, q.ClientAddress = "", "", "", 404, "not open", "203.0.113.9:5999"
		q.Route, q.Activations, q.Role, q.Incident, q.Rule = "", nil, "", "", ""
		q.Host, q.Path = "admin.emergency.example.com", `/<script>alert(1)</script>|[x](http://evil.example)\u202e`
	})
	for i := range 3 {
		l.Add(6*minute+time.Duration(i)*sec, audit.KindConnection, audit.ConnectionEntry{
			V: 1, Gateway: Gateway, Epoch: Epoch, Connection: fmt.Sprint(900 + i), Start: Began.Add(6*minute + time.Duration(i)*sec), ClientAddress: "203.0.113.9:6001", Details: "TLS_error: unknown protocol",
		})
	}
	l.policy(6*minute+30*sec, "0c1d2e3f4a5b6c7d8e9f")
	l.Alarm(6*minute+30*sec, "policy/emergency/0c1d2e3f4a5b6c7d8e9f", audit.AlarmPolicy, "warning", "EmergencyPolicy emergency has changed", map[string]string{"policy": "emergency"}, nil)
	l.Add(7*minute, audit.KindLimited, audit.Limited{V: 1, Gateway: Gateway, Epoch: Epoch, Refused: 1204, Requests: 87, Since: Began.Add(6*minute + 50*sec), Until: Began.Add(7 * minute)})
	l.Request(7*minute+30*sec, 0, func(q *audit.RequestEntry) {
		q.Type, q.Status, q.Key, q.StreamID = audit.TypeIntent, 0, "an-intent", "an-intent"
	})
	l.Add(8*minute, audit.KindGap, audit.Gap{V: 1, Lost: 1, Since: Began.Add(7*minute + 29*sec), Until: Began.Add(7*minute + 31*sec), Reason: "Envoy was killed", Gateway: Gateway, Epoch: Epoch, AtLeast: true, InFlight: 1})
	l.Alarm(8*minute, "gap/"+Epoch, audit.AlarmGap, "critical", "at least 1 request is not in the log: Envoy was killed", map[string]string{"gateway": Gateway}, map[string]time.Duration{"alertmanager": 210 * time.Millisecond})
}

// revoked is a second activation of the same incident.
func (l *Log) revoked() activation.Record {
	r := Record()
	r.Name, r.RequestedBy, r.Spec.Reason = "inc-4711-2", "unix:user=bob,uid=1001", "the queue has to be drained as well"
	r.Spec.TargetRefs = []v1alpha1.TargetReference{{Kind: "GRPCRoute", Name: "queue-drain"}}
	r.Start, r.Deadline = Began.Add(8*minute), Began.Add(23*minute)
	l.Fact(8*minute, activation.Requested, r, nil)
	r.Targets = map[string]activation.Target{"GRPCRoute/queue-drain": {Route: "GRPCRoute payments/queue-drain", Digest: "77aa88bb99cc00dd11ee", OpenedAt: Began.Add(8*minute + 15*time.Millisecond)}}
	l.Fact(8*minute+15*time.Millisecond, activation.Opened, r, nil)
	l.Alarm(8*minute+15*time.Millisecond, "opened/payments/inc-4711-2", audit.AlarmOpened, "critical", "payments/inc-4711-2 is open for db-failover until 03:23:00Z", of("payments/inc-4711-2"), map[string]time.Duration{"alertmanager": 120 * time.Millisecond})
	for i := range 14 {
		l.Request(8*minute+20*sec+time.Duration(i)*sec, 55*time.Millisecond, func(q *audit.RequestEntry) {
			q.Route, q.Rule, q.Activations, q.Opening = "GRPCRoute payments/queue-drain", "drain", []string{"payments/inc-4711-2"}, "lease-2"
			q.Host, q.Path, q.Subject, q.JTI, q.ClientAddress = "queue.emergency.example.com", "/queue.v1.Queue/Drain", "bob@example.com", "c7725fe1", "198.51.100.3:40022"
		})
	}
	r.Phase, r.EndedAt, r.EndedBy, r.Message = v1alpha1.PhaseRevoked, Began.Add(9*minute), "unix:user=bob,uid=1001", "drained"
	t := r.Targets["GRPCRoute/queue-drain"]
	t.EndedAt, t.Reason = r.EndedAt, "Revoked"
	r.Targets = map[string]activation.Target{"GRPCRoute/queue-drain": t}
	l.Fact(9*minute, activation.Revoked, r, map[string]any{"reviewDue": Began.Add(72 * time.Hour)})
	l.Alarm(9*minute, "revoked/payments/inc-4711-2", audit.AlarmRevoked, "info", "payments/inc-4711-2 was revoked by unix:user=bob,uid=1001", of("payments/inc-4711-2"), map[string]time.Duration{"alertmanager": 97 * time.Millisecond})
	return r
}

// refused is one that was never open.
func (l *Log) refused() {
	r := Record()
	r.Name, r.RequestedBy, r.Spec.Reason, r.Spec.Role = "inc-4711-3", "unix:user=mallory,uid=1002", "let me have a look", "db-failover"
	r.Start, r.Deadline = Began.Add(9*minute+5*sec), Began.Add(19*minute)
	r.Phase, r.Reason, r.Message, r.EndedAt = v1alpha1.PhaseRefused, "LimitReached", "the policy lets 2 activations of this role be open in an hour", r.Start
	l.Fact(9*minute+5*sec, activation.Refused, r, nil)
	l.Alarm(9*minute+5*sec, "refused/payments/inc-4711-3", audit.AlarmRefused, "warning", "payments/inc-4711-3 was refused", of("payments/inc-4711-3"), map[string]time.Duration{"alertmanager": 88 * time.Millisecond})
}
