package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tokenCommand runs `token ARGS...` and returns what it wrote.
func tokenCommand(t *testing.T, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := newTokenCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), errOut.String(), err
}

const tokenManifests = `
apiVersion: breakglass.dev/v1alpha1
kind: EmergencyPolicy
metadata: {name: emergency}
spec:
  issuers:
  - name: offline
    issuer: https://offline.example.com
    audiences: [breakglass]
    offline: true
    jwks: {%s}
  roles:
  - name: db
    grants: [{issuer: offline, claims: [{path: [groups], anyOf: [db-oncall]}]}]
  - name: deploy
    grants: [{issuer: offline, claims: [{path: [realm_access, roles], anyOf: [deployer]}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: emergency}
spec:
  controllerName: breakglass.dev/gateway-controller
  parametersRef: {group: breakglass.dev, kind: EmergencyPolicy, name: emergency}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: payments}
spec:
  gatewayClassName: emergency
  listeners: [{name: http, port: 8080, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: failover, namespace: payments, labels: {breakglass.dev/role: db}}
spec: {parentRefs: [{name: gw}], hostnames: [a.example.com]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: bare, namespace: payments}
spec: {parentRefs: [{name: gw}], hostnames: [b.example.com]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: lost, namespace: payments, labels: {breakglass.dev/role: db}}
spec: {parentRefs: [{name: none}], hostnames: [c.example.com]}
`

// tokenRepo makes a key and a directory of manifests that accept it.
func tokenRepo(t *testing.T) (dir, key string) {
	t.Helper()
	dir = t.TempDir()
	key = filepath.Join(t.TempDir(), "key.jwk")
	public, hint, err := tokenCommand(t, "", "keygen", "--key", key)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"offline: true", "inline: '" + strings.TrimSpace(public) + "'", key} {
		if !strings.Contains(hint, want) {
			t.Errorf("the hint lacks %q:\n%s", want, hint)
		}
	}
	writeManifests(t, dir, fmt.Sprintf("inline: '%s'", strings.TrimSpace(public)))
	return dir, key
}

func writeManifests(t *testing.T, dir, jwks string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "all.yaml"), fmt.Appendf(nil, tokenManifests, jwks), 0o600); err != nil {
		t.Fatal(err)
	}
}

func issueToken(t *testing.T, key string, more ...string) string {
	t.Helper()
	args := append([]string{"issue", "--key", key, "--issuer", "https://offline.example.com", "--audience", "breakglass", "--subject", "alice"}, more...)
	out, errOut, err := tokenCommand(t, "", args...)
	if err != nil || errOut != "" || strings.Count(out, "\n") != 1 || strings.Count(out, ".") != 2 {
		t.Fatalf("issue: %v, stderr %q, stdout %d bytes", err, errOut, len(out))
	}
	return strings.TrimSpace(out)
}

func TestTokenIsIssuedAndChecked(t *testing.T) {
	dir, key := tokenRepo(t)
	db := issueToken(t, key, "--claim", "groups=db-oncall")
	deployer := issueToken(t, key, "--claim", "realm_access.roles=deployer,other")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(db+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		stdin string
		args  []string
		want  string // of the error; "" if allowed
		usage bool
	}{
		"a route":                    {db + "\n", []string{"-", "payments/failover"}, "", false},
		"a route by its name":        {db, []string{"-", "failover"}, "", false},
		"a role, no dash":            {db, []string{"--role", "db"}, "", false},
		"a file":                     {"", []string{"--token-file", file, "--role", "db"}, "", false},
		"a file and a route":         {"", []string{"--token-file", file, "payments/failover"}, "", false},
		"an argument":                {"", []string{db, "payments/failover"}, "", false},
		"nested claims":              {deployer, []string{"--role", "deploy"}, "", false},
		"the wrong role":             {deployer, []string{"-", "payments/failover"}, "refused with 403, RoleNotGranted", false},
		"a role that is not there":   {db, []string{"--role", "x"}, "refused with 403, RoleUnknown", false},
		"rubbish":                    {"rubbish", []string{"--role", "db"}, "refused with 401, Malformed", false},
		"nothing":                    {"", []string{"--role", "db"}, "refused with 401, Malformed", false},
		"no role":                    {db, nil, "--role", true},
		"a route without a role":     {db, []string{"-", "payments/bare"}, "has no label breakglass.dev/role", true},
		"a route with another role":  {db, []string{"-", "payments/failover", "--role", "deploy"}, "only that role opens it", false},
		"a route without a policy":   {db, []string{"-", "payments/lost"}, "attached to no Gateway", false},
		"a route, and its policy":    {db, []string{"-", "payments/lost", "--policy", "emergency"}, "", false},
		"a route that is not there":  {db, []string{"-", "payments/x"}, `no HTTPRoute "payments/x"`, false},
		"a policy that is not there": {db, []string{"--role", "db", "--policy", "x"}, `no EmergencyPolicy "x"`, false},
		"a route and no dash":        {db, []string{"payments/failover"}, "write - before it", true},
		"two tokens":                 {"", []string{"--token-file", file, "-"}, "given twice", true},
	} {
		t.Run(name, func(t *testing.T) {
			out, errOut, err := tokenCommand(t, c.stdin, append([]string{"check", "--config", dir, "--data-dir", t.TempDir()}, c.args...)...)
			if c.want == "" && (err != nil || !strings.HasPrefix(out, "Allowed: ")) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v %q, want %q", err, out, c.want)
			}
			if usage := errors.As(err, new(usageError)); usage != c.usage {
				t.Errorf("got %T, want a usage error: %v", err, c.usage)
			}
			all := fmt.Sprint(out, errOut, err)
			for _, part := range strings.Split(db+"."+deployer, ".") {
				if strings.Contains(all, part) {
					t.Errorf("a part of the token is shown: %s", all)
				}
			}
			if warned := strings.Contains(errOut, "can be seen"); warned != (name == "an argument") {
				t.Errorf("stderr %q", errOut)
			}
		})
	}
}

func TestTokenCheckSaysWhichKeysAreUnusable(t *testing.T) {
	dir, key := tokenRepo(t)
	db := issueToken(t, key, "--claim", "groups=db-oncall")
	for jwks, want := range map[string]string{
		`inline: '{"keys":[]}'`:                        "key set is empty",
		`secretRef: {namespace: a, name: b}`:           `Secret a/b, key "jwks.json" does not exist`,
		`configMapRef: {namespace: a, name: b}`:        `ConfigMap a/b, key "jwks.json" does not exist`,
		`remote: {uri: "https://127.0.0.1:1/private"}`: "a local address",
	} {
		writeManifests(t, dir, jwks)
		_, errOut, err := tokenCommand(t, db, "check", "--config", dir, "--role", "db", "--data-dir", t.TempDir())
		if err == nil || !strings.Contains(err.Error(), "IssuerHasNoKeys") || !strings.Contains(errOut, want) {
			t.Errorf("%s: got %v, stderr %q", jwks, err, errOut)
		}
	}
}

func TestTokenKeygenAndIssueRefuse(t *testing.T) {
	_, key := tokenRepo(t)
	if _, _, err := tokenCommand(t, "", "keygen", "--key", key); err == nil || !strings.Contains(err.Error(), "not overwritten") {
		t.Errorf("got %v", err)
	}
	if _, _, err := tokenCommand(t, "", "keygen", "--key", key+"2", "--alg", "HS256"); err == nil || !strings.Contains(err.Error(), "ES256 or EdDSA") {
		t.Errorf("got %v", err)
	}
	base := []string{"issue", "--key", key, "--issuer", "i", "--audience", "a", "--subject", "s"}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--ttl", "25h"}, "--ttl 25h0m0s"},
		{[]string{"--ttl", "0s"}, "--ttl 0s"},
		{[]string{"--claim", "groups"}, "NAME=VALUE"},
		{[]string{"--claim", "=x"}, "NAME=VALUE"},
		{[]string{"--claim", "a="}, "empty"},
		{[]string{"--claim", "a..b=c"}, "empty between the dots"},
		{[]string{"--claim", "a=1", "--claim", "a.b=c"}, "once as a value"},
		{[]string{"--claim", "a.b=c", "--claim", "a=1"}, "set twice"},
		{[]string{"--claim", "a=1", "--claim-json", `{"a":2}`}, "set twice"},
		{[]string{"--claim-json", `[1]`}, "--claim-json: not a JSON object"},
		{[]string{"--claim", "exp=1"}, `claim "exp"`},
	} {
		out, _, err := tokenCommand(t, "", append(base[:len(base):len(base)], c.args...)...)
		if err == nil || out != "" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got %v, want %q", c.args, err, c.want)
		}
	}
	if err := os.Chmod(key, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tokenCommand(t, "", base...); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("got %v", err)
	}
}

func TestTokenClaimsOfTheCommandLine(t *testing.T) {
	got, err := parseClaims([]string{"a=1", "b=x,y", "c=1", "c=2", "d.e.f=g", "d.e.h=i,", "url=https://x/?a=b"}, `{"n": 1.50, "x.y": true}`)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"a":"1","b":["x","y"],"c":["1","2"],"d":{"e":{"f":"g","h":["i"]}},"n":1.50,"url":"https://x/?a=b","x.y":true}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}
