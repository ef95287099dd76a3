package activation

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// Decide judges every activation.
func Decide(in Input) *Plan {
	p := &Plan{
		Windows:  map[WindowKey]*Window{},
		Withheld: map[RouteKey]Blocked{},
		in:       in,
		records:  make(map[types.NamespacedName]Record, len(in.Records)+len(in.Objects)),
		blocked:  map[types.NamespacedName]map[string]Blocked{},
		routes:   map[RouteKey]*Route{},
	}
	maps.Copy(p.records, in.Records)
	p.request()
	p.order()
	p.adopt()
	for _, key := range p.ordering {
		p.noteRemoval(key)
		p.end(key)
	}
	for _, key := range p.ordering {
		p.withdraw(key)
	}
	p.review()
	p.openWindows()
	for _, key := range p.ordering {
		p.open(key)
	}
	for _, key := range p.ordering {
		if r := p.records[key]; !r.Final() {
			p.wake(r.Deadline)
			if d := p.until(r); p.in.Now.Before(d) {
				p.wake(d)
			}
		}
	}
	return p
}

// request makes a record for each object and request that has none.
func (p *Plan) request() {
	for key, r := range p.in.Requests {
		if _, known := p.records[key]; !known {
			p.records[key] = r
		}
	}
	for key, obj := range p.in.Objects {
		if _, known := p.records[key]; known || p.follows() && obj.Status.Phase == "" {
			continue // who follows judges nothing: on record it would count as judged once he leads
		}
		start := p.in.Now
		if seen, before := p.in.Seen[key]; before && seen.Before(start) {
			start = seen
		}
		r := New(obj, Manifest, p.in.RequestedBy[key], start)
		p.records[key] = r
	}
}

// New is the record of an activation that is first seen at start.
func New(obj *v1alpha1.Activation, origin Origin, requestedBy string, start time.Time) Record {
	r := Record{
		Namespace: obj.Namespace, Name: obj.Name, UID: obj.UID, Origin: origin,
		Spec: *obj.Spec.DeepCopy(), RequestedBy: requestedBy, Start: start,
	}
	r.Spec.RequestedBy, r.Spec.RevokedBy = "", "" // what a client claims is not kept
	r.Deadline = start.Add(v1alpha1.PositiveOr(r.Spec.Duration, 24*time.Hour))
	if na := r.Spec.NotAfter; na != nil && na.Time.Before(r.Deadline) {
		r.Deadline = na.Time
	}
	return r
}

// order fixes who comes first when activations compete: the earlier start, then
// the name. The first pass also reports what is requested, whether the audit log
// can be kept or not: that opens nothing, and it fixes the start.
func (p *Plan) order() {
	type start struct {
		at  time.Time
		key types.NamespacedName
	}
	var starts []start
	for key, r := range p.records {
		if r.Final() && !p.leaves(r) {
			p.over = append(p.over, key)
			continue
		}
		starts = append(starts, start{r.Start, key})
	}
	slices.SortFunc(starts, func(a, b start) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.key.Namespace, b.key.Namespace), cmp.Compare(a.key.Name, b.key.Name))
	})
	for _, s := range starts {
		p.ordering = append(p.ordering, s.key)
		if _, known := p.in.Records[s.key]; !known {
			p.fact(Requested, p.records[s.key])
		}
	}
}

func (p *Plan) fact(e Event, r Record) {
	p.records[r.Key()] = r
	p.Facts = append(p.Facts, Fact{Event: e, Time: p.in.Now, Record: r})
}

// wake makes sure that the plan is made again at t.
func (p *Plan) wake(t time.Time) {
	if p.Next.IsZero() || t.Before(p.Next) {
		p.Next = t
	}
}

// noteRemoval spends the name of an ended activation whose object went away, so
// that an object that comes back under it is known to be a new one.
func (p *Plan) noteRemoval(key types.NamespacedName) {
	if r := p.records[key]; r.Final() && p.leaves(r) {
		r.Removed = true
		p.fact(Removed, r)
	}
}

// leaves reports whether r has to be told that its object is gone.
func (p *Plan) leaves(r Record) bool {
	return r.Origin == Manifest && p.gone(r) && !r.Removed
}

// gone reports whether the object of r is not there: what is there under its name,
// if anything, is another one.
func (p *Plan) gone(r Record) bool {
	obj := p.in.Objects[r.Key()]
	if obj == nil {
		return p.in.Cluster == nil || !p.in.Cluster.Restored
	}
	return r.UID != "" && obj.UID != r.UID
}

// finish ends an activation for good.
func (p *Plan) finish(r Record, e Event, phase v1alpha1.Phase, reason, message string) {
	r.Phase, r.Reason, r.Message = phase, reason, message
	if r.EndedAt.IsZero() { // another replica may have ended it before
		r.EndedAt = p.in.Now
	}
	p.askReview(&r)
	p.fact(e, r)
}

// end applies the endings that concern a whole activation.
func (p *Plan) end(key types.NamespacedName) {
	r := p.records[key]
	if r.Final() {
		return
	}
	for _, rule := range endings {
		if e := rule(p, r); e != nil {
			r.EndedBy = e.by
			// That it is gone is known now. Its file may be back before the next look.
			r.Removed = p.leaves(r)
			p.finish(r, e.event, e.phase, e.reason, e.message)
			return
		}
	}
	if d := p.deadline(r); d.Before(r.Deadline) && !p.follows() {
		r.Deadline = d
		if _, known := p.in.Records[key]; known {
			p.fact(Shortened, r)
		} else {
			p.records[key] = r
		}
		p.expire(r)
	}
}

// deadline is what the record says, or less if a policy now allows less.
func (p *Plan) deadline(r Record) time.Time {
	d := r.Deadline
	for _, t := range r.Spec.TargetRefs {
		route := p.route(r, t)
		if route == nil {
			continue
		}
		for _, pol := range route.Policies {
			if by := r.Start.Add(pol.longest(&r.Spec, pol.role(r.Spec.Role))); by.Before(d) {
				d = by
			}
		}
	}
	return d
}

// until is when r closes here. For who follows it is no more than what the policy
// allows as he sees it, which may be the policy of before: that is not on record.
func (p *Plan) until(r Record) time.Time {
	if p.follows() {
		return p.deadline(r)
	}
	return r.Deadline
}

// expire ends r if its deadline, which was just moved, has passed.
func (p *Plan) expire(r Record) {
	if e := expired(p, r); e != nil {
		p.finish(r, e.event, e.phase, e.reason, e.message)
	}
}

// route finds a target of r, once.
func (p *Plan) route(r Record, t v1alpha1.TargetReference) *Route {
	key := RouteOf(r.Namespace, t)
	route, asked := p.routes[key]
	if !asked {
		route = p.in.Route(key)
		p.routes[key] = route
	}
	return route
}

// rulesOf are the keys of the rules that t names on route.
func rulesOf(route *Route, t v1alpha1.TargetReference) []string {
	if t.SectionName == nil {
		return route.Rules
	}
	if k, ok := route.Named[string(*t.SectionName)]; ok {
		return []string{k}
	}
	return nil
}

// withdraw ends the targets of r that can no longer be served under this
// activation, and the activation with its last one.
func (p *Plan) withdraw(key types.NamespacedName) {
	r := p.records[key]
	if r.Final() || len(r.Targets) == 0 || len(r.Spec.TargetRefs) == 0 {
		return
	}
	for _, t := range r.Spec.TargetRefs {
		k := TargetKey(t)
		rec, opened := r.Targets[k]
		if !opened || !rec.EndedAt.IsZero() {
			continue
		}
		if b := p.lost(r, t, rec); b != nil {
			if p.follows() {
				continue // what this replica sees may be older, or newer, than what was opened
			}
			r = r.clone()
			rec.EndedAt, rec.Reason, rec.Message = p.in.Now, b.Reason, b.Message
			r.Targets[k] = rec
			p.fact(Withdrawn, r)
		}
	}
	if left := slices.ContainsFunc(r.Spec.TargetRefs, func(t v1alpha1.TargetReference) bool {
		rec, opened := r.Targets[TargetKey(t)]
		return !opened || rec.EndedAt.IsZero()
	}); !left {
		last := r.Targets[TargetKey(r.Spec.TargetRefs[0])]
		p.finish(r, Revoked, v1alpha1.PhaseRevoked, last.Reason, last.Message)
	}
}

// openWindows lists what is durably open and may still be served.
func (p *Plan) openWindows() {
	for _, key := range p.ordering {
		r := p.records[key]
		if r.Final() {
			continue
		}
		for _, t := range r.Spec.TargetRefs {
			rec, opened := p.in.Records[key].Targets[TargetKey(t)]
			if !opened || !r.Targets[TargetKey(t)].EndedAt.IsZero() {
				continue
			}
			b := p.standing(r, t)
			if b == nil && p.follows() {
				b = p.doubted(r, t, rec)
			}
			if b != nil {
				p.block(key, t, *b)
				continue
			}
			if b := p.unaudited(r, t); b != nil {
				p.block(key, t, *b)
				p.Withheld[p.route(r, t).Key] = *b
				continue
			}
			p.addWindow(r, t, rec)
		}
	}
}

func (p *Plan) addWindow(r Record, t v1alpha1.TargetReference, rec Target) {
	route := p.route(r, t)
	for _, rule := range rulesOf(route, t) {
		wk := WindowKey{route.Key, rule}
		w := p.Windows[wk]
		if w == nil {
			policy := route.Policies[0]
			w = &Window{Policy: policy, Role: policy.role(r.Spec.Role), Opening: rec.Openings[rule]}
			p.Windows[wk] = w
		}
		if d := p.until(r); d.After(w.Deadline) {
			w.Deadline = d
		}
		w.Activations = append(w.Activations, r.Key().String())
		slices.Sort(w.Activations)
		if i := r.Spec.Incident; i != "" && !slices.Contains(w.Incidents, i) {
			w.Incidents = append(w.Incidents, i)
			slices.Sort(w.Incidents)
		}
	}
}

func (p *Plan) block(key types.NamespacedName, t v1alpha1.TargetReference, b Blocked) {
	if p.blocked[key] == nil {
		p.blocked[key] = map[string]Blocked{}
	}
	p.blocked[key][TargetKey(t)] = b
}

// open proposes to open the targets of r that wait.
func (p *Plan) open(key types.NamespacedName) {
	r := p.records[key]
	for _, t := range r.Spec.TargetRefs {
		k := TargetKey(t)
		if _, opened := r.Targets[k]; opened || r.Final() {
			continue
		}
		if b := p.standing(r, t); b != nil {
			p.block(key, t, *b)
			continue
		}
		if p.opened(r, t) != nil {
			p.block(key, t, *p.held()) // or it would have been taken over
			continue
		}
		if b := p.elsewhere(); b != nil {
			p.block(key, t, *b)
			continue
		}
		if b := p.refusal(r, t); b != nil {
			if len(r.Targets) == 0 {
				p.finish(r, Refused, v1alpha1.PhaseRefused, b.Reason, b.Message)
				return
			}
			p.block(key, t, *b)
			continue
		}
		if b := p.keyless(r, t); b != nil {
			p.block(key, t, *b)
			continue
		}
		if b := p.unrecordable(); b != nil {
			p.block(key, t, *b)
			continue
		}
		r = r.clone()
		r.Targets[k] = p.newTarget(r, t)
		p.fact(Opened, r)
	}
}

func (p *Plan) newTarget(r Record, t v1alpha1.TargetReference) Target {
	route := p.route(r, t)
	target := Target{Route: route.Key.Ref(), Digest: route.Digest, Openings: map[string]string{}, OpenedAt: p.in.Now}
	for _, rule := range rulesOf(route, t) {
		target.Openings[rule] = p.opening(r, route, rule)
	}
	return target
}

// opening is the lease that r's streams on a rule belong to: that of the window
// that is open already, so that none of its streams ends before the last of its
// activations does; else a new one.
func (p *Plan) opening(r Record, route *Route, rule string) string {
	if w := p.Windows[WindowKey{route.Key, rule}]; w != nil {
		return w.Opening
	}
	// An opening proposed in this very plan counts too: both come back from the
	// journal together.
	for _, key := range p.ordering {
		other := p.records[key]
		if other.Final() || other.Spec.Role != r.Spec.Role || key.Namespace != r.Namespace {
			continue
		}
		for _, t := range other.Targets {
			if o := t.Openings[rule]; o != "" && t.EndedAt.IsZero() && t.Route == route.Key.Ref() {
				return o
			}
		}
	}
	return digest(r.Namespace, r.Name, route.Key.Ref(), rule)
}

// holder finds an activation that holds route for another role.
func (p *Plan) holder(r Record, route *Route) *Record {
	for _, key := range p.ordering {
		other := p.records[key]
		if other.Final() || other.Spec.Role == r.Spec.Role {
			continue
		}
		for _, t := range other.Targets {
			if t.EndedAt.IsZero() && t.Route == route.Key.Ref() {
				return &other
			}
		}
	}
	return nil
}

func at(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func quoted(n types.NamespacedName) string { return fmt.Sprintf("%s/%s", n.Namespace, n.Name) }
