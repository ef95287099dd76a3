package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/report/reporttest"
)

var noLog = slog.New(slog.NewTextHandler(io.Discard, nil))

// began is the time of the first entry of the logs of these tests.
var began = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

const testGateway, testEpoch = "breakglass/emergency", "b6f1c1d2a3e4f506"

// scribe writes a log as the recorder does.
type scribe struct {
	n, at, line uint64
	drafts      []merkle.Draft
}

func (s *scribe) add(kind string, v any, cursors map[string]string) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	s.drafts = append(s.drafts, merkle.Draft{Time: began.Add(time.Duration(len(s.drafts)) * time.Second), Kind: kind, Data: data, Cursors: cursors})
}

// control is an entry that comes from the journal.
func (s *scribe) control(kind string, v any) {
	s.at++
	s.add(kind, v, map[string]string{"journal": "j1:" + strconv.FormatUint(s.at, 10)})
}

func (s *scribe) spool() map[string]string {
	s.line += 480
	return map[string]string{"spool/" + testGateway: "f00:" + strconv.FormatUint(s.line, 10)}
}

// request is one that has ended, with edits.
func (s *scribe) request(edit func(*audit.RequestEntry)) {
	s.n++
	r := sampleRequest(s.n)
	if edit != nil {
		edit(&r)
	}
	cursors := s.spool()
	if r.Type == audit.TypeEnd {
		cursors["count/"+r.Gateway+" "+r.Epoch] = strconv.FormatUint(r.N, 10)
	} else {
		s.n--
	}
	s.add(audit.KindRequest, r, cursors)
}

func sampleRequest(n uint64) audit.RequestEntry {
	id := fmt.Sprintf("%08x-1f6a-4b52-9f0e-3a5d7c9b%04x", n, n&0xffff)
	return audit.RequestEntry{
		V: 1, Key: id, Type: audit.TypeEnd, Gateway: testGateway, Epoch: testEpoch, N: n, StreamID: id, Connection: strconv.FormatUint(n/7+1, 10),
		Start: began.Add(time.Duration(n) * time.Millisecond), DurationMs: 3.217, Method: "POST", Host: "db.emergency.example.com",
		Path: "/v1/promote?replica=redacted", Status: 200, Details: "via_upstream", BytesIn: 128, BytesOut: 512,
		Route: "payments/db-failover", Rule: "promote", Activations: []string{"payments/inc-4711"}, Role: "db-failover", Incident: "INC-4711",
		Opening: "lease-1", Issuer: "https://sso.example.com", Subject: "alice", JTI: "9b1c", ClientAddress: "192.0.2.7:51234",
		UpstreamAddress: "10.0.3.4:8443", UpstreamCluster: "payments/db-failover/promote",
	}
}

func sampleFact(event activation.Event, edit func(*activation.Record)) activation.Fact {
	r := activation.Record{
		Namespace: "payments", Name: "inc-4711", Origin: activation.Control, RequestedBy: "unix:user=alice,uid=1000",
		Spec: v1alpha1.ActivationSpec{
			Role: "db-failover", Incident: "INC-4711", Reason: "primary is gone",
			TargetRefs: []v1alpha1.TargetReference{{Kind: "HTTPRoute", Name: "db-failover"}},
		},
		Start: began, Deadline: began.Add(10 * time.Minute),
	}
	if edit != nil {
		edit(&r)
	}
	return activation.Fact{Event: event, Time: began, Record: r}
}

// incident is a small log: a start, a window, what came through the door and
// what did not, one of each kind.
func incident() []merkle.Draft {
	s := &scribe{}
	s.control(audit.KindStart, map[string]any{"version": "test", "config": "/etc/breakglass/repo", "first": true})
	s.control(audit.KindConfig, map[string]any{"v": 1, "loaded": true, "objects": 12, "digest": "d1"})
	s.control(audit.KindPolicy, map[string]any{
		"name": "emergency", "digest": "d2", "file": "policy.yaml", "ownerUID": 1000, "keys": map[string]string{"sso": "k1"},
		"spec": map[string]any{"roles": []any{map[string]any{"name": "db-failover"}}},
	})
	s.control(audit.KindActivation, sampleFact(activation.Requested, nil))
	s.control(audit.KindActivation, sampleFact(activation.Opened, func(r *activation.Record) {
		r.Targets = map[string]activation.Target{"HTTPRoute/db-failover": {Route: "payments/db-failover"}}
	}))
	s.request(func(r *audit.RequestEntry) { r.Type, r.N, r.Status = audit.TypeOpen, 0, 0 })
	s.request(nil)
	s.request(func(r *audit.RequestEntry) {
		r.Subject, r.Issuer, r.JTI, r.Status, r.Denied = "", "", "", 401, "token: Jwt is missing"
		r.Path = "/\x1b[2J\u202eforged"
	})
	s.request(func(r *audit.RequestEntry) { r.Subject, r.Status, r.Denied = "mallory", 403, "rbac: none" })
	s.add(audit.KindConnection, audit.ConnectionEntry{V: 1, Gateway: testGateway, Epoch: testEpoch, Connection: "99", Start: began, ClientAddress: "198.51.100.9:4", Details: "TLS_error: unknown protocol"}, s.spool())
	s.control(audit.KindConfig, map[string]any{"v": 1, "changes": []any{map[string]any{
		"change": "changed", "object": "HTTPRoute payments/db-failover", "digest": "d3", "file": "routes.yaml", "ownerUID": 1000,
	}}})
	s.control(audit.KindActivation, sampleFact(activation.Revoked, func(r *activation.Record) {
		r.Phase, r.EndedBy, r.Message = v1alpha1.PhaseRevoked, "unix:user=bob,uid=1001", "done"
	}))
	s.add(audit.KindGap, audit.Gap{V: 1, Lost: 2, Since: began, Until: began.Add(time.Minute), Reason: "Envoy was killed", Gateway: testGateway, Epoch: testEpoch, Counted: 5, Recorded: 3, AtLeast: true}, nil)
	s.add(recorder.KindEpoch, recorder.Epoch{V: 1, Gateway: testGateway, Epoch: testEpoch, Requests: 3, Missing: 2},
		map[string]string{"count/" + testGateway + " " + testEpoch: ""})
	s.add(audit.KindProblem, audit.Problem{V: 1, File: "spool of " + testGateway, Reason: "not JSON"}, s.spool())
	s.control(audit.KindClock, map[string]any{"v": 1, "seconds": -3.5})
	s.control(audit.KindStop, map[string]any{})
	return s.drafts
}

// writeLog makes a log in dir, or goes on with the one that is there.
func writeLog(dir string, o merkle.Options, drafts ...merkle.Draft) error {
	o.Log, o.Retention = noLog, -1
	if o.Origin == "" {
		o.Origin = "test.example.com/log"
	}
	if o.Now == nil {
		o.Now = func() time.Time { return began }
	}
	l, err := openLog(dir, o)
	if err != nil {
		return err
	}
	for len(drafts) > 0 && err == nil {
		n := min(len(drafts), 1000)
		err = l.Append(context.Background(), drafts[:n]...)
		drafts = drafts[n:]
	}
	return errors.Join(err, l.Close())
}

// openLog opens a log that this process may just have closed: a child that another
// script is starting has its lock until it executes its program.
func openLog(dir string, o merkle.Options) (l *merkle.Log, err error) {
	for range 1000 {
		if l, err = merkle.Open(dir, o); !errors.Is(err, merkle.ErrLocked) {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	return l, err
}

// scriptLog is the command log of the scripts. It writes what an incident leaves
// (the default), or
//
//	start     another entry from the journal
//	twice     a request with a number that was there
//	missing   a request whose number says that others are missing
//	again     the same line of the spool, the same entry of the journal, and the
//	          same request under another number
//	account   an account of an Envoy that says more than is there
//	hostile   entries that are not what they should be
//	short     entries in segments of a few each
//	night     a night with everything that reports tell of
//	old       the removal of all segments but the last
func scriptLog(ts *testscript.TestScript, args []string) {
	s, o := &scribe{at: 9, line: 5 * 480}, merkle.Options{}
	what := "incident"
	if len(args) > 1 {
		what = args[1]
	}
	life := func(r *audit.RequestEntry) { r.Epoch = "e2" }
	switch what {
	case "night":
		ts.Check(reporttest.Incident().Write(context.Background(), ts.MkAbs(args[0])))
		return
	case "incident":
		s.drafts = incident()
	case "start":
		s.control(audit.KindStart, map[string]any{"version": "test", "config": "again"})
	case "twice":
		s.request(life)
		s.n = 0
		s.request(func(r *audit.RequestEntry) { r.Epoch, r.Key = "e2", "another" })
	case "missing":
		s.n = 4
		s.request(life)
	case "again":
		s.request(life)
		s.request(func(r *audit.RequestEntry) { r.Epoch, r.Key = "e2", sampleRequest(1).Key })
		s.line -= 480
		s.add(audit.KindProblem, audit.Problem{V: 1, Reason: "not JSON"}, s.spool())
		s.control(audit.KindStart, map[string]any{})
		s.at--
		s.control(audit.KindStart, map[string]any{})
	case "account":
		s.add(recorder.KindEpoch, recorder.Epoch{V: 1, Gateway: testGateway, Epoch: "e3", Requests: 7}, nil)
	case "hostile":
		s.add(audit.KindRequest, "no object\x1b[2J", nil)
		s.add("unheard", map[string]any{"of": "\u009b2J\u202e"}, nil)
		s.add(audit.KindGap, []int{}, nil)
	case "short":
		s.n, o.SegmentBytes = 0, 4<<10
		for range 8 {
			s.drafts = nil
			for range 5 {
				s.request(life)
			}
			ts.Check(writeLog(ts.MkAbs(args[0]), o, s.drafts...))
		}
		return
	case "old":
		ts.Check(age(ts.MkAbs(args[0])))
		return
	default:
		ts.Fatalf("no log %q", what)
	}
	ts.Check(writeLog(ts.MkAbs(args[0]), o, s.drafts...))
}

// age opens a log a day later, when entries are kept for an hour.
func age(dir string) error {
	l, err := openLog(dir, merkle.Options{Log: noLog, Retention: time.Hour, Now: func() time.Time { return began.Add(24 * time.Hour) }})
	if err != nil {
		return err
	}
	for n := 2; n > 1 && err == nil; time.Sleep(2 * time.Millisecond) {
		var firsts []uint64
		firsts, err = merkle.Segments(dir)
		n = len(firsts)
	}
	return errors.Join(err, l.Close())
}

// BenchmarkVerify verifies a log of a million requests, as BREAKGLASS_BENCH_LOG
// says in a directory that is kept.
func BenchmarkVerify(b *testing.B) {
	const entries, part = 1_000_000, 100_000
	dir := os.Getenv("BREAKGLASS_BENCH_LOG")
	if dir == "" {
		dir = b.TempDir()
	}
	if is, _ := isLog(dir); !is {
		s := &scribe{}
		for range entries / part {
			s.drafts = nil
			for range part {
				s.request(nil)
			}
			if err := writeLog(dir, merkle.Options{}, s.drafts...); err != nil {
				b.Fatal(err)
			}
		}
	}
	for b.Loop() {
		if code := execute(b.Context(), []string{"audit", "verify", "--data-dir", dir}, nil, io.Discard, os.Stderr); code != exitOK {
			b.Fatalf("exit code %d", code)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/1000/float64(b.N), "s/verify")
}
