package testbed

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Namespace of everything that has one.
const Namespace = "pay"

// Policy is an EmergencyPolicy. Everything but Name, Issuers and Roles may be
// empty. Limits and Scope are YAML in flow style.
type Policy struct {
	Name          string
	Issuers       []PolicyIssuer
	Roles         []Role
	Limits, Scope string
	Suspended     bool
	// Requests is YAML in flow style; "" for limits that no spec meets.
	Requests string
	// OnFailure and Mode of the audit log; "" for the default.
	OnFailure, Mode string
	// Review is YAML in flow style; "" for the default.
	Review string
}

// PolicyIssuer is an issuer of a policy. JWKS is YAML in flow style.
type PolicyIssuer struct {
	Name, URL, JWKS, MaxTokenLifetime string
	Offline                           bool
}

// Role of a policy. Grants are YAML in flow style; Group is short for a list
// claim "groups" of the issuer "sso" that holds it.
type Role struct{ Name, Group, Grants, MaxDuration string }

// Inline is a jwks source with the key set itself.
func Inline(jwks string) string { return fmt.Sprintf("{inline: %s}", quote(jwks)) }

// quote for YAML: in single quotes only the single quote is special.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// unlimited is for specs that ask as often as they can.
const unlimited = "{withToken: {perSecond: 1000000, burst: 1000000}, withoutToken: {perSecond: 1000000, burst: 1000000}, allWithoutToken: {perSecond: 1000000, burst: 1000000}}"

// YAML of the policy.
func (p Policy) YAML() string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: breakglass.dev/v1alpha1\nkind: EmergencyPolicy\nmetadata: {name: %s}\nspec:\n", p.Name)
	fmt.Fprintf(&b, "  suspended: %t\n  limits: %s\n  scope: %s\n", p.Suspended, cmp.Or(p.Limits, "{}"), cmp.Or(p.Scope, "{}"))
	fmt.Fprintf(&b, "  requests: %s\n", cmp.Or(p.Requests, unlimited))
	if p.OnFailure != "" || p.Mode != "" {
		fmt.Fprintf(&b, "  audit: {onFailure: %s, mode: %s}\n", cmp.Or(p.OnFailure, "Refuse"), cmp.Or(p.Mode, "Standard"))
	}
	if p.Review != "" {
		fmt.Fprintf(&b, "  review: %s\n", p.Review)
	}
	b.WriteString("  issuers:\n")
	for _, i := range p.Issuers {
		fmt.Fprintf(&b, "  - {name: %s, issuer: %s, audiences: [breakglass], maxTokenLifetime: %s, offline: %t, jwks: %s}\n",
			i.Name, quote(i.URL), cmp.Or(i.MaxTokenLifetime, "1h"), i.Offline, i.JWKS)
	}
	b.WriteString("  roles:\n")
	for _, r := range p.Roles {
		grants := r.Grants
		if grants == "" {
			grants = fmt.Sprintf("[{issuer: sso, claims: [{path: [groups], anyOf: [%s]}]}]", r.Group)
		}
		fmt.Fprintf(&b, "  - {name: %s, maxDuration: %s, grants: %s}\n", r.Name, cmp.Or(r.MaxDuration, "4h"), grants)
	}
	return b.String()
}

// Class is a GatewayClass that names an EmergencyPolicy.
func Class(name, policy string) string {
	return fmt.Sprintf(`apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: %s}
spec:
  controllerName: breakglass.dev/gateway-controller
  parametersRef: {group: breakglass.dev, kind: EmergencyPolicy, name: %s}
`, name, policy)
}

// Gateway with the listeners, each YAML in flow style.
func Gateway(name, class string, listeners ...string) string {
	return fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: %s, namespace: %s}\nspec:\n"+
		"  gatewayClassName: %s\n  listeners:\n  - %s\n", name, Namespace, class, strings.Join(listeners, "\n  - "))
}

// Listener for HTTP on a port; hostname may be empty.
func Listener(name string, port int, hostname string) string {
	host := ""
	if hostname != "" {
		host = fmt.Sprintf(", hostname: %s", quote(hostname))
	}
	return fmt.Sprintf("{name: %s, protocol: HTTP, port: %d%s}", name, port, host)
}

// Service with one endpoint on loopback for each port; none is no endpoint.
func Service(name string, ports ...int) string {
	docs := []string{fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: %s}\nspec: {ports: [{name: http, port: 80}]}\n", name, Namespace)}
	for i, port := range ports {
		docs = append(docs, Endpoints(name, fmt.Sprintf("%s-%d", name, i+1), port))
	}
	return Docs(docs...)
}

// Endpoints is an EndpointSlice of a Service with one endpoint on loopback.
func Endpoints(service, name string, port int) string {
	return fmt.Sprintf(`apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %[1]s, namespace: %[2]s, labels: {kubernetes.io/service-name: %[3]s}}
addressType: IPv4
ports: [{name: http, port: %[4]d}]
endpoints: [{addresses: [127.0.0.1]}]
`, name, Namespace, service, port)
}

// Route is an HTTPRoute. Only Name is required: the host is then NAME.example.test,
// the role "db", and the one rule takes GET and POST below /api.
type Route struct {
	Name, Role, Gateway string
	Hosts               []string
	Rules               []Rule
}

// Rule of a route. Matches and Extra are YAML in flow style, Extra without braces.
type Rule struct {
	Name, Service string
	Matches       []string
	Extra         string
}

// Match is a match in flow style; more may be ", headers: [...]".
func Match(method, kind, path, more string) string {
	return fmt.Sprintf("{method: %s, path: {type: %s, value: %s}%s}", method, kind, quote(path), more)
}

// Host of a route that names none.
func Host(route string) string { return route + ".example.test" }

// YAML of the route.
func (r Route) YAML() string {
	hosts := r.Hosts
	if hosts == nil {
		hosts = []string{Host(r.Name)}
	}
	rules := r.Rules
	if rules == nil {
		rules = []Rule{{Matches: []string{Match("GET", "PathPrefix", "/api", ""), Match("POST", "PathPrefix", "/api", "")}}}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n"+
		"metadata: {name: %s, namespace: %s, labels: {breakglass.dev/role: %s}}\nspec:\n  parentRefs: [{name: %s}]\n  hostnames: ['%s']\n  rules:\n",
		r.Name, Namespace, cmp.Or(r.Role, "db"), cmp.Or(r.Gateway, "door"), strings.Join(hosts, "', '"))
	for _, ru := range rules {
		name, extra := "", ""
		if ru.Name != "" {
			name = fmt.Sprintf("name: %s, ", ru.Name)
		}
		if ru.Extra != "" {
			extra = ", " + ru.Extra
		}
		fmt.Fprintf(&b, "  - {%smatches: [%s], backendRefs: [{name: %s, port: 80}]%s}\n", name, strings.Join(ru.Matches, ", "), cmp.Or(ru.Service, "echo"), extra)
	}
	return b.String()
}

// Activation is an Activation. Only Name and Routes are required.
type Activation struct {
	Name, Role, Duration, Incident string
	// Routes to open: NAME or NAME:RULE, with "grpcroute/" before it for a GRPCRoute.
	Routes         []string
	NotAfter       time.Time
	Drill, Revoked bool
}

// YAML of the activation. An incident is named unless it is a drill.
func (a Activation) YAML() string {
	var refs []string
	for _, r := range a.Routes {
		name, rule, some := strings.Cut(r, ":")
		name, grpc := strings.CutPrefix(name, "grpcroute/")
		ref := "name: " + name
		if grpc {
			ref = "kind: GRPCRoute, " + ref
		}
		if some {
			ref += ", sectionName: " + rule
		}
		refs = append(refs, "{"+ref+"}")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: breakglass.dev/v1alpha1\nkind: Activation\nmetadata: {name: %s, namespace: %s}\nspec:\n  targetRefs: [%s]\n  role: %s\n  reason: a test\n",
		a.Name, Namespace, strings.Join(refs, ", "), cmp.Or(a.Role, "db"))
	if a.Incident != "" || !a.Drill {
		fmt.Fprintf(&b, "  incident: %s\n", cmp.Or(a.Incident, "INC-1"))
	}
	if a.Duration != "" {
		fmt.Fprintf(&b, "  duration: %s\n", a.Duration)
	}
	if !a.NotAfter.IsZero() {
		fmt.Fprintf(&b, "  notAfter: %s\n", quote(a.NotAfter.UTC().Format(time.RFC3339)))
	}
	if a.Drill {
		b.WriteString("  drill: true\n")
	}
	if a.Revoked {
		b.WriteString("  revoked: true\n")
	}
	return b.String()
}

// Docs joins documents to a file.
func Docs(docs ...string) string { return strings.Join(docs, "---\n") }
