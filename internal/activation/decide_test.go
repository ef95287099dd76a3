package activation

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// world plays the serve loop: it feeds facts back as records.
type world struct {
	t       *testing.T
	now     time.Time
	objects map[types.NamespacedName]*v1alpha1.Activation
	records map[types.NamespacedName]Record
	routes  map[types.NamespacedName]*Route
	others  map[RouteKey]*Route
	revoke  map[types.NamespacedName]Revocation
	by      map[types.NamespacedName]string
	policy  *Policy
	first   bool
	// broken: the journal takes nothing; acked: Envoy acknowledges everything.
	broken, acked bool
	// failing is why the audit log cannot be kept.
	failing string
	// pending is why that is not known yet.
	pending string
	cluster *Cluster
	reviews []ReviewRequest
	events  []string
	plan    *Plan
	status  map[types.NamespacedName]v1alpha1.ActivationStatus
}

func newWorld(t *testing.T) *world {
	d := gwv1.Duration("4h")
	w := &world{
		t: t, now: time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC), acked: true,
		objects: map[types.NamespacedName]*v1alpha1.Activation{},
		records: map[types.NamespacedName]Record{},
		routes:  map[types.NamespacedName]*Route{},
		revoke:  map[types.NamespacedName]Revocation{},
		by:      map[types.NamespacedName]string{},
		policy: &Policy{Name: "emergency", Spec: v1alpha1.EmergencyPolicySpec{
			Roles:  []v1alpha1.Role{{Name: "db", Grants: []v1alpha1.Grant{{Issuer: "sso"}}}, {Name: "web", Grants: []v1alpha1.Grant{{Issuer: "sso"}}}},
			Limits: v1alpha1.Limits{MaxDuration: &d},
		}},
	}
	w.route("db")
	return w
}

func nn(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "pay", Name: name}
}

func (w *world) route(name string) *Route {
	r := &Route{
		Key: HTTPRoute(nn(name)), Digest: "1", Rules: []string{"#0", "read"}, Named: map[string]string{"read": "read"},
		Hostnames: []string{name + ".example.com"}, URLs: map[string][]string{}, Policies: []*Policy{w.policy},
	}
	w.routes[nn(name)] = r
	return r
}

// find knows HTTPRoutes by their name, and the other kinds in others.
func (w *world) find(key RouteKey) *Route {
	if key.Kind != v1alpha1.KindHTTPRoute {
		return w.others[key]
	}
	return w.routes[key.NamespacedName]
}

func (w *world) activation(name, route, role, duration string, mods ...func(*v1alpha1.Activation)) {
	d := gwv1.Duration(duration)
	a := &v1alpha1.Activation{ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: name}, Spec: v1alpha1.ActivationSpec{
		TargetRefs: []v1alpha1.TargetReference{{Kind: "HTTPRoute", Name: route}},
		Role:       role, Reason: "test", Incident: "INC-" + name, Duration: &d,
	}}
	for _, m := range mods {
		m(a)
	}
	w.objects[nn(name)] = a
}

// settle decides until nothing changes, as the loop does.
func (w *world) settle() {
	w.t.Helper()
	for range 10 {
		w.plan = Decide(Input{
			Now: w.now, FirstStart: w.first, Objects: w.objects, Records: w.records, Revocations: w.revoke, AuditFailing: w.failing, AuditPending: w.pending, Seen: w.seen(), Cluster: w.cluster, Reviews: w.reviews, RequestedBy: w.by,
			Route: w.find,
		})
		w.status = w.plan.Complete(func(WindowKey, *Window) (bool, string) { return w.acked, "not acknowledged" })
		opened := false
		for _, f := range w.plan.Facts {
			if f.Opens() && w.broken {
				break // the journal keeps the order: nothing after it is written either
			}
			opened = opened || f.Opens() || f.Event == Live
			w.records[f.Record.Key()] = f.Record
			w.events = append(w.events, fmt.Sprintf("%s %s", f.Record.Name, f.Event))
		}
		if !opened {
			return
		}
	}
	w.t.Fatal("does not settle")
}

// seen are the starts of the last plan, as the loop remembers them.
func (w *world) seen() map[types.NamespacedName]time.Time {
	out := map[types.NamespacedName]time.Time{}
	if w.plan != nil {
		for key, r := range w.plan.Records() {
			out[key] = r.Start
		}
	}
	return out
}

func (w *world) wantPhase(name string, phase v1alpha1.Phase, reason string) {
	w.t.Helper()
	s := w.status[nn(name)]
	got := ""
	for _, c := range s.Conditions {
		if c.Type == v1alpha1.ConditionLive {
			got = c.Reason
		}
	}
	if s.Phase != phase || got != reason {
		w.t.Errorf("%s: %s %s (%+v), want %s %s", name, s.Phase, got, s.Conditions, phase, reason)
	}
}

func (w *world) open(route, rule string) *Window {
	return w.plan.Windows[WindowKey{HTTPRoute(nn(route)), rule}]
}

func TestWindowIsOpenAtStartAndClosedAtDeadline(t *testing.T) {
	w := newWorld(t)
	w.activation("a", "db", "db", "10m")
	w.settle()
	w.wantPhase("a", v1alpha1.PhaseLive, ReasonLive)
	start := w.now
	if got := w.plan.Next; !got.Equal(start.Add(10 * time.Minute)) {
		t.Errorf("next instant %v, want the deadline", got)
	}
	w.now = start.Add(10*time.Minute - 1)
	w.settle()
	if w.open("db", "#0") == nil {
		t.Error("closed 1 ns before the deadline")
	}
	w.now = start.Add(10 * time.Minute)
	w.settle()
	if w.open("db", "#0") != nil {
		t.Error("open at the deadline")
	}
	w.wantPhase("a", v1alpha1.PhaseExpired, ReasonDeadline)
	if got, want := strings.Join(w.events, ","), "a requested,a opened,a live,a expired"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
}

func TestNothingOpensThatIsNotOnRecord(t *testing.T) {
	w := newWorld(t)
	w.broken = true
	w.activation("a", "db", "db", "10m")
	w.settle()
	if len(w.plan.Windows) != 0 {
		t.Error("opened without a durable record")
	}
	w.wantPhase("a", v1alpha1.PhasePending, ReasonOpening)
}

func TestClosingDoesNotWaitForTheRecord(t *testing.T) {
	for name, end := range map[string]func(*world){
		"deadline": func(w *world) { w.now = w.now.Add(10 * time.Minute) },
		"revoked":  func(w *world) { w.objects[nn("a")].Spec.Revoked = true },
		"asked":    func(w *world) { w.revoke[nn("a")] = Revocation{By: "alice"} },
		"deleted":  func(w *world) { delete(w.objects, nn("a")) },
		"suspend":  func(w *world) { w.policy.Spec.Suspended = true },
		"changed":  func(w *world) { w.routes[nn("db")].Digest = "2" },
		"gone":     func(w *world) { delete(w.routes, nn("db")) },
		"role":     func(w *world) { w.policy.Spec.Roles = w.policy.Spec.Roles[1:] },
		"blocked":  func(w *world) { w.routes[nn("db")].Blocked = Blocked{"X", "x"} },
		"policies": func(w *world) { w.routes[nn("db")].Policies = nil },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.activation("a", "db", "db", "10m")
			w.settle()
			w.broken = true
			end(w)
			w.settle()
			if len(w.plan.Windows) != 0 {
				t.Error("still open")
			}
		})
	}
}

func TestEndedActivationsStayEnded(t *testing.T) {
	for name, c := range map[string]struct {
		end, undo func(*world)
		phase     v1alpha1.Phase
		reason    string
	}{
		"revoked": {func(w *world) { w.objects[nn("a")].Spec.Revoked = true }, func(w *world) { w.objects[nn("a")].Spec.Revoked = false }, v1alpha1.PhaseRevoked, ReasonRevoked},
		"deleted": {func(w *world) { delete(w.objects, nn("a")) }, func(w *world) { w.activation("a", "db", "db", "10m") }, v1alpha1.PhaseRefused, ReasonNameSpent},
		"suspend": {func(w *world) { w.policy.Spec.Suspended = true }, func(w *world) { w.policy.Spec.Suspended = false }, v1alpha1.PhaseRevoked, ReasonSuspended},
		"changed": {func(w *world) { w.routes[nn("db")].Digest = "2" }, func(w *world) { w.routes[nn("db")].Digest = "1" }, v1alpha1.PhaseRevoked, ReasonRouteChanged},
		"gone":    {func(w *world) { delete(w.routes, nn("db")) }, func(w *world) { w.route("db") }, v1alpha1.PhaseRevoked, ReasonRouteDeleted},
		"clock":   {func(w *world) { w.now = w.now.Add(time.Hour) }, func(w *world) { w.now = w.now.Add(-time.Hour) }, v1alpha1.PhaseExpired, ReasonDeadline},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.activation("a", "db", "db", "10m")
			w.settle()
			c.end(w)
			w.settle()
			w.settle() // an object that is gone is noted as removed
			c.undo(w)
			w.settle()
			if len(w.plan.Windows) != 0 {
				t.Error("opened again")
			}
			w.wantPhase("a", c.phase, c.reason)
		})
	}
}

func TestTheDeadlineNeverMovesLater(t *testing.T) {
	w := newWorld(t)
	short, long := gwv1.Duration("2m"), gwv1.Duration("3h")
	w.policy.Spec.Roles[0].MaxDuration = &short
	w.activation("a", "db", "db", "10m")
	w.settle()
	start := w.now
	want := func(d time.Duration) {
		t.Helper()
		if got := w.status[nn("a")].Deadline.Sub(start); got != d {
			t.Errorf("deadline after %v, want %v", got, d)
		}
	}
	want(2 * time.Minute)
	w.policy.Spec.Roles[0].MaxDuration = &long
	w.settle()
	want(2 * time.Minute)
	w.objects[nn("a")].Spec.Duration = &long // an edit that slipped through
	w.settle()
	want(2 * time.Minute)
	shorter := gwv1.Duration("1m")
	w.policy.Spec.Limits.MaxDuration = &shorter
	w.settle()
	want(time.Minute)
}

func TestFirstStartWithAnEmptyDataDir(t *testing.T) {
	w := newWorld(t)
	w.first = true
	w.activation("old", "db", "db", "10m")
	w.activation("dated", "db", "db", "10m", func(a *v1alpha1.Activation) { a.Spec.NotAfter = &metav1.Time{Time: w.now.Add(time.Minute)} })
	w.activation("past", "db", "db", "10m", func(a *v1alpha1.Activation) { a.Spec.NotAfter = &metav1.Time{Time: w.now} })
	w.settle()
	w.wantPhase("old", v1alpha1.PhaseRefused, ReasonEmptyDataDir)
	w.wantPhase("past", v1alpha1.PhaseRefused, ReasonNotAfter)
	w.wantPhase("dated", v1alpha1.PhaseLive, ReasonLive)
	if d := w.status[nn("dated")].Deadline.Sub(w.now); d != time.Minute {
		t.Errorf("deadline after %v, want notAfter", d)
	}
}

func TestRefusals(t *testing.T) {
	one := int32(1)
	for name, c := range map[string]struct {
		prepare func(*world)
		reason  string
		says    string
	}{
		"unknown role": {func(w *world) { w.activation("a", "db", "dba", "1m") }, ReasonRoleUnknown, `no role "dba": its roles are db, web`},
		"label":        {func(w *world) { w.routes[nn("db")].Role = "web"; w.activation("a", "db", "db", "1m") }, ReasonRoleLabel, `only role "web" opens`},
		"namespace":    {func(w *world) { w.policy.Spec.Roles[0].Namespaces = []string{"x"}; w.activation("a", "db", "db", "1m") }, ReasonRoleNamespace, "namespace"},
		"hostname": {func(w *world) {
			w.policy.Spec.Roles[0].Hostnames = []gwv1.Hostname{"*.other.com"}
			w.activation("a", "db", "db", "1m")
		}, ReasonRoleHostname, "db.example.com"},
		"held": {func(w *world) {
			w.activation("b", "db", "web", "1m")
			w.settle()
			w.now = w.now.Add(1)
			w.activation("a", "db", "db", "1m")
		}, ReasonHeld, "Activation pay/b"},
		"too many open": {func(w *world) {
			w.route("x")
			w.policy.Spec.Limits.MaxOpen = &one
			w.activation("b", "x", "web", "1m")
			w.settle()
			w.now = w.now.Add(1)
			w.activation("a", "db", "db", "1m")
		}, ReasonTooManyOpen, "limits.maxOpen"},
		"too many a day": {func(w *world) {
			w.policy.Spec.Limits.MaxPerDay = &one
			w.activation("b", "db", "db", "1m")
			w.settle()
			w.now = w.now.Add(23 * time.Hour)
			w.activation("a", "db", "db", "1m")
		}, ReasonTooManyPerDay, "limits.maxPerDay"},
		"notAfter missing": {func(w *world) { w.policy.Spec.Limits.RequireNotAfter = true; w.activation("a", "db", "db", "1m") }, ReasonNotAfterMissing, "spec.notAfter"},
		"suspended":        {func(w *world) { w.policy.Spec.Suspended = true; w.activation("a", "db", "db", "1m") }, ReasonSuspended, "suspended"},
		"no incident": {func(w *world) {
			w.activation("a", "db", "db", "1m", func(a *v1alpha1.Activation) { a.Spec.Incident = "" })
		}, ReasonIncident, "spec.incident"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.prepare(w)
			w.settle()
			w.wantPhase("a", v1alpha1.PhaseRefused, c.reason)
			if m := w.status[nn("a")].Conditions[0].Message; !strings.Contains(m, c.says) {
				t.Errorf("message %q does not say %q", m, c.says)
			}
		})
	}
}

func TestActivationsOfOnePairShareTheLongestWindow(t *testing.T) {
	w := newWorld(t)
	w.activation("a", "db", "db", "1m")
	w.settle()
	opening := w.open("db", "#0").Opening
	start := w.now
	w.now = start.Add(30 * time.Second)
	w.activation("b", "db", "db", "10m")
	w.settle()
	win := w.open("db", "#0")
	if win.Opening != opening {
		t.Error("the second activation made a new lease: streams of the first would be cut")
	}
	if !win.Deadline.Equal(w.now.Add(10 * time.Minute)) {
		t.Errorf("deadline %v", win.Deadline)
	}
	w.now = start.Add(time.Minute)
	w.settle()
	w.wantPhase("a", v1alpha1.PhaseExpired, ReasonDeadline)
	if win := w.open("db", "#0"); win == nil || win.Opening != opening {
		t.Error("the end of the first ended the second")
	}
	w.revoke[nn("b")] = Revocation{By: "alice", Reason: "done"}
	w.settle()
	w.activation("c", "db", "db", "1m")
	w.settle()
	if w.open("db", "#0").Opening == opening {
		t.Error("a lease was used again after its end")
	}
}

func TestTwoActivationsInOneBatchShareALease(t *testing.T) {
	w := newWorld(t)
	w.activation("a", "db", "db", "1m")
	w.activation("b", "db", "db", "2m")
	w.settle()
	a, b := w.records[nn("a")].Targets["HTTPRoute/db"].Openings["#0"], w.records[nn("b")].Targets["HTTPRoute/db"].Openings["#0"]
	if a == "" || a != b {
		t.Errorf("openings %q and %q", a, b)
	}
}

func TestASectionOpensOneRule(t *testing.T) {
	w := newWorld(t)
	section := gwv1.SectionName("read")
	w.activation("a", "db", "db", "1m", func(a *v1alpha1.Activation) { a.Spec.TargetRefs[0].SectionName = &section })
	w.settle()
	if w.open("db", "read") == nil || w.open("db", "#0") != nil {
		t.Errorf("windows %v", w.plan.Windows)
	}
}

func TestAWindowThatIsNeverAcknowledgedEndsNeverLive(t *testing.T) {
	w := newWorld(t)
	w.acked = false
	w.activation("a", "db", "db", "1m")
	w.settle()
	w.wantPhase("a", v1alpha1.PhasePending, ReasonOpening)
	w.now = w.now.Add(time.Minute)
	w.settle()
	w.wantPhase("a", v1alpha1.PhaseExpired, ReasonNeverLive)
}

func TestTimeSpentPendingCounts(t *testing.T) {
	w := newWorld(t)
	w.activation("a", "later", "db", "1m")
	w.settle()
	w.wantPhase("a", v1alpha1.PhasePending, ReasonRouteNotFound)
	start := w.now
	w.now = w.now.Add(50 * time.Second)
	w.route("later")
	w.settle()
	w.wantPhase("a", v1alpha1.PhaseLive, ReasonLive)
	if d := w.open("later", "#0").Deadline; !d.Equal(start.Add(time.Minute)) {
		t.Errorf("deadline %v", d)
	}
}

func TestTimeCountsAlsoWhileNothingCanBeRecorded(t *testing.T) {
	w := newWorld(t)
	w.broken, w.failing = true, "disk full"
	w.activation("a", "db", "db", "1m")
	w.activation("late", "db", "db", "20s")
	w.settle()
	start := w.now
	w.now = w.now.Add(30 * time.Second)
	w.settle()
	w.broken, w.failing = false, ""
	w.settle()
	w.wantPhase("a", v1alpha1.PhaseLive, ReasonLive)
	w.wantPhase("late", v1alpha1.PhaseExpired, ReasonNeverLive)
	if d := w.open("db", "#0").Deadline; !d.Equal(start.Add(time.Minute)) {
		t.Errorf("deadline %v", d)
	}
}

func TestNoKeysHoldBackAnOpeningButEndNothing(t *testing.T) {
	w := newWorld(t)
	usable := false
	w.policy.Usable = func(string) bool { return usable }
	w.activation("a", "db", "db", "1m")
	w.settle()
	w.wantPhase("a", v1alpha1.PhasePending, ReasonNoKeys)
	usable = true
	w.settle()
	w.wantPhase("a", v1alpha1.PhaseLive, ReasonLive)
	usable = false
	w.settle()
	w.wantPhase("a", v1alpha1.PhaseLive, ReasonLive)
}

func TestWhileTheAuditLogCannotBeKeptNothingOpensAndByPolicyNothingIsServed(t *testing.T) {
	for _, onFailure := range []v1alpha1.AuditFailurePolicy{"", v1alpha1.AuditRefuse, v1alpha1.AuditDegrade} {
		w := newWorld(t)
		w.policy.Spec.Audit.OnFailure = onFailure
		w.route("web")
		w.activation("a", "db", "db", "10m")
		w.settle()
		opening, deadline := w.open("db", "#0").Opening, w.records[nn("a")].Deadline

		w.failing = "disk full"
		w.activation("b", "web", "web", "10m")
		w.activation("late", "web", "web", "30s")
		asked := w.now
		w.settle()
		w.now = w.now.Add(20 * time.Second)
		w.settle()
		w.wantPhase("b", v1alpha1.PhasePending, ReasonAuditFailing)
		if w.open("web", "#0") != nil {
			t.Errorf("%q: opened without a record", onFailure)
		}
		// What waits is on record from the first: its time runs.
		if r := w.records[nn("b")]; !r.Start.Equal(asked) || len(r.Targets) > 0 {
			t.Errorf("%q: the record of what waits since %v: %+v", onFailure, asked, r)
		}
		served := w.open("db", "#0") != nil
		if served != (onFailure == v1alpha1.AuditDegrade) {
			t.Errorf("%q: served %v", onFailure, served)
		}
		if !served {
			w.wantPhase("a", v1alpha1.PhasePending, ReasonAuditFailing)
			if b := w.plan.Withheld[HTTPRoute(nn("db"))]; !strings.Contains(b.Message, "disk full") {
				t.Errorf("%q: withheld because %q", onFailure, b.Message)
			}
		}

		// Mended: the same window goes on, and what waited opens for what is left of
		// its own, if anything is.
		w.failing = ""
		w.now = w.now.Add(time.Minute)
		w.settle()
		w.wantPhase("a", v1alpha1.PhaseLive, ReasonLive)
		w.wantPhase("b", v1alpha1.PhaseLive, ReasonLive)
		w.wantPhase("late", v1alpha1.PhaseExpired, ReasonNeverLive)
		if d := w.open("web", "#0").Deadline; !d.Equal(asked.Add(10 * time.Minute)) {
			t.Errorf("%q: asked for at %v, and open until %v", onFailure, asked, d)
		}
		if got := w.open("db", "#0"); got.Opening != opening || !w.records[nn("a")].Deadline.Equal(deadline) {
			t.Errorf("%q: opening %s until %v, was %s until %v", onFailure, got.Opening, w.records[nn("a")].Deadline, opening, deadline)
		}
	}
}

func TestWhileTheAuditLogIsBeingOpenedNothingOpensAndWhatIsOpenIsServed(t *testing.T) {
	for _, onFailure := range []v1alpha1.AuditFailurePolicy{v1alpha1.AuditRefuse, v1alpha1.AuditDegrade} {
		w := newWorld(t)
		w.policy.Spec.Audit.OnFailure = onFailure
		w.route("web")
		w.route("gone")
		w.activation("a", "db", "db", "10m")
		w.activation("c", "gone", "web", "10m")
		w.settle()
		deadline := w.records[nn("a")].Deadline

		w.pending = "the log is being opened"
		w.activation("b", "web", "web", "10m")
		w.activation("longer", "db", "db", "1h")
		asked := w.now
		w.settle()
		w.wantPhase("a", v1alpha1.PhaseLive, ReasonLive)
		w.wantPhase("b", v1alpha1.PhasePending, ReasonAuditPending)
		w.wantPhase("longer", v1alpha1.PhasePending, ReasonAuditPending)
		if got := w.open("db", "#0"); got == nil || !got.Deadline.Equal(deadline) {
			t.Errorf("%s: open %+v, until %v was promised", onFailure, got, deadline)
		}
		if w.open("web", "#0") != nil || len(w.plan.Withheld) > 0 {
			t.Errorf("%s: opened before the log was, or withheld: %v", onFailure, w.plan.Withheld)
		}

		// Closing waits for nothing.
		w.revoke[nn("c")] = Revocation{By: "bob"}
		w.settle()
		w.wantPhase("c", v1alpha1.PhaseRevoked, ReasonRevoked)

		// What is known to fail counts for more than what is not known yet.
		w.failing = "the disk is full"
		w.settle()
		if w.wantPhase("b", v1alpha1.PhasePending, ReasonAuditFailing); (w.open("db", "#0") != nil) != (onFailure == v1alpha1.AuditDegrade) {
			t.Errorf("%s: served %v", onFailure, w.open("db", "#0"))
		}

		w.failing, w.pending = "", ""
		w.now = w.now.Add(time.Minute)
		w.settle()
		w.wantPhase("b", v1alpha1.PhaseLive, ReasonLive)
		if d := w.records[nn("b")].Deadline; !d.Equal(asked.Add(10 * time.Minute)) {
			t.Errorf("%s: asked for at %v, and open until %v", onFailure, asked, d)
		}
	}
}

func TestClosingDoesNotWaitForTheAuditLog(t *testing.T) {
	w := newWorld(t)
	w.policy.Spec.Audit.OnFailure = v1alpha1.AuditDegrade
	w.route("web")
	w.activation("a", "db", "db", "10m")
	w.activation("b", "web", "web", "1h")
	w.settle()
	w.failing = "disk full"
	w.revoke[nn("b")] = Revocation{By: "bob"}
	w.settle()
	w.wantPhase("b", v1alpha1.PhaseRevoked, ReasonRevoked)
	if w.open("web", "#0") != nil {
		t.Error("open after its revocation")
	}
	w.now = w.records[nn("a")].Deadline
	w.settle()
	w.wantPhase("a", v1alpha1.PhaseExpired, ReasonDeadline)
	if w.open("db", "#0") != nil {
		t.Error("open at its deadline")
	}
	w.failing = ""
	w.settle()
	w.wantPhase("b", v1alpha1.PhaseRevoked, ReasonRevoked)
}

func TestANameIsSpentAtTheFirstLookAfterItsObjectWent(t *testing.T) {
	w := newWorld(t)
	w.activation("a", "db", "db", "10m")
	w.settle()
	delete(w.objects, nn("a"))
	once := Decide(Input{Now: w.now, Objects: w.objects, Records: w.records, Route: w.find})
	for _, f := range once.Facts {
		w.records[f.Record.Key()] = f.Record
	}
	w.activation("a", "db", "db", "10m") // back before anybody looked again
	w.settle()
	w.wantPhase("a", v1alpha1.PhaseRefused, ReasonNameSpent)
}

func TestWhatAClientClaimsOfPeopleIsNotKept(t *testing.T) {
	obj := &v1alpha1.Activation{Spec: v1alpha1.ActivationSpec{RequestedBy: "the CEO", Revoked: true, RevokedBy: "the CFO"}}
	r := New(obj, Manifest, "manifest:a.yaml,uid=0", time.Unix(0, 0))
	if r.Spec.RequestedBy != "" || r.Spec.RevokedBy != "" || r.RequestedBy != "manifest:a.yaml,uid=0" || !r.Spec.Revoked {
		t.Errorf("kept as %+v", r)
	}
}
