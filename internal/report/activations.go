package report

import (
	"cmp"
	"slices"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
)

// activation as the report shows it.
func (b *builder) activation(w *windowed) Activation {
	r := w.rec
	a := Activation{
		Namespace: b.plain(r.Namespace), Name: b.plain(r.Name), UID: b.plain(string(r.UID)),
		Role: b.plain(r.Spec.Role), Incident: b.plain(r.Spec.Incident), Reason: b.show(Text, r.Spec.Reason), Drill: r.Spec.Drill,
		Origin: b.plain(string(r.Origin)), RequestedBy: b.show(Person, r.RequestedBy),
		Requested: w.start, Opened: w.opened(), Live: r.LiveAt, Deadline: r.Deadline, Ended: r.EndedAt, EndedBy: b.show(Person, r.EndedBy),
		Phase: b.plain(string(r.Phase)), Message: b.show(Text, cmp.Or(r.Message, r.Reason)),
		Scope: b.scope(w.scope), Counts: w.counts, Kept: w.judged(b.newest), Review: b.review(w),
	}
	if r.Spec.Duration != nil {
		a.Duration = b.plain(string(*r.Spec.Duration))
	}
	if a.Closed = a.Ended; !a.Ended.IsZero() && !a.Deadline.IsZero() && a.Ended.After(a.Deadline) {
		a.Closed = a.Deadline
	}
	if a.Message == a.Phase {
		a.Message = ""
	}
	a.Targets = b.targets(r)
	for _, d := range w.facts {
		f := Fact{Event: b.plain(string(d.fact.Event)), Time: d.fact.Time, Words: b.show(Text, d.fact.Words()), Entries: d.entries}
		switch d.fact.Event { // the others are nobody's doing
		case activation.Requested, activation.Opened, activation.Refused, activation.Revoked:
			f.Who = b.show(Person, d.fact.Who())
		}
		if f.Event == string(activation.Opened) || f.Event == string(activation.Live) {
			f.Words = d.fact.Words() // a time
		}
		if d.review != nil && f.Event == eventReviewed {
			f.Who, f.Words = b.show(Person, d.review.By), b.plain(d.review.Verdict)
		}
		a.Facts = append(a.Facts, f)
	}
	for _, f := range a.Facts {
		for _, e := range f.Entries {
			b.used(&Entry{Log: e.Log, Entry: entryAt(e.Seq)})
		}
	}
	return a
}

func (b *builder) scope(of []Scope) (out []Scope) {
	for _, s := range of {
		s.Policy, s.Digest, s.MaxDuration = b.plain(s.Policy), b.plain(s.Digest), b.plain(s.MaxDuration)
		s.Hostnames, s.Namespaces, s.Issuers = b.shows(Host, s.Hostnames), b.shows("", s.Namespaces), b.shows("", s.Issuers)
		out = append(out, s)
	}
	return out
}

func (b *builder) targets(r activation.Record) (out []Target) {
	keys := map[string]bool{}
	for _, ref := range r.Spec.TargetRefs {
		k := activation.TargetKey(ref)
		keys[k] = true
		t := Target{Route: b.plain(activation.RouteOf(r.Namespace, ref).String())}
		if ref.SectionName != nil {
			t.Rule = b.plain(string(*ref.SectionName))
		}
		b.opened(&t, r.Targets[k])
		out = append(out, t)
	}
	for _, k := range sorted(r.Targets) {
		if !keys[k] { // of a log that somebody made up
			t := Target{Route: b.plain(activation.RouteOfRef(r.Targets[k].Route))}
			b.opened(&t, r.Targets[k])
			out = append(out, t)
		}
	}
	return out
}

func (b *builder) opened(t *Target, on activation.Target) {
	t.Digest, t.Opened, t.Ended, t.Why = b.plain(on.Digest), on.OpenedAt, on.EndedAt, b.show(Text, cmp.Or(on.Message, on.Reason))
}

// review of an activation, as of the newest entry.
func (b *builder) review(w *windowed) Review {
	r := Review{State: ReviewNone, Due: w.due}
	if w.rec.Phase.Final() && !w.opened().IsZero() {
		r.State = ReviewPending
	}
	for _, d := range w.facts {
		switch d.fact.Event {
		case eventOverdue:
			if r.State == ReviewPending {
				r.State = ReviewOverdue
			}
			r.Entries = append(r.Entries, d.entries...)
		case eventReviewed:
			r.Entries = append(r.Entries, d.entries...)
		}
	}
	if x := w.review; x != nil {
		r.State, r.Verdict, r.By, r.At = ReviewDone, b.plain(x.Verdict), b.show(Person, x.By), x.At
		r.Note, r.FollowUps, r.Source = b.show(Text, x.Note), b.shows(Text, x.FollowUps), b.plain(x.Source)
	}
	return r
}

// summarize says what one has to know.
func (b *builder) summarize(r *Report) {
	s := &r.Summary
	s.Counts, s.Elsewhere = b.counts, b.elsewhere
	s.Drill = len(r.Activations) > 0
	for i := range r.Activations {
		a := &r.Activations[i]
		s.Drill = s.Drill && a.Drill
		once(&s.Incidents, a.Incident)
		once(&s.Roles, a.Role)
		once(&s.RequestedBy, a.RequestedBy)
		once(&s.Reasons, a.Reason)
		for _, t := range a.Targets {
			once(&s.Routes, t.Route)
		}
	}
	for i := range r.Identities {
		id := &r.Identities[i]
		if id.Known() && id.Counts.Passed+id.Counts.Cut+id.Counts.Unfinished > 0 {
			s.Identities++
		}
	}
	list(&s.Incidents)
	list(&s.Roles)
	list(&s.RequestedBy)
	list(&s.Reasons)
	list(&s.Routes)
	s.Deadline = deadlines(r.Activations)
	s.Alarm = alarms(r)
	s.Review = reviews(r.Activations)
	s.Complete = complete(r)
}

func once(to *[]string, v string) {
	if v != "" && !slices.Contains(*to, v) {
		*to = append(*to, v)
	}
}

var gravity = map[string]int{Nothing: 0, Good: 1, Attention: 2, Bad: 3}

func worse(v, than Verdict) bool { return gravity[v.State] > gravity[than.State] }

// deadlines are as good as the worst of them.
func deadlines(as []Activation) Verdict {
	out := Verdict{Nothing, "There is no activation in this report."}
	opened := 0
	var margin *float64
	for i := range as {
		k := &as[i].Kept
		if i == 0 || worse(k.Verdict, out) {
			out = k.Verdict
		}
		if as[i].Opened.IsZero() {
			continue
		}
		opened++
		if k.Last != nil && (margin == nil || k.MarginMs < *margin) {
			margin = &k.MarginMs
		}
	}
	if opened > 1 && out.State == Good {
		out.Words = number(opened, "activation", "activations") + ": all kept."
		if margin != nil && *margin >= 0 {
			out.Words += " The request nearest to its deadline ended " + ms(*margin) + " before it."
		} else if margin != nil {
			out.Words += " The last stream was cut " + ms(-*margin) + " after its deadline, and no request began after one."
		}
	}
	return out
}

func reviews(as []Activation) Verdict {
	n := map[string]int{}
	misuse := 0
	for i := range as {
		n[as[i].Review.State]++
		if as[i].Review.Verdict == "misuse" {
			misuse++
		}
	}
	switch {
	case misuse > 0:
		return Verdict{Bad, "Reviewed: " + number(misuse, "activation was misuse.", "activations were misuse.")}
	case n[ReviewOverdue] > 0:
		return Verdict{Bad, "OVERDUE: " + number(n[ReviewOverdue], "activation", "activations") + " not reviewed in the time that the policy gives."}
	case n[ReviewPending] > 0:
		return Verdict{Attention, "Not reviewed yet: " + number(n[ReviewPending], "activation.", "activations.")}
	case n[ReviewDone] == 1 && len(as) == 1:
		x := as[0].Review
		return Verdict{Good, "Reviewed as " + x.Verdict + " by " + x.By + "."}
	case n[ReviewDone] > 0:
		return Verdict{Good, "Reviewed: " + number(n[ReviewDone], "activation.", "activations.")}
	}
	return Verdict{Nothing, "Nothing to review: nothing that was open has ended."}
}

// complete says what the log itself says is not in it.
func complete(r *Report) Verdict {
	gaps, lost, limited := 0, uint64(0), uint64(0)
	for i := range r.Events {
		switch e := &r.Events[i]; e.Kind {
		case "gap":
			gaps++
			lost += e.Lost
		case "limited":
			limited += e.Count
		}
	}
	switch {
	case gaps > 0:
		return Verdict{Bad, "NOT complete: " + number(gaps, "gap", "gaps") + ", at least " + number(lost, "request", "requests") + " lost in that time."}
	case r.Summary.Counts.Unfinished > 0:
		return Verdict{Attention, number(r.Summary.Counts.Unfinished, "request has", "requests have") + " no end in the log, as of the newest entry."}
	case limited > 0:
		return Verdict{Good, "No gap. " + number(limited, "refused attempt is", "refused attempts are") + " counted only; none of them was let in."}
	}
	return Verdict{Good, "No gap: the log has an entry for each request."}
}
