//go:build envoy

package oracle

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	gatewayNamespace = "pay"
	otherNamespace   = "ops"
	beaconRole       = "beacon"
)

// Ports, by index: two of plain HTTP and one of HTTPS.
const (
	portA = iota
	portB
	portTLS
)

var (
	roleNames  = []string{"db", "web", "ops"}
	claimPaths = [][]string{{"groups"}, {"realm_access", "roles"}, {"team"}, {"acr"}, {"https://x.test/claims", "a", "b"}}
	values     = []string{"a", "b", "c", "d"}
	services   = []string{"one", "two", "three"}
	methods    = []string{"GET", "POST", "PUT", "DELETE"}
	exactPaths = []string{"/db", "/db/drop", "/api", "/api/v1", "/db/admin"}
	prefixes   = []string{"/db", "/db/", "/db/admin", "/api", "/api/v1", "/db/drop", "/api/v1/x"}
	regexes    = []string{"/db/[a-z]+", "/api/v[0-9]+", "/(db|api)/.*", "/[a-z]+", "/db/(drop|admin)/?", "/api/[^/]+/x"}
)

// draw a world.
func draw(seed uint64) *world {
	d := throw(seed, 0)
	w := &world{Seed: seed, Domain: fmt.Sprintf("w%x.example.test", seed), keys: map[string]*signer{}}
	w.drawIssuers(d)
	p := &w.Policy
	p.Limit = one(d, 4*time.Hour, 4*time.Hour, 20*time.Minute, 2*time.Second)
	p.Drill = one(d, 15*time.Minute, 2*time.Second)
	p.Scope = scope{Wildcards: d.chance(80), CatchAll: d.chance(80), AnyMethod: d.chance(80), Unlabelled: d.chance(80)}
	for _, name := range roleNames {
		p.Roles = append(p.Roles, w.drawRole(d, name))
	}
	p.Roles = append(p.Roles, role{Name: beaconRole, Grants: []grant{{p.Issuers[0].Name, []claim{{[]string{"beacon"}, []string{"on"}}}}}})
	w.drawListeners(d)
	for i := range d.from(4, 9) {
		w.Routes = append(w.Routes, w.drawRoute(d, i))
	}
	w.Routes = append(w.Routes, &route{Name: "beacon", Namespace: gatewayNamespace, Label: beaconRole, Section: "beacon", Hosts: []string{w.beaconHost()},
		Rules: []rule{{Matches: []match{{Kind: "Exact", Path: "/beacon", Method: "GET"}}, Service: "one"}}})
	return w
}

func (w *world) beaconHost() string { return "beacon." + w.Domain }

func (w *world) drawIssuers(d dice) {
	for i, url := range some(d, 3, "https://sso.example.test", "https://sso.example.test/", "https://other.example.test") {
		s := issuer{
			Name: fmt.Sprintf("issuer-%d", i), URL: url,
			Audiences:   some(d, 2, "breakglass", "https://aud.example.test", "bg2"),
			Algorithms:  []string{"RS256", "ES256", "EdDSA"},
			MaxLifetime: one(d, time.Minute, 15*time.Minute, time.Hour),
		}
		algs := some(d, 2, s.Algorithms...)
		for j, alg := range algs {
			kid := fmt.Sprintf("k%d", j+1) // the same at every issuer
			s.Keys = append(s.Keys, kid)
			w.keys[s.Name+"/"+kid] = madeSigner(kid, alg, i)
		}
		if d.chance(30) {
			s.Algorithms = algs[:1] // and the key of the other algorithm is good for nothing
		}
		w.Policy.Issuers = append(w.Policy.Issuers, s)
	}
}

func (w *world) drawRole(d dice, name string) role {
	out := role{Name: name}
	for range d.from(1, 2) {
		out.Grants = append(out.Grants, w.drawGrant(d))
	}
	if d.chance(25) {
		out.Max = one(d, 30*time.Minute, 1500*time.Millisecond)
	}
	if d.chance(15) {
		out.Hostnames = some(d, 3, "*."+w.Domain, "a."+w.Domain, "*.a."+w.Domain, "b."+w.Domain)
	}
	if d.chance(15) {
		out.Namespaces = []string{one(d, gatewayNamespace, otherNamespace)}
	}
	return out
}

func (w *world) drawGrant(d dice) grant {
	g := grant{Issuer: one(d, w.Policy.Issuers...).Name}
	for _, path := range some(d, 2, claimPaths...) {
		g.Claims = append(g.Claims, claim{path, some(d, 2, values...)})
	}
	return g
}

func (w *world) drawListeners(d dice) {
	w.Listeners = []listener{{Name: "beacon", Port: portA, Hostname: w.beaconHost()}}
	for i, h := range some(d, 4, "", "*.example.test", "*."+w.Domain, "*.a."+w.Domain, "a."+w.Domain, "b."+w.Domain) {
		w.Listeners = append(w.Listeners, listener{Name: fmt.Sprintf("a%d", i), Port: portA, Hostname: h, All: d.chance(70)})
	}
	for i, h := range some(d, 2, "", "*."+w.Domain, "a."+w.Domain) {
		w.Listeners = append(w.Listeners, listener{Name: fmt.Sprintf("b%d", i), Port: portB, Hostname: h, All: d.chance(70)})
	}
	// The name that TLS clients ask for is door.example.test.
	w.Listeners = append(w.Listeners, listener{Name: "tls", Port: portTLS, Hostname: one(d, "", "*.example.test"), All: d.chance(70)})
}

func (w *world) drawRoute(d dice, i int) *route {
	r := &route{Name: fmt.Sprintf("r%d", d.IntN(50)*10+i), Namespace: gatewayNamespace}
	if d.chance(20) {
		r.Namespace = otherNamespace
	}
	if d.chance(60) || !w.Policy.Scope.Unlabelled && d.chance(90) {
		r.Label = one(d, roleNames...)
	}
	if d.chance(20) {
		r.Section = one(d, w.Listeners[1:]...).Name
	}
	hosts := []string{"a." + w.Domain, "b." + w.Domain, "q.a." + w.Domain, w.Domain}
	if w.Policy.Scope.Wildcards || d.chance(10) {
		hosts = append(hosts, "*."+w.Domain, "*.a."+w.Domain, "*.example.test")
	}
	if r.Hosts = some(d, 2, hosts...); w.Policy.Scope.Wildcards && d.chance(10) {
		r.Hosts = nil
	}
	for j := range d.from(1, 3) {
		r.Rules = append(r.Rules, w.drawRule(d, fmt.Sprintf("rule-%d", j)))
	}
	return r
}

func (w *world) drawRule(d dice, name string) rule {
	ru := rule{Service: one(d, services...)}
	if d.chance(60) {
		ru.Name = name
	}
	for range d.from(1, 3) {
		ru.Matches = append(ru.Matches, w.drawMatch(d))
	}
	switch {
	case d.chance(10):
		ru.Rewrite = &rewrite{To: one(d, "/whole", "/a/b")}
	case d.chance(15) && ru.Matches[0].Kind == "PathPrefix":
		ru.Matches = ru.Matches[:1] // Gateway API: exactly one
		ru.Rewrite = &rewrite{Prefix: true, To: one(d, "/", "/xyz", "/xyz/", "/x/y")}
	}
	return ru
}

func (w *world) drawMatch(d dice) match {
	var m match
	switch n := d.IntN(10); {
	case n < 3:
		m.Kind, m.Path = "Exact", one(d, exactPaths...)
	case n < 5:
		m.Kind, m.Path = "RegularExpression", one(d, regexes...)
	default:
		m.Kind, m.Path = "PathPrefix", one(d, prefixes...)
		if (w.Policy.Scope.CatchAll || d.chance(5)) && d.chance(25) {
			m.Path = "/"
		}
	}
	if d.chance(50) || !w.Policy.Scope.AnyMethod && d.chance(98) {
		m.Method = one(d, methods...)
	}
	if d.chance(25) {
		m.Headers = some(d, 2, pair{"x-env", "prod", false}, pair{"x-tier", "t[12]", true})
	}
	if d.chance(20) {
		m.Queries = some(d, 2, pair{"dry", "yes", false}, pair{"n", "[0-9]+", true})
	}
	return m
}

// drawAct draws an activation by now's routes.
func (w *world) drawAct(d dice, name string) *act {
	a := &act{Name: name, Duration: one(d, 10*time.Minute, 10*time.Minute, 10*time.Minute, time.Second, 2*time.Second), How: one(d, "file", "file", "control", "control", "control", "cli")}
	first := one(d, w.Routes[:len(w.Routes)-1]...) // without the beacon
	a.Namespace, a.Role = first.Namespace, first.Label
	if a.Role == "" || d.chance(10) {
		a.Role = one(d, roleNames...)
	}
	if d.chance(3) {
		a.Role = one(d, "nobody", beaconRole)
	}
	for _, r := range w.Routes[:len(w.Routes)-1] {
		// Beside the first, those that the role may open too.
		if r.Namespace != a.Namespace || r != first && (!d.chance(25) || r.Label != "" && r.Label != a.Role && !d.chance(10)) || len(a.Targets) == 3 {
			continue
		}
		t := target{Route: r.Name}
		if ru := one(d, r.Rules...); ru.Name != "" && d.chance(40) {
			t.Rule = ru.Name
		} else if d.chance(2) {
			t.Rule = "no-such-rule"
		}
		a.Targets = append(a.Targets, t)
	}
	if !slices.ContainsFunc(a.Targets, func(t target) bool { return t.Route == first.Name }) {
		a.Targets = append(a.Targets[:min(len(a.Targets), 2)], target{Route: first.Name})
	}
	switch {
	case d.chance(8):
		a.NotAfter = time.Now().Add(time.Duration(d.from(2, 4)) * time.Second).Truncate(time.Second)
	case d.chance(5):
		a.NotAfter = time.Now().Add(-time.Duration(d.from(1, 900)) * time.Second).Truncate(time.Second)
	}
	a.Drill = d.chance(20)
	if a.How == "cli" {
		a.Targets, a.NotAfter = a.Targets[:1], time.Time{} // it makes its own notAfter
	}
	return a
}

// example is a host that a hostname covers.
func example(d dice, hostname, domain string) string {
	suffix, wildcard := strings.CutPrefix(hostname, "*")
	switch {
	case hostname == "":
		return one(d, "a."+domain, "b."+domain, "zz."+domain, "other.test")
	case wildcard && suffix == ".example.test":
		return one(d, "a."+domain, "zz."+domain, domain)
	case wildcard:
		return one(d, "a", "b", "zz", "q.a", "p.q") + suffix
	}
	return hostname
}
