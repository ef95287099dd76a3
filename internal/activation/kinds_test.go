package activation

import (
	"encoding/json"
	"testing"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// grpc adds a GRPCRoute of the name of the HTTPRoute db.
func (w *world) grpc() RouteKey {
	key := RouteKey{v1alpha1.KindGRPCRoute, nn("db")}
	r := *w.routes[nn("db")]
	r.Key, r.Digest = key, "g"
	w.others = map[RouteKey]*Route{key: &r}
	return key
}

func ofKind(kind string) func(*v1alpha1.Activation) {
	return func(a *v1alpha1.Activation) { a.Spec.TargetRefs[0].Kind = kind }
}

func TestWhatOpensARouteOpensNoneOfAnotherKindWithItsName(t *testing.T) {
	for _, kind := range []string{v1alpha1.KindHTTPRoute, v1alpha1.KindGRPCRoute} {
		w := newWorld(t)
		w.grpc()
		w.activation("a", "db", "db", "10m", ofKind(kind))
		w.settle()
		w.wantPhase("a", v1alpha1.PhaseLive, ReasonLive)
		if len(w.plan.Windows) != 2 {
			t.Errorf("%s: open are %v", kind, w.plan.Windows)
		}
		for wk := range w.plan.Windows {
			if wk.Route.Kind != kind {
				t.Errorf("an activation of the %s has opened %s", kind, wk.Route)
			}
		}
	}
}

func TestRoutesOfTwoKindsWithOneNameShareNothing(t *testing.T) {
	w := newWorld(t)
	key := w.grpc()
	one := int32(1)
	w.policy.Spec.Limits.MaxPerDay = &one
	w.activation("a", "db", "db", "10m")
	w.settle()
	// Another role, and the second within the day: it is another route.
	w.activation("b", "db", "web", "20m", ofKind(v1alpha1.KindGRPCRoute))
	w.settle()
	w.wantPhase("b", v1alpha1.PhaseLive, ReasonLive)
	web, grpc := w.open("db", "#0"), w.plan.Windows[WindowKey{key, "#0"}]
	if web == nil || grpc == nil || web.Opening == grpc.Opening || web.Role.Name == grpc.Role.Name || web.Deadline.Equal(grpc.Deadline) {
		t.Fatalf("open are %+v and %+v", web, grpc)
	}
	w.others[key].Digest = "changed"
	w.settle()
	w.wantPhase("b", v1alpha1.PhaseRevoked, ReasonRouteChanged)
	w.wantPhase("a", v1alpha1.PhaseLive, ReasonLive)
}

func TestAFollowerTakesOverTheKindToo(t *testing.T) {
	leader, follower := replicas(t)
	key := leader.grpc()
	follower.grpc()
	leader.activation("a", "db", "db", "10m", ofKind(v1alpha1.KindGRPCRoute))
	leader.settle()
	leader.tell(follower)
	follower.settle()
	want := leader.plan.Windows[WindowKey{key, "#0"}]
	if got := follower.plan.Windows[WindowKey{key, "#0"}]; got == nil || got.Opening != want.Opening || len(follower.plan.Windows) != 2 {
		t.Fatalf("open are %v, want %+v", follower.plan.Windows, want)
	}
	if got := follower.records[nn("a")].Targets["GRPCRoute/db"].Route; got != "GRPCRoute pay/db" {
		t.Errorf("on record is %q", got)
	}
}

// TestARecordOfBeforeThereWereKindsIsOfAnHTTPRoute: its route has no kind.
func TestARecordOfBeforeThereWereKindsIsOfAnHTTPRoute(t *testing.T) {
	w := newWorld(t)
	key := w.grpc()
	const old = `{"namespace":"pay","name":"a","origin":"control","start":"2026-11-23T02:59:00Z","deadline":"2026-11-23T04:00:00Z",
		"spec":{"targetRefs":[{"group":"gateway.networking.k8s.io","kind":"HTTPRoute","name":"db"}],"role":"db","reason":"r","incident":"I"},
		"targets":{"HTTPRoute/db":{"route":"pay/db","digest":"1","openings":{"#0":"x","read":"y"},"openedAt":"2026-11-23T02:59:00Z"}}}`
	var r Record
	if err := json.Unmarshal([]byte(old), &r); err != nil {
		t.Fatal(err)
	}
	w.records[nn("a")] = r
	w.activation("b", "db", "db", "2h")
	w.activation("c", "db", "web", "2h")
	w.activation("d", "db", "web", "2h", ofKind(v1alpha1.KindGRPCRoute))
	w.settle()
	if got := w.open("db", "#0"); got == nil || got.Opening != "x" || len(got.Activations) != 2 {
		t.Errorf("open is %+v, want the lease of before, shared", got)
	}
	w.wantPhase("c", v1alpha1.PhaseRefused, ReasonHeld)
	w.wantPhase("d", v1alpha1.PhaseLive, ReasonLive)
	if w.plan.Windows[WindowKey{key, "#0"}].Opening == "x" {
		t.Error("the GRPCRoute has the lease of the HTTPRoute")
	}
}

func TestARouteOnRecordIsToldWithItsKind(t *testing.T) {
	for _, c := range []struct {
		key      RouteKey
		ref, say string
	}{
		{HTTPRoute(nn("db")), "pay/db", "HTTPRoute pay/db"},
		{RouteKey{v1alpha1.KindGRPCRoute, nn("db")}, "GRPCRoute pay/db", "GRPCRoute pay/db"},
	} {
		if c.key.Ref() != c.ref || c.key.String() != c.say || RouteOfRef(c.ref) != c.say {
			t.Errorf("%+v is %q on record and %q for people, and that is read as %q", c.key, c.key.Ref(), c.key, RouteOfRef(c.ref))
		}
	}
}
