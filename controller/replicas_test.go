package controller

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
	gwv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/breakglass-gateway/breakglass-gateway/api/admission"
	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
	"github.com/breakglass-gateway/breakglass-gateway/translator"
)

// clusterTruth is what the API server has.
type clusterTruth struct {
	now     time.Time
	objects map[types.NamespacedName]*v1alpha1.Activation
	digests map[types.NamespacedName]string // of routes; none: the route is not there
	policy  *activation.Policy
	reviews map[types.NamespacedName]*v1alpha1.ActivationReview
	writes  int
	// distrusted were made while nobody checked.
	distrusted map[types.NamespacedName]bool
	// bound is the latest at which an activation may be open.
	bound map[types.NamespacedName]time.Time
}

// member is one replica: its memory, what it sees, which may be old, and what it
// found last.
type member struct {
	name    string
	leads   bool
	refuses string
	skew    time.Duration
	records map[types.NamespacedName]activation.Record

	objects map[types.NamespacedName]*v1alpha1.Activation
	digests map[types.NamespacedName]string
	policy  *activation.Policy
	reviews map[types.NamespacedName]*v1alpha1.ActivationReview

	plan *activation.Plan
	last *outcome
	over map[types.NamespacedName]bool // in its memory
}

func pay(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "pay", Name: name}
}

func newTruth() *clusterTruth {
	most := gwv1.Duration("1h")
	return &clusterTruth{
		now: time.Date(2026, 11, 25, 3, 0, 0, 123456789, time.UTC), objects: map[types.NamespacedName]*v1alpha1.Activation{},
		digests: map[types.NamespacedName]string{pay("db"): "1", pay("web"): "1"}, distrusted: map[types.NamespacedName]bool{},
		bound: map[types.NamespacedName]time.Time{}, reviews: map[types.NamespacedName]*v1alpha1.ActivationReview{},
		policy: &activation.Policy{Name: "emergency", Spec: v1alpha1.EmergencyPolicySpec{
			Roles:  []v1alpha1.Role{{Name: "a", Grants: []v1alpha1.Grant{{Issuer: "sso"}}}, {Name: "b", Grants: []v1alpha1.Grant{{Issuer: "sso"}}}},
			Limits: v1alpha1.Limits{MaxDuration: &most},
			Review: v1alpha1.Review{Within: new(gwv1.Duration("10s")), OnOverdue: v1alpha1.OverdueRefuse},
		}},
	}
}

// forget is a start without a memory.
func (m *member) forget() {
	m.records, m.over = map[types.NamespacedName]activation.Record{}, map[types.NamespacedName]bool{}
	m.restart()
}

// restart loses what is not on disk.
func (m *member) restart() {
	m.plan, m.last, m.leads = nil, nil, false
	m.objects, m.digests, m.policy, m.reviews = nil, nil, nil, nil
}

// see brings the view up to date, of one kind or of all.
func (m *member) see(c *clusterTruth, objects, routes, policy, reviews bool) {
	if reviews || m.reviews == nil {
		m.reviews = maps.Clone(c.reviews)
	}
	if objects || m.objects == nil {
		m.objects = maps.Clone(c.objects)
	}
	if routes || m.digests == nil {
		m.digests = maps.Clone(c.digests)
	}
	if policy || m.policy == nil {
		m.policy = c.policy
	}
}

func (m *member) route(key activation.RouteKey) *activation.Route {
	digest, there := m.digests[key.NamespacedName]
	if !there {
		return nil
	}
	return &activation.Route{
		Key: key, Digest: digest, Rules: []string{"#0"}, Named: map[string]string{}, Hostnames: []string{key.Name + ".example.com"},
		URLs: map[string][]string{}, Policies: []*activation.Policy{m.policy},
	}
}

// decide is one turn of the loop; recording says whether the journal takes anything.
func (m *member) decide(t *rapid.T, c *clusterTruth, recording bool) {
	in := activation.Input{
		Now: c.now.Add(m.skew), Objects: m.objects, Records: m.records, Route: m.route, Seen: map[types.NamespacedName]time.Time{}, RequestedBy: map[types.NamespacedName]string{},
		Cluster: &activation.Cluster{Follow: !m.leads, Refusing: m.refuses, Distrusted: map[types.NamespacedName]string{}},
	}
	in.Reviews = m.watched().requests(m.records)
	for key, a := range m.objects {
		if _, known := m.records[key]; known {
			continue
		}
		in.Seen[key], in.RequestedBy[key] = a.CreationTimestamp.Time, a.Spec.RequestedBy
		if a.Status.Phase == "" && c.distrusted[key] {
			in.Cluster.Distrusted[key] = "nobody checked"
		}
	}
	was := maps.Clone(m.records)
	m.plan = activation.Decide(in)
	statuses := m.plan.Complete(func(activation.WindowKey, *activation.Window) (bool, string) { return true, "" })
	m.last = &outcome{set: source.NewSet(nil), result: &translator.Result{Statuses: translator.Statuses{Activations: statuses, Reviews: m.plan.Reviews()}, Records: m.plan.Records()}}
	waits := map[types.NamespacedName]bool{}
	m.records = was
	for _, f := range m.plan.Facts {
		key := f.Record.Key()
		if waits[key] = waits[key] || f.Opens(); waits[key] && !recording {
			continue
		}
		if old, known := m.records[key]; known && (f.Record.Deadline.After(old.Deadline) || old.Final() && !f.Record.Final() ||
			old.Review != nil && (f.Record.Review == nil || old.Review.Verdict != f.Record.Review.Verdict)) {
			t.Fatalf("%s takes something back: %s\n%+v\nafter\n%+v", m.name, f.Event, f.Record, old)
		}
		if f.Event == activation.Opened {
			m.checkOpening(t, f.Record, was[key])
		}
		m.records[key] = f.Record
		m.over[key] = m.over[key] || f.Record.Final()
	}
	m.check(t, c)
}

// checkOpening: who follows opens what the status says; and what the status says to
// be opened is not opened anew.
func (m *member) checkOpening(t *rapid.T, r, was activation.Record) {
	for k, target := range r.Targets {
		if _, before := was.Targets[k]; before {
			continue
		}
		var told *v1alpha1.Opening
		for _, s := range m.objects[r.Key()].Status.Targets {
			if activation.TargetKey(s.TargetReference) == k {
				told = s.Opening
			}
		}
		switch {
		case told == nil && !m.leads:
			t.Fatalf("%s follows, and opens %s, which no status says", m.name, r.Key())
		case told == nil:
			continue
		case m.refuses != "":
			t.Fatalf("%s takes over %s although it refuses", m.name, r.Key())
		case target.Openings["#0"] != told.Leases[0].Name || !target.OpenedAt.Equal(told.At.Time) || target.Digest != told.Digest:
			t.Fatalf("%s opens %s anew: %+v, told %+v", m.name, r.Key(), target, told)
		}
	}
}

// check what m serves now.
func (m *member) check(t *rapid.T, c *clusterTruth) {
	now := c.now.Add(m.skew)
	for wk, w := range m.plan.Windows {
		var most time.Time
		for _, name := range w.Activations {
			key := pay(name[len("pay/"):])
			obj := m.objects[key]
			switch {
			case obj == nil || obj.Spec.Revoked:
				t.Fatalf("%s serves %s, which is gone or revoked", m.name, key)
			case m.over[key]:
				t.Fatalf("%s serves %s, which was over in its memory", m.name, key)
			case obj.Status.Phase.Final():
				t.Fatalf("%s serves %s, whose status is %s", m.name, key, obj.Status.Phase)
			case c.distrusted[key]:
				t.Fatalf("%s serves %s, which nobody checked", m.name, key)
			case m.digests[wk.Route.NamespacedName] == "" || m.policy.Spec.Suspended:
				t.Fatalf("%s serves %s of a route that is gone, or a policy that is suspended", m.name, key)
			}
			bound := c.bound[key]
			if d := obj.Status.Deadline; d != nil && d.Time.Before(bound) {
				bound = d.Time.Add(time.Microsecond) // the API server cuts it there
			}
			if bound.After(most) {
				most = bound
			}
		}
		if w.Deadline.After(most) || !now.Before(w.Deadline) {
			t.Fatalf("%s serves %v until %s at %s, and may until %s", m.name, wk, w.Deadline, now, most)
		}
	}
}

// write is what the leader says of what it found last, of what it sees.
func (m *member) write(t *rapid.T, c *clusterTruth, quiet bool) {
	if !m.leads || m.last == nil {
		return
	}
	for key, seen := range m.objects {
		there := c.objects[key]
		wanted := seen.DeepCopy()
		if there == nil || !m.last.apply(source.ObjectKey{Kind: "Activation", Namespace: key.Namespace, Name: key.Name}, wanted) || there.ResourceVersion != seen.ResourceVersion {
			continue // gone, nothing to say, or a conflict
		}
		if was, is := there.Status.Review, wanted.Status.Review; was != nil && (is == nil || was.State.Reviewed() && !equality.Semantic.DeepEqual(is, was) ||
			was.State == v1alpha1.ReviewOverdue && is.State == v1alpha1.ReviewPending) {
			t.Fatalf("%s takes back what the status of %s says of its review: %+v after %+v", m.name, key, is, was)
		} else if is != nil && is.By == there.Spec.RequestedBy {
			t.Fatalf("%s was reviewed by who made it", key)
		}
		if was, is := there.Status, wanted.Status; was.Phase.Final() && !is.Phase.Final() || was.Deadline != nil && !is.Phase.Final() && is.Deadline.After(was.Deadline.Time) {
			t.Fatalf("%s takes back what the status of %s says: %+v after %+v", m.name, key, is, was)
		}
		if quiet {
			t.Fatalf("%s writes although nothing happens:\n%+v\nafter\n%+v", m.name, wanted.Status, there.Status)
		}
		c.put(wanted)
	}
	for key, is := range m.last.result.Statuses.Reviews {
		seen, there := m.reviews[key], c.reviews[key]
		if seen == nil || there == nil || seen.ResourceVersion != there.ResourceVersion {
			continue
		}
		wanted := withStatus(seen, is)
		if equality.Semantic.DeepEqual(seen.Status, wanted.Status) {
			continue
		}
		if quiet {
			t.Fatalf("%s writes although nothing happens:\n%+v\nafter\n%+v", m.name, wanted.Status, there.Status)
		}
		c.putReview(wanted)
	}
}

// watched is what the controller makes of the ActivationReviews that m sees.
func (m *member) watched() *reviews {
	return &reviews{objects: m.reviews, read: true, trust: believing}
}

// believing has seen the admission policies for reviews in force for long.
var believing = func() *trust {
	t := newTrust(admission.Reviews, time.Now, func() {})
	run, was := t.begin()
	o := admission.Reviews.Expected()
	t.put(run, o.Mutating, false)
	t.put(run, o.MutatingBinding, false)
	t.put(run, o.Validating, false)
	t.put(run, o.ValidatingBinding, false)
	t.done(was)
	return t
}()

func (c *clusterTruth) putReview(obj *v1alpha1.ActivationReview) {
	c.writes++
	stored := obj.DeepCopy()
	stored.ResourceVersion = strconv.Itoa(c.writes)
	c.reviews[pay(obj.Name)] = stored
}

// review is somebody's of any activation that ever was.
func (c *clusterTruth) review(t *rapid.T) {
	if len(c.bound) == 0 {
		return
	}
	obj := &v1alpha1.ActivationReview{
		ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: fmt.Sprint("r", c.writes), UID: types.UID(fmt.Sprint("review-", c.writes)), CreationTimestamp: metav1.NewTime(c.now.Truncate(time.Second))},
		Spec: v1alpha1.ActivationReviewSpec{
			ActivationRef: v1alpha1.ActivationReference{Name: fmt.Sprint("a", rapid.IntRange(0, len(c.bound)-1).Draw(t, "reviewed"))},
			Verdict:       rapid.SampledFrom([]v1alpha1.Verdict{v1alpha1.VerdictDrill, v1alpha1.VerdictMisuse}).Draw(t, "verdict"), Note: "n",
			ReviewedBy: rapid.SampledFrom([]string{"jane", "bob", "carol"}).Draw(t, "reviewer"),
		},
	}
	c.putReview(obj)
}

// put stores an object as the API server does: as JSON.
func (c *clusterTruth) put(obj *v1alpha1.Activation) {
	text, err := json.Marshal(obj)
	if err != nil {
		panic(err)
	}
	stored := &v1alpha1.Activation{}
	if err := json.Unmarshal(text, stored); err != nil {
		panic(err)
	}
	c.writes++
	stored.ResourceVersion = strconv.Itoa(c.writes)
	c.objects[types.NamespacedName{Namespace: stored.Namespace, Name: stored.Name}] = stored
}

func (c *clusterTruth) create(t *rapid.T, i int) {
	made := metav1.NewTime(c.now.Truncate(time.Second))
	duration := rapid.SampledFrom([]time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute}).Draw(t, "duration")
	a := &v1alpha1.Activation{
		ObjectMeta: metav1.ObjectMeta{Namespace: "pay", Name: fmt.Sprintf("a%d", i), UID: types.UID(fmt.Sprint("uid-", i)), CreationTimestamp: made},
		Spec: v1alpha1.ActivationSpec{
			Role: rapid.SampledFrom([]string{"a", "a", "b"}).Draw(t, "role"), Reason: "r", Incident: "I", Duration: new(gwv1.Duration(duration.String())), RequestedBy: "jane",
		},
	}
	for _, route := range rapid.SampledFrom([][]string{{"db"}, {"web"}, {"db", "web"}}).Draw(t, "targets") {
		a.Spec.TargetRefs = append(a.Spec.TargetRefs, v1alpha1.TargetReference{Kind: "HTTPRoute", Name: route})
	}
	key := pay(a.Name)
	c.bound[key] = made.Add(duration)
	if rapid.IntRange(0, 3).Draw(t, "notAfter") == 0 {
		na := metav1.NewTime(made.Add(time.Duration(rapid.IntRange(-10, 600).Draw(t, "after")) * time.Second))
		a.Spec.NotAfter = &na
		if na.Time.Before(c.bound[key]) {
			c.bound[key] = na.Time
		}
	}
	c.distrusted[key] = rapid.IntRange(0, 4).Draw(t, "unchecked") == 0
	c.put(a)
}

// happen changes the cluster.
func (c *clusterTruth) happen(t *rapid.T) {
	some := func(what string) *v1alpha1.Activation {
		if len(c.objects) == 0 {
			return nil
		}
		names := slices.SortedFunc(maps.Keys(c.objects), func(a, b types.NamespacedName) int { return slices.Compare([]string{a.Name}, []string{b.Name}) })
		return c.objects[rapid.SampledFrom(names).Draw(t, what)].DeepCopy()
	}
	switch rapid.IntRange(0, 13).Draw(t, "event") {
	case 10, 11, 12:
		c.review(t)
	case 13:
		for key := range c.reviews { // an accepted one, too
			delete(c.reviews, key)
		}
	case 0, 1, 2:
		c.create(t, len(c.bound))
	case 3:
		if a := some("revoked"); a != nil {
			a.Spec.Revoked = true
			c.put(a)
		}
	case 4:
		if a := some("deleted"); a != nil {
			delete(c.objects, pay(a.Name))
		}
	case 5:
		route := pay(rapid.SampledFrom([]string{"db", "web"}).Draw(t, "route"))
		if delete(c.digests, route); rapid.IntRange(0, 3).Draw(t, "there") > 0 {
			c.digests[route] = rapid.SampledFrom([]string{"1", "2"}).Draw(t, "digest")
		}
	case 6:
		p := &activation.Policy{Name: c.policy.Name, Spec: *c.policy.Spec.DeepCopy()}
		most := gwv1.Duration(rapid.SampledFrom([]string{"2m", "1h"}).Draw(t, "allowed"))
		p.Spec.Limits.MaxDuration, p.Spec.Suspended = &most, rapid.IntRange(0, 3).Draw(t, "suspended") == 0
		c.policy = p
	default:
		c.now = c.now.Add(rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, 20 * time.Second, 2 * time.Minute}).Draw(t, "time"))
	}
}

// TestReplicasOpenNothingThatIsOverAndAgreeInTheEnd: two replicas that see routes,
// policies and each other's statuses late, each in its own order, that lead in turns or
// both at a time, and restart with and without their memory.
func TestReplicasOpenNothingThatIsOverAndAgreeInTheEnd(t *testing.T) {
	open, both, reviewed := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		c := newTruth()
		members := []*member{{name: "one"}, {name: "two"}}
		for _, m := range members {
			m.forget()
			m.skew = time.Duration(rapid.IntRange(-1000, 1000).Draw(t, "skew")) * time.Millisecond
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			c.happen(t)
			m := members[rapid.IntRange(0, 1).Draw(t, "member")]
			switch rapid.IntRange(0, 15).Draw(t, "fate") {
			case 0:
				m.forget()
			case 1:
				m.restart()
			case 2, 3, 4:
				m.leads = !m.leads
			case 5:
				m.refuses = rapid.SampledFrom([]string{"", "the clocks differ"}).Draw(t, "refuses")
			}
			m.see(c, rapid.Bool().Draw(t, "sees objects"), rapid.Bool().Draw(t, "sees routes"), rapid.Bool().Draw(t, "sees the policy"), rapid.Bool().Draw(t, "sees reviews"))
			for range rapid.IntRange(0, 3).Draw(t, "turns") {
				m.decide(t, c, rapid.IntRange(0, 4).Draw(t, "disk") > 0)
				if rapid.Bool().Draw(t, "sees meanwhile") {
					m.see(c, true, false, false, rapid.Bool().Draw(t, "sees reviews meanwhile"))
				}
				if rapid.Bool().Draw(t, "writes") {
					m.write(t, c, false)
				}
			}
			if m.plan != nil {
				open += len(m.plan.Windows)
				for _, r := range m.plan.Records() {
					if r.Review != nil {
						reviewed++
					}
				}
			}
		}
		// Quiet. Each leads once: what only one of them knows to be over is told then.
		for _, leader := range members {
			for range 6 {
				for _, m := range members {
					m.leads, m.refuses, m.skew = m == leader, "", 0
					m.see(c, true, true, true, true)
					m.decide(t, c, true)
					m.write(t, c, false)
				}
			}
		}
		for range 2 {
			for _, m := range members {
				m.see(c, true, true, true, true)
				m.decide(t, c, true)
				m.write(t, c, true)
			}
		}
		a, b := windows(members[0].plan), windows(members[1].plan)
		if !maps.Equal(a, b) {
			t.Fatalf("they do not agree:\n%v\n%v", a, b)
		}
		both += len(a)
		for key, obj := range c.objects {
			r := obj.Status.Review
			if r == nil || !r.State.Reviewed() {
				continue
			}
			for _, m := range members {
				if m.records[key].Review == nil {
					t.Fatalf("%s does not know that %s was reviewed: %+v", m.name, key, r)
				}
			}
		}
	})
	if open == 0 || both == 0 || reviewed == 0 {
		t.Errorf("%d windows were open, %d at both in the end, %d verdicts were seen: the test proves nothing", open, both, reviewed)
	}
}

func windows(p *activation.Plan) map[activation.WindowKey]string {
	out := map[activation.WindowKey]string{}
	for k, w := range p.Windows {
		out[k] = fmt.Sprintf("%v until %s", w.Activations, w.Deadline.Truncate(time.Microsecond).UTC())
	}
	return out
}
