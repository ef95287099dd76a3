package translator

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	asked "github.com/breakglass-gateway/breakglass-gateway/test/upstream"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// pods are the backends of a world: an address for each.
type pods map[string]types.NamespacedName

// upstreamWorld is upstream's base with one test, and an Activation for each of its
// routes.
func upstreamWorld(t *testing.T, test asked.Test) (*Input, pods) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string][]byte{"base.yaml": asked.Base(), "test.yaml": test.Manifest} {
		text = []byte(strings.ReplaceAll(string(text), "{GATEWAY_CLASS_NAME}", "emergency"))
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := load(t, dir, epoch)
	live := load(t, "testdata/httproute-live/in.yaml", epoch)
	in.GatewayClasses, in.Policies = live.GatewayClasses, live.Policies
	p := in.Policies["emergency"]
	p.Spec.Scope = v1alpha1.Scope{AllowWildcardHostnames: true, AllowCatchAllPath: true, AllowAnyMethod: true, AllowUnlabelled: true, AllowPlainHTTP: true, MaxRules: ptr(int32(16))}
	p.Spec.Limits.MaxOpen, p.Spec.Limits.MaxPerDay = ptr(int32(100)), ptr(int32(1000))
	for i, key := range slices.SortedFunc(maps.Keys(in.Gateways), func(a, b types.NamespacedName) int { return strings.Compare(a.Name, b.Name) }) {
		in.Gateways[key].Spec.Addresses = []gwv1.GatewaySpecAddress{{Type: ptr(gwv1.IPAddressType), Value: fmt.Sprintf("127.0.0.%d", i+10)}}
	}
	where := pods{}
	for key, svc := range in.Services {
		if svc.Spec.Selector != nil || strings.Contains(key.Name, "backend") {
			giveEndpoints(in, where, key, svc)
		}
	}
	for key := range in.HTTPRoutes {
		in.Activations[key] = &v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Spec: v1alpha1.ActivationSpec{
			TargetRefs: []v1alpha1.TargetReference{{Group: gwv1.GroupName, Kind: "HTTPRoute", Name: key.Name}}, Role: "db", Reason: "r", Incident: "I", Duration: ptr(gwv1.Duration("10m")),
		}}
	}
	return in, where
}

// giveEndpoints gives a Service an endpoint in each of its ports; a Service with a
// selector has the pod that is selected.
func giveEndpoints(in *Input, where pods, key types.NamespacedName, svc *corev1.Service) {
	pod := key
	if app := svc.Spec.Selector["app"]; app != "" {
		pod.Name = app
	}
	address := ""
	for a, p := range where {
		if p == pod {
			address = a
		}
	}
	if address == "" {
		address = fmt.Sprintf("10.0.0.%d", len(where)+1)
		where[address] = pod
	}
	for i, port := range svc.Spec.Ports {
		name := types.NamespacedName{Namespace: key.Namespace, Name: fmt.Sprintf("%s-%d", key.Name, i)}
		in.EndpointSlices[name] = &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name, Labels: map[string]string{discoveryv1.LabelServiceName: key.Name}},
			Ports:      []discoveryv1.EndpointPort{{Name: ptr(port.Name), Port: ptr(int32(3000))}},
			Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{address}}},
		}
	}
}

// notByRoutes are upstream's tests of what routes alone do not say: EndpointSlices
// that the test writes itself, and answers of backends.
var notByRoutes = []string{"service-types", "retry"}

// TestUpstreamsRequestsFindTheirRoutes evaluates the routes that Envoy would be told
// as Envoy would. test/serve asks the same of a real one.
func TestUpstreamsRequestsFindTheirRoutes(t *testing.T) {
	tests, err := asked.Tests()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		if slices.Contains(notByRoutes, test.Name) {
			continue
		}
		t.Run(test.Name, func(t *testing.T) {
			in, where := upstreamWorld(t, test)
			out := settle(t, in, nil)
			for i, c := range test.Cases {
				g := out.Gateways[types.NamespacedName{Namespace: asked.Infra, Name: c.Gateway}]
				if g == nil {
					t.Fatalf("Gateway %s has no Envoy", c.Gateway)
				}
				checkLocked(t, g.Snapshot, in.Now)
				if c.Port == 443 {
					continue // there is no certificate
				}
				if problem := judgeCase(t, g.Snapshot, where, c); problem != "" {
					t.Errorf("case %d: %s %s%s %v: %s", i, c.Request.Method, c.Request.Host, c.Request.Path, c.Request.Headers, problem)
				}
			}
		})
	}
}

// judgeCase says what of an answer is not as the case wants it, "" for nothing.
func judgeCase(t *testing.T, snap *snapshot.Snapshot, where pods, c asked.Case) string {
	t.Helper()
	host, _, _ := strings.Cut(c.Request.Host, ":")
	if host == "" {
		host = "10.9.9.9"
	}
	r := findRoute(t, snap, fmt.Sprintf("http-%d", c.Port), host, c.Request)
	if r == nil {
		return "there is no route"
	}
	preflight := c.Request.Method == http.MethodOptions
	switch answers := c.Response.StatusCodes; {
	case r.GetDirectResponse() != nil:
		if status := int(r.GetDirectResponse().GetStatus()); !slices.Contains(answers, status) {
			return fmt.Sprintf("status %d, want %v", status, answers)
		}
	case r.GetRedirect() != nil:
		return judgeLocation(r, host, c)
	case answers[0] >= 300 && answers[0] != 504:
		return fmt.Sprintf("%s forwards, want %v", r.GetName(), answers)
	case preflight && r.GetTypedPerFilterConfig()["breakglass.cors"] == nil:
		return "it does not answer browsers"
	case !preflight:
		return judgeForward(t, snap, where, r, c)
	}
	return ""
}

func findRoute(t *testing.T, snap *snapshot.Snapshot, chain, host string, req asked.Request) *routev3.Route {
	t.Helper()
	var rc routev3.RouteConfiguration
	for _, name := range []string{host, "*"} {
		if res := snap.Get(snapshot.Key{Type: snapshot.Route, Name: chain + "|" + name}); res != nil {
			rc = *mustUnpack(t, res.Body, &rc)
			break
		}
	}
	best, length := (*routev3.VirtualHost)(nil), -1
	for _, vh := range rc.GetVirtualHosts() {
		for _, d := range vh.GetDomains() {
			suffix, wild := strings.CutPrefix(d, "*")
			if (d == host || wild && strings.HasSuffix(host, suffix) && len(host) > len(suffix)) && len(d) > length {
				best, length = vh, len(d)
			}
		}
	}
	for _, r := range best.GetRoutes() {
		if matches(r.GetMatch(), req) {
			return r
		}
	}
	return nil
}

func matches(m *routev3.RouteMatch, req asked.Request) bool {
	path, query, _ := strings.Cut(req.Path, "?")
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Path:
		if path != p.Path {
			return false
		}
	case *routev3.RouteMatch_PathSeparatedPrefix:
		if path != p.PathSeparatedPrefix && !strings.HasPrefix(path, p.PathSeparatedPrefix+"/") {
			return false
		}
	case *routev3.RouteMatch_Prefix:
		if !strings.HasPrefix(path, p.Prefix) {
			return false
		}
	default:
		return false
	}
	header := http.Header{}
	for k, v := range req.Headers {
		header.Set(k, v)
	}
	for _, h := range m.GetHeaders() {
		value, there := header.Get(h.GetName()), header.Values(h.GetName()) != nil
		if h.GetName() == ":method" {
			value, there = req.Method, true
		}
		if !there || !fits(h.GetStringMatch(), value) {
			return false
		}
	}
	values, _ := url.ParseQuery(query)
	for _, q := range m.GetQueryParameters() {
		if !values.Has(q.GetName()) || !fits(q.GetStringMatch(), values.Get(q.GetName())) {
			return false
		}
	}
	return true
}

func fits(m *matcherv3.StringMatcher, value string) bool {
	if m.GetSafeRegex() != nil {
		return regexp.MustCompile(`^(?:` + m.GetSafeRegex().GetRegex() + `)$`).MatchString(value)
	}
	return m.GetExact() == value
}

func judgeLocation(r *routev3.Route, host string, c asked.Case) string {
	a, want := r.GetRedirect(), asked.Redirect{}
	if c.RedirectRequest != nil {
		want = *c.RedirectRequest
	}
	status := map[routev3.RedirectAction_RedirectResponseCode]int{0: 301, 1: 302, 2: 303, 3: 307, 4: 308}[a.GetResponseCode()]
	if !slices.Contains(c.Response.StatusCodes, status) {
		return fmt.Sprintf("status %d, want %v", status, c.Response.StatusCodes)
	}
	got := asked.Redirect{Scheme: "http", Host: host, Path: rewritten(c.Request.Path, r.GetMatch(), a.GetPrefixRewrite(), a.GetRegexRewrite())}
	if a.GetSchemeRedirect() != "" {
		got.Scheme = a.GetSchemeRedirect()
	}
	if a.GetHostRedirect() != "" {
		got.Host = a.GetHostRedirect()
	}
	if a.GetPathRedirect() != "" {
		got.Path = a.GetPathRedirect()
	}
	if p := a.GetPortRedirect(); p != 0 && (want.Port != "" || p != map[string]uint32{"http": 80, "https": 443}[got.Scheme]) {
		got.Port = strconv.Itoa(int(p))
	}
	if want.Scheme != "" && want.Scheme != got.Scheme || want.Host != "" && want.Host != got.Host || want.Path != "" && want.Path != got.Path || want.Port != got.Port {
		return fmt.Sprintf("it leads to %+v, want %+v", got, want)
	}
	return ""
}

// rewritten is a path, without its query, after what Envoy does to it.
func rewritten(path string, m *routev3.RouteMatch, prefix string, expr *matcherv3.RegexMatchAndSubstitute) string {
	path, _, _ = strings.Cut(path, "?")
	if prefix != "" {
		return prefix + strings.TrimPrefix(path, m.GetPathSeparatedPrefix())
	}
	if expr != nil {
		substitution := regexp.MustCompile(`\\(\d)`).ReplaceAllString(expr.GetSubstitution(), "$${$1}")
		return regexp.MustCompile(expr.GetPattern().GetRegex()).ReplaceAllString(path, substitution)
	}
	return path
}

func judgeForward(t *testing.T, snap *snapshot.Snapshot, where pods, r *routev3.Route, c asked.Case) string {
	t.Helper()
	a, want := r.GetRoute(), c.ExpectedRequest
	clusters := map[string]*routev3.WeightedCluster_ClusterWeight{a.GetCluster(): {}}
	if weighted := a.GetWeightedClusters().GetClusters(); len(weighted) > 0 {
		clusters = map[string]*routev3.WeightedCluster_ClusterWeight{}
		for _, w := range weighted {
			clusters[w.GetName()] = w
		}
	}
	wantPath, _, _ := strings.Cut(want.Path, "?")
	if got := rewritten(c.Request.Path, r.GetMatch(), a.GetPrefixRewrite(), a.GetRegexRewrite()); got != wantPath {
		return fmt.Sprintf("path %s arrives, want %s", got, wantPath)
	}
	for name, w := range clusters {
		if pod := where.behind(t, snap, name); pod.Namespace != c.Namespace || !strings.HasPrefix(pod.Name, c.Backend) {
			return fmt.Sprintf("it reaches %s, want %s/%s", pod, c.Namespace, c.Backend)
		}
		header := http.Header{}
		for k, v := range c.Request.Headers {
			header.Set(k, v)
		}
		editHeaders(header, w.GetRequestHeadersToAdd(), w.GetRequestHeadersToRemove())
		editHeaders(header, r.GetRequestHeadersToAdd(), r.GetRequestHeadersToRemove())
		for k, v := range want.Headers {
			if got := strings.Join(header.Values(k), ","); got != v {
				return fmt.Sprintf("header %s arrives as %q, want %q", k, got, v)
			}
		}
		for _, k := range want.AbsentHeaders {
			if header.Values(k) != nil {
				return "a header arrives: " + k
			}
		}
	}
	return where.judgeMirrors(t, snap, a, c)
}

func (p pods) judgeMirrors(t *testing.T, snap *snapshot.Snapshot, a *routev3.RouteAction, c asked.Case) string {
	t.Helper()
	got, want := map[string]bool{}, map[string]bool{}
	for _, m := range a.GetRequestMirrorPolicies() {
		got[p.behind(t, snap, m.GetCluster()).Name] = true
	}
	for _, m := range c.MirroredTo {
		want[m.BackendRef.Name] = true
	}
	if !maps.Equal(got, want) {
		return fmt.Sprintf("copies go to %v, want %v", got, want)
	}
	return ""
}

// behind is the pod that a cluster reaches.
func (p pods) behind(t *testing.T, snap *snapshot.Snapshot, cluster string) types.NamespacedName {
	t.Helper()
	res := snap.Get(snapshot.Key{Type: snapshot.Cluster, Name: cluster})
	if res == nil {
		return types.NamespacedName{}
	}
	endpoints := mustUnpack(t, res.Body, &clusterv3.Cluster{}).GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()
	if len(endpoints) == 0 {
		return types.NamespacedName{}
	}
	address, _, _ := strings.Cut(endpoints[0].GetEndpoint().GetHostname(), ":")
	return p[address]
}

// editHeaders as Envoy does: it removes, then overwrites, then adds.
func editHeaders(h http.Header, add []*corev3.HeaderValueOption, remove []string) {
	for _, k := range remove {
		h.Del(k)
	}
	for _, overwrite := range []bool{true, false} {
		for _, o := range add {
			k, v := o.GetHeader().GetKey(), strings.ReplaceAll(o.GetHeader().GetValue(), "%%", "%")
			switch over := o.GetAppendAction() == corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD; {
			case over && overwrite:
				h.Set(k, v)
			case !over && !overwrite:
				h.Add(k, v)
			}
		}
	}
}
