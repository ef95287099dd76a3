package translator

import (
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	localv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// The check below knows nothing of how the translator works. It reads what
// Envoy would be told and asks of every single thing that can reach a backend
// whether it is locked. It names the filters itself: a lock that is renamed or
// left out must fail here.

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func mustUnpack[M proto.Message](t fataler, r interface{ UnmarshalTo(proto.Message) error }, m M) M {
	t.Helper()
	if err := r.UnmarshalTo(m); err != nil {
		t.Fatalf("unpack: %v", err)
	}
	return m
}

// checkLocked fails if anything in the snapshot is open without all the locks.
func checkLocked(t fataler, snap *snapshot.Snapshot, now time.Time) {
	t.Helper()
	leases := map[string]time.Time{}
	jwt := false
	for r := range snap.All() {
		k := r.Key
		switch k.Type {
		case snapshot.Listener:
			l := mustUnpack(t, r.Body, &listenerv3.Listener{})
			if l.GetInternalListener() != nil {
				leases[k.Name] = r.Expires
				continue
			}
			for _, fc := range l.GetFilterChains() {
				checkHCM(t, fc)
			}
		case snapshot.ExtensionConfig:
			if k.Name == "breakglass.limit" {
				checkLimit(t, mustUnpack(t, r.Body, &corev3.TypedExtensionConfig{}))
				continue
			}
			checkJWT(t, mustUnpack(t, r.Body, &corev3.TypedExtensionConfig{}))
			jwt = true
		}
	}
	for r := range snap.All() {
		k := r.Key
		switch k.Type {
		case snapshot.Cluster:
			checkCluster(t, mustUnpack(t, r.Body, &clusterv3.Cluster{}), leases, now)
		case snapshot.Route:
			if !jwt {
				t.Fatalf("routes without a token filter")
			}
			checkRouteConfiguration(t, mustUnpack(t, r.Body, &routev3.RouteConfiguration{}), snap, now)
		}
	}
}

// wantFilters is the filter chain, in order.
var wantFilters = []string{"breakglass.limit", "breakglass.request", "breakglass.fallback", "breakglass.browser", "breakglass.cors", "breakglass.jwt", "breakglass.window", "breakglass.role", "breakglass.intent", "breakglass.end", "envoy.filters.http.router"}

func checkHCM(t fataler, fc *listenerv3.FilterChain) {
	t.Helper()
	if f := fc.GetFilters(); len(f) != 2 || f[0].GetName() != "envoy.filters.network.connection_limit" {
		t.Fatalf("filter chain %s has network filters %v", fc.GetName(), f)
	}
	hcm := mustUnpack(t, fc.GetFilters()[1].GetTypedConfig(), &hcmv3.HttpConnectionManager{})
	if len(hcm.GetHttpFilters()) != len(wantFilters) {
		t.Fatalf("filters: %v", hcm.GetHttpFilters())
	}
	for i, f := range hcm.GetHttpFilters() {
		if f.GetName() != wantFilters[i] || f.GetDisabled() || f.GetIsOptional() {
			t.Fatalf("filter %d is %v, want %s", i, f, wantFilters[i])
		}
	}
	// Before the token there is nothing that does anything without a route that says so.
	if r := mustUnpack(t, hcm.GetHttpFilters()[3].GetTypedConfig(), &rbacv3.RBAC{}); !proto.Equal(r, &rbacv3.RBAC{}) {
		t.Fatalf("breakglass.browser: %v", r)
	}
	d := hcm.GetHttpFilters()[5].GetConfigDiscovery()
	if d == nil || d.GetDefaultConfig() != nil || d.GetApplyDefaultConfigWithoutWarming() || d.GetConfigSource().GetInitialFetchTimeout().AsDuration() != 0 {
		t.Fatalf("the token filter could be missing: %v", d)
	}
	checkIntent(t, hcm.GetHttpFilters()[8])
	for i := 6; i <= 7; i++ {
		r := mustUnpack(t, hcm.GetHttpFilters()[i].GetTypedConfig(), &rbacv3.RBAC{})
		if r.GetRules().GetAction() != rbacconfigv3.RBAC_ALLOW || r.GetMatcher() != nil {
			t.Fatalf("%s does not deny by default: %v", wantFilters[i], r)
		}
		for name, p := range r.GetRules().GetPolicies() {
			if len(p.GetPrincipals()) != 1 || !needsAnswer(p.GetPrincipals()[0], name) || name == "window" && p.GetCondition() == nil {
				t.Fatalf("%s: policy %s depends on nothing: %v", wantFilters[i], name, p)
			}
		}
	}
}

// checkIntent: it is asked of everybody and for everything, and whatever fails refuses.
func checkIntent(t fataler, f *hcmv3.HttpFilter) {
	t.Helper()
	a := mustUnpack(t, f.GetTypedConfig(), &authzv3.ExtAuthz{})
	if a.GetFailureModeAllow() || a.GetShadowMode() || a.GetFilterEnabled() != nil || a.GetFilterEnabledMetadata() != nil || a.GetDenyAtDisable() != nil || a.GetStatusOnError().GetCode() != 503 {
		t.Fatalf("a request could go on without an intent: %v", a)
	}
	if a.GetClearRouteCache() || len(a.GetClearRouteCacheHeaders()) > 0 || a.GetWithRequestBody() != nil || a.GetEnableDynamicMetadataIngestion().GetValue() {
		t.Fatalf("who keeps intents has a say in more than whether: %v", a)
	}
	g := a.GetGrpcService()
	if g.GetEnvoyGrpc().GetClusterName() != "intent" || g.GetTimeout().AsDuration() <= 0 || g.GetTimeout().AsDuration() > time.Second {
		t.Fatalf("intents go to %v", g)
	}
	if h := a.GetAllowedHeaders().GetPatterns(); len(h) != 1 || h[0].GetExact() != "x-request-id" {
		t.Fatalf("these headers leave Envoy: %v", h)
	}
}

// checkMode: only a route that says so needs no intent, and one that needs it says a
// word that filters without intents refuse.
func checkMode(t fataler, r *routev3.Route, answer string) {
	t.Helper()
	any := r.GetTypedPerFilterConfig()["breakglass.intent"]
	if any == nil {
		if answer != "strict" {
			t.Fatalf("route %s needs an intent, and says %q", r.GetName(), answer)
		}
		return
	}
	if answer == "strict" || !mustUnpack(t, any, &authzv3.ExtAuthzPerRoute{}).GetDisabled() {
		t.Fatalf("route %s says %q, and of intents %v", r.GetName(), answer, any)
	}
}

// checkLimit: it refuses, and lets nothing past another filter.
func checkLimit(t fataler, c *corev3.TypedExtensionConfig) {
	t.Helper()
	l := mustUnpack(t, c.GetTypedConfig(), &localv3.LocalRateLimit{})
	if len(l.GetDescriptors()) != 3 || l.GetFilterEnabled().GetDefaultValue().GetNumerator() != 100 || l.GetFilterEnforced().GetDefaultValue().GetNumerator() != 100 {
		t.Fatalf("the limits do not limit: %v", l)
	}
	for _, d := range l.GetDescriptors() {
		if d.GetTokenBucket().GetMaxTokens() == 0 || d.GetTokenBucket().GetTokensPerFill().GetValue() == 0 {
			t.Fatalf("a limit lets nobody in: %v", d)
		}
	}
}

func checkJWT(t fataler, c *corev3.TypedExtensionConfig) {
	t.Helper()
	j := mustUnpack(t, c.GetTypedConfig(), &jwtv3.JwtAuthentication{})
	if len(j.GetRules()) != 1 || j.GetRules()[0].GetMatch().GetPrefix() != "/" || j.GetBypassCorsPreflight() || j.GetFilterStateRules() != nil {
		t.Fatalf("a path needs no token: %v", j)
	}
	checkRequirement(t, j, j.GetRules()[0].GetRequires())
	for name, p := range j.GetProviders() {
		if p.GetForward() || len(p.GetFromHeaders()) != 1 || len(p.GetFromParams()) > 0 || len(p.GetFromCookies()) > 0 || !p.GetRequireExpiration() ||
			p.GetIssuer() == "" || len(p.GetAudiences()) == 0 || p.GetPayloadInMetadata() != "jwt" || p.GetHeaderInMetadata() != "header" || p.GetClockSkewSeconds() != 1 {
			t.Fatalf("provider %s: %v", name, p)
		}
	}
}

func checkRequirement(t fataler, j *jwtv3.JwtAuthentication, r *jwtv3.JwtRequirement) {
	t.Helper()
	switch r := r.GetRequiresType().(type) {
	case *jwtv3.JwtRequirement_ProviderName:
		if j.GetProviders()[r.ProviderName] == nil {
			t.Fatalf("no provider %s", r.ProviderName)
		}
	case *jwtv3.JwtRequirement_RequiresAny:
		for _, x := range r.RequiresAny.GetRequirements() {
			checkRequirement(t, j, x)
		}
	default:
		t.Fatalf("requirement %T could be met without a token", r)
	}
}

func checkCluster(t fataler, c *clusterv3.Cluster, leases map[string]time.Time, now time.Time) {
	t.Helper()
	if c.GetName() == "breakglass.original-dst" {
		return
	}
	for _, le := range c.GetLoadAssignment().GetEndpoints() {
		for _, e := range le.GetLbEndpoints() {
			lease := e.GetEndpoint().GetAddress().GetEnvoyInternalAddress().GetServerListenerName()
			if end, ok := leases[lease]; !ok || !now.Before(end) {
				t.Fatalf("cluster %s reaches %v without a lease that ends (%q until %v)", c.GetName(), e.GetEndpoint(), lease, end)
			}
		}
	}
}

func checkRouteConfiguration(t fataler, rc *routev3.RouteConfiguration, snap *snapshot.Snapshot, now time.Time) {
	t.Helper()
	for _, vh := range rc.GetVirtualHosts() {
		if len(vh.GetTypedPerFilterConfig()) > 0 || len(vh.GetRequestHeadersToAdd()) > 0 {
			t.Fatalf("virtual host %s overrides filters", vh.GetName())
		}
		last := vh.GetRoutes()[len(vh.GetRoutes())-1]
		if last.GetMatch().GetPrefix() != "/" || len(last.GetMatch().GetHeaders()) > 0 || last.GetDirectResponse().GetStatus() != 404 && last.GetDirectResponse().GetStatus() != 421 {
			t.Fatalf("virtual host %s does not end in a 404: %v", vh.GetName(), last)
		}
		names := map[string]bool{}
		for _, r := range vh.GetRoutes() {
			if r.GetName() == "" || names[r.GetName()] {
				t.Fatalf("route name %q is empty or used twice", r.GetName())
			}
			names[r.GetName()] = true
			checkRoute(t, r, snap, now)
		}
	}
}

func checkRoute(t fataler, r *routev3.Route, snap *snapshot.Snapshot, now time.Time) {
	t.Helper()
	meta := r.GetMetadata().GetFilterMetadata()["breakglass.dev"].GetFields()
	for name := range r.GetTypedPerFilterConfig() {
		if !slices.Contains([]string{"breakglass.jwt", "breakglass.role", "breakglass.intent", "breakglass.browser", "breakglass.cors"}, name) {
			t.Fatalf("route %s overrides %s", r.GetName(), name)
		}
	}
	answer := meta["answer"].GetStringValue()
	checkMode(t, r, answer)
	if answer == "closed" {
		if r.GetDirectResponse() == nil || len(r.GetTypedPerFilterConfig()) != 2 {
			t.Fatalf("a closed route reaches something: %v", r)
		}
		return
	}
	deadline := time.UnixMicro(int64(meta["deadline"].GetNumberValue()))
	if answer != "locked" && answer != "strict" || !now.Before(deadline) || meta["role"].GetStringValue() == "" || len(meta["lifetimes"].GetStructValue().GetFields()) == 0 {
		t.Fatalf("route %s: %v", r.GetName(), meta)
	}
	if r.GetTypedPerFilterConfig()["breakglass.jwt"] != nil {
		t.Fatalf("route %s overrides the token filter", r.GetName())
	}
	per := r.GetTypedPerFilterConfig()["breakglass.role"]
	if per == nil {
		t.Fatalf("route %s has no role", r.GetName())
	}
	checkRole(t, r.GetName(), mustUnpack(t, per, &rbacv3.RBACPerRoute{}).GetRbac().GetRules())
	checkCORS(t, r)
	checkHeaders(t, r)
	var clusters []string
	if a := r.GetRoute(); a != nil {
		clusters = append(clusters, a.GetCluster())
		for _, w := range a.GetWeightedClusters().GetClusters() {
			clusters = append(clusters, w.GetName())
			checkHeaders(t, w)
			if len(w.GetTypedPerFilterConfig()) > 0 || w.GetClusterHeader() != "" || w.GetHostRewriteLiteral() != "" || w.GetMetadataMatch() != nil {
				t.Fatalf("route %s: cluster %v", r.GetName(), w)
			}
		}
		for _, m := range a.GetRequestMirrorPolicies() {
			clusters = append(clusters, m.GetCluster())
			if m.GetCluster() == "" || m.GetClusterHeader() != "" || len(m.GetRequestHeadersMutations()) > 0 {
				t.Fatalf("route %s: mirror %v", r.GetName(), m)
			}
		}
		if a.GetClusterHeader() != "" || len(a.GetHashPolicy()) > 0 || a.GetInternalRedirectPolicy() != nil || len(a.GetUpgradeConfigs()) > 0 {
			t.Fatalf("route %s: %v", r.GetName(), a)
		}
	}
	for _, c := range clusters {
		if c == lock.NoCluster && snap.Get(snapshot.Key{Type: snapshot.Cluster, Name: c}) == nil {
			continue // the share of a backend that cannot be resolved
		}
		if c != "" && (!strings.HasPrefix(c, "open/") || snap.Get(snapshot.Key{Type: snapshot.Cluster, Name: c}) == nil) {
			t.Fatalf("route %s goes to cluster %q", r.GetName(), c)
		}
	}
}

// checkCORS: what is answered without a token ends at the deadline, and no question
// of a browser gets past the filter that answers it.
func checkCORS(t fataler, r *routev3.Route) {
	t.Helper()
	per := r.GetTypedPerFilterConfig()
	if (per["breakglass.cors"] == nil) != (per["breakglass.browser"] == nil) {
		t.Fatalf("route %s answers browsers without a deadline: %v", r.GetName(), per)
	}
	if per["breakglass.cors"] == nil {
		return
	}
	if p := mustUnpack(t, per["breakglass.cors"], &corsv3.CorsPolicy{}); p.GetForwardNotMatchingPreflights() == nil || p.GetForwardNotMatchingPreflights().GetValue() {
		t.Fatalf("route %s: preflights could go on: %v", r.GetName(), p)
	}
	rules := mustUnpack(t, per["breakglass.browser"], &rbacv3.RBACPerRoute{}).GetRbac().GetRules()
	if rules.GetAction() != rbacconfigv3.RBAC_ALLOW || len(rules.GetPolicies()) != 1 || rules.GetPolicies()["open"].GetCondition() == nil {
		t.Fatalf("route %s answers browsers after its deadline: %v", r.GetName(), rules)
	}
}

// checkHeaders of a route or of one of its backends.
func checkHeaders(t fataler, of interface {
	GetRequestHeadersToAdd() []*corev3.HeaderValueOption
	GetResponseHeadersToAdd() []*corev3.HeaderValueOption
	GetRequestHeadersToRemove() []string
}) {
	t.Helper()
	for _, h := range append(of.GetRequestHeadersToAdd(), of.GetResponseHeadersToAdd()...) {
		checkHeader(t, h.GetHeader().GetKey())
		if strings.Contains(strings.ReplaceAll(h.GetHeader().GetValue(), "%%", ""), "%") {
			t.Fatalf("header value %q is a format string", h.GetHeader().GetValue())
		}
	}
	for _, h := range of.GetRequestHeadersToRemove() {
		checkHeader(t, h)
	}
}

func checkHeader(t fataler, name string) {
	t.Helper()
	n := strings.ToLower(name)
	if strings.HasPrefix(n, "x-envoy") || strings.HasPrefix(n, "x-breakglass") || n == "authorization" || strings.HasPrefix(n, ":") || n == "host" {
		t.Fatalf("a route touches header %q", name)
	}
}

// checkRole: one ALLOW policy, and every way in names an issuer and a claim.
func checkRole(t fataler, route string, rules *rbacconfigv3.RBAC) {
	t.Helper()
	if rules.GetAction() != rbacconfigv3.RBAC_ALLOW || len(rules.GetPolicies()) != 1 {
		t.Fatalf("route %s: role rules %v", route, rules)
	}
	for _, p := range rules.GetPolicies() {
		if len(p.GetPrincipals()) != 1 || len(p.GetPrincipals()[0].GetOrIds().GetIds()) == 0 {
			t.Fatalf("route %s: principals %v", route, p.GetPrincipals())
		}
		for _, grant := range p.GetPrincipals()[0].GetOrIds().GetIds() {
			all := grant.GetAndIds().GetIds()
			if len(all) < 3 {
				t.Fatalf("route %s: a grant without issuer, audience and claim: %v", route, grant)
			}
			for i, c := range all {
				m := c.GetSourcedMetadata().GetMetadataMatcher()
				if m.GetFilter() != "envoy.filters.http.jwt_authn" || m.GetInvert() || len(m.GetPath()) < 2 || m.GetPath()[0].GetKey() != "jwt" ||
					len(m.GetValue().GetOrMatch().GetValueMatchers()) == 0 || i == 0 && m.GetPath()[1].GetKey() != "iss" || i == 1 && m.GetPath()[1].GetKey() != "aud" {
					t.Fatalf("route %s: claim %v", route, c)
				}
			}
		}
	}
}

func TestGoldenCasesAreLocked(t *testing.T) {
	for _, name := range []string{"httproute-live", "dormant-keeps-its-place", "refused-routes", "https", "filters", "backend-tls", "strict"} {
		now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
		out := settle(t, load(t, "testdata/"+name+"/in.yaml", now), nil)
		for _, g := range out.Gateways {
			checkLocked(t, g.Snapshot, now)
		}
	}
}

// needsAnswer reports whether the principal of a static policy needs the route to
// say that it is closed, or locked.
func needsAnswer(p *rbacconfigv3.Principal, policy string) bool {
	for _, and := range p.GetAndIds().GetIds() {
		if needsAnswer(and, policy) {
			return true
		}
	}
	m := p.GetSourcedMetadata()
	if m.GetMetadataSource() != rbacconfigv3.MetadataSource_ROUTE || m.GetMetadataMatcher().GetPath()[0].GetKey() != "answer" {
		return false
	}
	value := m.GetMetadataMatcher().GetValue()
	if policy == "closed" {
		return value.GetStringMatch().GetExact() == "closed"
	}
	of := value.GetOrMatch().GetValueMatchers()
	return policy == "window" && len(of) == 2 && of[0].GetStringMatch().GetExact() == "locked" && of[1].GetStringMatch().GetExact() == "strict"
}
