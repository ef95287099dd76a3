package activation

import (
	"testing"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// also names one more route.
func also(route string) func(*v1alpha1.Activation) {
	return func(a *v1alpha1.Activation) {
		a.Spec.TargetRefs = append(a.Spec.TargetRefs, v1alpha1.TargetReference{Kind: "HTTPRoute", Name: route})
	}
}

// held is a world in which role web holds the route db for a minute.
func held(t *testing.T) *world {
	w := newWorld(t)
	w.route("x")
	w.activation("holder", "db", "web", "1m")
	w.settle()
	w.now = w.now.Add(time.Second)
	return w
}

func TestARouteThatIsHeldOpensForTheNextOnceItsHolderEnds(t *testing.T) {
	w := held(t)
	w.activation("a", "x", "db", "10m", also("db"))
	w.settle()
	deadline := w.now.Add(10 * time.Minute)
	if win := w.open("db", "#0"); w.open("x", "#0") == nil || win == nil || win.Role.Name != "web" {
		t.Fatalf("windows %v", w.plan.Windows)
	}
	if s := w.status[nn("a")]; len(s.Targets) != 2 || s.Targets[1].Reason != ReasonHeld {
		t.Errorf("status %+v", s.Targets)
	}
	w.now = w.now.Add(time.Minute)
	w.settle()
	win := w.open("db", "#0")
	if win == nil || win.Role.Name != "db" || !win.Deadline.Equal(deadline) {
		t.Errorf("after the holder's end: %+v, want role db until %v", win, deadline)
	}
}

func TestAnActivationWhoseFirstRouteIsHeldIsRefusedAsAWhole(t *testing.T) {
	w := held(t)
	w.activation("a", "db", "db", "10m", also("x"))
	w.settle()
	w.wantPhase("a", v1alpha1.PhaseRefused, ReasonHeld)
	w.now = w.now.Add(time.Minute)
	w.settle()
	w.wantPhase("a", v1alpha1.PhaseRefused, ReasonHeld)
	if w.open("x", "#0") != nil || w.open("db", "#0") != nil {
		t.Errorf("windows %v", w.plan.Windows)
	}
}
