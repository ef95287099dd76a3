package activation

import (
	"maps"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// replicas are a world that leads and one that follows, with the same objects.
func replicas(t *testing.T) (leader, follower *world) {
	leader, follower = newWorld(t), newWorld(t)
	leader.cluster, follower.cluster = &Cluster{}, &Cluster{Follow: true}
	return leader, follower
}

// tell writes what w says of its Activations to the objects of all.
func (w *world) tell(all ...*world) {
	for key, s := range w.status {
		obj := w.objects[key]
		if obj == nil {
			continue
		}
		obj = obj.DeepCopy()
		obj.Status = *s.DeepCopy()
		for _, o := range append(all, w) {
			o.objects[key] = obj
		}
	}
}

func (w *world) wantOpen(name, lease string, d time.Duration, start time.Time) {
	w.t.Helper()
	win := w.open(name, "#0")
	if win == nil || win.Opening != lease || !win.Deadline.Equal(start.Add(d)) {
		w.t.Errorf("%s is %+v, want lease %s until %s", name, win, lease, start.Add(d))
	}
}

func TestAFollowerOpensWhatTheStatusSaysAndNothingElse(t *testing.T) {
	leader, follower := replicas(t)
	start := leader.now
	leader.activation("a", "db", "db", "10m")
	follower.objects[nn("a")] = leader.objects[nn("a")]
	follower.settle()
	if len(follower.plan.Windows) > 0 || len(follower.records) > 0 {
		t.Fatalf("without a status: open %v, on record %v", follower.plan.Windows, follower.records)
	}
	leader.settle()
	leader.tell(follower)
	follower.now = follower.now.Add(time.Second)
	follower.settle()
	lease := leader.open("db", "#0").Opening
	follower.wantOpen("db", lease, 10*time.Minute, start)

	// The second shares the lease of the first also where the leader is another by then.
	leader.activation("b", "db", "db", "20m")
	leader.settle()
	leader.tell(follower)
	follower.cluster = &Cluster{}
	follower.settle()
	follower.wantOpen("db", lease, 20*time.Minute, start)
	if got := follower.records[nn("b")].Targets["HTTPRoute/db"]; !got.OpenedAt.Equal(start) {
		t.Errorf("opened anew: %+v", got)
	}
}

func TestWhoFollowsHasNotJudgedAndJudgesOnceHeLeads(t *testing.T) {
	_, follower := replicas(t)
	follower.activation("a", "db", "db", "10m")
	follower.cluster.Distrusted = map[types.NamespacedName]string{nn("a"): "nobody checked"}
	follower.settle()
	follower.settle()
	follower.cluster.Follow = false
	follower.settle()
	follower.wantPhase("a", v1alpha1.PhaseRefused, ReasonDistrusted)
}

func TestDoubtCountsAtFirstSightAlone(t *testing.T) {
	leader, _ := replicas(t)
	leader.activation("a", "db", "db", "10m")
	leader.settle()
	leader.cluster.Distrusted = map[types.NamespacedName]string{nn("a"): "changed just now"}
	leader.settle()
	leader.wantPhase("a", v1alpha1.PhaseLive, ReasonLive)
}

// TestAFollowerEndsNothingForGoodByWhatItSees: its view of a route or a policy may be
// that of before the opening. It closes at once, and serves once it sees what the
// leader sees.
func TestAFollowerEndsNothingForGoodByWhatItSees(t *testing.T) {
	short := gwv1.Duration("1m")
	for name, change := range map[string]struct{ away, back func(*world) }{
		"another digest": {func(w *world) { w.routes[nn("db")].Digest = "0" }, func(w *world) { w.routes[nn("db")].Digest = "1" }},
		"no route":       {func(w *world) { delete(w.routes, nn("db")) }, func(w *world) { w.route("db") }},
		"suspended":      {func(w *world) { w.policy.Spec.Suspended = true }, func(w *world) { w.policy.Spec.Suspended = false }},
		"no role":        {func(w *world) { w.policy.Spec.Roles[0].Name = "x" }, func(w *world) { w.policy.Spec.Roles[0].Name = "db" }},
		"less allowed":   {func(w *world) { w.policy.Spec.Limits.MaxDuration = &short }, func(w *world) { w.policy.Spec.Limits.MaxDuration = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			leader, follower := replicas(t)
			start := leader.now
			leader.activation("a", "db", "db", "10m")
			leader.settle()
			leader.tell(follower)
			change.away(follower)
			follower.settle()
			follower.now = follower.now.Add(2 * time.Minute)
			follower.settle()
			if len(follower.plan.Windows) > 0 {
				t.Fatalf("served against what it sees: %v", follower.plan.Windows)
			}
			change.back(follower)
			follower.settle()
			follower.wantOpen("db", leader.open("db", "#0").Opening, 10*time.Minute, start)
		})
	}
}

func TestAFollowerClosesWhenItSeesLessAllowed(t *testing.T) {
	leader, follower := replicas(t)
	start := leader.now
	leader.activation("a", "db", "db", "10m")
	leader.settle()
	leader.tell(follower)
	short := gwv1.Duration("3m")
	follower.policy.Spec.Limits.MaxDuration = &short
	follower.settle()
	follower.wantOpen("db", leader.open("db", "#0").Opening, 3*time.Minute, start)
	if !follower.plan.Next.Equal(start.Add(3 * time.Minute)) {
		t.Errorf("it looks again at %s", follower.plan.Next)
	}
	if d := follower.records[nn("a")].Deadline; !d.Equal(start.Add(10 * time.Minute)) {
		t.Errorf("a follower has put the deadline %s on record", d)
	}
	follower.now = start.Add(3 * time.Minute)
	follower.settle()
	if len(follower.plan.Windows) > 0 {
		t.Error("open at what the policy allows")
	}
}

func TestAFollowerTakesOverShorteningsAndEndings(t *testing.T) {
	leader, follower := replicas(t)
	start := leader.now
	leader.route("web")
	leader.activation("a", "db", "db", "10m", func(a *v1alpha1.Activation) {
		a.Spec.TargetRefs = append(a.Spec.TargetRefs, v1alpha1.TargetReference{Kind: "HTTPRoute", Name: "web"})
	})
	follower.route("web")
	leader.settle()
	leader.tell(follower)
	follower.settle()
	short := gwv1.Duration("5m")
	leader.policy.Spec.Limits.MaxDuration = &short
	leader.routes[nn("web")].Digest = "2"
	leader.settle()
	leader.tell(follower)
	follower.settle()
	follower.wantOpen("db", leader.open("db", "#0").Opening, 5*time.Minute, start)
	if follower.open("web", "#0") != nil {
		t.Error("a target that the leader has withdrawn is served")
	}
	leader.now = start.Add(time.Minute)
	leader.routes[nn("db")].Digest = "2"
	leader.settle()
	leader.tell(follower)
	follower.now = start.Add(90 * time.Second)
	follower.settle()
	follower.wantPhase("a", v1alpha1.PhaseRevoked, ReasonRouteChanged)
	if at := follower.status[nn("a")].EndedAt; at == nil || !at.Time.Equal(start.Add(time.Minute)) {
		t.Errorf("ended at %v, the leader said %s", at, start.Add(time.Minute))
	}
	// Its route is as it was. Nobody opens it again, also who leads and has no memory.
	other := newWorld(t)
	other.cluster = &Cluster{}
	leader.tell(other)
	other.settle()
	other.wantPhase("a", v1alpha1.PhaseRevoked, ReasonRouteChanged)
	if len(other.plan.Windows) > 0 {
		t.Errorf("opened again: %v", other.plan.Windows)
	}
}

func TestWhoRefusesKeepsWhatIsOpenTakesNothingOverAndForgetsNothing(t *testing.T) {
	for name, refuse := range map[string]func(*world){
		"clocks": func(w *world) { w.cluster.Refusing = "the clocks differ" },
		"log":    func(w *world) { w.pending = "being opened" },
	} {
		t.Run(name, func(t *testing.T) {
			leader, other := replicas(t)
			leader.route("web")
			other.route("web")
			leader.activation("a", "db", "db", "10m")
			leader.settle()
			leader.tell(other)
			other.settle()
			leader.activation("b", "web", "web", "10m")
			leader.settle()
			leader.tell(other)

			other.cluster = &Cluster{} // it leads now
			refuse(other)
			other.settle()
			if other.open("db", "#0") == nil || other.open("web", "#0") != nil {
				t.Errorf("open are %v", other.plan.Windows)
			}
			want, got := leader.status[nn("b")].Targets[0].Opening, other.status[nn("b")].Targets[0].Opening
			if got == nil || got.Leases[0] != want.Leases[0] || !got.At.Equal(&want.At) {
				t.Errorf("it would write %+v over the opening %+v", got, want)
			}
			other.cluster, other.pending = &Cluster{}, ""
			other.settle()
			if w := other.open("web", "#0"); w == nil || w.Opening != want.Leases[0].Name {
				t.Errorf("afterwards it serves %+v", w)
			}
		})
	}
}

func TestEndingsAreTakenOverWhateverIsWrong(t *testing.T) {
	leader, follower := replicas(t)
	leader.activation("a", "db", "db", "10m")
	leader.settle()
	leader.tell(follower)
	follower.settle()
	leader.policy.Spec.Suspended = true
	leader.settle()
	leader.tell(follower)
	follower.cluster.Refusing, follower.failing = "the clocks differ", "disk full"
	follower.settle()
	follower.wantPhase("a", v1alpha1.PhaseRevoked, ReasonSuspended)
}

func TestAnActivationThatIsMadeAgainIsAnotherOne(t *testing.T) {
	leader, follower := replicas(t)
	leader.activation("a", "db", "db", "10m", func(a *v1alpha1.Activation) { a.UID = "one" })
	leader.settle()
	leader.tell(follower)
	follower.settle()
	leader.activation("a", "db", "db", "10m", func(a *v1alpha1.Activation) { a.UID = "two" })
	// Somebody has copied the status of the first into it.
	leader.objects[nn("a")].Status = leader.status[nn("a")]
	maps.Copy(follower.objects, leader.objects)
	for _, w := range []*world{leader, follower} {
		w.settle()
		w.settle()
		w.wantPhase("a", v1alpha1.PhaseRefused, ReasonNameSpent)
		if len(w.plan.Windows) > 0 {
			t.Errorf("open %v", w.plan.Windows)
		}
	}
}

func TestTheTimeBeginsWhenTheAPIServerSaysItDid(t *testing.T) {
	leader, _ := replicas(t)
	made := leader.now
	leader.activation("a", "db", "db", "10m")
	leader.now = made.Add(9 * time.Minute)
	plan := Decide(Input{
		Now: leader.now, Objects: leader.objects, Seen: map[types.NamespacedName]time.Time{nn("a"): made}, Cluster: leader.cluster,
		Route: func(key RouteKey) *Route { return leader.routes[key.NamespacedName] },
	})
	if d := plan.Records()[nn("a")].Deadline; !d.Equal(made.Add(10 * time.Minute)) {
		t.Errorf("deadline %s", d)
	}
}

func TestTheStatusIsWhatTheAPIServerKeeps(t *testing.T) {
	leader, _ := replicas(t)
	leader.now = leader.now.Add(123456789)
	leader.activation("a", "db", "db", "10m")
	leader.settle()
	leader.now = leader.now.Add(10 * time.Minute)
	leader.settle()
	s := leader.status[nn("a")]
	for _, at := range []*metav1.MicroTime{s.OpenedAt, s.LiveAt, s.EndedAt, s.Deadline, &s.Targets[0].Opening.At} {
		if at == nil || at.Nanosecond()%1000 != 0 {
			t.Errorf("%v would be read as another time than it was written", at)
		}
	}
}

func TestWhatIsMissingAmongRestoredObjectsStaysOpenUntilItsDeadline(t *testing.T) {
	w, _ := replicas(t)
	start := w.now
	w.activation("a", "db", "db", "10m")
	w.settle()
	lease := w.open("db", "#0").Opening
	delete(w.objects, nn("a"))
	w.cluster = &Cluster{Follow: true, Restored: true, Refusing: "the API server does not answer"}
	w.settle()
	w.wantOpen("db", lease, 10*time.Minute, start)
	w.now = start.Add(10 * time.Minute)
	w.settle()
	if win := w.open("db", "#0"); win != nil {
		t.Errorf("open after the deadline: %+v", win)
	}
}
