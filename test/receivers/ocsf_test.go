package receivers

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// ocsfSchemas are those of OCSF itself, by class_uid; see testdata/ocsf/generate.py.
func ocsfSchemas(t testing.TB) map[string]*jsonschema.Schema {
	t.Helper()
	f, err := os.Open("testdata/ocsf/classes-1.5.0.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	all, err := jsonschema.UnmarshalJSON(z)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*jsonschema.Schema{}
	for uid, doc := range all.(map[string]any) {
		c := jsonschema.NewCompiler()
		if err := c.AddResource("class.json", doc); err != nil {
			t.Fatal(err)
		}
		if out[uid], err = c.Compile("class.json"); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// entries of all kinds, and of forms that nobody should write.
var entries = []struct{ kind, data, class string }{
	{"request", string(request(1)), "4002"},
	{"request", `{"v":1,"key":"k","type":"end","start":"2026-11-26T01:00:00Z","durationMs":3,"method":"POST","host":"h:8443","path":"/","status":403,"denied":"rbac: refused","bytesIn":1,"bytesOut":2,"clientAddress":"[2001:db8::1]:80","subject":"bob"}`, "4002"},
	{"request", `{"v":1,"key":"c1@t","type":"end","start":"2026-11-26T01:00:00Z","durationMs":0,"status":0,"bytesIn":0,"bytesOut":0,"clientAddress":"internal:x"}`, "4002"},
	{"request", `{"v":1,"key":"k","type":"open","start":"2026-11-26T01:00:00Z","durationMs":1000,"method":"PROPFIND","path":"/","status":0,"bytesIn":0,"bytesOut":0}`, "4002"},
	{"request", `{"v":1,"key":"k","type":"intent","start":"2026-11-26T01:00:00Z","method":"GET","path":"/x"}`, "4002"},
	{"request", `"not a request"`, "0"},
	{"request", `{}`, "4002"},
	{"activation", `{"event":"opened","time":"2026-11-26T01:00:00Z","record":{"namespace":"prod","name":"a","requestedBy":"alice","spec":{"role":"oncall","incident":"INC-1"}}}`, "3005"},
	{"activation", `{"event":"refused","time":"2026-11-26T01:00:00Z","record":{"namespace":"prod","name":"a","spec":{"role":"oncall"}}}`, "3005"},
	{"activation", `{"event":"revoked","record":{"namespace":"prod","name":"a","spec":{}}}`, "3005"},
	{"activation", `{"record":{}}`, "3005"},
	{"activation", `{}`, "0"},
	{"policy", `{"name":"default","digest":"d","ownerUID":1000,"spec":{"roles":[]}}`, "3004"},
	{"policy", `{"name":"default","digest":"d"}`, "3004"},
	{"config", `{"v":1,"loaded":true,"objects":7,"digest":"d"}`, "3004"},
	{"start", `{"version":"v1.2.3","config":"/etc/breakglass"}`, "6002"},
	{"stop", `{}`, "6002"},
	{"alarm", `{"v":1,"id":"opened/a/b/1","event":"raised","name":"ActivationOpened","severity":"critical","time":"2026-11-26T01:00:00Z","summary":"it is open","labels":{"role":"oncall","incident":"INC-1"}}`, "2004"},
	{"alarm", `{"v":1,"id":"opened/a/b/1","event":"delivered","name":"ActivationOpened","severity":"critical","time":"2026-11-26T01:00:00Z","sink":"pager","at":"2026-11-26T01:00:01Z"}`, "2004"},
	{"alarm", `{"v":1,"id":"x","event":"raised","name":"New","severity":"unheard of","time":"2026-11-26T01:00:00Z"}`, "2004"},
	{"read", `{"v":1,"by":"auditor","groups":["a","b"],"what":"/v1/entries?kind=request","address":"192.0.2.1:5"}`, "6003"},
	{"read", `{"v":1,"by":"auditor","what":"/","refused":"not allowed"}`, "6003"},
	{"gap", `{"v":1,"lost":3,"since":"2026-11-26T01:00:00Z","until":"2026-11-26T01:00:00Z","reason":"r","gateway":"g"}`, "0"},
	{"clock", `{"v":1,"seconds":-3}`, "0"},
	{"problem", `{"v":1,"file":"f","reason":"r"}`, "0"},
	{"connection", `{"v":1,"gateway":"g","start":"2026-11-26T01:00:00Z","durationMs":1,"bytesIn":0,"bytesOut":0}`, "0"},
	{"limited", `{"v":1,"gateway":"g","epoch":"e","since":"2026-11-26T01:00:00Z","until":"2026-11-26T01:00:00Z","refused":3}`, "0"},
	{"epoch", `{"v":1,"gateway":"g","epoch":"e","requests":3,"missing":0}`, "0"},
	{"source", `{"v":1,"event":"begun","log":"o","identity":"i","taken":0}`, "0"},
	{"sink", `{"v":1,"sink":"s","event":"failing","reason":"r"}`, "0"},
	{"unheardof", `[1,2,3]`, "0"},
}

func TestEventsAreWhatTheSchemaOfOCSFSays(t *testing.T) {
	schemas := ocsfSchemas(t)
	file := filepath.Join(t.TempDir(), "ocsf.jsonl")
	w := newWorld(t, fmt.Sprintf("sinks: [{name: ocsf, encoding: OCSF, jsonLines: {path: %s}}]", file))
	for _, e := range entries {
		if err := w.log.Append(context.Background(), merkle.Draft{Kind: e.kind, Data: json.RawMessage(e.data)}); err != nil {
			t.Fatal(err)
		}
	}
	w.run()
	lines := w.lines()
	eventually(t, "all events are there", func() bool { return len(linesOf(t, file)) > len(lines) }) // and a checkpoint
	checkpoints := 0
	for _, l := range linesOf(t, file) {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(l))
		if err != nil {
			t.Fatal(err)
		}
		var e struct {
			ClassUID int    `json:"class_uid"`
			RawData  string `json:"raw_data"`
			Metadata struct {
				UID, EventCode string
				Sequence       *int
			}
		}
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			t.Fatal(err)
		}
		s := schemas[fmt.Sprint(e.ClassUID)]
		if s == nil {
			t.Fatalf("class %d: %s", e.ClassUID, l)
		}
		if err := s.Validate(doc); err != nil {
			t.Errorf("%s\n%v", l, err)
		}
		if e.Metadata.Sequence == nil {
			checkpoints++
			continue
		}
		seq := *e.Metadata.Sequence
		if e.RawData != lines[seq] || e.Metadata.UID != fmt.Sprintf("%s/%d", w.origin(), seq) {
			t.Errorf("entry %d is not in raw_data: %s", seq, l)
		}
		if seq > 0 && fmt.Sprint(e.ClassUID) != entries[seq-1].class {
			t.Errorf("class %d, want %s: %s", e.ClassUID, entries[seq-1].class, l)
		}
	}
	if checkpoints == 0 {
		t.Error("no checkpoint came")
	}
}

// The schemas refuse something: the test above can fail.
func TestTheSchemaOfOCSFRefusesWhatItDoesNotSay(t *testing.T) {
	schemas := ocsfSchemas(t)
	for _, bad := range []string{`{}`, `{"class_uid":4002}`} {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(bad)))
		if err != nil {
			t.Fatal(err)
		}
		if schemas["4002"].Validate(doc) == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
