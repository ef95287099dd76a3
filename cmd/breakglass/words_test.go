package main

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

func TestNamesAreDNSLabelsAndNew(t *testing.T) {
	for _, incident := range []string{"INC-4711", "Ünïcode", "", "---", "a.b.c", strings.Repeat("x", 250), strings.Repeat("-é", 80), "1"} {
		for _, drill := range []bool{true, false} {
			a, b := newName(incident, "db-failover", drill), newName(incident, "db-failover", drill)
			if errs := validation.IsDNS1123Label(a); len(errs) > 0 {
				t.Errorf("%q: %q: %v", incident, a, errs)
			}
			if a == b {
				t.Errorf("%q: twice the same name %q", incident, a)
			}
		}
	}
}

func TestWindowNeverExceedsWhatWasAsked(t *testing.T) {
	now := time.Date(2026, 11, 24, 3, 0, 0, 123456789, time.FixedZone("CET", 3600))
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		name, duration, notAfter string
		wantDuration             time.Duration
		wantNotAfter             time.Time
	}{
		{"the default, rounded up to the second", "", "", 10 * time.Minute, at("2026-11-24T03:10:01+01:00")},
		{"a duration", "90s", "", 90 * time.Second, at("2026-11-24T03:01:31+01:00")},
		{"the earlier of both", "1h", "2026-11-24T03:30:00.9+01:00", time.Hour, at("2026-11-24T03:30:00+01:00")},
		{"the earlier of both, the other way round", "5m", "2026-11-24T03:30:00+01:00", 5 * time.Minute, at("2026-11-24T03:05:01+01:00")},
		{"a time alone", "", "03:30", 30 * time.Minute, at("2026-11-24T03:30:00+01:00")},
		{"a time of tomorrow", "", "02:00", 23 * time.Hour, at("2026-11-25T02:00:00+01:00")},
	} {
		o := &activateOptions{duration: 10 * time.Minute, notAfter: c.notAfter}
		if c.duration != "" {
			d, err := time.ParseDuration(c.duration)
			if err != nil {
				t.Fatal(err)
			}
			o.duration, o.durationSet = d, true
		}
		d, na, err := o.window(now)
		if err != nil || d != c.wantDuration || !na.Equal(c.wantNotAfter) {
			t.Errorf("%s: %v until %v, %v; want %v until %v", c.name, d, na, err, c.wantDuration, c.wantNotAfter.UTC())
		}
	}
}

func TestDurationsAreGatewayAPIDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Second: "1s", 90 * time.Minute: "1h30m", 24 * time.Hour: "24h", 1500*time.Millisecond + 7: "1s500ms", 10*time.Minute + 5*time.Second: "10m5s",
	} {
		if got := string(gatewayDuration(d)); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestTimesAreLocalAndUTC(t *testing.T) {
	cet := time.FixedZone("CET", 3600)
	now := time.Date(2026, 11, 24, 23, 50, 0, 0, cet)
	for _, c := range []struct {
		t, now time.Time
		want   string
	}{
		{now.Add(time.Minute), now, "23:51:00 CET (22:51:00 UTC)"},
		{now.Add(time.Hour), now, "2026-11-25 00:50:00 CET (2026-11-24 23:50:00 UTC)"},
		{now, now.UTC(), "22:50:00 UTC"},
	} {
		if got := localAndUTC(c.t, c.now); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

func TestShellWordsAreSafeToPaste(t *testing.T) {
	for in, want := range map[string]string{
		"http://a.b:80/x?y=1&z": `'http://a.b:80/x?y=1&z'`, "http://a/b": "http://a/b", "": "''", "a'b $(c)": `'a'\''b $(c)'`, "~/x": "'~/x'",
	} {
		if got := shellQuote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}
