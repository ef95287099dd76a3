package alarm

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

var t0 = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

func entryAt(t time.Time, kind, data string) merkle.Entry {
	return merkle.Entry{V: 1, Time: t, Kind: kind, Data: json.RawMessage(data)}
}

func entry(kind, data string) merkle.Entry { return entryAt(t0, kind, data) }

// activation is the data of an entry of an activation.
func activation(event, more string) string {
	return fmt.Sprintf(`{"event":%q,"time":"2026-11-24T03:00:00Z","record":{"namespace":"pay","name":"inc-1","start":"2026-11-24T02:59:59Z","deadline":"2026-11-24T03:15:00Z",
		"requestedBy":"alice (uid 1000)","spec":{"role":"db-fix","reason":"the primary is down","incident":"INC-1","targetRefs":[{"kind":"HTTPRoute","name":"db"},{"kind":"HTTPRoute","name":"queue","sectionName":"drain"}]%s}}`,
		event, more)
}

const (
	policyV1 = `{"name":"main","digest":"a","ownerUID":0,"keys":{"sso":"k1"},"spec":{"issuers":[{"name":"sso","issuer":"https://sso"},{"name":"vault","issuer":"https://offline","offline":true}]}}`
	policyV2 = `{"name":"main","digest":"b","ownerUID":0,"keys":{"sso":"k1"},"spec":{"issuers":[{"name":"sso","issuer":"https://other"}]}}`
	policyOn = `{"name":"main","digest":"c","ownerUID":0,"keys":{"sso":"k1"},"spec":{"suspended":true,"issuers":[{"name":"sso","issuer":"https://sso"},{"name":"vault","issuer":"https://offline","offline":true}]}}`
	policyK2 = `{"name":"main","digest":"d","ownerUID":0,"keys":{"sso":"k2"},"spec":{"issuers":[{"name":"sso","issuer":"https://sso"},{"name":"vault","issuer":"https://offline","offline":true}]}}`
	policyNo = `{"name":"main","digest":"","ownerUID":0}`
)

func TestWhatEachEntryRaises(t *testing.T) {
	type alarm struct{ name, severity, id, says string }
	for _, c := range []struct {
		name    string
		entries []merkle.Entry // the last one's alarms are looked at
		want    []alarm
	}{
		{"that it was asked for", []merkle.Entry{entry("activation", activation("requested", "}"))}, nil},
		{"that it opens", []merkle.Entry{entry("activation", activation("opened", "}"))}, []alarm{{
			"ActivationOpened", "critical", "opened/pay/inc-1/2026-11-24T02:59:59.000000Z",
			`pay/inc-1 opens db, queue:drain as db-fix until 03:15:00 UTC for INC-1, asked for by alice (uid 1000): "the primary is down"`,
		}}},
		{"a drill opens", []merkle.Entry{entry("activation", activation("opened", `,"drill":true}`))}, []alarm{{
			"ActivationOpened", "critical", "opened/pay/inc-1/2026-11-24T02:59:59.000000Z", "Drill: ",
		}}},
		{"an object has a uid", []merkle.Entry{entry("activation", activation("opened", `},"uid":"u-1"`))}, []alarm{{
			"ActivationOpened", "critical", "opened/pay/inc-1/u-1", "",
		}}},
		{"the second target opens", []merkle.Entry{entry("activation", activation("opened", "}")), entry("activation", activation("opened", "}"))}, nil},
		{"it is live", []merkle.Entry{entry("activation", activation("live", "}"))}, nil},
		{"it is refused", []merkle.Entry{entry("activation", activation("refused", `},"phase":"Refused","reason":"NotEntitled","message":"role db-fix does not open it"`))}, []alarm{{
			"ActivationRefused", "warning", "refused/pay/inc-1/2026-11-24T02:59:59.000000Z", "role db-fix does not open it",
		}}},
		{"it is revoked", []merkle.Entry{entry("activation", activation("revoked", `},"phase":"Revoked","endedBy":"bob"`))}, []alarm{{
			"ActivationRevoked", "warning", "revoked/pay/inc-1/2026-11-24T02:59:59.000000Z", "by bob",
		}}},
		{"it ends", []merkle.Entry{entry("activation", activation("expired", `},"phase":"Expired"`))}, []alarm{{
			"ActivationEnded", "info", "ended/pay/inc-1/2026-11-24T02:59:59.000000Z", "at its deadline",
		}}},
		{"it never was live", []merkle.Entry{entry("activation", activation("neverLive", `},"phase":"Expired"`))}, []alarm{{
			"ActivationEnded", "warning", "ended/pay/inc-1/2026-11-24T02:59:59.000000Z", "Never open",
		}}},
		{"it was justified", []merkle.Entry{entry("activation", activation("reviewed", `},"review":{"verdict":"justified","by":"carol","at":"2026-11-24T04:00:00Z","note":"it had to be"}`))}, []alarm{{
			"ActivationReviewed", "info", "reviewed/pay/inc-1/2026-11-24T02:59:59.000000Z/2026-11-24T04:00:00.000000Z", `justified, says carol: "it had to be"`,
		}}},
		{"it was misuse", []merkle.Entry{entry("activation", activation("reviewed", `},"review":{"verdict":"misuse","by":"carol","at":"2026-11-24T04:00:00Z"}`))}, []alarm{{
			"ActivationReviewed", "critical", "reviewed/pay/inc-1/2026-11-24T02:59:59.000000Z/2026-11-24T04:00:00.000000Z", "misuse",
		}}},
		{"nobody reviews it", []merkle.Entry{entry("activation", activation("overdue", "}"))}, []alarm{{
			"ReviewOverdue", "warning", "overdue/pay/inc-1/2026-11-24T02:59:59.000000Z", "nobody has said",
		}}},
		{"a policy is added", []merkle.Entry{entry("policy", policyV1)}, []alarm{{"PolicyChanged", "warning", "policy/main/", "was added"}}},
		{"a policy is changed", []merkle.Entry{entry("policy", policyV1), entry("policy", policyV2)}, []alarm{{"PolicyChanged", "critical", "policy/main/", "was changed"}}},
		{"other keys", []merkle.Entry{entry("policy", policyV1), entry("policy", policyK2)}, []alarm{{"PolicyChanged", "warning", "policy/main/", "other keys"}}},
		{"the panic button", []merkle.Entry{entry("policy", policyV1), entry("policy", policyOn)}, []alarm{{"PolicyChanged", "critical", "policy/main/", "panic button"}}},
		{"the panic button is released", []merkle.Entry{entry("policy", policyOn), entry("policy", policyV1)}, []alarm{{"PolicyChanged", "critical", "policy/main/", "no longer suspended"}}},
		{"and pressed again", []merkle.Entry{entry("policy", policyOn), entry("policy", policyV1), entryAt(t0.Add(time.Minute), "policy", policyOn)}, []alarm{
			{"PolicyChanged", "critical", "policy/main/", "panic button"},
		}},
		{"a policy is removed", []merkle.Entry{entry("policy", policyV1), entry("policy", policyNo)}, []alarm{{"PolicyChanged", "critical", "policy/main/", "was removed"}}},
		{"endpoints change", []merkle.Entry{entry("config", `{"v":1,"changes":[{"change":"changed","object":"EndpointSlice pay/db-1"}]}`)}, nil},
		{"manifests are loaded", []merkle.Entry{entry("config", `{"v":1,"loaded":true,"objects":7}`)}, nil},
		{"a route changes", []merkle.Entry{entry("config", `{"v":1,"changes":[{"change":"changed","object":"EndpointSlice pay/db-1"},{"change":"changed","object":"HTTPRoute pay/db","digest":"x"}]}`)}, []alarm{
			{"ConfigChanged", "warning", "config/", "HTTPRoute pay/db changed"},
		}},
		{"a gap", []merkle.Entry{entry("gap", `{"v":1,"lost":3,"until":"2026-11-24T02:59:58Z","reason":"killed","gateway":"edge/gw","epoch":"e1","atLeast":true}`)}, []alarm{
			{"AuditGap", "critical", "gap/edge/gw/e1/2026-11-24T02:59:58.000000Z", "lacks 3 requests or more of edge/gw"},
		}},
		{"the journal could not be written", []merkle.Entry{entry("problem", `{"v":1,"file":"journal","reason":"no space"}`)}, []alarm{{"AuditFailing", "critical", "journal/", "no space"}}},
		{"a line that is none", []merkle.Entry{entry("problem", `{"v":1,"file":"spool of edge/gw","reason":"no row"}`)}, nil},
		{"a sink of alarms fails", []merkle.Entry{entry("sink", `{"v":1,"sink":"page","event":"failing","reason":"connection refused","since":"2026-11-24T02:59:58Z"}`)}, []alarm{
			{"SinkFailing", "critical", "sink/page/2026-11-24T02:59:58.000000Z", "connection refused"},
		}},
		{"another sink fails", []merkle.Entry{entry("sink", `{"v":1,"sink":"siem","event":"failing","since":"2026-11-24T02:59:58Z"}`)}, []alarm{
			{"SinkFailing", "warning", "sink/siem/2026-11-24T02:59:58.000000Z", "siem"},
		}},
		{"a sink works again", []merkle.Entry{entry("sink", `{"v":1,"sink":"page","event":"working","since":"2026-11-24T02:59:58Z"}`)}, []alarm{
			{"SinkFailing", "info", "sink/page/2026-11-24T02:59:58.000000Z/working", "works again"},
		}},
		{"a clock steps", []merkle.Entry{entry("clock", `{"v":1,"seconds":-3600}`)}, []alarm{{"ClockStepped", "warning", "clock/2026-11-24T03:00:00.000000Z", "-3600.0 s"}}},
		{"an alarm", []merkle.Entry{entry("alarm", `{"v":1,"id":"x","event":"raised","name":"ActivationOpened"}`)}, nil},
		{"what is no JSON", []merkle.Entry{entry("activation", `{"event":`), entry("policy", `[]`), entry("request", `3`), entry("gap", `""`)}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := New(Options{AlarmSinks: []string{"page"}})
			var got []audit.Alarm
			for _, e := range c.entries {
				got = r.Look(e)
			}
			if len(got) != len(c.want) {
				t.Fatalf("got %d alarms, want %d: %+v", len(got), len(c.want), got)
			}
			for i, w := range c.want {
				if a := got[i]; a.Name != w.name || a.Severity != w.severity || !strings.HasPrefix(a.ID, w.id) || !strings.Contains(a.Summary, w.says) || a.V != 1 || a.Event != "raised" {
					t.Errorf("got  %+v\nwant %+v", a, w)
				}
			}
		})
	}
}

func TestAnAlarmSaysWhatItIsAbout(t *testing.T) {
	got := New(Options{}).Look(entry("activation", activation("opened", `,"drill":true}`)))[0]
	want := map[string]string{"activation": "pay/inc-1", "role": "db-fix", "incident": "INC-1", "requestedBy": "alice (uid 1000)", "drill": "true"}
	if diff := cmp.Diff(want, got.Labels); diff != "" {
		t.Error(diff)
	}
	if !got.Time.Equal(t0) {
		t.Errorf("the time is %v and not that of the cause", got.Time)
	}
}

// request is the data of an entry of a request.
func request(at time.Time, issuer, subject, denied, activations string) merkle.Entry {
	q := audit.RequestEntry{V: 1, Key: "k", Type: audit.TypeEnd, Gateway: "edge/gw", Start: at, Issuer: issuer, Subject: subject, Denied: denied, Route: "pay/db"}
	if activations != "" {
		q.Activations = strings.Split(activations, ",")
	}
	b, _ := json.Marshal(q)
	return merkle.Entry{V: 1, Time: at.Add(20 * time.Millisecond), Kind: "request", Data: b}
}

func TestAnOfflineIssuerIsToldOfOnceForEachActivationAndSubject(t *testing.T) {
	r := New(Options{})
	use := func(subject, activation string) []audit.Alarm {
		return r.Look(request(t0, "https://offline", subject, "", activation))
	}
	if got := use("dave", "pay/inc-1"); got != nil {
		t.Fatalf("no policy names it, and there is %+v", got)
	}
	r.Look(entry("policy", policyV1))
	if got := r.Look(request(t0, "https://sso", "dave", "", "pay/inc-1")); got != nil {
		t.Errorf("another issuer raises %+v", got)
	}
	got := use("dave", "pay/inc-1")
	if len(got) != 1 || got[0].Name != audit.AlarmOffline || got[0].Severity != Critical || got[0].Labels["subject"] != "dave" || got[0].Labels["issuer"] != "https://offline" {
		t.Fatalf("the first use raises %+v", got)
	}
	first := got[0].ID
	if got := use("dave", "pay/inc-1"); got != nil {
		t.Errorf("the second use raises %+v", got)
	}
	if got := use("erin", "pay/inc-1"); len(got) != 1 || got[0].ID == first {
		t.Errorf("another subject raises %+v", got)
	}
	if got := use("dave", "pay/inc-2"); len(got) != 1 || got[0].ID == first {
		t.Errorf("under another activation it raises %+v", got)
	}
	if got := r.Look(request(t0, "https://offline", "mallory", "rbac: role-x", "pay/inc-1")); len(got) != 1 || !strings.Contains(got[0].Summary, "turned away") {
		t.Errorf("one that is turned away raises %+v", got)
	}
	r.Look(entry("policy", policyV2))
	if got := use("frank", "pay/inc-1"); got != nil {
		t.Errorf("it is no longer in the policy, and raises %+v", got)
	}
}

// A route that two activations hold open names both. What is remembered of it must
// not outlive them, or in the end there is no room to remember anybody.
func TestTheOfflineIssuerIsToldOfHoweverOftenItWasUsedBefore(t *testing.T) {
	r := New(Options{})
	r.Look(entry("policy", policyV1))
	for i := range 3 * maxOffline {
		a, b := fmt.Sprint("a-", i), fmt.Sprint("b-", i)
		if got := r.Look(request(t0, "https://offline", "dave", "", "pay/"+a+",pay/"+b)); len(got) != 1 {
			t.Fatalf("incident %d: %+v", i, got)
		}
		for _, name := range []string{a, b} {
			r.Look(entry("activation", strings.ReplaceAll(activation("expired", `},"phase":"Expired"`), "inc-1", name)))
		}
	}
	if n := r.count("offline/"); n > 0 {
		t.Errorf("%d cursors are kept of what is over", n)
	}
	for i := range 2 * maxOffline { // these go on
		if got := r.Look(request(t0, "https://offline", "dave", "", fmt.Sprint("pay/c-", i))); len(got) != 1 {
			t.Fatalf("the %dth of many at a time: %+v", i, got)
		}
	}
	if n := r.count("offline/"); n > maxOffline {
		t.Errorf("%d cursors", n)
	}
}

// Who resets his stream before he is answered has Envoy forget why he was refused.
func TestAForgerWhoTakesNoAnswerIsABurstToo(t *testing.T) {
	r, n := New(Options{}), 0
	for i := range 50 {
		n += len(r.Look(request(t0.Add(time.Duration(i)*time.Second/10), "", "", "token: refused", "")))
	}
	if n != 1 {
		t.Errorf("%d alarms", n)
	}
}

func TestWhoHoldsTheOfflineKeyCannotRaiseAsManyAlarmsAsHeLikes(t *testing.T) {
	r := New(Options{})
	r.Look(entry("policy", policyV1))
	n := 0
	for i := range 1000 {
		n += len(r.Look(request(t0, "https://offline", fmt.Sprint("subject-", i), "", "pay/inc-1")))
	}
	if n != maxSubjects+1 {
		t.Errorf("1000 subjects raise %d alarms, want %d", n, maxSubjects+1)
	}
	if m := len(r.Moved()); m > maxCursorsOfRules {
		t.Errorf("it takes %d cursors", m)
	}
}

func TestABurstOfForgedTokensIsOneAlarmAndOneWhenItIsOver(t *testing.T) {
	r := New(Options{ForgedTokens: 3, ForgedWithin: time.Minute, ForgedQuiet: 5 * time.Minute})
	forge := func(after time.Duration, denied string) []audit.Alarm {
		return r.Look(request(t0.Add(after), "", "", denied, ""))
	}
	const bad = "token: Jwt verification fails"
	for _, denied := range []string{"token: Jwt is missing", "token: Jwt is expired", "token: Jwt not yet valid", "token: Audiences in Jwt are not allowed", "rbac: x", "not open", ""} {
		for range 5 {
			if got := forge(0, denied); got != nil {
				t.Fatalf("%q raises %+v", denied, got)
			}
		}
	}
	// Two in a minute, then one much later: no burst.
	for _, after := range []time.Duration{0, time.Second, 2 * time.Minute} {
		if got := forge(after, bad); got != nil {
			t.Fatalf("after %v: %+v", after, got)
		}
	}
	if got := forge(2*time.Minute+time.Second, "token: Jwt issuer is not configured"); got != nil {
		t.Fatalf("the second of a burst raises %+v", got)
	}
	got := forge(2*time.Minute+2*time.Second, "token: Jwks doesn't have key to match kid or alg from Jwt")
	if len(got) != 1 || got[0].Name != audit.AlarmForged || !strings.Contains(got[0].Summary, "3 requests") {
		t.Fatalf("the third raises %+v", got)
	}
	for i := range 100 {
		if got := forge(3*time.Minute+time.Duration(i)*time.Second, bad); got != nil {
			t.Fatalf("it goes on, and raises %+v", got)
		}
	}
	if got := r.Tick(t0.Add(9 * time.Minute)); got != nil {
		t.Fatalf("it is not over yet, and raises %+v", got)
	}
	over := r.Tick(t0.Add(10 * time.Minute))
	if len(over) != 1 || over[0].Severity != Info || over[0].ID != got[0].ID+"/over" || !strings.Contains(over[0].Summary, "103 or more") {
		t.Fatalf("it is over, and raises %+v", over)
	}
	if got := r.Tick(t0.Add(20 * time.Minute)); got != nil {
		t.Errorf("it is over twice: %+v", got)
	}
}

func TestAFloodWithoutEntriesIsABurst(t *testing.T) {
	r := New(Options{})
	flood := entry("limited", `{"v":1,"gateway":"edge/gw","epoch":"e","requests":5000,"since":"2026-11-24T02:59:55Z","until":"2026-11-24T03:00:00Z"}`)
	if got := r.Look(flood); len(got) != 1 || !strings.Contains(got[0].Summary, "5000 requests") {
		t.Fatalf("it raises %+v", got)
	}
	if got := r.Look(flood); got != nil {
		t.Errorf("it goes on, and raises %+v", got)
	}
	if got := r.Look(entry("limited", `{"v":1,"gateway":"edge/other","epoch":"e","refused":5000}`)); got != nil {
		t.Errorf("requests over the rate limit have shown no token, and raise %+v", got)
	}
}

func TestWhatIsRememberedOutlastsARestart(t *testing.T) {
	cursors := map[string]string{}
	restart := func(r *Rules) *Rules {
		for name, at := range r.Moved() {
			if cursors[name] = at; at == "" {
				delete(cursors, name)
			}
		}
		r = New(Options{ForgedTokens: 2})
		r.Restore(cursors)
		return r
	}
	r := New(Options{ForgedTokens: 2})
	r.Look(entry("policy", policyV1))
	use := request(t0, "https://offline", "dave", "", "pay/inc-1")
	forged := request(t0, "", "", "token: Jwt verification fails", "")
	r.Look(use)
	r.Look(forged)
	r.Look(forged)
	r = restart(r)
	for _, e := range []merkle.Entry{use, forged, forged} {
		if got := r.Look(e); got != nil {
			t.Errorf("it was told of before the restart, and raises %+v", got)
		}
	}
	if got := r.Look(entry("policy", policyOn)); len(got) != 1 || !strings.Contains(got[0].Summary, "panic") {
		t.Errorf("the panic button raises %+v", got)
	}
	r = restart(r)
	if got := r.Tick(t0.Add(time.Hour)); len(got) != 1 || !strings.HasSuffix(got[0].ID, "/over") {
		t.Errorf("the burst is over, and raises %+v", got)
	}
	// The end of the activation forgets who was told of.
	r.Look(entry("activation", activation("expired", `},"phase":"Expired"`)))
	restart(r)
	for name := range cursors {
		if strings.Contains(name, "offline/") || strings.Contains(name, "forged/") {
			t.Errorf("%s is remembered for ever", name)
		}
	}
}

func TestInALogOfManyLogsOnlyRequestsRaise(t *testing.T) {
	r := New(Options{Collected: true})
	for _, e := range []merkle.Entry{entry("policy", policyV1), entry("activation", activation("opened", "}")), entry("clock", `{"seconds":9}`)} {
		if got := r.Look(e); got != nil {
			t.Errorf("%s was raised where it was decided, and here: %+v", e.Kind, got)
		}
	}
	if got := r.Look(request(t0, "https://offline", "dave", "", "pay/inc-1")); len(got) != 1 {
		t.Errorf("a request raises %+v", got)
	}
}
