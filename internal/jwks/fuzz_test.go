package jwks

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// FuzzDecodeObject: what is taken is what encoding/json reads, all of it, with no
// member twice, and it is not deep.
func FuzzDecodeObject(f *testing.F) {
	for _, s := range []string{
		`{"a":1,"b":[{"a":null}],"c":"\ud83d\ude00"}`, `{"a":1,"a":1}`, `{"a":1,"\u0061":2}`, `{"a":"\ud800"}`, `{"a":"\ud800\u0041"}`,
		`{"a":"\\ud800"}`, `[]`, `{} `, `{}x`, strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40), `{"n":1e999,"m":-0}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := DecodeObject(data)
		if err != nil {
			if len(err.Error()) > 400 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		var want map[string]any
		if err := dec.Decode(&want); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q is %v here and %v for encoding/json: %v", data, got, want, err)
		}
		if n := depth(got); n > maxDepth+1 {
			t.Fatalf("%d deep", n)
		}
		// As many members as there are colons outside of strings: none was dropped.
		if colons(data) != members(got) {
			t.Fatalf("%q has %d members of %d", data, members(got), colons(data))
		}
	})
}

func depth(v any) int {
	most := 0
	switch v := v.(type) {
	case map[string]any:
		for _, m := range v {
			most = max(most, depth(m)+1)
		}
	case []any:
		for _, m := range v {
			most = max(most, depth(m)+1)
		}
	}
	return most
}

func members(v any) int {
	n := 0
	switch v := v.(type) {
	case map[string]any:
		for _, m := range v {
			n += 1 + members(m)
		}
	case []any:
		for _, m := range v {
			n += members(m)
		}
	}
	return n
}

func colons(data []byte) int {
	n, inside := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inside && c == '\\':
			i++
		case c == '"':
			inside = !inside
		case c == ':' && !inside:
			n++
		}
	}
	return n
}

// FuzzCached: whatever is in the file of the last good answer, what is used of it
// is a key set of the one that was asked for, and no older than it may be.
func FuzzCached(f *testing.F) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	key, src := Key{Policy: "p", Issuer: "i"}, Source{RemoteJWKS: v1alpha1.RemoteJWKS{URI: "https://idp.example.test/keys"}}
	body := document(f, member(f, "p256", nil))
	for _, s := range []stored{
		{Policy: "p", Issuer: "i", URI: src.URI, FetchedAt: now.Add(-time.Hour), Body: body},
		{Policy: "p", Issuer: "i", URI: src.URI, FetchedAt: now.Add(-48 * time.Hour), Body: body},
		{Policy: "p", Issuer: "i", URI: src.URI, FetchedAt: now.Add(time.Second), Body: body},
		{Policy: "p", Issuer: "j", URI: src.URI, FetchedAt: now, Body: body},
		{Policy: "p", Issuer: "i", URI: src.URI, FetchedAt: now, Body: []byte(`{"keys":[]}`)},
	} {
		f.Add(mustJSON(f, s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := cachePath(dir, key)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Cached(dir, key, src, now)
		if err != nil {
			if r.Set != nil {
				t.Fatal("a set and an error")
			}
			return
		}
		if len(r.Set.Keys()) == 0 || !r.Stale || r.FetchedAt.After(now) || !now.Before(r.Expires) || r.Expires.Sub(r.FetchedAt) > defaultMaxStale || !bytes.Contains(b, []byte(src.URI)) && !bytes.ContainsRune(b, '\\') {
			t.Fatalf("%q is used: %+v", b, r)
		}
	})
}
