package translator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
)

// mixed has a GRPCRoute and an HTTPRoute of one name on one door, each open by an
// activation of its own.
func mixed(t testing.TB, grpc, http []gwv1.Hostname) *Input {
	in := grpcInput(t, method(exactly, "a.B", "Get"))
	in.GRPCRoutes[inSuite("weighted-backends")].Spec.Hostnames = grpc
	in.HTTPRoutes = map[types.NamespacedName]*gwv1.HTTPRoute{inSuite("weighted-backends"): {
		ObjectMeta: metav1.ObjectMeta{Namespace: "gateway-conformance-infra", Name: "weighted-backends"},
		Spec: gwv1.HTTPRouteSpec{
			CommonRouteSpec: gwv1.CommonRouteSpec{ParentRefs: []gwv1.ParentReference{{Name: "same-namespace"}}}, Hostnames: http,
			Rules: []gwv1.HTTPRouteRule{{
				Matches:     []gwv1.HTTPRouteMatch{{Method: ptr(gwv1.HTTPMethodPost)}},
				BackendRefs: []gwv1.HTTPBackendRef{backendRef("grpc-infra-backend-v1", 1)},
			}},
		},
	}}
	in.HTTPRoutes[inSuite("weighted-backends")].Spec.Rules[0].BackendRefs[0].Port = ptr(gwv1.PortNumber(8080))
	a := in.Activations[inSuite("open-weighted-backends")].DeepCopy()
	a.Name, a.Spec.TargetRefs[0].Kind = "open-http", v1alpha1.KindHTTPRoute
	in.Activations[inSuite("open-http")] = a
	return in
}

func acceptedOf(out *Result, key activation.RouteKey) metav1.Condition {
	return out.Statuses.Routes[key].Parents[0].Conditions[0]
}

func TestRoutesOfTwoKindsDoNotShareAHostname(t *testing.T) {
	httpKey, grpcKey := activation.HTTPRoute(inSuite("weighted-backends")), activation.GRPCRoute(inSuite("weighted-backends"))
	hosts := func(all ...gwv1.Hostname) []gwv1.Hostname { return all }
	for _, c := range []struct {
		grpc, http []gwv1.Hostname
		clash      bool
	}{
		{nil, nil, true},
		{hosts("a.test"), nil, true},
		{nil, hosts("a.test"), true},
		{hosts("a.test"), hosts("b.test"), false},
		{hosts("a.test", "c.test"), hosts("b.test", "c.test"), true},
		{hosts("*.test"), hosts("a.test"), true},
		{hosts("a.b.test"), hosts("*.test"), true},
		{hosts("*.b.test"), hosts("*.test"), true},
		{hosts("*.test"), hosts("*.b.test"), true},
		{hosts("*.test"), hosts("test"), false},
		{hosts("*.b.test"), hosts("*.c.test"), false},
		{hosts("*.b.test"), hosts("b.test"), false},
	} {
		in := mixed(t, c.grpc, c.http)
		in.GRPCRoutes[inSuite("weighted-backends")].CreationTimestamp = metav1.NewTime(epoch)
		for _, older := range []activation.RouteKey{httpKey, grpcKey} {
			age := time.Hour
			if older == httpKey {
				age = -time.Hour
			}
			in.HTTPRoutes[inSuite("weighted-backends")].CreationTimestamp = metav1.NewTime(epoch.Add(age))
			in.Records = map[types.NamespacedName]activation.Record{}
			out := settle(t, in, nil)
			for _, key := range []activation.RouteKey{httpKey, grpcKey} {
				s, loses := acceptedOf(out, key), c.clash && key != older
				if (s.Status == metav1.ConditionTrue) == loses || loses && (s.Reason != "HostnameConflict" || !strings.HasPrefix(s.Message, older.String()+" has hostname ")) {
					t.Errorf("%v and %v, %s is older: %s is %+v", c.grpc, c.http, older, key, s)
				}
			}
			attached := out.Statuses.Gateways[inSuite("same-namespace")].Listeners[0].AttachedRoutes
			if want := map[bool]int32{true: 1, false: 2}[c.clash]; attached != want {
				t.Errorf("%v and %v: %d routes are attached", c.grpc, c.http, attached)
			}
		}
	}
}

// TestTheRouteThatYieldsHasNoPlaceAndIsNotOpen: what is question for goes to the other
// one, or nowhere.
func TestTheRouteThatYieldsHasNoPlaceAndIsNotOpen(t *testing.T) {
	in := mixed(t, []gwv1.Hostname{"*.test"}, []gwv1.Hostname{"a.test"})
	in.GRPCRoutes[inSuite("weighted-backends")].CreationTimestamp = metav1.NewTime(epoch)
	in.HTTPRoutes[inSuite("weighted-backends")].CreationTimestamp = metav1.NewTime(epoch.Add(time.Hour))
	out := settle(t, in, nil)
	if a := out.Statuses.Activations[inSuite("open-http")]; a.Phase != v1alpha1.PhasePending || a.Conditions[1].Reason != "RouteNotAccepted" {
		t.Errorf("the activation of the route that yields is %+v", a)
	}
	if r := ask(t, out, inSuite("same-namespace"), grpcTo("a.test", "/a.B/Get")); ruleOf(r) != "#0" {
		t.Errorf("the GRPCRoute has not the host of the HTTPRoute: %s", r.GetName())
	}
	if r := ask(t, out, inSuite("same-namespace"), grpcTo("a.test", "/a.B/Set")); r.GetName() != "none" {
		t.Errorf("the HTTPRoute has a place: %s", r.GetName())
	}
	delete(in.GRPCRoutes, inSuite("weighted-backends"))
	out = settle(t, in, nil)
	if a := out.Statuses.Activations[inSuite("open-http")]; a.Phase != v1alpha1.PhaseLive {
		t.Errorf("the other one is gone, and still %+v", a)
	}
}

func TestARouteThatIsRefusedAnywayTakesNoHostnameFromOthers(t *testing.T) {
	in := mixed(t, nil, nil)
	in.GRPCRoutes[inSuite("weighted-backends")].CreationTimestamp = metav1.NewTime(epoch)
	in.HTTPRoutes[inSuite("weighted-backends")].CreationTimestamp = metav1.NewTime(epoch.Add(time.Hour))
	in.GRPCRoutes[inSuite("weighted-backends")].Spec.Rules[0].SessionPersistence = &gwv1.SessionPersistence{}
	out := settle(t, in, nil)
	if s := acceptedOf(out, activation.HTTPRoute(inSuite("weighted-backends"))); s.Status != metav1.ConditionTrue {
		t.Errorf("%+v", s)
	}
}

func TestKindsOnListenersOfTheirOwnDoNotClash(t *testing.T) {
	in := mixed(t, nil, nil)
	g := in.Gateways[inSuite("same-namespace")]
	second := *g.Spec.Listeners[0].DeepCopy()
	second.Name, second.Port = "second", 81
	g.Spec.Listeners = append(g.Spec.Listeners, second)
	in.HTTPRoutes[inSuite("weighted-backends")].Spec.ParentRefs[0].SectionName = ptr(gwv1.SectionName("second"))
	in.GRPCRoutes[inSuite("weighted-backends")].Spec.ParentRefs[0].SectionName = ptr(gwv1.SectionName("http"))
	out := settle(t, in, nil)
	for _, key := range []activation.RouteKey{activation.HTTPRoute(inSuite("weighted-backends")), activation.GRPCRoute(inSuite("weighted-backends"))} {
		if s := acceptedOf(out, key); s.Status != metav1.ConditionTrue {
			t.Errorf("%s: %+v", key, s)
		}
	}
}

// TestHostnamesAreSharedExactlyIfSomeHostFitsBoth compares holders with the plain
// question.
func TestHostnamesAreSharedExactlyIfSomeHostFitsBoth(t *testing.T) {
	all := []string{"*"}
	for _, labels := range []string{"t", "a.t", "b.t", "a.b.t", "b.b.t", "a.a.t", "c.a.b.t", "u", "a.u"} {
		all = append(all, labels, "*."+labels)
	}
	for _, held := range all {
		hs := holders{}
		hs.add(held, activation.HTTPRoute(key(held)))
		for _, host := range all {
			want := held == host || held == "*" || host == "*" || Covers(held, host) || Covers(host, held)
			if _, got := hs.shares(host); got != want {
				t.Errorf("%s is held, %s shares a host: %t", held, host, got)
			}
		}
	}
}

// TestAGRPCRouteIsNeverOpenWithoutAWindowOfItsOwn: HTTPRoutes of the same names are
// opened, closed and changed beside it.
func TestAGRPCRouteIsNeverOpenWithoutAWindowOfItsOwn(t *testing.T) {
	open := map[string]int{}
	policies := load(t, "testdata/grpcroute-weight/in.yaml", epoch).Policies
	rapid.Check(t, func(t *rapid.T) {
		in := baseInput()
		in.Policies = policies
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			for i := range 2 {
				name := fmt.Sprintf("r%d", i)
				if rapid.IntRange(0, 3).Draw(t, "routes") == 0 || in.HTTPRoutes[key(name)] == nil {
					in.HTTPRoutes[key(name)], in.GRPCRoutes[key(name)] = genRoute(t, name), genGRPCRoute(t, name)
					in.HTTPRoutes[key(name)].Spec.Hostnames = []gwv1.Hostname{"a.example.com"}
					in.GRPCRoutes[key(name)].Spec.Hostnames = []gwv1.Hostname{gwv1.Hostname(mostly(t, "hostname", "b.example.com", "a.example.com"))}
				}
			}
			a := genActivation(t, fmt.Sprintf("act%d", len(in.Records)))
			a.Spec.TargetRefs[0].Kind = anyOf(t, "kind of the target", v1alpha1.KindHTTPRoute, v1alpha1.KindGRPCRoute)
			in.Activations[key(a.Name)] = a
			in.Now = in.Now.Add(anyOf(t, "time", time.Second, time.Minute))
			out := settle2(t, in, nil)
			checkWindows(t, in, out)
			for _, s := range out.Statuses.Activations {
				if s.Phase == v1alpha1.PhaseLive {
					open[s.Targets[0].Kind]++
				}
			}
		}
	})
	if open[v1alpha1.KindHTTPRoute] == 0 || open[v1alpha1.KindGRPCRoute] == 0 {
		t.Errorf("open were %v: the test proves nothing", open)
	}
}

// TestATranslatorThatRemembersIsRightAboutClashes: routes of both kinds come, go and
// change, and the answer is that of who begins from nothing.
func TestATranslatorThatRemembersIsRightAboutClashes(t *testing.T) {
	lost := 0
	rapid.Check(t, func(t *rapid.T) {
		in := baseInput()
		in.Policies["emergency"] = genPolicy(t)
		in.Policies["emergency"].Spec.Scope = v1alpha1.Scope{AllowWildcardHostnames: true, AllowCatchAllPath: true, AllowAnyMethod: true, AllowUnlabelled: true, AllowPlainHTTP: true}
		remembers := &Translator{}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			in.HTTPRoutes, in.GRPCRoutes = maps.Clone(in.HTTPRoutes), maps.Clone(in.GRPCRoutes)
			name := fmt.Sprintf("r%d", rapid.IntRange(0, 4).Draw(t, "route"))
			made := metav1.NewTime(epoch.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "age")) * time.Hour))
			hosts := rapid.SliceOfN(rapid.SampledFrom([]gwv1.Hostname{"a.example.com", "b.example.com", "*.example.com", "*.b.example.com", "c.b.example.com", "x.test"}), 0, 2).Draw(t, "hosts")
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				delete(in.HTTPRoutes, key(name))
			case 1:
				delete(in.GRPCRoutes, key(name))
			case 2:
				r := genRoute(t, name)
				r.CreationTimestamp, r.Spec.Hostnames = made, hosts
				in.HTTPRoutes[key(name)] = r
			default:
				in.GRPCRoutes[key(name)] = genGRPCRoute(t, name)
				in.GRPCRoutes[key(name)].CreationTimestamp, in.GRPCRoutes[key(name)].Spec.Hostnames = made, hosts
			}
			got, want := remembers.Translate(*in), Translate(*in)
			if d := difference(got, want); d != "" {
				t.Fatal(d)
			}
			for _, s := range want.Statuses.Routes {
				if slices.ContainsFunc(s.Parents, func(p gwv1.RouteParentStatus) bool { return p.Conditions[0].Reason == "HostnameConflict" }) {
					lost++
				}
			}
			in.Now = in.Now.Add(time.Second)
		}
	})
	if lost == 0 {
		t.Error("no route ever yielded: the test proves nothing")
	}
}

// TestAStatusIsWrittenAgainWhenOnlyAClashIsOver: nothing else of the route changes,
// which another parent refuses anyway.
func TestAStatusIsWrittenAgainWhenOnlyAClashIsOver(t *testing.T) {
	in := mixed(t, nil, nil)
	in.GRPCRoutes[inSuite("weighted-backends")].CreationTimestamp = metav1.NewTime(epoch)
	r := in.HTTPRoutes[inSuite("weighted-backends")]
	r.CreationTimestamp = metav1.NewTime(epoch.Add(time.Hour))
	r.Spec.ParentRefs = append(r.Spec.ParentRefs, gwv1.ParentReference{Name: "same-namespace", SectionName: ptr(gwv1.SectionName("none"))})
	remembers := &Translator{}
	if s := acceptedOf(remembers.Translate(*in), activation.HTTPRoute(inSuite("weighted-backends"))); s.Reason != "HostnameConflict" {
		t.Fatalf("%+v", s)
	}
	in.GRPCRoutes = nil
	if s := acceptedOf(remembers.Translate(*in), activation.HTTPRoute(inSuite("weighted-backends"))); s.Status != metav1.ConditionTrue {
		t.Errorf("%+v", s)
	}
}
