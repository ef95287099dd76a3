package lock

import (
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

func sound() Lock {
	return Lock{
		Deadline: time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC), Role: "db", Opening: "o", Route: "pay/db", Rule: "#0",
		Grants: []Grant{{Issuer: "https://sso", Audiences: []string{"bg"}, MaxTokenLifetime: time.Hour, Claims: []Claim{{Path: []string{"groups"}, AnyOf: []string{"db"}}}}},
	}
}

var forward = Action{Forward: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "open/o/0"}}}

func TestASoundLockOpens(t *testing.T) {
	r := sound().Open("r", anyPath(), forward)
	if !r.Open() || r.Name() != "r" {
		t.Fatal("closed")
	}
	if err := r.route.ValidateAll(); err != nil {
		t.Fatal(err)
	}
}

// Each of these forgets one thing. A lock that cannot keep anybody out opens
// nothing.
func TestAnIncompleteLockOpensNothing(t *testing.T) {
	for name, forget := range map[string]func(*Lock){
		"everything":     func(l *Lock) { *l = Lock{} },
		"deadline":       func(l *Lock) { l.Deadline = time.Time{} },
		"role":           func(l *Lock) { l.Role = "" },
		"opening":        func(l *Lock) { l.Opening = "" },
		"gateway":        func(l *Lock) { l.Strict = true },
		"grants":         func(l *Lock) { l.Grants = nil },
		"issuer":         func(l *Lock) { l.Grants[0].Issuer = "" },
		"audiences":      func(l *Lock) { l.Grants[0].Audiences = nil },
		"empty audience": func(l *Lock) { l.Grants[0].Audiences = []string{"bg", ""} },
		"lifetime":       func(l *Lock) { l.Grants[0].MaxTokenLifetime = 0 },
		"claims":         func(l *Lock) { l.Grants[0].Claims = nil },
		"path":           func(l *Lock) { l.Grants[0].Claims[0].Path = nil },
		"empty path":     func(l *Lock) { l.Grants[0].Claims[0].Path = []string{""} },
		"values":         func(l *Lock) { l.Grants[0].Claims[0].AnyOf = nil },
		"empty value":    func(l *Lock) { l.Grants[0].Claims[0].AnyOf = []string{""} },
		"second grant":   func(l *Lock) { l.Grants = append(l.Grants, Grant{Issuer: "https://other"}) },
	} {
		t.Run(name, func(t *testing.T) {
			l := sound()
			forget(&l)
			if l.Open("r", anyPath(), forward).Open() {
				t.Error("open")
			}
		})
	}
}

func TestAnActionThatDoesNothingIsClosed(t *testing.T) {
	if sound().Open("r", anyPath(), Action{}).Open() {
		t.Error("open")
	}
}

func TestHeadersTheLocksDependOnAreReserved(t *testing.T) {
	for _, h := range []string{
		"Authorization", "authorization", "X-Envoy-Upstream-Stream-Duration-Ms", "x-envoy-", "x-breakglass-now", "X-Breakglass-Scope",
		":path", ":authority", "Host", "Connection", "Upgrade", "TE", "Transfer-Encoding", "Content-Length", "X-Request-Id", "X-Forwarded-For", "",
	} {
		if !Reserved(h) {
			t.Errorf("%q is not reserved", h)
		}
	}
	for _, h := range []string{"x-change-source", "accept", "envoy", "breakglass"} {
		if Reserved(h) {
			t.Errorf("%q is reserved", h)
		}
	}
}

// The smaller lifetime of two grants of one issuer holds: the expression in the
// filter knows issuers, not grants.
func TestTheSmallerLifetimeHolds(t *testing.T) {
	l := sound()
	g := l.Grants[0]
	g.MaxTokenLifetime = time.Minute
	l.Grants = append(l.Grants, g)
	got := l.metadata().GetFilterMetadata()[MetadataNamespace].GetFields()["lifetimes"].GetStructValue().GetFields()["https://sso"].GetNumberValue()
	if got != 60 {
		t.Errorf("lifetime %v s, want 60", got)
	}
}

func TestEveryListenerIsValid(t *testing.T) {
	l := Listener([]string{"127.0.0.1", "::1"}, 8443, 8443, []Chain{{Name: "https-8443-a", Hostname: "a.example.com", Secrets: []string{"tls/x"}}, {Name: "https-8443-b", Secrets: []string{"tls/x"}}})
	if err := l.ValidateAll(); err != nil {
		t.Error(err)
	}
	for _, m := range []interface{ ValidateAll() error }{HCM(Chain{Name: "c"}), Lease("o"), OriginalDst(), Cluster("o", 0, Backend{}), JWT(nil), Scope("a|b"), RouteConfiguration("a|b", []VirtualHost{{Name: "v", Domains: []string{"*"}}})} {
		if err := m.ValidateAll(); err != nil {
			t.Errorf("%T: %v", m, err)
		}
	}
}
