package activation

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// ended is a world in which alice's activation a has ended, under a policy that wants
// a review within an hour.
func ended(t *testing.T, onOverdue v1alpha1.OverduePolicy) *world {
	t.Helper()
	w := newWorld(t)
	within := gwv1.Duration("1h")
	w.policy.Spec.Review = v1alpha1.Review{Within: &within, OnOverdue: onOverdue}
	w.by[nn("a")] = "alice"
	w.activation("a", "db", "db", "10m")
	w.settle()
	w.now = w.now.Add(10 * time.Minute)
	w.settle()
	w.wantPhase("a", v1alpha1.PhaseExpired, ReasonDeadline)
	return w
}

// ask is a review by an object of this name, made now.
func (w *world) ask(object, activation, by, verdict string) {
	w.reviews = append(w.reviews, ReviewRequest{
		Object: nn(object), Activation: nn(activation), Made: w.now,
		Review: Review{Verdict: verdict, By: by, Note: "read the log", Source: "ActivationReview pay/" + object, SourceUID: object},
	})
}

func (w *world) wantReview(name string, state v1alpha1.ReviewState, by string) {
	w.t.Helper()
	switch s := w.status[nn(name)].Review; {
	case s == nil && state != "":
		w.t.Errorf("%s has no review, want %s", name, state)
	case s != nil && (s.State != state || s.By != by):
		w.t.Errorf("the review of %s is %s by %q, want %q by %q", name, s.State, s.By, state, by)
	}
}

func (w *world) wantAccepted(object, reason string) {
	w.t.Helper()
	s := w.plan.Reviews()[nn(object)]
	if len(s.Conditions) != 1 || s.Conditions[0].Reason != reason {
		w.t.Errorf("the review %s is %+v, want %s", object, s.Conditions, reason)
	}
}

func TestAnEndedActivationIsOverdueFromTheInstantItsReviewIsDue(t *testing.T) {
	w := ended(t, v1alpha1.OverdueAlert)
	due := w.now.Add(time.Hour)
	w.wantReview("a", v1alpha1.ReviewPending, "")
	if !w.plan.Next.Equal(due) || !w.status[nn("a")].Review.Due.Time.Equal(due) {
		t.Errorf("next instant %v, due %v, want %v", w.plan.Next, w.status[nn("a")].Review.Due, due)
	}
	w.now = due.Add(-1)
	w.settle()
	w.wantReview("a", v1alpha1.ReviewPending, "")
	w.now = due
	w.settle()
	w.settle()
	w.wantReview("a", v1alpha1.ReviewOverdue, "")
	if got, want := strings.Join(w.events, ","), "a requested,a opened,a live,a expired,a overdue"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
	// A clock that steps back, or a policy that allows more, takes nothing back.
	w.now = due.Add(-time.Minute)
	w.policy.Spec.Review = v1alpha1.Review{}
	w.settle()
	w.wantReview("a", v1alpha1.ReviewOverdue, "")
}

func TestTheFirstGoodReviewIsTheVerdictAndStays(t *testing.T) {
	w := ended(t, v1alpha1.OverdueAlert)
	w.ask("own", "a", "alice", "justified")
	w.now = w.now.Add(time.Second)
	w.ask("r1", "a", "bob", "justified")
	w.now = w.now.Add(time.Second)
	w.ask("r2", "a", "carol", "misuse")
	w.settle()
	w.wantReview("a", "Justified", "bob")
	w.wantAccepted("own", ReviewAlready)
	w.wantAccepted("r1", "Accepted")
	w.wantAccepted("r2", ReviewAlready)
	if at := w.plan.Reviews()[nn("r1")].AcceptedAt; at == nil || !at.Time.Equal(w.now) {
		t.Errorf("accepted at %v, want %v", at, w.now)
	}
	w.reviews = nil
	w.now = w.now.Add(100 * time.Hour)
	w.settle()
	w.wantReview("a", "Justified", "bob")
	if r := w.records[nn("a")].Review; r == nil || r.Note != "read the log" || r.Source != "ActivationReview pay/r1" {
		t.Errorf("on record is %+v", r)
	}
}

func TestAReviewThatSaysNothingOfUseIsRefusedWithAReason(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*world)
		want   string
	}{
		"by who activated":                    {func(w *world) { w.ask("r", "a", "alice", "drill") }, ReviewOwn},
		"of nothing":                          {func(w *world) { w.ask("r", "x", "bob", "drill") }, ReviewNotFound},
		"of another uid":                      {func(w *world) { w.ask("r", "a", "bob", "drill"); w.reviews[0].UID = "1"; w.uid("a", "2") }, ReviewNotFound},
		"made before it ended":                {func(w *world) { w.ask("r", "a", "bob", "drill"); w.reviews[0].Made = w.now.Add(-time.Second) }, ReviewNotEnded},
		"found to be early":                   {func(w *world) { w.ask("r", "a", "bob", "drill"); w.reviews[0].Early = true }, ReviewNotEnded},
		"of what is open":                     {func(w *world) { w.activation("b", "db", "db", "10m"); w.ask("r", "b", "bob", "drill") }, ReviewNotEnded},
		"of what never opened":                {func(w *world) { w.activation("b", "db", "x", "10m"); w.ask("r", "b", "bob", "drill") }, ReviewNeverOpened},
		"by nobody knows whom":                {func(w *world) { w.ask("r", "a", "bob", "drill"); w.reviews[0].Doubt = "no policies" }, ReviewDistrusted},
		"by nobody":                           {func(w *world) { w.ask("r", "a", "", "drill"); w.reviews[0].Doubt = "no policies" }, ReviewDistrusted},
		"by who activated, and nobody checks": {func(w *world) { w.ask("r", "a", "alice", "drill"); w.reviews[0].Doubt = "no policies" }, ReviewOwn},
		"of nobody knows whose":               {func(w *world) { w.who("a", ""); w.ask("r", "a", "bob", "drill") }, ReviewActivatorless},
	} {
		t.Run(name, func(t *testing.T) {
			w := ended(t, v1alpha1.OverdueAlert)
			test.change(w)
			w.settle()
			w.wantAccepted("r", test.want)
			w.wantReview("a", v1alpha1.ReviewPending, "")
			if c := w.plan.Reviews()[nn("r")].Conditions; len(c) == 1 && (c[0].Status != "False" || c[0].Message == "") {
				t.Errorf("condition %+v", c[0])
			}
		})
	}
}

func (w *world) uid(name, uid string) {
	r := w.records[nn(name)]
	r.UID = types.UID(uid)
	w.records[nn(name)] = r
}

func (w *world) who(name, by string) {
	r := w.records[nn(name)]
	r.RequestedBy = by
	w.records[nn(name)] = r
}

func TestAnOverdueReviewRefusesItsRoleOnlyWhereThePolicySaysSo(t *testing.T) {
	for _, on := range []v1alpha1.OverduePolicy{v1alpha1.OverdueAlert, v1alpha1.OverdueRefuse, "Whatever", ""} {
		t.Run(string(on), func(t *testing.T) {
			w := ended(t, on)
			w.route("web")
			w.activation("open", "web", "db", "4h") // before it is overdue
			w.settle()
			w.now = w.now.Add(time.Hour)
			w.settle()
			w.activation("b", "db", "db", "10m")
			w.settle()
			if on != v1alpha1.OverdueRefuse {
				w.wantPhase("b", v1alpha1.PhaseLive, ReasonLive)
				return
			}
			w.wantPhase("b", v1alpha1.PhaseRefused, ReasonReviewOverdue)
			message := w.status[nn("b")].Conditions[1].Message
			for _, want := range []string{"pay/a", "2026-11-23T04:10:00.000Z", "breakglass review pay/a", "anybody but alice"} {
				if !strings.Contains(message, want) {
					t.Errorf("%q lacks %q", message, want)
				}
			}
			w.wantReview("b", "", "") // never opened
			w.wantPhase("open", v1alpha1.PhaseLive, ReasonLive)
			w.activation("other", "db", "web", "10m")
			w.settle()
			w.wantPhase("other", v1alpha1.PhaseLive, ReasonLive)
			w.revoke[nn("other")] = Revocation{By: "alice"}
			// Without its object, and with its route gone, it still counts.
			delete(w.objects, nn("a"))
			delete(w.routes, nn("db"))
			w.activation("c", "web", "db", "10m")
			w.settle()
			w.wantPhase("c", v1alpha1.PhaseRefused, ReasonReviewOverdue)
			// The first review unlocks what is asked for from then on.
			w.ask("r", "a", "bob", "misuse")
			w.settle()
			w.activation("d", "web", "db", "10m")
			w.settle()
			w.wantPhase("d", v1alpha1.PhaseLive, ReasonLive)
			w.wantPhase("b", v1alpha1.PhaseRefused, ReasonReviewOverdue)
		})
	}
}

// TestAReviewCountsOnceItIsDurable: nothing opens by one that the next start would not
// know.
func TestAReviewCountsOnceItIsDurable(t *testing.T) {
	w := ended(t, v1alpha1.OverdueRefuse)
	w.now = w.now.Add(time.Hour)
	w.settle()
	w.ask("r", "a", "bob", "drill")
	w.broken = true
	w.activation("b", "db", "db", "10m")
	w.settle()
	w.wantReview("a", v1alpha1.ReviewOverdue, "")
	if s := w.plan.Reviews()[nn("r")]; len(s.Conditions) > 0 {
		t.Errorf("told %+v before it is durable", s)
	}
	w.wantPhase("b", v1alpha1.PhaseRefused, ReasonReviewOverdue)
	w.broken = false
	w.settle()
	w.wantReview("a", "Drill", "bob")
	w.wantAccepted("r", "Accepted")
}

// TestWhatEndedBeforeReviewsWereAskedForNeedsNone: an upgrade makes no avalanche.
func TestWhatEndedBeforeReviewsWereAskedForNeedsNone(t *testing.T) {
	w := ended(t, v1alpha1.OverdueRefuse)
	r := w.records[nn("a")]
	r.ReviewDue = time.Time{} // as an earlier version has recorded it
	w.records[nn("a")] = r
	w.now = w.now.Add(1000 * time.Hour)
	w.activation("b", "db", "db", "10m")
	w.settle()
	w.wantReview("a", "", "")
	w.wantPhase("b", v1alpha1.PhaseLive, ReasonLive)
	// It may have one.
	w.ask("r", "a", "bob", "justified")
	w.settle()
	w.wantReview("a", "Justified", "bob")
}

func TestDrillsAndWhatWasRevokedOrWithdrawnNeedAReviewToo(t *testing.T) {
	for name, end := range map[string]func(*world){
		"revoked":    func(w *world) { w.revoke[nn("b")] = Revocation{By: "carol"} },
		"deleted":    func(w *world) { delete(w.objects, nn("b")) },
		"changed":    func(w *world) { w.routes[nn("db")].Digest = "2" },
		"route gone": func(w *world) { delete(w.routes, nn("db")) },
		"suspended":  func(w *world) { w.policy.Spec.Suspended = true },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.by[nn("b")] = "alice"
			w.activation("b", "db", "db", "10m", func(a *v1alpha1.Activation) { a.Spec.Drill = true })
			w.settle()
			w.wantReview("b", "", "")
			end(w)
			w.settle()
			w.wantReview("b", v1alpha1.ReviewPending, "")
			if due := w.records[nn("b")].ReviewDue; !due.Equal(w.now.Add(72 * time.Hour)) {
				t.Errorf("due %v", due)
			}
			w.ask("r", "b", "carol", "drill") // who revoked may review
			w.settle()
			w.wantReview("b", "Drill", "carol")
		})
	}
}

func TestAFollowerTakesReviewsOverAndGivesNone(t *testing.T) {
	leader, follower := replicas(t)
	for _, w := range []*world{leader, follower} {
		w.by[nn("a")] = "alice"
	}
	leader.activation("a", "db", "db", "10m")
	leader.settle()
	leader.tell(follower)
	follower.settle()
	for _, w := range []*world{leader, follower} {
		w.now = w.now.Add(10 * time.Minute)
		w.settle()
	}
	leader.ask("r", "a", "bob", "justified")
	follower.reviews = leader.reviews
	follower.settle()
	follower.wantReview("a", v1alpha1.ReviewPending, "")
	if len(follower.plan.Reviews()) > 0 {
		t.Errorf("a follower judges: %+v", follower.plan.Reviews())
	}
	// Long after the due time, too: the leader may have seen a review by then.
	follower.now = follower.now.Add(100 * time.Hour)
	follower.settle()
	if n := len(follower.events); follower.events[n-1] != "a expired" {
		t.Errorf("a follower records %v", follower.events)
	}
	leader.settle()
	leader.tell(follower)
	follower.settle()
	follower.wantReview("a", "Justified", "bob")
	if r := follower.records[nn("a")].Review; r.Note != "read the log" || !r.At.Equal(leader.records[nn("a")].Review.At) {
		t.Errorf("taken over as %+v", r)
	}

	// One that has lost its memory learns it from the status, and without that from the
	// object of the review.
	lost, _ := replicas(t)
	leader.tell(lost)
	lost.now = leader.now
	lost.settle()
	lost.wantReview("a", "Justified", "bob")
	follower.records[nn("a")] = func(r Record) Record { r.Review = nil; return r }(follower.records[nn("a")])
	delete(follower.objects, nn("a"))
	follower.reviews = slices.Clone(leader.reviews)
	follower.reviews[0].Accepted = leader.now
	follower.settle()
	follower.wantReview("a", "Justified", "bob")
}

func TestOnePersonOfAHostIsKnownByUIDAndLogin(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"jane@example.com", "jane@example.com", true},
		{"jane@example.com", "john@example.com", false},
		{"unix:user=alice,uid=1000", "unix:user=alice,uid=1000", true},
		{"unix:user=alice,uid=1000", "unix:uid=1000", true},
		{"unix:user=alice,uid=1000", "unix:user=bob,uid=1001", false},
		{"unix:user=root,uid=0,login=1000", "unix:user=root,uid=0,login=1001", false},
		{"unix:user=root,uid=0,login=1000", "unix:user=breakglass,uid=990,login=1000", true},
		{"unix:user=root,uid=0,login=1000", "unix:user=root,uid=0", true},
		{"unix:user=root,uid=0,login=1000", "unix:user=alice,uid=1000", true},
		{"manifest:/etc/a,uid=7/b.yaml,uid=0", "unix:user=root,uid=0,login=1000", true},
		{"manifest:/etc/a,uid=7/b.yaml,uid=0", "unix:user=x,uid=7", false},
		{"manifest:/etc/a.yaml,uid=1000", "unix:user=root,uid=0,login=1000", true},
		{"manifest:/etc/a.yaml,uid=1000", "unix:user=root,uid=0,login=1001", false},
	} {
		if got, back := SamePerson(test.a, test.b), SamePerson(test.b, test.a); got != test.same || back != test.same {
			t.Errorf("%s and %s: %v, %v, want %v", test.a, test.b, got, back, test.same)
		}
	}
}

// TestReviewsOpenNothingAndAreNeverTakenBack: whatever happens in whatever order, with
// restarts and clocks that step, the windows are those of a world without reviews,
// save for what is refused because one is overdue; a verdict stays; and overdue ends
// by a verdict alone.
func TestReviewsOpenNothingAndAreNeverTakenBack(t *testing.T) {
	reviewed, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		w, plain := newWorld(t), newWorld(t)
		within := gwv1.Duration("10m")
		on := rapid.SampledFrom([]v1alpha1.OverduePolicy{v1alpha1.OverdueAlert, v1alpha1.OverdueRefuse}).Draw(rt, "onOverdue")
		w.policy.Spec.Review = v1alpha1.Review{Within: &within, OnOverdue: on}
		many := int32(1000) // what reviews refuse must not leave room that the other has not
		for _, world := range []*world{w, plain} {
			world.policy.Spec.Limits.MaxOpen, world.policy.Spec.Limits.MaxPerDay = &many, &many
		}
		verdicts, overdue := map[string]string{}, map[string]bool{}
		for i := range rapid.IntRange(1, 40).Draw(rt, "steps") {
			names := []string{"a0"}
			for key := range w.records {
				names = append(names, key.Name)
			}
			slices.Sort(names)
			some := func() string { return rapid.SampledFrom(names).Draw(rt, "name") }
			switch rapid.IntRange(0, 9).Draw(rt, "event") {
			case 0, 1, 2:
				name, who := fmt.Sprint("a", i), rapid.SampledFrom([]string{"alice", "bob"}).Draw(rt, "who")
				for _, world := range []*world{w, plain} {
					world.by[nn(name)] = who
					world.activation(name, "db", "db", "5m")
				}
			case 3, 4, 5:
				w.ask(fmt.Sprint("r", i), some(), rapid.SampledFrom([]string{"alice", "bob", ""}).Draw(rt, "reviewer"),
					rapid.SampledFrom([]string{"drill", "justified", "misuse"}).Draw(rt, "verdict"))
			case 6:
				w.reviews = nil // all were deleted
			case 7:
				name := some()
				for _, world := range []*world{w, plain} {
					delete(world.objects, nn(name))
				}
			case 8:
				w.plan, plain.plan = nil, nil // a restart
			default:
				d := rapid.SampledFrom([]time.Duration{-time.Minute, time.Second, 3 * time.Minute, 20 * time.Minute}).Draw(rt, "time")
				w.now, plain.now = w.now.Add(d), plain.now.Add(d)
			}
			w.broken = rapid.IntRange(0, 4).Draw(rt, "disk") == 0
			plain.broken = w.broken
			w.settle()
			plain.settle()
			for key, window := range w.plan.Windows {
				other := plain.plan.Windows[key]
				if other == nil || window.Deadline.After(other.Deadline) {
					rt.Fatalf("open until %s because of reviews: %v", window.Deadline, window.Activations)
				}
			}
			for key, r := range w.records {
				s := w.status[key].Review
				if r.Review != nil {
					reviewed++
					if SamePerson(r.Review.By, r.RequestedBy) {
						rt.Fatalf("%s was reviewed by its own activator", key)
					}
				}
				now := ""
				if r.Review != nil {
					now = r.Review.Verdict + r.Review.By
				}
				if was := verdicts[key.Name]; was != "" && was != now {
					rt.Fatalf("the verdict on %s was %s and is %s", key, was, now)
				}
				verdicts[key.Name] = now
				if overdue[key.Name] && now == "" && (s == nil || s.State != v1alpha1.ReviewOverdue) {
					rt.Fatalf("%s is overdue no more, without a review: %+v", key, s)
				}
				overdue[key.Name] = overdue[key.Name] || s != nil && s.State == v1alpha1.ReviewOverdue && !r.Overdue.IsZero()
				if r.Reason == ReasonReviewOverdue {
					refused++
					if on != v1alpha1.OverdueRefuse {
						rt.Fatalf("%s was refused under a policy that only alerts", key)
					}
				}
			}
		}
	})
	if reviewed == 0 || refused == 0 {
		t.Errorf("%d reviewed, %d refused: the test proves nothing", reviewed, refused)
	}
}
