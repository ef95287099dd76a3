package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/breakglass-gateway/breakglass-gateway/internal/jwks"
)

// FuzzNames: what is taken for a route or an activation has names that Kubernetes
// takes, in one reading only; and a name that is made is one.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"a", "a/b", "a/b:c", "httproute/a", "httproute.gateway.networking.k8s.io/a/b", "HTTPRoutes/x:y", "tcproute/a", "a/b/c", ":", "a:", "a:b:c", "../a", "a/b\n", "é"} {
		f.Add(s, "")
		f.Add(s, "a")
	}
	subdomain := func(s string) bool { return len(validation.IsDNS1123Subdomain(s)) == 0 }
	f.Fuzz(func(t *testing.T, arg, namespace string) {
		if to, err := parseTarget(arg); err == nil {
			if !subdomain(to.name) || to.section != "" && !subdomain(to.section) || to.namespace != "" && len(validation.IsDNS1123Label(to.namespace)) > 0 {
				t.Fatalf("%q is %+v", arg, to)
			}
			again := to.name
			if to.namespace != "" {
				again = to.namespace + "/" + again
			}
			if to.section != "" {
				again += ":" + to.section
			}
			if !strings.HasSuffix(arg, again) && !strings.HasSuffix(arg, again+":") {
				t.Fatalf("%q is %q", arg, again)
			}
		}
		if ts, ns, err := parseTargets([]string{arg, arg + "x"}, namespace); err == nil {
			for _, to := range ts {
				if to.namespace != "" && to.namespace != ns || namespace != "" && ns != namespace {
					t.Fatalf("%q in %q: %+v in %q", arg, namespace, ts, ns)
				}
			}
		}
		if key, err := parseName(arg, namespace); err == nil {
			if !subdomain(key.Name) || namespace != "" && key.Namespace != namespace || arg != key.Name && arg != key.Namespace+"/"+key.Name {
				t.Fatalf("%q in %q is %+v", arg, namespace, key)
			}
		}
		for _, drill := range []bool{false, true} {
			if name := newName(arg, namespace, drill); len(validation.IsDNS1123Label(name)) > 0 {
				t.Fatalf("of %q, %q, %t the name %q is made", arg, namespace, drill, name)
			}
		}
	})
}

// FuzzTimes: a time of day is the next one, within a day; a duration back is not
// ahead; and a duration that is written is read as no longer than it was.
func FuzzTimes(f *testing.F) {
	for _, s := range []string{"03:15", "3:15", "23:59:59", "24:00", "2026-11-24T03:15:00Z", "2026-11-24T03:15:00.5+14:00", "30m", "-1s", "1e3s", "2562047h47m16.854775807s"} {
		f.Add(s, int64(1795600000), int64(90*time.Minute))
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		berlin = time.FixedZone("CET", 3600)
	}
	f.Fuzz(func(t *testing.T, s string, unix, d int64) {
		now := time.Unix(unix%(1<<33), 0).In(berlin)
		if at, err := parseTime(s, now); err == nil && len(s) <= 8 {
			// A day has up to 25 hours.
			if !at.After(now) || at.Sub(now) > 26*time.Hour {
				t.Fatalf("%q at %s is %s", s, now, at)
			}
		}
		if at, err := parseSince(s, now); err == nil {
			if _, isDuration := time.ParseDuration(s); isDuration == nil && at.After(now) {
				t.Fatalf("since %q at %s is %s", s, now, at)
			}
		}
		if d := time.Duration(d); d >= time.Second && d <= longest {
			got, err := time.ParseDuration(string(gatewayDuration(d)))
			if err != nil || got > d || d-got >= time.Millisecond {
				t.Fatalf("%s is written %q", d, gatewayDuration(d))
			}
		}
	})
}

// FuzzClaims: what is made of --claim and --claim-json is an object that the
// reader of tokens takes, and no claim replaces another.
func FuzzClaims(f *testing.F) {
	f.Add("groups=a,b", "realm_access.roles=x", `{"a":1}`)
	f.Add("a=1", "a.b=2", "")
	f.Add("a.b=1", "a=2", `{"a":{"b":[]}}`)
	f.Add("=", ".=,", `{"a":1,"a":2}`)
	f.Fuzz(func(t *testing.T, one, two, text string) {
		got, err := parseClaims([]string{one, two}, text)
		if err != nil {
			return
		}
		b, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(one+two, "\ufffd") && strings.ToValidUTF8(one+two, "\ufffd") != one+two {
			return // it is made valid in JSON, and two names may become one
		}
		if _, err := jwks.DecodeObject(b); err != nil && !strings.Contains(err.Error(), "nested") {
			t.Fatalf("%q, %q and %q are %s: %v", one, two, text, b, err)
		}
		if text != "" {
			first, err := jwks.DecodeObject([]byte(text))
			if err != nil {
				t.Fatalf("%q was taken: %v", text, err)
			}
			for name, v := range first {
				if _, nested := v.(map[string]any); nested {
					continue
				}
				was, _ := json.Marshal(v)
				is, _ := json.Marshal(got[name])
				if !bytes.Equal(was, is) {
					t.Fatalf("%s was %s and is %s", name, was, is)
				}
			}
		}
	})
}

// FuzzNotes: notes that follow one another are taken apart without loss, and a
// note that is found is one when it stands alone.
func FuzzNotes(f *testing.F) {
	f.Add([]byte("o\n1\nx\n\n\u2014 o y\n\no\n2\nx\n\n\u2014 o y\n\u2014 p z\n"))
	f.Add([]byte("o\r\n\r\n\u2014 o y\r\n"))
	f.Add([]byte("\u2014 o y\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		notes, err := splitNotes(bytes.NewReader(b))
		if err != nil {
			return
		}
		squeeze := func(b []byte) string {
			return strings.Map(func(r rune) rune {
				if r == '\n' || r == '\r' {
					return -1
				}
				return r
			}, string(b))
		}
		if len(notes) == 0 || squeeze(bytes.Join(notes, nil)) != squeeze(b) {
			t.Fatalf("%q became %q", b, notes)
		}
		for _, n := range notes {
			alone, err := splitNotes(bytes.NewReader(n))
			if err != nil || len(alone) != 1 || !bytes.Equal(alone[0], n) {
				t.Fatalf("%q alone became %q: %v", n, alone, err)
			}
		}
	})
}
