package alarm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// memory is a log that cannot be written now and then. It takes what a merkle log
// takes.
type memory struct {
	err     error
	entries []merkle.Entry
	cursors map[string]string
}

func (m *memory) Append(_ context.Context, drafts ...merkle.Draft) error {
	if m.err != nil {
		return m.err
	}
	for _, d := range drafts {
		e := merkle.Entry{V: 1, Seq: uint64(len(m.entries)), Time: d.Time, Kind: d.Kind, Data: d.Data, Cursors: d.Cursors}
		if !json.Valid(d.Data) || len(d.Data) > 1<<20 {
			return fmt.Errorf("not an entry: %s", d.Data)
		}
		if m.cursors == nil {
			m.cursors = map[string]string{}
		}
		for name, at := range d.Cursors {
			if !validCursor(name) || !validCursor(at) {
				return fmt.Errorf("not a cursor: %q: %q", name, at)
			}
			if m.cursors[name] = at; at == "" {
				delete(m.cursors, name)
			}
		}
		m.entries = append(m.entries, e)
	}
	if len(m.cursors) > maxCursorsOfRules {
		return fmt.Errorf("%d cursors", len(m.cursors))
	}
	return nil
}

// validCursor is as package merkle has it.
func validCursor(s string) bool {
	return len(s) <= 512 && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func over(m *memory, told func([]audit.Alarm)) *Log[*memory] {
	r := NewRaiser(New(Options{ForgedTokens: 2}), func() time.Time { return t0 }, slog.New(slog.DiscardHandler), told)
	l := Over(r, m, m.cursors)
	for _, e := range m.entries {
		l.Learn(e)
	}
	return l
}

// alarmsIn are the ids that a log raises, in order.
func alarmsIn(m *memory) (ids []string) {
	for _, e := range m.entries {
		if a, ok := raised(e.Kind, e.Data); ok {
			ids = append(ids, a.ID)
		}
	}
	return ids
}

func drafts(entries ...merkle.Entry) (out []merkle.Draft) {
	for _, e := range entries {
		out = append(out, merkle.Draft{Time: e.Time, Kind: e.Kind, Data: e.Data})
	}
	return out
}

func TestAnAlarmIsInTheAppendOfItsCause(t *testing.T) {
	dir := t.TempDir()
	l, err := merkle.Open(dir, merkle.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var told []audit.Alarm
	r := NewRaiser(New(Options{}), time.Now, slog.New(slog.DiscardHandler), func(a []audit.Alarm) { told = append(told, a...) })
	if err := Over(r, l, l.Cursors()).Append(t.Context(), drafts(entry("policy", policyV1), entry("activation", activation("opened", "}")))...); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	if err := merkle.Read(t.Context(), dir, merkle.Filter{}, func(e merkle.Entry) error { kinds = append(kinds, e.Kind); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"segment", "policy", "activation", "alarm", "alarm"}; !slices.Equal(kinds, want) {
		t.Errorf("the log has %v, want %v", kinds, want)
	}
	if len(told) != 2 || told[1].Name != audit.AlarmOpened {
		t.Errorf("told of %+v", told)
	}
	if l.Cursor("alarms/policy/main") == "" {
		t.Errorf("the policy is not remembered: %v", l.Cursors())
	}
}

func TestAnAppendThatFailedRaisesWithTheNext(t *testing.T) {
	m := &memory{err: errors.New("no space left on device")}
	told := 0
	log := over(m, func(a []audit.Alarm) { told += len(a) })
	var unrecorded []string
	log.raiser.Unrecorded = func(a []audit.Alarm) {
		for _, x := range a {
			unrecorded = append(unrecorded, x.Name)
		}
	}
	cause := drafts(entry("policy", policyV1), request(t0, "https://offline", "dave", "", "pay/inc-1"), request(t0, "", "", "token: Jwt verification fails", ""))
	for range 3 {
		if err := log.Append(t.Context(), cause...); !errors.Is(err, m.err) {
			t.Fatal(err)
		}
	}
	if told != 0 {
		t.Fatalf("told of %d alarms that are in no log", told)
	}
	if want := []string{audit.AlarmPolicy, audit.AlarmOffline}; !slices.Equal(unrecorded, want) {
		t.Errorf("that %v could not be recorded was told, want %v", unrecorded, want)
	}
	m.err = nil
	if err := log.Append(t.Context(), cause...); err != nil {
		t.Fatal(err)
	}
	if ids := alarmsIn(m); len(ids) != 2 || told != 2 || !strings.HasPrefix(ids[1], "offline/") {
		t.Errorf("the log raises %v, and %d were told", ids, told)
	}
	// What was seen before it could be recorded was seen once.
	if err := log.Append(t.Context(), cause[2]); err != nil {
		t.Fatal(err)
	}
	if ids := alarmsIn(m); len(ids) != 3 || !strings.HasPrefix(ids[2], "forged/") {
		t.Errorf("the second forged token raises %v", ids)
	}
}

// Whatever comes, in whatever pieces, with failures and restarts in between: nothing
// panics, the log takes it, each id is there once, and two logs have the same.
func TestTwoLogsOfTheSameEntriesRaiseTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfN(someEntry(), 1, 40).Draw(t, "entries")
		for i := range entries { // the order of time is that of the log
			entries[i].Time = t0.Add(time.Duration(i) * time.Minute)
		}
		var all [2][]string
		for i := range all {
			all[i] = play(t, entries)
		}
		if !slices.Equal(all[0], all[1]) {
			t.Fatalf("one raises\n%q\nthe other\n%q", all[0], all[1])
		}
		slices.Sort(all[0])
		if len(slices.Compact(slices.Clone(all[0]))) != len(all[0]) {
			t.Fatalf("an id is there twice: %q", all[0])
		}
	})
}

// play appends entries to a new log, in pieces, and returns the ids it raises.
func play(t *rapid.T, entries []merkle.Entry) []string {
	m := &memory{}
	log := over(m, nil)
	for len(entries) > 0 {
		n := rapid.IntRange(1, len(entries)).Draw(t, "piece")
		if rapid.Bool().Draw(t, "fails") {
			m.err = errors.New("no")
			_ = log.Append(context.Background(), drafts(entries[:n]...)...)
			m.err = nil
		}
		if rapid.Bool().Draw(t, "restarts") {
			log = over(m, nil)
		}
		if err := log.Append(context.Background(), drafts(entries[:n]...)...); err != nil {
			t.Fatal(err)
		}
		entries = entries[n:]
	}
	return alarmsIn(m)
}

// someEntry is one that a rule looks at, or its like.
func someEntry() *rapid.Generator[merkle.Entry] {
	word := rapid.SampledFrom([]string{"", "pay/inc-1", "pay/inc-2", "main", "https://offline", "https://sso", "dave", "\x00\u202e\xff", "a b", "eyJhbGciOiJub25lIn0.e30.x", string(make([]byte, 3000))})
	return rapid.Custom(func(t *rapid.T) merkle.Entry {
		var kind string
		var v any
		switch rapid.IntRange(0, 8).Draw(t, "kind") {
		case 0:
			kind, v = "activation", map[string]any{"event": rapid.SampledFrom([]string{"requested", "refused", "revoked", "expired", "reviewed", "overdue"}).Draw(t, "event"), "time": t0,
				"record": map[string]any{"namespace": "pay", "name": rapid.StringMatching(`[a-z]{12}`).Draw(t, "name"), "start": t0, "message": word.Draw(t, "m"), "phase": "Expired", "requestedBy": word.Draw(t, "by")}}
		case 1:
			kind, v = "policy", map[string]any{"name": word.Draw(t, "name"), "keys": map[string]string{"a": word.Draw(t, "k")}, "spec": map[string]any{"suspended": rapid.Bool().Draw(t, "s"),
				"issuers": []map[string]any{{"issuer": word.Draw(t, "i"), "offline": true}}}}
		case 2, 3, 4:
			q := request(t0, word.Draw(t, "issuer"), word.Draw(t, "subject"), rapid.SampledFrom([]string{"", "token: Jwt verification fails", "token: \x1b", "rbac: x"}).Draw(t, "denied"), word.Draw(t, "act"))
			return q
		case 5:
			kind, v = "limited", audit.Limited{V: 1, Gateway: word.Draw(t, "g"), Requests: rapid.Uint64().Draw(t, "n"), Since: t0}
		case 6:
			kind, v = "gap", audit.Gap{V: 1, Gateway: word.Draw(t, "g"), Epoch: rapid.StringMatching(`[a-z]{12}`).Draw(t, "e"), Reason: word.Draw(t, "r"), Until: t0}
		case 7:
			kind, v = "config", map[string]any{"changes": []map[string]string{{"object": "Gateway " + word.Draw(t, "o"), "change": "added"}}}
		case 8:
			return merkle.Entry{Kind: rapid.SampledFrom([]string{"activation", "policy", "request", "gap", "sink", "alarm", "clock"}).Draw(t, "kind"),
				Data: json.RawMessage(rapid.SampledFrom([]string{`null`, `{}`, `[]`, `"x"`, `{"event":7}`, `{"record":{"spec":[]}}`}).Draw(t, "data"))}
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return merkle.Entry{Kind: kind, Data: b}
	})
}

func TestARuleThatFailsHoldsUpNothing(t *testing.T) {
	was := table
	table = append([]rule{{audit.KindGap, false, func(*Rules, *merkle.Entry) []audit.Alarm { panic("a bug") }}}, was...)
	defer func() { table = was }()
	m := &memory{}
	log := over(m, nil)
	for _, e := range []merkle.Entry{entry("gap", `{}`), entry("activation", activation("opened", "}"))} {
		if err := log.Append(t.Context(), drafts(e)...); err != nil {
			t.Fatal(err)
		}
	}
	if ids := alarmsIn(m); len(ids) != 1 || len(m.entries) != 3 {
		t.Errorf("the log raises %v", ids)
	}
}

func TestASummaryHasNoToken(t *testing.T) {
	const token = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImEifQ.eyJzdWIiOiJkYXZlIn0.c2lnbmF0dXJl"
	got := New(Options{}).Look(entry("activation", activation("refused", `},"message":"`+token+`","requestedBy":"`+token+`"`)))
	b, _ := json.Marshal(got)
	if len(got) != 1 || strings.Contains(string(b), "eyJhbGci") {
		t.Errorf("it says %s", b)
	}
}
