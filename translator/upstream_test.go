package translator

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/translator/lock"
	"github.com/breakglass-gateway/breakglass-gateway/xds/snapshot"
)

// What tests of the Gateway API's own conformance suite ask, asked without a
// cluster: their manifests, shortened, in a world in which every route is open.

const infra = "gateway-conformance-infra"

// relaxed is the class, and a policy that allows what it can allow.
const relaxed = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: emergency}
spec:
  controllerName: breakglass.dev/gateway-controller
  parametersRef: {group: breakglass.dev, kind: EmergencyPolicy, name: emergency}
---
apiVersion: breakglass.dev/v1alpha1
kind: EmergencyPolicy
metadata: {name: emergency}
spec:
  issuers:
  - {name: sso, issuer: https://sso.example.com, audiences: [breakglass], jwks: {inline: '` + goodKeys + `'}}
  roles:
  - name: sre
    grants: [{issuer: sso, claims: [{path: [groups], anyOf: [sre]}]}]
  scope: {allowWildcardHostnames: true, allowCatchAllPath: true, allowAnyMethod: true, allowUnlabelled: true, allowPlainHTTP: true}
---
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: gateway-conformance-infra}
spec: {ports: [{name: http, port: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: backend-1, namespace: gateway-conformance-infra, labels: {kubernetes.io/service-name: backend}}
addressType: IPv4
ports: [{name: http, port: 3000}]
endpoints: [{addresses: [10.0.0.1]}]
---
`

// upstream translates manifests in which every HTTPRoute is opened. Each Gateway has
// an address of its own.
func upstream(t *testing.T, manifests string, change ...func(*Input)) *Result {
	t.Helper()
	dir := t.TempDir()
	manifests = strings.ReplaceAll(manifests, "INFRA", "gateway-conformance-infra")
	if err := os.WriteFile(filepath.Join(dir, "in.yaml"), []byte(relaxed+manifests), 0o600); err != nil {
		t.Fatal(err)
	}
	in := load(t, dir, epoch)
	n := 0
	for _, g := range in.Gateways {
		n++
		g.Spec.Addresses = []gwv1.GatewaySpecAddress{{Type: ptr(gwv1.IPAddressType), Value: fmt.Sprintf("127.0.0.%d", n)}}
	}
	in.Activations = map[types.NamespacedName]*v1alpha1.Activation{}
	for k := range in.HTTPRoutes {
		in.Activations[k] = &v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{Namespace: k.Namespace, Name: k.Name}, Spec: v1alpha1.ActivationSpec{
			TargetRefs: []v1alpha1.TargetReference{{Kind: "HTTPRoute", Name: k.Name}}, Role: "sre", Reason: "r", Incident: "I", Duration: ptr(gwv1.Duration("5m")),
		}}
	}
	for _, f := range change {
		f(in)
	}
	out := settle(t, in, nil)
	for _, g := range out.Gateways {
		checkLocked(t, g.Snapshot, epoch)
	}
	return out
}

func inInfra(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: infra, Name: name}
}

// answer is what the Envoy of a Gateway does with a request: the route that it is
// forwarded by, or the status that it is answered, or "no connection".
func answer(t *testing.T, out *Result, gateway string, port int32, sni, host, path string) string {
	t.Helper()
	snap := out.Gateways[inInfra(gateway)].Snapshot
	chain := chainFor(t, snap, port, sni)
	if chain == "" {
		return "no connection"
	}
	for _, name := range []string{host, "*"} {
		r := snap.Get(snapshot.Key{Type: snapshot.Route, Name: lock.ScopeKey(chain, name)})
		if r == nil {
			continue
		}
		vh := virtualHostFor(mustUnpack(t, r.Body, &routev3.RouteConfiguration{}), host)
		if vh == nil {
			continue
		}
		for _, route := range vh.GetRoutes() {
			if prefix := route.GetMatch().GetPrefix() + route.GetMatch().GetPathSeparatedPrefix(); !strings.HasPrefix(path, prefix) {
				continue
			}
			if d := route.GetDirectResponse(); d != nil {
				return fmt.Sprint(d.GetStatus())
			}
			return strings.Split(route.GetName(), "/")[1]
		}
	}
	return "no route"
}

// chainFor is the filter chain by Envoy's rules: the exact name, the longest suffix,
// the one without.
func chainFor(t *testing.T, snap *snapshot.Snapshot, port int32, sni string) string {
	t.Helper()
	r := snap.Get(snapshot.Key{Type: snapshot.Listener, Name: lock.ListenerName(port)})
	if r == nil {
		return ""
	}
	best, length := "", -1
	for _, fc := range mustUnpack(t, r.Body, &listenerv3.Listener{}).GetFilterChains() {
		names := fc.GetFilterChainMatch().GetServerNames()
		if len(names) == 0 && length < 0 {
			best, length = fc.GetName(), 0
		}
		for _, n := range names {
			if l := domainFits(n, sni); l > length {
				best, length = fc.GetName(), l
			}
		}
	}
	return best
}

func virtualHostFor(rc *routev3.RouteConfiguration, host string) *routev3.VirtualHost {
	var best *routev3.VirtualHost
	length := -1
	for _, vh := range rc.GetVirtualHosts() {
		for _, d := range vh.GetDomains() {
			if l := domainFits(d, host); l > length {
				best, length = vh, l
			}
		}
	}
	return best
}

// domainFits tells how well a domain of Envoy's fits a host, -1 for not at all.
func domainFits(domain, host string) int {
	suffix, wildcard := strings.CutPrefix(domain, "*")
	switch {
	case !wildcard && domain == host:
		return 1000
	case wildcard && strings.HasSuffix(host, suffix) && host != suffix:
		return len(suffix)
	}
	return -1
}

// conditionsOf a listener, as "Type Status Reason".
func conditionsOf(t *testing.T, out *Result, gateway, listener string) (map[string]string, gwv1.ListenerStatus) {
	t.Helper()
	for _, l := range out.Statuses.Gateways[inInfra(gateway)].Listeners {
		if string(l.Name) == listener {
			return conditionMap(l.Conditions), l
		}
	}
	t.Fatalf("Gateway %s has no status of listener %s", gateway, listener)
	return nil, gwv1.ListenerStatus{}
}

func conditionMap(cs []metav1.Condition) map[string]string {
	m := map[string]string{}
	for _, c := range cs {
		m[c.Type] = string(c.Status) + " " + c.Reason
	}
	return m
}
