package translator

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
)

// allowingYAML makes a Gateway with spec.allowedListeners in flow style.
func allowingYAML(name, namespaces string, listeners ...string) string {
	return strings.Replace(gatewayYAML(name, listeners...), "  listeners:\n", "  allowedListeners: {namespaces: "+namespaces+"}\n  listeners:\n", 1)
}

// setYAML makes a ListenerSet of a Gateway of INFRA.
func setYAML(namespace, name, gateway string, listeners ...string) string {
	out := fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {name: %s, namespace: %s}\nspec:\n  parentRef: {name: %s, namespace: INFRA}\n  listeners:\n", name, namespace, gateway)
	for _, l := range listeners {
		out += "  - " + l + "\n"
	}
	return out + "---\n"
}

func namespaceYAML(name, labels string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {%s}}\n---\n", name, labels)
}

// onHTTP is a listener on port 80, allowedRoutes of it in flow style.
func onHTTP(name, hostname string, allowed ...string) string {
	return fmt.Sprintf("{name: %s, port: 80, protocol: HTTP, hostname: %s, allowedRoutes: {namespaces: {from: %s}}}", name, hostname, strings.Join(append(allowed, "All")[:1], ""))
}

func setRef(name string, more ...string) string {
	return "{kind: ListenerSet, name: " + name + strings.Join(more, "") + "}"
}

// of another namespace, with its backend in INFRA.
func elsewhere(namespace, route string) string {
	route = strings.Replace(route, "namespace: INFRA", "namespace: "+namespace, 1)
	return strings.ReplaceAll(route, "name: backend,", "name: backend, namespace: INFRA,")
}

// setOf is the status of a ListenerSet, as conditionsOf.
func setOf(t *testing.T, out *Result, namespace, name string) (map[string]string, map[string]map[string]string, map[string]int32) {
	t.Helper()
	st, known := out.Statuses.ListenerSets[types.NamespacedName{Namespace: namespace, Name: name}]
	if !known {
		t.Fatalf("ListenerSet %s/%s has no status", namespace, name)
	}
	listeners, routes := map[string]map[string]string{}, map[string]int32{}
	for _, l := range st.Listeners {
		listeners[string(l.Name)], routes[string(l.Name)] = conditionMap(l.Conditions), l.AttachedRoutes
	}
	return conditionMap(st.Conditions), listeners, routes
}

func wantSet(t *testing.T, out *Result, namespace, name, want string) {
	t.Helper()
	got, _, _ := setOf(t, out, namespace, name)
	wantConditions(t, got, want)
}

func wantAttachedSets(t *testing.T, out *Result, gateway string, want int32) {
	t.Helper()
	n := out.Statuses.Gateways[inInfra(gateway)].AttachedListenerSets
	if n == nil || *n != want {
		t.Errorf("Gateway %s: attachedListenerSets is %v, want %d", gateway, n, want)
	}
}

// wantParent: Accepted of a route at the parent of this kind and name.
func wantParent(t *testing.T, out *Result, route types.NamespacedName, kind, name, want string) {
	t.Helper()
	for _, p := range out.Statuses.Routes[activation.HTTPRoute(route)].Parents {
		if string(*p.ParentRef.Kind) == kind && string(p.ParentRef.Name) == name {
			if got := conditionMap(p.Conditions)["Accepted"]; got != want {
				t.Errorf("%s at %s %s: %s, want %s", route, kind, name, got, want)
			}
			return
		}
	}
	t.Errorf("%s says nothing of %s %s", route, kind, name)
}

const (
	setGood    = "Accepted True Accepted, Programmed True Programmed"
	setRefused = "Accepted False NotAllowed, Programmed False NotAllowed"
	setInvalid = "Accepted False ListenersNotValid, Programmed False ListenersNotValid"
)

// ListenerSetAllowedNamespaceNone, ...Same, ...Selector, ListenerSetDefaultNotAllowed.
func TestUpstreamSetsAreOfTheNamespacesThatTheGatewayAllows(t *testing.T) {
	out := upstream(t, gatewayYAML("default", onHTTP("own", "own.com"))+setYAML("INFRA", "of-default", "default", onHTTP("l", "l.com"))+
		allowingYAML("none", "{from: None}", onHTTP("own", "own.com"))+setYAML("INFRA", "of-none", "none", onHTTP("l", "l.com"))+
		allowingYAML("same", "{from: Same}", onHTTP("own", "own.com"))+setYAML("INFRA", "of-same", "same", onHTTP("l", "l.com"))+setYAML("other", "of-same", "same", onHTTP("l", "l.com"))+
		allowingYAML("selected", "{from: Selector, selector: {matchLabels: {allowed: ns}}}", onHTTP("own", "own.com"))+namespaceYAML("chosen", "allowed: ns")+namespaceYAML("other", "")+
		setYAML("chosen", "of-selected", "selected", onHTTP("l", "l.com"))+setYAML("other", "of-selected", "selected", onHTTP("l", "l.com"))+
		setYAML("INFRA", "of-nobody", "nobody", onHTTP("l", "l.com")))
	for gateway, n := range map[string]int32{"default": 0, "none": 0, "same": 1, "selected": 1} {
		wantAttachedSets(t, out, gateway, n)
		wantConditions(t, conditionMap(out.Statuses.Gateways[inInfra(gateway)].Conditions), "Accepted True Accepted, Programmed True Programmed")
	}
	wantSet(t, out, infra, "of-default", setRefused)
	wantSet(t, out, infra, "of-none", setRefused)
	wantSet(t, out, infra, "of-same", setGood)
	wantSet(t, out, "other", "of-same", setRefused)
	wantSet(t, out, "chosen", "of-selected", setGood)
	wantSet(t, out, "other", "of-selected", setRefused)
	_, listeners, _ := setOf(t, out, infra, "of-same")
	wantConditions(t, listeners["l"], "Accepted True Accepted, ResolvedRefs True ResolvedRefs, Programmed True Programmed")
	if st, known := out.Statuses.ListenerSets[inInfra("of-nobody")]; known {
		t.Errorf("a set of a Gateway that is not ours is told: %+v", st)
	}
}

// ListenerSetHostnameConflict.
func TestUpstreamSetsThatWantAHostnameThatIsTaken(t *testing.T) {
	out := upstream(t, allowingYAML("door", "{from: Same}", onHTTP("own", "own.com"), onHTTP("taken", "gateway.com"))+
		setYAML("INFRA", "gateway-1", "door", onHTTP("one", "one.com"), onHTTP("taken", "gateway.com"), onHTTP("first", "set.com"))+
		setYAML("INFRA", "gateway-2", "door", onHTTP("taken", "gateway.com"))+
		setYAML("INFRA", "set-1", "door", onHTTP("two", "two.com"), onHTTP("first", "set.com"))+
		setYAML("INFRA", "set-2", "door", onHTTP("first", "set.com")))
	checkLosers(t, out, "HostnameConflict")
}

// ListenerSetProtocolConflict: the losers are of a protocol that is not supported
// either, and say that the port is taken.
func TestUpstreamSetsThatWantAPortOfAnotherProtocol(t *testing.T) {
	tcp := func(name string) string { return "{name: " + name + ", port: 80, protocol: TCP}" }
	out := upstream(t, allowingYAML("door", "{from: Same}", onHTTP("own", "own.com"), onHTTP("taken", "gateway.com"))+
		setYAML("INFRA", "gateway-1", "door", onHTTP("one", "one.com"), tcp("taken"), onHTTP("first", "set.com"))+
		setYAML("INFRA", "gateway-2", "door", tcp("taken"))+
		setYAML("INFRA", "set-1", "door", onHTTP("two", "two.com"), tcp("first"))+
		setYAML("INFRA", "set-2", "door", tcp("first")))
	checkLosers(t, out, "ProtocolConflict")
}

func checkLosers(t *testing.T, out *Result, reason string) {
	t.Helper()
	const good = "Accepted True Accepted, ResolvedRefs True ResolvedRefs, Programmed True Programmed, Conflicted False NoConflicts"
	lost := strings.ReplaceAll("Accepted False R, Programmed False R, Conflicted True R", "R", reason)
	wantAttachedSets(t, out, "door", 2)
	wantConditions(t, conditionMap(out.Statuses.Gateways[inInfra("door")].Conditions), "Accepted True Accepted, Programmed True Programmed")
	for _, l := range []string{"own", "taken"} {
		c, _ := conditionsOf(t, out, "door", l)
		wantConditions(t, c, good)
	}
	for set, want := range map[string]string{
		"gateway-1": "Accepted True ListenersNotValid, Programmed True Programmed", "gateway-2": setInvalid,
		"set-1": "Accepted True ListenersNotValid, Programmed True Programmed", "set-2": setInvalid,
	} {
		got, listeners, _ := setOf(t, out, infra, set)
		wantConditions(t, got, want)
		for l, c := range listeners {
			if l == "taken" || l == "first" && set != "gateway-1" {
				wantConditions(t, c, lost)
			} else {
				wantConditions(t, c, good)
			}
		}
	}
}

// The older set wins, then the one that is first by namespace and name.
func TestTheOlderSetHasWhatTwoWant(t *testing.T) {
	age := func(set string, d time.Duration) func(*Input) {
		return func(in *Input) {
			in.ListenerSets[inInfra(set)].CreationTimestamp = metav1.NewTime(epoch.Add(-d))
		}
	}
	manifests := allowingYAML("door", "{from: Same}", onHTTP("own", "own.com")) +
		setYAML("INFRA", "a", "door", onHTTP("l", "one.com")) + setYAML("INFRA", "b", "door", onHTTP("l", "one.com"))
	for want, ages := range map[string][]func(*Input){
		"a": {age("a", time.Hour), age("b", time.Minute)}, "b": {age("a", time.Minute), age("b", time.Hour)}, "a ": nil,
	} {
		out := upstream(t, manifests, ages...)
		for _, set := range []string{"a", "b"} {
			if want := strings.TrimSpace(want); set == want {
				wantSet(t, out, infra, set, setGood)
			} else {
				wantSet(t, out, infra, set, setInvalid)
			}
		}
	}
}

// ListenerSetReferenceGrant.
func TestUpstreamCertificatesOfSetsNeedAGrantToThem(t *testing.T) {
	https := func(host string) string {
		return "{name: l, port: 443, protocol: HTTPS, hostname: " + host + ", tls: {certificateRefs: [{name: cert, namespace: web}]}}"
	}
	grant := func(name, kind, namespace string) string {
		return fmt.Sprintf("apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: %s, namespace: web}\nspec: {from: [{group: gateway.networking.k8s.io, kind: %s, namespace: %s}], to: [{group: '', kind: Secret}]}\n---\n", name, kind, namespace)
	}
	manifests := certificateYAML("web", "cert") + allowingYAML("door", "{from: All}", https("own.com")) + setYAML("INFRA", "granted", "door", https("a.com")) +
		setYAML("other", "not-granted", "door", https("b.com")) + grant("gateway", "Gateway", "INFRA") + grant("gateway-elsewhere", "Gateway", "other")
	out := upstream(t, manifests+grant("set", "ListenerSet", "INFRA"))
	wantSet(t, out, infra, "granted", setGood)
	wantSet(t, out, "other", "not-granted", setInvalid)
	_, listeners, _ := setOf(t, out, infra, "granted")
	wantConditions(t, listeners["l"], "ResolvedRefs True ResolvedRefs")
	_, listeners, _ = setOf(t, out, "other", "not-granted")
	wantConditions(t, listeners["l"], "ResolvedRefs False RefNotPermitted")
	wantAttachedSets(t, out, "door", 1)

	out = upstream(t, manifests) // that of the Gateway is none of its sets
	wantSet(t, out, infra, "granted", setInvalid)
}

// ListenerSetHTTPRouting: who names the Gateway does not reach its sets, nor the reverse.
func TestUpstreamRoutesOfSetsAndOfTheirGateway(t *testing.T) {
	route := func(name, path string, parents ...string) string {
		return routeYAML(name, "["+strings.Join(parents, ", ")+"]", "", path)
	}
	out := upstream(t, allowingYAML("door", "{from: All}", onHTTP("gateway-1", "gateway-1.com"), onHTTP("gateway-2", "gateway-2.com"))+
		setYAML("INFRA", "set-1", "door", onHTTP("set-1-1", "set-1-1.com"), onHTTP("set-1-2", "set-1-2.com"))+
		setYAML("INFRA", "set-2", "door", onHTTP("set-2-1", "set-2-1.com"), onHTTP("set-2-2", "set-2-2.com"))+
		route("all", "/all", "{name: door}", setRef("set-1"), setRef("set-2"))+
		route("gateway", "/gateway", "{name: door}")+route("section-of-gateway", "/section-of-gateway", "{name: door, sectionName: gateway-1}")+
		route("set-1", "/set-1", setRef("set-1"))+route("section-of-set-1", "/section-of-set-1", setRef("set-1", ", sectionName: set-1-1"))+route("set-2", "/set-2", setRef("set-2")))
	wantAttachedSets(t, out, "door", 2)
	for set, want := range map[string]map[string]int32{"set-1": {"set-1-1": 3, "set-1-2": 2}, "set-2": {"set-2-1": 2, "set-2-2": 2}} {
		_, _, routes := setOf(t, out, infra, set)
		if fmt.Sprint(routes) != fmt.Sprint(want) {
			t.Errorf("%s counts %v routes, want %v", set, routes, want)
		}
	}
	hosts := []string{"gateway-1", "gateway-2", "set-1-1", "set-1-2", "set-2-1", "set-2-2"}
	for name, on := range map[string]string{
		"all": strings.Join(hosts, " "), "gateway": "gateway-1 gateway-2", "section-of-gateway": "gateway-1",
		"set-1": "set-1-1 set-1-2", "section-of-set-1": "set-1-1", "set-2": "set-2-1 set-2-2",
	} {
		for _, host := range hosts {
			want := "404"
			if strings.Contains(on, host) {
				want = name
			}
			if got := answer(t, out, "door", 80, "", host+".com", "/"+name); got != want {
				t.Errorf("%s.com/%s: %s, want %s", host, name, got, want)
			}
		}
	}
}

// ListenerSetAllowedRoutesNamespaces: Same is the namespace of the set.
func TestUpstreamRoutesThatTheListenersOfASetAllow(t *testing.T) {
	route := func(name string) string {
		return routeYAML(name, "["+setRef("own", ", namespace: INFRA")+"]", "", "/"+name)
	}
	cross := func(name string) string {
		return routeYAML(name, "["+setRef("cross", ", namespace: cross")+"]", "", "/"+name)
	}
	out := upstream(t, allowingYAML("door", "{from: All}", onHTTP("gateway", "gateway.com"))+
		setYAML("INFRA", "own", "door", onHTTP("all", "all.com"), onHTTP("same", "same.com", "Same"), onHTTP("selected", "selected.com", "Selector, selector: {matchLabels: {allowed: ns}}"))+
		setYAML("cross", "cross", "door", onHTTP("same", "cross.com", "Same"))+namespaceYAML("chosen", "allowed: ns")+namespaceYAML("other", "")+namespaceYAML("cross", "")+
		route("in-same")+elsewhere("chosen", route("in-chosen"))+elsewhere("other", route("in-other"))+elsewhere("cross", cross("in-cross"))+cross("in-gateways")+
		"apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: backend, namespace: INFRA}\nspec:\n  to: [{group: '', kind: Service}]\n  from:\n"+
		"  - {group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: chosen}\n  - {group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: other}\n  - {group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: cross}\n---\n")
	for set, want := range map[string]map[string]int32{infra + "/own": {"all": 3, "same": 1, "selected": 1}, "cross/cross": {"same": 1}} {
		namespace, name, _ := strings.Cut(set, "/")
		_, _, routes := setOf(t, out, namespace, name)
		if fmt.Sprint(routes) != fmt.Sprint(want) {
			t.Errorf("%s counts %v routes, want %v", set, routes, want)
		}
	}
	wantParent(t, out, types.NamespacedName{Namespace: "cross", Name: "in-cross"}, "ListenerSet", "cross", "True Accepted")
	wantParent(t, out, inInfra("in-gateways"), "ListenerSet", "cross", "False NotAllowedByListeners")
	for host, routes := range map[string]string{"all": "in-same in-chosen in-other", "same": "in-same", "selected": "in-chosen", "cross": "in-cross", "gateway": ""} {
		for _, name := range []string{"in-same", "in-chosen", "in-other", "in-cross", "in-gateways"} {
			want := "404"
			if strings.Contains(" "+routes+" ", " "+name+" ") {
				want = name
			}
			if got := answer(t, out, "door", 80, "", host+".com", "/"+name); got != want {
				t.Errorf("%s.com/%s: %s, want %s", host, name, got, want)
			}
		}
	}
}

// ListenerSetDualParentRefIndependence, ListenerSetGatewayParentSectionNameNotFound,
// ListenerSetRouteStatusScopedToParentRef.
func TestUpstreamEachParentOfARouteSpeaksForItself(t *testing.T) {
	out := upstream(t, allowingYAML("door", "{from: Same}", onHTTP("own", "own.com"))+setYAML("INFRA", "set", "door", onHTTP("more", "more.com"))+
		routeYAML("both", "[{name: door}, "+setRef("set")+"]", "", "/both")+
		routeYAML("one", "[{name: door, sectionName: more}, "+setRef("set", ", sectionName: more")+"]", "", "/one")+
		routeYAML("by-gateway", "[{name: door, sectionName: more}]", "", "/by-gateway")+
		routeYAML("gateway-only", "[{name: door}]", "", "/gateway-only")+routeYAML("set-only", "["+setRef("set")+"]", "", "/set-only"))
	wantParent(t, out, inInfra("both"), "Gateway", "door", "True Accepted")
	wantParent(t, out, inInfra("both"), "ListenerSet", "set", "True Accepted")
	wantParent(t, out, inInfra("one"), "Gateway", "door", "False NoMatchingParent")
	wantParent(t, out, inInfra("one"), "ListenerSet", "set", "True Accepted")
	wantParent(t, out, inInfra("by-gateway"), "Gateway", "door", "False NoMatchingParent")
	for route, n := range map[string]int{"both": 2, "one": 2, "by-gateway": 1, "gateway-only": 1, "set-only": 1} {
		if parents := out.Statuses.Routes[activation.HTTPRoute(inInfra(route))].Parents; len(parents) != n {
			t.Errorf("%s has %d parents: %+v", route, len(parents), parents)
		}
	}
	for path, hosts := range map[string][2]string{"both": {"both", "both"}, "one": {"404", "one"}, "by-gateway": {"404", "404"}, "gateway-only": {"gateway-only", "404"}, "set-only": {"404", "set-only"}} {
		for i, host := range []string{"own.com", "more.com"} {
			if got := answer(t, out, "door", 80, "", host, "/"+path); got != hosts[i] {
				t.Errorf("%s/%s: %s, want %s", host, path, got, hosts[i])
			}
		}
	}
	for _, p := range out.Statuses.Routes[activation.HTTPRoute(inInfra("one"))].Parents {
		live := conditionMap(p.Conditions)[v1alpha1.ConditionRouteLive]
		if *p.ParentRef.Kind == "Gateway" && live != "False RouteNotAccepted" || *p.ParentRef.Kind == "ListenerSet" && live != "True Live" {
			t.Errorf("at its %s it is %s", *p.ParentRef.Kind, live)
		}
	}
}

// In a cluster whoever has the Gateway is not asked alone: a namespace that has nothing to
// do with emergencies adds nothing to their door.
func TestASetOfANamespaceThatHasNotOptedInAddsNothing(t *testing.T) {
	manifests := allowingYAML("door", "{from: All}", onHTTP("own", "own.com")) + setYAML("team", "set", "door", onHTTP("more", "more.com")) +
		setYAML("INFRA", "set", "door", onHTTP("same", "same.com")) + elsewhere("team", routeYAML("r", "["+setRef("set")+"]", "", "/r"))
	with := func(team, home *corev1.Namespace) *Result {
		return upstream(t, manifests, func(in *Input) {
			in.Namespaces = map[string]*corev1.Namespace{"team": team, infra: home}
			in.Cluster = &Cluster{GatewayNamespaces: map[string]bool{infra: true}, Addresses: map[types.NamespacedName][]gwv1.GatewayStatusAddress{}}
			for key, g := range in.Gateways {
				in.Cluster.Addresses[key] = given(g.Spec.Addresses[0].Value)
			}
		})
	}
	out := with(namespace("team", false), namespace(infra, false))
	wantSet(t, out, "team", "set", setRefused)
	wantSet(t, out, infra, "set", setGood) // who may have Gateways may have their listeners
	wantParent(t, out, types.NamespacedName{Namespace: "team", Name: "r"}, "ListenerSet", "set", "False NoMatchingParent")
	if got := answer(t, out, "door", 80, "", "more.com", "/r"); got != "404" {
		t.Errorf("its host is served: %s", got)
	}
	out = with(namespace("team", true), namespace(infra, true))
	wantSet(t, out, "team", "set", setGood)
	wantAttachedSets(t, out, "door", 2)
	wantParent(t, out, types.NamespacedName{Namespace: "team", Name: "r"}, "ListenerSet", "set", "True Accepted")
}

func TestASetSaysWhatItsGatewayLacks(t *testing.T) {
	manifests := allowingYAML("door", "{from: Same}", onHTTP("own", "own.com")) + setYAML("INFRA", "set", "door", onHTTP("more", "more.com"))
	out := upstream(t, manifests, func(in *Input) {
		in.Gateways[inInfra("door")].Spec.Infrastructure = &gwv1.GatewayInfrastructure{ParametersRef: &gwv1.LocalParametersReference{Kind: "X"}}
	})
	wantSet(t, out, infra, "set", "Accepted False ParentNotAccepted, Programmed False ParentNotProgrammed")
	wantAttachedSets(t, out, "door", 0)
	out = upstream(t, manifests, func(in *Input) {
		in.Cluster = &Cluster{GatewayNamespaces: map[string]bool{infra: true}}
	})
	wantSet(t, out, infra, "set", "Accepted True Accepted, Programmed False ParentNotProgrammed")
	out = upstream(t, manifests+setYAML("INFRA", "eighth", "door", "{name: eighth, port: 8888, protocol: HTTP, hostname: a.com}", "{name: agent, port: 9103, protocol: HTTP}"), func(in *Input) {
		in.Cluster = &Cluster{GatewayNamespaces: map[string]bool{infra: true}}
	})
	if ports := fmt.Sprint(out.Gateways[inInfra("door")].Ports); ports != "[80 8888]" {
		t.Errorf("the Gateway's Service would have ports %s", ports)
	}
}
