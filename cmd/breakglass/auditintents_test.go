package main

import (
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// intended is a log with requests of a Strict policy, of which the second has no end.
func intended(t *testing.T) (dir string) {
	dir = filepath.Join(t.TempDir(), "log")
	l, err := merkle.Open(dir, merkle.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range []audit.RequestEntry{
		{Type: audit.TypeIntent, Key: "a", Path: "/a"}, {Type: audit.TypeIntent, Key: "b", Path: "/b"}, {Type: audit.TypeOpen, Key: "b", Path: "/b"},
		{Type: audit.TypeEnd, Key: "a", Path: "/a", N: 1}, {Type: audit.TypeEnd, Key: "c", Path: "/c", N: 2},
	} {
		r.V, r.Gateway, r.Epoch, r.Opening, r.Subject = 1, "pay/door", "e", "o", "ana"
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		cursors := map[string]string{}
		if r.Type == audit.TypeEnd {
			cursors["count/pay/door e"] = string(rune('0' + r.N))
		}
		if err := l.Append(t.Context(), merkle.Draft{Kind: audit.KindRequest, Data: data, Cursors: cursors}); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestIntentsWithoutAnEndAreFound(t *testing.T) {
	dir := intended(t)
	out, err := listed(t, "--data-dir", dir, "--unfinished")
	if err != nil || strings.Count(out, "request intent") != 1 || !strings.Contains(out, "/b") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = listed(t, "--data-dir", dir, "--unfinished", "--subject", "somebody-else")
	if err != nil || strings.Contains(out, "/b") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err = listed(t, "--data-dir", dir, "--unfinished", "--below", dir); err == nil {
		t.Error("of more than one log")
	}
}

func TestIntentsAreNoRequestsTwice(t *testing.T) {
	dir := intended(t)
	cmd := newAuditVerifyCommand()
	var out strings.Builder
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs([]string{"--data-dir", dir})
	cmd.SilenceUsage = true
	if err := cmd.Execute(); err != nil || !strings.Contains(out.String(), "1 intent without an end") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
