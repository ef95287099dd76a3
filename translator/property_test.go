package translator

import (
	"fmt"
	"strings"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

var epoch = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

const goodKeys = `{"keys":[{"kty":"EC","crv":"P-256","kid":"k1","alg":"ES256","use":"sig","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`

// The generators draw from what a schema lets through and from what it should
// not: the translator must not depend on anybody's validation to stay closed.
func anyOf[T any](t *rapid.T, label string, vs ...T) T { return rapid.SampledFrom(vs).Draw(t, label) }

// mostly is the first value in seven cases of eight, so that enough of a world
// is sound for something to open.
func mostly[T any](t *rapid.T, label string, sound T, others ...T) T {
	if rapid.IntRange(0, 7).Draw(t, label+"?") > 0 {
		return sound
	}
	return anyOf(t, label, others...)
}

func genPolicy(t *rapid.T) *v1alpha1.EmergencyPolicy {
	p := &v1alpha1.EmergencyPolicy{ObjectMeta: metav1.ObjectMeta{Name: "emergency"}}
	for i := range mostly(t, "issuers", 1, 0, 2) {
		p.Spec.Issuers = append(p.Spec.Issuers, v1alpha1.Issuer{
			Name: fmt.Sprintf("i%d", i), Issuer: mostly(t, "iss", fmt.Sprintf("https://%d", i), "https://0", ""),
			Audiences:  mostly(t, "aud", []string{"bg"}, nil),
			Algorithms: []v1alpha1.Algorithm{"ES256"},
			JWKS:       v1alpha1.JWKSSource{Inline: ptr(mostly(t, "jwks", goodKeys, `{"keys":[]}`, "garbage", ""))},
		})
	}
	for _, name := range []string{"db", "web"} {
		r := v1alpha1.Role{Name: name}
		for range mostly(t, "grants", 1, 0, 2) {
			g := v1alpha1.Grant{Issuer: mostly(t, "grant issuer", "i0", "i1", "nope")}
			for range mostly(t, "claims", 1, 0, 2) {
				g.Claims = append(g.Claims, v1alpha1.ClaimMatch{
					Path:  mostly(t, "path", []string{"groups"}, []string{"a", "b"}, []string{""}, nil),
					AnyOf: mostly(t, "values", []string{"x"}, []string{"x", "y"}, []string{""}, nil),
				})
			}
			r.Grants = append(r.Grants, g)
		}
		p.Spec.Roles = append(p.Spec.Roles, r)
	}
	p.Spec.Suspended = rapid.IntRange(0, 9).Draw(t, "suspended") == 0
	all := rapid.Bool().Draw(t, "relaxed")
	p.Spec.Audit.OnFailure = mostly(t, "on failure", v1alpha1.AuditRefuse, v1alpha1.AuditDegrade, "", "degrade")
	p.Spec.Audit.Mode = mostly(t, "mode", "", v1alpha1.AuditStandard, v1alpha1.AuditStrict, "strict")
	p.Spec.Scope = v1alpha1.Scope{AllowWildcardHostnames: all, AllowCatchAllPath: all, AllowAnyMethod: all, AllowUnlabelled: all, AllowPlainHTTP: all}
	return p
}

func genRoute(t *rapid.T, name string) *gwv1.HTTPRoute {
	r := &gwv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name, Labels: map[string]string{}}}
	if role := mostly(t, "label", "db", "web", ""); role != "" {
		r.Labels[v1alpha1.RoleLabel] = role
	}
	r.Spec.ParentRefs = []gwv1.ParentReference{{Name: gwv1.ObjectName(mostly(t, "parent", "door", "window"))}}
	if set := mostly(t, "set", "", "set0", "set1"); set != "" {
		r.Spec.ParentRefs = append(r.Spec.ParentRefs, gwv1.ParentReference{Kind: ptr(gwv1.Kind("ListenerSet")), Name: gwv1.ObjectName(set)})
	}
	for range mostly(t, "hostnames", 1, 0, 2) {
		r.Spec.Hostnames = append(r.Spec.Hostnames, gwv1.Hostname(anyOf(t, "hostname", "a.example.com", "b.example.com", "*.example.com", "A.Example.com", "other.org")))
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "rules") {
		r.Spec.Rules = append(r.Spec.Rules, genRule(t, i))
	}
	return r
}

func genGRPCRoute(t *rapid.T, name string) *gwv1.GRPCRoute {
	as := genRoute(t, name)
	r := &gwv1.GRPCRoute{ObjectMeta: as.ObjectMeta, Spec: gwv1.GRPCRouteSpec{CommonRouteSpec: as.Spec.CommonRouteSpec, Hostnames: as.Spec.Hostnames}}
	r.CreationTimestamp = metav1.NewTime(epoch.Add(anyOf(t, "made", -time.Hour, time.Hour)))
	for _, rule := range as.Spec.Rules {
		to := gwv1.GRPCRouteRule{Name: rule.Name}
		for range rapid.IntRange(0, 2).Draw(t, "methods") {
			to.Matches = append(to.Matches, method(
				anyOf(t, "method match", exactly, regExpr), mostly(t, "service", "a.B", "", "a.C", "a/b", "(", ".*"), mostly(t, "method", "Get", "", "Set", "G.*")))
		}
		for _, f := range rule.Filters {
			to.Filters = append(to.Filters, gwv1.GRPCRouteFilter{
				Type: gwv1.GRPCRouteFilterType(f.Type), RequestHeaderModifier: f.RequestHeaderModifier, ResponseHeaderModifier: f.ResponseHeaderModifier, RequestMirror: f.RequestMirror,
			})
		}
		for _, b := range rule.BackendRefs {
			to.BackendRefs = append(to.BackendRefs, gwv1.GRPCBackendRef{BackendRef: b.BackendRef})
		}
		r.Spec.Rules = append(r.Spec.Rules, to)
	}
	return r
}

func genRule(t *rapid.T, i int) gwv1.HTTPRouteRule {
	rule := gwv1.HTTPRouteRule{}
	if rapid.Bool().Draw(t, "named") {
		rule.Name = ptr(gwv1.SectionName(fmt.Sprintf("rule%d", i)))
	}
	for range mostly(t, "matches", 1, 0, 2) {
		m := gwv1.HTTPRouteMatch{Path: &gwv1.HTTPPathMatch{
			Type:  ptr(mostly(t, "type", gwv1.PathMatchPathPrefix, gwv1.PathMatchExact, gwv1.PathMatchRegularExpression)),
			Value: ptr(mostly(t, "value", "/a", "/", "/a/b", "/a/", "/(", ".*", "", "a")),
		}}
		if mostly(t, "method", true, false) {
			m.Method = ptr(gwv1.HTTPMethodGet)
		}
		if mostly(t, "header", false, true) {
			m.Headers = []gwv1.HTTPHeaderMatch{{Name: gwv1.HTTPHeaderName(mostly(t, "header name", "x-a", "Authorization", "x-breakglass-scope")), Value: "v"}}
		}
		rule.Matches = append(rule.Matches, m)
	}
	for range mostly(t, "filters", 0, 1) {
		h := gwv1.HTTPHeaderName(mostly(t, "filter header", "x-a", "X-Envoy-Upstream-Stream-Duration-Ms", "authorization", "X-BREAKGLASS-x", ":path", "host", ""))
		f := &gwv1.HTTPHeaderFilter{}
		value := anyOf(t, "filter value", "v", "%DYNAMIC_METADATA(x)%", "\n", "100%")
		switch rapid.IntRange(0, 2).Draw(t, "operation") {
		case 0:
			f.Set = []gwv1.HTTPHeader{{Name: h, Value: value}}
		case 1:
			f.Add = []gwv1.HTTPHeader{{Name: h, Value: value}}
		default:
			f.Remove = []string{string(h)}
		}
		rule.Filters = append(rule.Filters, gwv1.HTTPRouteFilter{
			Type:                  mostly(t, "filter", gwv1.HTTPRouteFilterRequestHeaderModifier, gwv1.HTTPRouteFilterRequestMirror, gwv1.HTTPRouteFilterCORS, gwv1.HTTPRouteFilterExternalAuth),
			RequestHeaderModifier: f,
		})
	}
	rule.Filters = append(rule.Filters, genMoreFilters(t)...)
	if mostly(t, "retry", false, true) {
		rule.Retry = &gwv1.HTTPRouteRetry{Attempts: ptr(mostly(t, "attempts", 1, 3, 0, -1)), Codes: []gwv1.HTTPRouteRetryStatusCode{mostly(t, "code", gwv1.HTTPRouteRetryStatusCode(503), 200)}}
		rule.Timeouts = &gwv1.HTTPRouteTimeouts{BackendRequest: ptr(gwv1.Duration(anyOf(t, "backend timeout", "1s", "0s")))}
	}
	if rapid.IntRange(0, 4).Draw(t, "redirect") == 0 {
		rule.Filters = append(rule.Filters, gwv1.HTTPRouteFilter{Type: gwv1.HTTPRouteFilterRequestRedirect, RequestRedirect: &gwv1.HTTPRequestRedirectFilter{Hostname: ptr(gwv1.PreciseHostname("x.org"))}})
	}
	for range rapid.IntRange(0, 2).Draw(t, "backends") {
		rule.BackendRefs = append(rule.BackendRefs, gwv1.HTTPBackendRef{BackendRef: gwv1.BackendRef{
			BackendObjectReference: gwv1.BackendObjectReference{Name: gwv1.ObjectName(mostly(t, "service", "db", "nope")), Port: ptr(gwv1.PortNumber(80))},
			Weight:                 ptr(anyOf(t, "weight", int32(1), 3, 0)),
		}})
		if mostly(t, "backend filter", false, true) {
			rule.BackendRefs[len(rule.BackendRefs)-1].Filters = []gwv1.HTTPRouteFilter{{
				Type: mostly(t, "backend filter type", gwv1.HTTPRouteFilterRequestHeaderModifier, gwv1.HTTPRouteFilterURLRewrite, gwv1.HTTPRouteFilterRequestMirror),
				RequestHeaderModifier: &gwv1.HTTPHeaderFilter{Set: []gwv1.HTTPHeader{{
					Name: gwv1.HTTPHeaderName(mostly(t, "backend header", "x-a", "authorization", "x-envoy-x")), Value: anyOf(t, "backend value", "v", "%REQ(x)%"),
				}}},
			}}
		}
	}
	return rule
}

func genMoreFilters(t *rapid.T) (out []gwv1.HTTPRouteFilter) {
	for range mostly(t, "mirrors", 0, 1, 2) {
		m := &gwv1.HTTPRequestMirrorFilter{BackendRef: gwv1.BackendObjectReference{
			Name: gwv1.ObjectName(mostly(t, "mirror", "db", "nope")), Port: ptr(gwv1.PortNumber(80)),
		}}
		if rapid.Bool().Draw(t, "some") {
			m.Fraction = &gwv1.Fraction{Numerator: anyOf(t, "numerator", int32(0), 1, 3), Denominator: ptr(mostly(t, "denominator", int32(3), 100, 0))}
		}
		out = append(out, gwv1.HTTPRouteFilter{Type: gwv1.HTTPRouteFilterRequestMirror, RequestMirror: m})
	}
	if mostly(t, "cors", false, true) {
		out = append(out, gwv1.HTTPRouteFilter{Type: gwv1.HTTPRouteFilterCORS, CORS: &gwv1.HTTPCORSFilter{
			AllowOrigins: []gwv1.CORSOrigin{gwv1.CORSOrigin(anyOf(t, "origin", "*", "https://a.test", "https://*.a.test:443"))}, AllowCredentials: ptr(true),
		}})
	}
	return out
}

func genActivation(t *rapid.T, name string) *v1alpha1.Activation {
	a := &v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name}, Spec: v1alpha1.ActivationSpec{
		TargetRefs: []v1alpha1.TargetReference{{Kind: mostly(t, "kind", "HTTPRoute", "GRPCRoute", "GRPCRoute", "TLSRoute"), Name: anyOf(t, "target", "r0", "r1", "r2")}},
		Role:       mostly(t, "role", "db", "web", "nope"), Reason: "r", Incident: mostly(t, "incident", "I", ""),
		Duration: ptr(gwv1.Duration(anyOf(t, "duration", "1m", "10m", "1h"))),
		Revoked:  rapid.IntRange(0, 9).Draw(t, "revoked") == 0,
	}}
	if rapid.IntRange(0, 3).Draw(t, "section") == 0 {
		a.Spec.TargetRefs[0].SectionName = ptr(gwv1.SectionName(anyOf(t, "section name", "rule0", "rule1", "nope")))
	}
	return a
}

// TestNothingIsServedWithoutAllLocks changes random worlds at random times and
// looks at everything Envoy would be told, after every step.
func TestNothingIsServedWithoutAllLocks(t *testing.T) {
	opened := 0
	rapid.Check(t, func(t *rapid.T) {
		in := baseInput()
		reject := map[snapshot.Key]string{}
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			step(t, in, reject)
			out := settle2(t, in, reject)
			for _, g := range out.Gateways {
				checkLocked(t, g.Snapshot, in.Now)
			}
			opened += checkWindows(t, in, out)
		}
	})
	if opened == 0 {
		t.Error("no route was ever open: the test proves nothing")
	}
}

func baseInput() *Input {
	in := &Input{Now: epoch, Records: map[types.NamespacedName]activation.Record{}, Objects: Objects{
		GatewayClasses: map[string]*gwv1.GatewayClass{"emergency": {ObjectMeta: metav1.ObjectMeta{Name: "emergency"}, Spec: gwv1.GatewayClassSpec{
			ControllerName: v1alpha1.ControllerName, ParametersRef: &gwv1.ParametersReference{Group: v1alpha1.GroupName, Kind: "EmergencyPolicy", Name: "emergency"},
		}}},
		Gateways: map[types.NamespacedName]*gwv1.Gateway{}, HTTPRoutes: map[types.NamespacedName]*gwv1.HTTPRoute{}, GRPCRoutes: map[types.NamespacedName]*gwv1.GRPCRoute{},
		Policies: map[string]*v1alpha1.EmergencyPolicy{}, Activations: map[types.NamespacedName]*v1alpha1.Activation{},
	}}
	in.Gateways[key("door")] = &gwv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: "door"}, Spec: gwv1.GatewaySpec{GatewayClassName: "emergency", Listeners: []gwv1.Listener{
		{Name: "any", Port: 80, Protocol: gwv1.HTTPProtocolType},
		{Name: "wild", Port: 80, Protocol: gwv1.HTTPProtocolType, Hostname: ptr(gwv1.Hostname("*.example.com"))},
		{Name: "exact", Port: 81, Protocol: gwv1.HTTPProtocolType, Hostname: ptr(gwv1.Hostname("a.example.com"))},
	}}}
	in.Services, in.EndpointSlices = oneService()
	return in
}

func key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "pay", Name: name}
}

func routeKey(name string) activation.RouteKey { return activation.HTTPRoute(key(name)) }

// step changes one thing, or lets time pass, also backwards.
func step(t *rapid.T, in *Input, reject map[snapshot.Key]string) {
	if len(in.Policies) == 0 || rapid.IntRange(0, 3).Draw(t, "policy") == 0 {
		in.Policies["emergency"] = genPolicy(t)
	}
	if rapid.IntRange(0, 9).Draw(t, "drop policy") == 0 {
		delete(in.Policies, "emergency")
	}
	for i := range 3 {
		name := fmt.Sprintf("r%d", i)
		if in.HTTPRoutes[key(name)] == nil || rapid.IntRange(0, 5).Draw(t, "route") == 0 {
			in.HTTPRoutes[key(name)] = genRoute(t, name)
		}
	}
	for i := range 3 {
		name := fmt.Sprintf("r%d", i) // the names of the HTTPRoutes
		switch rapid.IntRange(0, 9).Draw(t, "GRPCRoute") {
		case 2:
			in.GRPCRoutes[key(name)] = genGRPCRoute(t, name)
		case 3:
			delete(in.GRPCRoutes, key(name))
		}
	}
	for i := range 4 {
		name := fmt.Sprintf("act%d", i)
		switch rapid.IntRange(0, 4).Draw(t, "activation") {
		case 0, 2, 3:
			in.Activations[key(name)] = genActivation(t, name)
		case 1:
			delete(in.Activations, key(name))
		}
	}
	in.AuditFailing = mostly(t, "audit", "", "disk full")
	in.AuditPending = mostly(t, "log", "", "being opened")
	in.Now = in.Now.Add(anyOf(t, "time", 0, time.Second, time.Minute, 10*time.Minute, time.Hour, -time.Minute))
	if in.Now.Before(epoch) {
		in.Now = epoch
	}
	if rapid.IntRange(0, 5).Draw(t, "nack") == 0 {
		for _, r := range in.Records {
			for _, tg := range r.Targets {
				for _, o := range tg.Openings {
					reject[snapshot.Key{Type: snapshot.Cluster, Name: "open/" + o + "/0"}] = "no"
				}
			}
		}
	}
}

// settle2 is settle for rapid's T.
func settle2(t *rapid.T, in *Input, reject map[snapshot.Key]string) *Result {
	t.Helper()
	envoys := map[types.NamespacedName]*fakeEnvoy{}
	for range 12 {
		out := Translate(*in)
		moved := len(out.Facts) > 0
		for _, f := range out.Facts {
			if (in.AuditFailing != "" || in.AuditPending != "") && f.Event == activation.Opened {
				t.Fatalf("an opening is proposed while the audit log cannot be kept or is not open: %+v", f)
			}
			if old, ok := in.Records[f.Record.Key()]; ok && (old.Final() && !f.Record.Final() || f.Record.Deadline.After(old.Deadline)) {
				t.Fatalf("a fact takes an ending back: %+v after %+v", f, old)
			}
			in.Records[f.Record.Key()] = f.Record
		}
		in.Delivery = map[types.NamespacedName]snapshot.Delivery{}
		for k, g := range out.Gateways {
			if envoys[k] == nil {
				envoys[k] = &fakeEnvoy{reject: reject}
			}
			moved = moved || envoys[k].got == nil || !sameVersions(envoys[k].got, g.Snapshot)
			envoys[k].take(g.Snapshot)
			in.Delivery[k] = envoys[k]
		}
		if !moved {
			return out
		}
	}
	t.Fatalf("does not settle")
	return nil
}

// checkWindows: every open route is covered by an activation on record that is
// not over, for the very spec and role that were opened. It returns how many
// open routes it saw.
func checkWindows(t *rapid.T, in *Input, out *Result) int {
	t.Helper()
	open := 0
	for _, g := range out.Gateways {
		for r := range g.Snapshot.All() {
			k := r.Key
			if k.Type != snapshot.Route {
				continue
			}
			rc := mustUnpack(t, r.Body, &routev3.RouteConfiguration{})
			for _, vh := range rc.GetVirtualHosts() {
				for _, er := range vh.GetRoutes() {
					meta := er.GetMetadata().GetFilterMetadata()["breakglass.dev"].GetFields()
					answer := meta["answer"].GetStringValue()
					if answer != "locked" && answer != "strict" {
						continue
					}
					open++
					if mode := in.Policies["emergency"].Spec.Audit.Mode; (answer == "locked") != (mode == "" || mode == v1alpha1.AuditStandard) {
						t.Fatalf("%s under a policy whose mode is %q", answer, mode)
					}
					if in.AuditFailing != "" && in.Policies["emergency"].Spec.Audit.OnFailure != v1alpha1.AuditDegrade {
						t.Fatalf("served while the audit log cannot be kept: %v", meta)
					}
					covered(t, in, meta["route"].GetStringValue(), meta["role"].GetStringValue(), time.UnixMicro(int64(meta["deadline"].GetNumberValue())))
				}
			}
		}
	}
	return open
}

func covered(t *rapid.T, in *Input, route, role string, deadline time.Time) {
	t.Helper()
	kind, path, _ := strings.Cut(activation.RouteOfRef(route), " ")
	ns, name, _ := strings.Cut(path, "/")
	var digest, l string
	if obj := in.HTTPRoutes[types.NamespacedName{Namespace: ns, Name: name}]; kind == "HTTPRoute" && obj != nil {
		digest, l = activation.Digest(obj.Spec), obj.Labels[v1alpha1.RoleLabel]
	}
	if obj := in.GRPCRoutes[types.NamespacedName{Namespace: ns, Name: name}]; kind == "GRPCRoute" && obj != nil {
		digest, l = activation.Digest(obj.Spec), obj.Labels[v1alpha1.RoleLabel]
	}
	if digest == "" {
		t.Fatalf("%s is served and does not exist", route)
	}
	if l != "" && l != role {
		t.Fatalf("%s is served for role %s, its label says %s", route, role, l)
	}
	for _, r := range in.Records {
		a := in.Activations[r.Key()]
		if r.Final() || a == nil || a.Spec.Revoked || r.Spec.Role != role || !in.Now.Before(r.Deadline) || r.Start.After(in.Now) && in.Now.Before(r.Start.Add(-time.Hour)) {
			continue
		}
		for k, tg := range r.Targets {
			if strings.HasPrefix(k, kind+"/"+name) && tg.Route == route && tg.EndedAt.IsZero() && tg.Digest == digest && !deadline.After(r.Deadline) {
				return
			}
		}
	}
	t.Fatalf("%s is served until %s for role %s and no activation covers it: %+v", route, deadline, role, in.Records)
}
