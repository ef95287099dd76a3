package sink

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// copied is a log of n requests, and what a sink made of it.
func copied(t *testing.T, n int, encoding string) (w *world, file string, keys []string) {
	t.Helper()
	w = newWorld(t)
	file = filepath.Join(w.dir, "copy.jsonl")
	w.Config = jsonLinesConfig("copy", file)
	w.Config.Sinks[0].Encoding = encoding
	s := start(t, w.Options)
	add(t, w.log, "request", 0, n)
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is behind", func() bool { return s.Status()[0].Next == w.log.Size() })
	eventually(t, "the last checkpoint is there", func() bool {
		mark := fmt.Appendf(nil, `\n%d\n`, w.log.Size())
		if encoding == OCSF {
			mark = fmt.Appendf(nil, `\\n%d\\n`, w.log.Size())
		}
		return bytes.Contains(read(t, file), mark)
	})
	stop(t, s)
	pub, err := os.ReadFile(filepath.Join(w.Dir, "audit.pub"))
	if err != nil {
		t.Fatal(err)
	}
	return w, file, strings.Fields(string(pub))
}

// against compares a copy with the log, as audit verify --against does.
func against(t *testing.T, dir string, keys []string, text []byte) (*CopyReport, []merkle.Finding) {
	t.Helper()
	c, err := NewCopy(dir)
	if err == nil {
		err = c.Read("copy", bytes.NewReader(text))
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := merkle.Verify(context.Background(), dir, merkle.VerifyOptions{Keys: keys, Checkpoints: c.Checkpoints()})
	if err != nil {
		t.Fatal(err)
	}
	report := c.Report(r.Keys)
	return report, append(r.Findings, report.Findings...)
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rewrite makes another log in the place of this one, with the same key, as whoever
// has it can.
func rewrite(t *testing.T, w *world, n int, data func(int) string) {
	t.Helper()
	key := read(t, filepath.Join(w.Dir, "audit.key"))
	if err := os.RemoveAll(w.Dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(w.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.Dir, "audit.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, w.Dir, merkle.Options{})
	for i := range n {
		if err := l.Append(context.Background(), merkle.Draft{Kind: "request", Data: json.RawMessage(data(i))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestACopyIsWholeByItself(t *testing.T) {
	for _, encoding := range []string{Native, OCSF} {
		w, file, keys := copied(t, 300, encoding)
		r, findings := against(t, w.Dir, keys, read(t, file))
		if len(findings) > 0 || r.Entries != w.log.Size() || r.Missing != 0 || r.Vouched != w.log.Size() || r.Checkpoints == 0 {
			t.Errorf("%s: %+v %+v, of %d", encoding, r, findings, w.log.Size())
		}
	}
}

func TestALogThatWasRewrittenWithItsKeyIsConvictedByACopy(t *testing.T) {
	for name, c := range map[string]struct {
		n    int
		data func(int) string
	}{
		"one entry is another": {400, func(i int) string {
			if i == 100 {
				return `{"n":"nothing happened"}`
			}
			return fmt.Sprintf(`{"n":%d}`, i)
		}},
		"cut back": {100, func(i int) string { return fmt.Sprintf(`{"n":%d}`, i) }},
	} {
		t.Run(name, func(t *testing.T) {
			w, file, keys := copied(t, 300, Native)
			text := read(t, file)
			rewrite(t, w, c.n, c.data)
			// By itself the log is sound: nobody can tell.
			if r, err := merkle.Verify(context.Background(), w.Dir, merkle.VerifyOptions{Keys: keys}); err != nil || len(r.Findings) > 0 {
				t.Fatalf("%v %+v", err, r)
			}
			r, findings := against(t, w.Dir, keys, text)
			// The copy is as it was signed, so that it is the log that was rewritten.
			if r.Vouched == 0 {
				t.Errorf("%+v", r)
			}
			said := fmt.Sprint(findings)
			if !strings.Contains(said, "whoever has the signing key cut or rewrote the log") || !strings.Contains(said, "the copy") {
				t.Errorf("%s", said)
			}
		})
	}
}

// A sink of alarms has a part of the log, and convicts as well: by its checkpoints.
func TestAPartOfTheLogConvictsAsWell(t *testing.T) {
	w, file, keys := copied(t, 300, Native)
	var part [][]byte
	for i, l := range linesOf(t, file) {
		if bytes.Contains(l, []byte("checkpoint")) || i%50 == 7 {
			part = append(part, l)
		}
	}
	text := bytes.Join(part, []byte("\n"))
	if r, findings := against(t, w.Dir, keys, text); len(findings) > 0 || r.Missing == 0 || r.Vouched > 0 {
		t.Errorf("%+v %+v", r, findings)
	}
	rewrite(t, w, 400, func(i int) string { return fmt.Sprintf(`{"x":%d}`, i) })
	if _, findings := against(t, w.Dir, keys, text); !strings.Contains(fmt.Sprint(findings), "rewrote the log") {
		t.Errorf("%+v", findings)
	}
}

// A copy that somebody edited convicts itself, not the log.
func TestACopyThatWasEditedIsSaid(t *testing.T) {
	w, file, keys := copied(t, 300, Native)
	text := string(read(t, file))
	for name, edit := range map[string]string{
		"an entry is another": strings.Replace(text, `{"n":17}`, `{"n":99}`, 1),
		"an entry is twice":   text + strings.Replace(linesWith(text, `{"n":17}`), `{"n":17}`, `{"n":99}`, 1),
		"no entry":            text + "garbage\n",
	} {
		r, findings := against(t, w.Dir, keys, []byte(edit))
		if len(findings) == 0 || strings.Contains(fmt.Sprint(findings), "checkpoint 1 of those kept elsewhere") {
			t.Errorf("%s: %+v %+v", name, r, findings)
		}
	}
	r, findings := against(t, w.Dir, keys, []byte(strings.Replace(text, `{"n":17}`, `{"n":99}`, 1)))
	if r.Vouched >= 17 || !strings.Contains(fmt.Sprint(findings), "of the copy are not those that this checkpoint vouches for") {
		t.Errorf("%+v %+v", r, findings)
	}
}

func linesWith(text, what string) string {
	for l := range strings.Lines(text) {
		if strings.Contains(l, what) {
			return l
		}
	}
	return ""
}

// Lines out of order and twice, in whatever they were carried.
func TestACopyIsReadFromWhatReceiversKeep(t *testing.T) {
	w, file, keys := copied(t, 200, Native)
	lines := linesOf(t, file)
	var records []record
	for _, l := range lines {
		var p Checkpoint
		if json.Unmarshal(l, &p) == nil && p.Kind == KindCheckpoint {
			records = append(records, record{log: p.Log, entry: merkle.Entry{Kind: KindCheckpoint}, note: []byte(p.Checkpoint), size: p.Size, body: l})
			continue
		}
		e, err := merkle.ParseEntry(l)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, record{log: "x", entry: e, body: l})
	}
	otlp, err := protojson.Marshal(exportRequest(records))
	if err != nil {
		t.Fatal(err)
	}
	var single, batch bytes.Buffer
	var events []event
	for i := range records {
		e := newEvent(&records[i])
		events = append(events, e)
		b, err := json.MarshalIndent(e, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		single.Write(bytes.ReplaceAll(b, []byte("\n"), []byte(" ")))
		single.WriteByte('\n')
	}
	if err := json.NewEncoder(&batch).Encode(events); err != nil {
		t.Fatal(err)
	}
	var backwards [][]byte
	for i := range lines {
		backwards = append(backwards, lines[len(lines)-1-i])
	}
	backwards = append(backwards, lines[len(lines)/2:]...)
	for name, text := range map[string][]byte{
		"OTLP": otlp, "CloudEvents": single.Bytes(), "a batch of CloudEvents": batch.Bytes(), "backwards, and twice": bytes.Join(backwards, []byte("\n")),
	} {
		if r, findings := against(t, w.Dir, keys, text); len(findings) > 0 || r.Vouched != w.log.Size() {
			t.Errorf("%s: %+v %+v", name, r, findings)
		}
	}
}
