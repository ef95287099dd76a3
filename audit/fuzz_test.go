package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	dataaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/protobuf/proto"
)

// FuzzParseLine: a line that is taken is the only form of its entry.
func FuzzParseLine(f *testing.F) {
	e, err := normal(Entry{Seq: 7, Time: time.Unix(1, 5000), Kind: KindPolicy, Data: json.RawMessage(`{"a":["\u2028",1e3]}`)})
	if err != nil {
		f.Fatal(err)
	}
	line, _ := appendControl(nil, e, 2, chain{})
	f.Add(bytes.TrimSuffix(line, []byte("\n")))
	f.Add(appendBody(nil, e, 0))
	f.Add([]byte(`{"seq":1,"time":"2026-11-23T22:00:00.000000Z","kind":"x","data":null`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if e, more, _, err := parseControl(line, chain{}); err == nil {
			if again, _ := appendControl(nil, e, more, chain{}); string(again) != string(line)+"\n" {
				t.Errorf("control: %q became %q", line, again)
			}
		}
		// The fuzzer will not find a checksum: give it the right one.
		sum := chain{}.next(line)
		signed := appendSum(bytes.Clone(line), hex.AppendEncode(nil, sum[:]))
		e, more, _, err := parseControl(signed[:len(signed)-1], chain{})
		if err != nil {
			return
		}
		if again, _ := appendControl(nil, e, more, chain{}); !bytes.Equal(again, signed) || bytes.Count(signed, []byte("\n")) != 1 {
			t.Errorf("signed: %q became %q", signed, again)
		}
	})
}

// FuzzControlFile: whatever the file holds, reading it ends, and what it hands
// out verifies.
func FuzzControlFile(f *testing.F) {
	_, content := sample(f, f.TempDir(), []string{"a"}, []string{"b", "c"})
	f.Add(content)
	f.Add(content[:len(content)-9])
	f.Add(append(bytes.Clone(content), 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newControlReader("f", bytes.NewReader(b))
		for {
			batch, err := r.next(math.MaxInt64)
			if err != nil {
				return
			}
			if batch == nil {
				break
			}
		}
		rec, err := r.tail()
		if err == nil && rec.note == "" && rec.at.off != int64(len(b)) {
			t.Errorf("%d of %d bytes, and nothing said", rec.at.off, len(b))
		}
	})
}

// FuzzAccessLog: any message becomes one line per entry, bounded and safe.
func FuzzAccessLog(f *testing.F) {
	b, err := proto.Marshal(hostile())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0x12, 0x02, 0x0a, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		for _, e := range m.GetHttpLogs().GetLogEntry() {
			var s sink
			NewReceiver(&s, quiet).http(m.GetIdentifier().GetNode().GetId(), e)
			if entryType(e.GetCommonProperties()) == "" {
				if len(s.entries) != 0 {
					t.Error("an entry that is to be ignored was recorded")
				}
				continue
			}
			if len(s.entries) != 1 {
				t.Fatalf("%d entries", len(s.entries))
			}
			r := s.entries[0]
			if data, err := json.Marshal(r); err != nil || len(data) > 256<<10 || r.V != 1 || r.Key == "" {
				t.Errorf("entry %+v: %d bytes, %v", r, len(data), err)
			}
			checkStrings(t, r)
		}
	})
}

func checkStrings(t *testing.T, r RequestEntry) {
	t.Helper()
	for _, s := range append([]string{r.Gateway, r.Node, r.StreamID, r.Method, r.Host, r.Path, r.Details, r.Denied, r.Route, r.Rule,
		r.Role, r.Incident, r.Opening, r.Issuer, r.Subject, r.JTI, r.ClientAddress, r.UpstreamAddress, r.UpstreamCluster}, r.Activations...) {
		if len(s) > maxField || !utf8.ValidString(s) || strings.ContainsAny(s, "\n\x00\x1b") || jwtLike.MatchString(s) {
			t.Errorf("field %q", s)
		}
	}
}

// hostile is a message as a client would like it.
func hostile() *alsv3.StreamAccessLogsMessage {
	return &alsv3.StreamAccessLogsMessage{LogEntries: &alsv3.StreamAccessLogsMessage_HttpLogs{
		HttpLogs: &alsv3.StreamAccessLogsMessage_HTTPAccessLogEntries{LogEntry: []*dataaccesslogv3.HTTPAccessLogEntry{
			{Request: &dataaccesslogv3.HTTPRequestProperties{
				Path:      "/a\n\x1b[2J;s=1/" + strings.Repeat("\u2028\"<", 60_000) + "?access_token=" + token + "&" + token,
				Authority: "user:pw@host/" + token, RequestHeaders: map[string]string{"authorization": "Bearer " + token},
			}},
			full(),
		}},
	}}
}
