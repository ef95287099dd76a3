package spool

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
)

const full = `{"typ":"DownstreamEnd","ep":"e-1","sid":"6f1c","conn":42,"t":"2026-11-23T22:00:00.123456Z","us":2345,"d":9,
"m":"POST","h":"bob:pw@db.example","p":"/a?to=b&x","code":200,"fl":"UMSDR","det":"via_upstream","rx":10,"tx":20,
"up":"envoy://lease/o1/10.0.0.1:80","upc":"open/o1/0","att":3,"cl":"192.0.2.7:1234","peer":"[::1]:99","cc":"ab12","iss":"https://idp","sub":7,"jti":["x"],
"rt":"r1","route":"pay/db","rule":"#0","role":"db","opening":"o1","act":"pay/a,pay/b","inc":"INC-1","later":{"x":[1]}}`

func TestEachFieldOfALineIsKept(t *testing.T) {
	r, err := Line([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	want := audit.RequestEntry{
		V: 1, Key: "6f1c", Type: "end", Epoch: "e-1", StreamID: "6f1c", Connection: "42",
		Start: time.Date(2026, 11, 23, 22, 0, 0, 123456000, time.UTC), DurationMs: 2.345,
		Method: "POST", Host: "redacted@db.example", Path: "/a?to=redacted&redacted",
		Status: 200, ResponseFlags: "UMSDR", Details: "via_upstream", BytesIn: 10, BytesOut: 20, Cut: "token",
		Route: "pay/db", Rule: "#0", Activations: []string{"pay/a", "pay/b"}, Role: "db", Incident: "INC-1", Opening: "o1",
		Issuer: "https://idp", Subject: "7", ClientAddress: "192.0.2.7:1234", ClientCertificate: "ab12", PeerAddress: "[::1]:99",
		UpstreamAddress: "10.0.0.1:80", UpstreamCluster: "open/o1/0", Attempts: 3,
	}
	if got := fmt.Sprintf("%+v", *r.Request); got != fmt.Sprintf("%+v", want) || r.Key != "6f1c" || r.Epoch != "e-1" || r.Connection != "42" {
		t.Errorf("got  %s\nwant %+v", got, want)
	}
	early, err := Line([]byte(strings.Replace(full, `"sid":"6f1c",`, "", 1)))
	if err != nil || early.Key != "42@2026-11-23T22:00:00.123456Z" {
		t.Errorf("key %q, %v", early.Key, err)
	}
}

func TestALineThatIsNoRowIsRefused(t *testing.T) {
	for _, s := range []string{
		"", "null", "[]", "{}", full + "x", full + full, full[:len(full)-1],
		strings.Replace(full, "DownstreamEnd", "DownstreamStart", 1),
		strings.Replace(full, `"ep":"e-1"`, `"ep":"-"`, 1),
		strings.Replace(full, `"ep":"e-1"`, `"ep":"`+strings.Repeat("e", 65)+`"`, 1),
		strings.Replace(full, `"code":200`, `"code":"200"`, 1),
		strings.Replace(full, "22:00:00", "25:00:00", 1),
	} {
		if r, err := Line([]byte(s)); err == nil {
			t.Errorf("%.60s: %+v", s, r)
		}
	}
}

func TestWhatIsKeptOfABrokenLineHoldsNoSecrets(t *testing.T) {
	secret := "s3cr3t"
	for _, s := range []string{
		`{"p":"/a?password=` + secret, `{"p":"/a;v=` + secret + `"`, `{"h":"bob:` + secret + `@db"`, secret + `@db","p":"/x"`, secret,
		`{"p":"/eyJhbGciOiJIUzI1NiJ9.` + secret + `","t":"x`,
		// Quotes of the client's.
		`{"p":"/x?k=\"` + secret + `\"","h":"db"`, `{"p":"/x?k=\\\"` + secret + `"`, `{"p":"/x?k=\` + "\n" + secret + `"`,
		`{"h":"bob:\"` + secret + `@db"`, `{"h":"bob:p@` + secret + `@db"`,
		`k=\"` + secret + `\"","h":"db"`, `\"` + secret + `","h":"db"`, `"` + secret + `","h":"db"`, `\\"` + secret + `","h":"db"`,
		secret + `\`, `{` + secret + `","h":"db"`,
	} {
		if got := audit.Fragment([]byte(s)); strings.Contains(got, secret) {
			t.Errorf("%s: kept %s", s, got)
		}
	}
	if got := audit.Fragment([]byte(full)); len(got) > 260 || !strings.Contains(got, "6f1c") {
		t.Errorf("kept %q", got)
	}
}

func FuzzLine(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte(rowOf("k")))
	f.Add([]byte(`k=\"x\"","p":"/x?k=\"y\\\"z"` + rowOf("k")))
	f.Add([]byte(`{"typ":"connection","ep":"e","conn":1e300,"t":"2026-11-23T22:00:00Z","d":18446744073709551615}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		// A query is taken out whole, whatever a client puts into it.
		value, _ := json.Marshal("/x?k=" + string(b[:min(len(b), 100)]) + "s3cr3t")
		if got := audit.Fragment([]byte(`{"p":` + string(value) + `,"z":"after"`)); strings.Contains(got, "s3cr3t") {
			t.Errorf("of %s: kept %s", value, got)
		}
		r, err := Line(b)
		if (r == nil) == (err == nil) {
			t.Fatalf("%+v, %v", r, err)
		}
		if err != nil {
			return
		}
		switch {
		case r.Type == TypeConnection && r.Closed != nil && r.Request == nil:
			if r.Closed.DurationMs < 0 || len(r.Closed.ServerName) > 300 {
				t.Errorf("%+v", r.Closed)
			}
		case r.Request != nil && r.Closed == nil:
			e := r.Request
			if e.Key == "" || e.Key != r.Key || e.DurationMs < 0 || len(e.Path) > 2<<10 || !utf8.ValidString(e.Path+e.Host+e.Subject) || strings.ContainsAny(e.Path+e.Details, "\n\x1b\x00") {
				t.Errorf("%+v", e)
			}
		default:
			t.Errorf("%+v", r)
		}
		for _, p := range pieces(append(append([]byte("torn"), '{'), b...), len(b)+5) {
			if p.end > len(b)+5 {
				t.Errorf("piece %+v", p)
			}
		}
	})
}

func BenchmarkTail(b *testing.B) {
	dir := b.TempDir()
	const n = 20_000
	one := strings.ReplaceAll(full, "\n", "")
	if err := os.WriteFile(filepath.Join(dir, current), []byte(strings.Repeat(one+"\n", n)), 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(one)+1) * n)
	for b.Loop() {
		tail, err := Open(options(dir), "")
		if err != nil {
			b.Fatal(err)
		}
		got := 0
		for more := true; more; {
			var records []Record
			if records, more, err = tail.Read(1000); err != nil {
				b.Fatal(err)
			}
			got += len(records)
		}
		if got != n {
			b.Fatalf("%d rows", got)
		}
		_ = tail.Close()
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}
