package dataplane

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// FuzzCounters: each number is one that Envoy said under that name, and a chain is
// there only if it was named.
func FuzzCounters(f *testing.F) {
	f.Add("envoy_http_downstream_rq_total{chain=\"http-80\"} 7\nenvoy_filesystem_write_failed{} 1\n", uint64(3))
	f.Add("envoy_filesystem_write_failed -1\n", uint64(0))
	f.Add("# TYPE envoy_http_downstream_rq_active gauge\nenvoy_http_downstream_rq_active{chain=\"\"} NaN\n", uint64(1<<52))
	f.Fuzz(func(t *testing.T, text string, n uint64) {
		c, err := parseCounters([]byte(text))
		if err == nil {
			if len(c.Chains) > 0 && !strings.Contains(text, "envoy_http_downstream_rq_") {
				t.Fatalf("%+v of %q", c, text)
			}
			if c.FileWriteFailed > 0 && !strings.Contains(text, "envoy_filesystem_write_failed") {
				t.Fatalf("%+v of %q", c, text)
			}
		}
		n %= 1 << 53
		one, err := parseCounters([]byte("envoy_filesystem_write_failed{} " + strconv.FormatUint(n, 10) + "\n"))
		if err != nil || one.FileWriteFailed != n {
			t.Fatalf("%+v, %v, want %d", one, err, n)
		}
	})
}

// FuzzFilesOfAnotherLife: what a serve that died left behind may be anything. A
// deadline is one that was written, and what is read of a version is bounded.
func FuzzFilesOfAnotherLife(f *testing.F) {
	f.Add([]byte(`{"deadline":"2026-11-25T12:00:00Z","sinceBoot":5}`))
	f.Add([]byte(`{"pid":1,"startTick":2,"hash":"x","epoch":"e","exe":{"device":1,"inode":2}}`))
	f.Add([]byte("/usr/bin/envoy  version: abc/1.40.0/Clean/RELEASE/BoringSSL\n"))
	f.Add([]byte(`{"deadline":"0001-01-01T00:00:00Z"} {`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		dir, err := os.MkdirTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		for _, name := range []string{fileRecord, fileDeadline} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if d, ok := readDeadline(dir); ok {
			var same struct{ Deadline time.Time }
			if json.Unmarshal(b, &same) != nil || !same.Deadline.Equal(d.Wall) || d.Wall.IsZero() {
				t.Fatalf("%q is read as %+v", b, d)
			}
		}
		// Nobody is process 0, and nothing fits what is empty.
		if r := readRecord(dir); !json.Valid(b) && r != (record{}) || r.fits(&process{}, "") {
			t.Fatalf("%q is read as %+v", b, r)
		}
		if found, warning, err := parseVersion("envoy", string(b)); err != nil && len(err.Error()) > 1000 || err == nil && found != "" && !strings.Contains(string(b), found) || len(warning) > len(b)+1000 {
			t.Fatalf("%q, %q, %v", found, warning, err)
		}
	})
}
