package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// busy is a log that is written to, a minute each time, and of which segments older
// than retention are removed, until the test ends. It comes with the checkpoints that were given to a witness.
func busy(t *testing.T, retention time.Duration) (dir, checkpoints string) {
	dir, checkpoints = t.TempDir(), filepath.Join(t.TempDir(), "checkpoints")
	var mu sync.Mutex
	now := began
	o := merkle.Options{
		Log: noLog, SegmentBytes: 16 << 10, Retention: retention, Witnesses: []merkle.Sink{merkle.FileSink(checkpoints)},
		Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now },
	}
	l, err := merkle.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	slow := time.NewTicker(3 * time.Millisecond)
	t.Cleanup(slow.Stop)
	rounds := make(chan struct{})
	go func() {
		s := &scribe{}
		for n := 0; ; n++ {
			s.drafts = nil
			for range 5 {
				s.request(nil)
			}
			mu.Lock()
			now = now.Add(time.Minute)
			mu.Unlock()
			for i := range s.drafts {
				s.drafts[i].Time = time.Time{}
			}
			if err := l.Append(context.Background(), s.drafts...); err != nil {
				done <- err
				return
			}
			if n == 50 {
				close(rounds)
			}
			select {
			case <-stop:
				done <- l.Close()
				return
			case <-slow.C:
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-rounds
	return dir, checkpoints
}

func TestVerifyIsRightWhileEntriesComeAndGo(t *testing.T) {
	dir, checkpoints := busy(t, 20*time.Minute)
	pruned := false
	for range 10 {
		args := []string{"audit", "verify", "--data-dir", dir, "-o", "json"}
		if _, err := os.Stat(checkpoints); err == nil {
			args = append(args, "--checkpoint", checkpoints)
		}
		var out, errOut bytes.Buffer
		if code := execute(t.Context(), args, nil, &out, &errOut); code != exitOK {
			t.Fatalf("exit code %d\n%s%s", code, out.String(), errOut.String())
		}
		var v struct {
			Entries, Pruned uint64
			Kinds           map[string]uint64
		}
		if err := json.Unmarshal(out.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		pruned = pruned || v.Pruned > 0
		counted := uint64(0)
		for _, n := range v.Kinds {
			counted += n
		}
		if counted == 0 || counted > v.Entries {
			t.Errorf("%d entries were counted, and %d verified", counted, v.Entries)
		}
	}
	if !pruned {
		t.Error("nothing was removed while this ran: the test is worth nothing")
	}
}

// The order is that of docs/audit-log.md.
func TestACopyThatIsMadeWhileEntriesComeIsSound(t *testing.T) {
	dir, _ := busy(t, -1)
	for range 5 {
		copied := t.TempDir()
		take := func(names ...string) {
			for _, name := range names {
				b, err := os.ReadFile(filepath.Join(dir, name))
				if err == nil {
					err = os.WriteFile(filepath.Join(copied, name), b, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		take("checkpoint", "audit.pub", "hashes")
		firsts, err := merkle.Segments(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, first := range firsts {
			take(fmt.Sprintf("segment-%020d.jsonl", first))
		}
		var out, errOut bytes.Buffer
		if code := execute(t.Context(), []string{"audit", "verify", "--data-dir", copied}, nil, &out, &errOut); code != exitOK {
			t.Errorf("exit code %d\n%s%s", code, out.String(), errOut.String())
		}
	}
}

func TestListIsWithoutHolesWhileEntriesComeAndGo(t *testing.T) {
	dir, _ := busy(t, 20*time.Minute)
	for _, args := range [][]string{{"--limit", "50"}, {"--limit", "1000"}} {
		var out, errOut bytes.Buffer
		if code := execute(t.Context(), append([]string{"audit", "list", "--data-dir", dir, "-o", "json"}, args...), nil, &out, &errOut); code != exitOK {
			t.Fatalf("exit code %d: %s", code, errOut.String())
		}
		next := uint64(0)
		for line := range bytes.Lines(out.Bytes()) {
			var e merkle.Entry
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatal(err)
			}
			if next > 0 && e.Seq != next {
				t.Fatalf("%v: entry %d follows entry %d", args, e.Seq, next-1)
			}
			next = e.Seq + 1
		}
		if next == 0 {
			t.Errorf("%v: nothing is there", args)
		}
	}
}

func TestCountingBeginsAnewWhereOlderEntriesWereRemoved(t *testing.T) {
	c := newCounter()
	entry := func(seq uint64, kind, data string, cursors map[string]string) {
		if err := c.take(merkle.Entry{V: 1, Seq: seq, Kind: kind, Data: json.RawMessage(data), Cursors: cursors}); err != nil {
			t.Fatal(err)
		}
	}
	request := func(n int) string {
		return fmt.Sprintf(`{"key":"k%d","type":"end","gateway":"g","epoch":"e","n":%d}`, n, n)
	}
	entry(0, merkle.KindSegment, "{}", nil)
	entry(1, audit.KindRequest, request(1), map[string]string{"count/g e": "1", "journal": "j:4"})
	entry(2, merkle.KindSegment, "{}", map[string]string{"count/g e": "1", "journal": "j:4"})
	entry(3, audit.KindRequest, request(2), nil)
	if want := 1; len(c.findings) != want { // the journal of a whole log begins with entry 1
		t.Errorf("findings %v", c.findings)
	}
	c.findings = nil
	entry(90, merkle.KindSegment, "{}", map[string]string{"count/g e": "60", "journal": "j:8"})
	entry(91, audit.KindRequest, request(61), nil)
	entry(92, audit.KindStart, "{}", map[string]string{"journal": "j:9"})
	if len(c.findings) > 0 {
		t.Errorf("findings %v", c.findings)
	}
	entry(93, audit.KindRequest, request(63), nil)
	entry(94, audit.KindStart, "{}", map[string]string{"journal": "j:11"})
	entry(95, audit.KindStart, "{}", map[string]string{"journal": "other:1"})
	entry(96, audit.KindStart, "{}", map[string]string{"journal": "third:2"})
	entry(97, audit.KindStart, "{}", map[string]string{"journal": "none"})
	var got []string
	for _, f := range c.findings {
		got = append(got, f.Problem)
	}
	want := []string{
		"request 62 of Envoy e of Gateway g is not in the log",
		"entry 10 of the journal is not in the log",
		"entry 1 of the journal third is not in the log",
		`the cursor of the journal is "none", not ID:SEQ`,
	}
	if !slices.Equal(got, want) || len(c.notes) != 1 {
		t.Errorf("findings %q, want %q; notes %q", got, want, c.notes)
	}
}

// What is read quickly must be what encoding/json reads.
func FuzzNumberedIsWhatJSONSays(f *testing.F) {
	for _, s := range []string{
		`{}`, `null`, `[]`, `7`, `""`, `{"n":1}`, `{"n":1,"n":2}`, `{"n":-1}`, `{"n":"1"}`, `{"n":1.0}`, `{"key":"a\"n\":9,","type":"end"}`,
		`{"k\u0065y":"x"}`, `{"key":"\u0061"}`, `{"key":null,"type":"end"}`, `{"key":["n",{"n":3}],"type":"end"}`, `{"a":{"key":"no","n":8},"key":"yes"}`,
		`{"a":"\\","key":"x"}`, `{"a":"\\\"","key":"x"}`, `{"a":[],"b":{},"c":true,"d":-1e9,"n":18446744073709551615}`,
		`{"gateway":"ns/g","epoch":"e","n":18446744073709551616}`, `{"path":"/\",\"n\":9","type":"start"}`, `{"activations":["a","b"],"n":4}`,
	} {
		f.Add([]byte(s))
	}
	if b, err := json.Marshal(sampleRequest(77)); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var b bytes.Buffer
		if json.Compact(&b, data) != nil {
			return // merkle hands out nothing else
		}
		data = bytes.ToValidUTF8(b.Bytes(), []byte("\ufffd"))
		got, err := readNumbered(data)
		var want struct {
			Type, Gateway, Epoch, Key string
			N                         uint64
		}
		var names map[string]json.RawMessage
		if json.Unmarshal(data, &names) == nil {
			for name := range names {
				for _, ours := range []string{"type", "gateway", "epoch", "key", "n"} {
					if name != ours && strings.EqualFold(name, ours) {
						return // encoding/json takes Key for key, and JSON does not
					}
				}
			}
		}
		if wantErr := json.Unmarshal(data, &want); wantErr != nil {
			return // of the fields that are not read here
		}
		if err == nil && (string(got.typ) != want.Type || string(got.gateway) != want.Gateway || string(got.epoch) != want.Epoch || string(got.key) != want.Key || got.n != want.N) {
			t.Errorf("%s: %+v, want %+v", data, got, want)
		}
	})
}

func TestCheckpointsAreTakenApartAsTheyWereWritten(t *testing.T) {
	note := func(n int) string {
		return fmt.Sprintf("origin\n%d\nroot\n\n\u2014 origin abc\n", n)
	}
	for _, c := range []struct {
		name, in string
		want     []string
		err      string
	}{
		{"one", note(1), []string{note(1)}, ""},
		{"several, with and without empty lines between", note(1) + note(2) + "\n\n" + note(3) + "\n", []string{note(1), note(2), note(3)}, ""},
		{"as it comes from Windows", strings.ReplaceAll(note(1)+note(2), "\n", "\r\n"), []string{note(1), note(2)}, ""},
		{"with the signature of a witness", note(1) + "\u2014 witness def\n" + note(2), []string{note(1) + "\u2014 witness def\n", note(2)}, ""},
		{"nothing", "\n\n", nil, "it holds no checkpoint"},
		{"something else", "origin+abc\n", nil, "it holds no checkpoint"},
		{"cut off", note(1) + "origin\n2\n", nil, "line 7: the last checkpoint has no signature"},
		{"a signature of nothing", note(1) + "x\n\u2014 origin abc\n", nil, "line 7: a signature without a text"},
	} {
		notes, err := splitNotes(strings.NewReader(c.in))
		var got []string
		for _, n := range notes {
			got = append(got, string(n))
		}
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q, %q", c.name, got, err, c.want, c.err)
		}
	}
}

func TestEscapedJSONSaysTheSameAndDrivesNoTerminal(t *testing.T) {
	in := map[string]string{"a\u009b2J": "x\u202ey\u00ad \U000e0041 \U0001f600 ü \\ \" \x1b\n"}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	out := escapeJSON(b)
	var got map[string]string
	if err := json.Unmarshal(out, &got); err != nil || fmt.Sprint(got) != fmt.Sprint(in) {
		t.Errorf("%s says %q, %v", out, got, err)
	}
	if s := string(out); clean(s) != s {
		t.Errorf("%q is not fit for a terminal", s)
	}
	if s := string(escapeJSON([]byte("\"\xff\""))); s != `"\ufffd"` {
		t.Errorf("%q", s)
	}
}

func TestProgressIsShownOnlyOfWhatTakesLong(t *testing.T) {
	var out strings.Builder
	now := began
	p := &progress{out: &out, on: true, began: began, now: func() time.Time { return now }}
	p.show(1024, 4096)
	p.clear()
	if out.Len() > 0 {
		t.Errorf("%q after no time", out.String())
	}
	now = now.Add(2 * time.Second)
	p.show(2048, 4096)
	p.show(3072, 4096)
	p.show(2049, 4096)
	p.clear()
	now = now.Add(time.Second)
	p.show(4096, 0)
	p.clear()
	if want := "\r\x1b[K 50% of 4096 entries\r\x1b[K\r\x1b[K4096 entries\r\x1b[K"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	p.on = false
	now = now.Add(time.Hour)
	if p.show(1024, 1); p.shown {
		t.Error("shown where there is no terminal")
	}
}
