package report

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
)

type identityKey struct{ issuer, subject string }

// identity is what is being counted of one.
type identity struct {
	Identity
	tokens map[string]*token
	groups map[groupKey]*Group
}

type token struct {
	Token
	clients map[string]uint64
}

type groupKey struct {
	route, method, host, path, outcome string
	status                             uint32
}

type refusalKey struct {
	reason, client, gateway, subject string
	elsewhere                        bool
}

// request takes one that is of the activations, or was refused meanwhile.
func (b *builder) request(e *Entry) error {
	var r audit.RequestEntry
	if err := json.Unmarshal(e.Data, &r); err != nil {
		return err
	}
	of := b.of(&r)
	elsewhere := !of && r.Denied != "" && r.Type == audit.TypeEnd && b.meanwhile(r.At())
	if !of && !elsewhere {
		return nil
	}
	b.used(e)
	if r.Type != audit.TypeEnd {
		b.begin(e, &r)
		return nil
	}
	if len(b.begun) > 0 {
		delete(b.begun, r.Gateway+" "+r.Key)
	}
	q := b.shownRequest(e, &r)
	q.Elsewhere = elsewhere
	switch {
	case r.Denied != "":
		q.Outcome = Refused
	case r.Cut != "":
		q.Outcome = Cut
	default:
		q.Outcome = Passed
	}
	b.add(q, &r)
	return nil
}

// begin notes an intent or a beginning. Of both, that which says more is kept.
func (b *builder) begin(e *Entry, r *audit.RequestEntry) {
	q := b.shownRequest(e, r)
	q.Outcome = Unfinished
	if old, known := b.begun[r.Gateway+" "+r.Key]; known && old.DurationMs > q.DurationMs {
		return
	}
	b.begun[r.Gateway+" "+r.Key] = q
}

// unfinished are those that have not ended as of the newest entry.
func (b *builder) unfinished() {
	left := make([]Request, 0, len(b.begun))
	for _, q := range b.begun {
		left = append(left, q)
	}
	slices.SortFunc(left, func(x, y Request) int { return cmp.Or(cmp.Compare(x.Log, y.Log), cmp.Compare(x.Seq, y.Seq)) })
	for _, q := range left {
		b.add(q, nil)
	}
}

// of says whether a request belongs to what was asked for.
func (b *builder) of(r *audit.RequestEntry) bool {
	if b.period() {
		return !r.At().Before(b.from) && r.Start.Before(b.until)
	}
	for _, key := range r.Activations {
		if len(b.whose(key, r)) > 0 {
			return true
		}
	}
	return b.asked.Incident != "" && r.Incident == b.asked.Incident
}

// whose of several activations of one name, of which one was removed before the next
// came, a request is.
func (b *builder) whose(key string, r *audit.RequestEntry) []*windowed {
	all := b.byKey[key]
	if len(all) < 2 {
		return all
	}
	for i := len(all) - 1; i > 0; i-- {
		if !r.Start.Before(all[i].start) {
			return all[i : i+1]
		}
	}
	return all[:1]
}

func (b *builder) shownRequest(e *Entry, r *audit.RequestEntry) Request {
	q := Request{
		Ref: e.ref(), Key: withoutTokens(r.Key), Start: r.Start, DurationMs: r.DurationMs, Gateway: b.show("", r.Gateway),
		Issuer: b.show("", r.Issuer), Subject: b.show(Person, r.Subject), JTI: b.show(TokenID, r.JTI),
		Client: b.client(r.ClientAddress), Certificate: b.show(Certificate, r.ClientCertificate),
		Method: b.show("", r.Method), Host: b.show(Host, r.Host), Path: b.show(Path, r.Path), Status: r.Status,
		Denied: b.show("", r.Denied), Cut: b.show("", r.Cut), Flags: b.show("", r.ResponseFlags),
		Backend: b.show(Backend, r.UpstreamAddress), Attempts: r.Attempts, BytesIn: r.BytesIn, BytesOut: r.BytesOut, Via: b.show("", r.Via),
	}
	if r.Route != "" {
		q.Route = b.show("", activation.RouteOfRef(r.Route))
	}
	for _, a := range r.Activations {
		q.Activations = append(q.Activations, b.show("", a))
	}
	return q
}

// add counts a request. r is nil for one without an end.
func (b *builder) add(q Request, r *audit.RequestEntry) {
	if len(b.requests) == cap(b.requests) {
		b.requests = slices.Grow(b.requests, max(len(b.requests), 1024)) // of many, append copies each too often
	}
	b.requests = append(b.requests, q)
	count(&b.counts, &q)
	if q.Elsewhere {
		b.elsewhere++
	}
	if q.Outcome == Refused {
		b.refusal(&q)
	}
	if !q.Elsewhere {
		b.identity(&q)
	}
	if r == nil {
		for _, a := range q.Activations {
			for _, w := range b.byKey[a] {
				count(&w.counts, &q)
			}
		}
		return
	}
	for _, a := range r.Activations {
		for _, w := range b.whose(a, r) {
			count(&w.counts, &q)
			if q.Outcome != Refused {
				w.keep(&q, r)
			}
		}
	}
}

func count(c *Counts, q *Request) {
	switch q.Outcome {
	case Unfinished:
		c.Unfinished++
		return
	case Refused:
		c.Refused++
	case Cut:
		c.Cut++
	default:
		c.Passed++
		if q.Status == 0 || q.Status >= 500 {
			c.Failed++
		}
	}
	c.Requests++
	c.BytesIn += q.BytesIn
	c.BytesOut += q.BytesOut
}

func (b *builder) identity(q *Request) {
	k := identityKey{q.Issuer, q.Subject}
	i := b.identities[k]
	if i == nil {
		i = &identity{Identity: Identity{Issuer: q.Issuer, Subject: q.Subject, First: q.Start}, tokens: map[string]*token{}, groups: map[groupKey]*Group{}}
		b.identities[k] = i
	}
	end := q.End()
	count(&i.Counts, q)
	spread(&i.First, &i.Last, q.Start, end)

	t := i.tokens[q.JTI]
	if t == nil {
		t = &token{Token: Token{JTI: q.JTI, First: q.Start}, clients: map[string]uint64{}}
		i.tokens[q.JTI] = t
	}
	t.Requests++
	spread(&t.First, &t.Last, q.Start, end)
	t.clients[q.Client]++

	gk := groupKey{q.Route, q.Method, q.Host, q.Path, outcomeWords(q), q.Status}
	g := i.groups[gk]
	if g == nil {
		g = &Group{Route: gk.route, Method: gk.method, Host: gk.host, Path: gk.path, Status: gk.status, Outcome: gk.outcome, First: q.Start}
		i.groups[gk] = g
	}
	g.Count++
	spread(&g.First, &g.Last, q.Start, end)
}

// outcomeWords is the outcome, and why.
func outcomeWords(q *Request) string {
	switch {
	case q.Denied != "":
		return Refused + ": " + q.Denied
	case q.Cut == audit.CutClosed:
		return "cut: the route was closed"
	case q.Cut == audit.CutToken:
		return "cut: the token ended"
	case q.Cut != "":
		return "cut: " + q.Cut
	}
	return q.Outcome
}

func spread(first, last *time.Time, from, to time.Time) {
	if from.Before(*first) {
		*first = from
	}
	if to.After(*last) {
		*last = to
	}
}

func (b *builder) refusal(q *Request) {
	k := refusalKey{q.Denied, q.Client, q.Gateway, q.Subject, q.Elsewhere}
	r := b.refusals[k]
	if r == nil {
		r = &Refusal{Reason: q.Denied, Client: q.Client, Gateway: q.Gateway, Subject: q.Subject, Elsewhere: q.Elsewhere, First: q.Start, Examples: []string{}}
		b.refusals[k] = r
	}
	r.Count++
	spread(&r.First, &r.Last, q.Start, q.End())
	if len(r.Examples) < 3 {
		what := strings.TrimSpace(q.Method + " " + q.Host + q.Path)
		if !slices.Contains(r.Examples, what) {
			r.Examples = append(r.Examples, what)
		}
	}
}

func (b *builder) refusalList() []Refusal {
	out := make([]Refusal, 0, len(b.refusals))
	for _, r := range b.refusals {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(x, y Refusal) int {
		return cmp.Or(compareBool(x.Elsewhere, y.Elsewhere), cmp.Compare(y.Count, x.Count), x.First.Compare(y.First), cmp.Compare(x.Reason, y.Reason),
			cmp.Compare(x.Client, y.Client), cmp.Compare(x.Subject, y.Subject), cmp.Compare(x.Gateway, y.Gateway))
	})
	return out
}

func compareBool(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return 1
	}
	return -1
}

// identityList has those who had a token first, and who did most of them.
func (b *builder) identityList() []Identity {
	out := make([]Identity, 0, len(b.identities))
	for _, i := range b.identities {
		for _, t := range i.tokens {
			for c, n := range t.clients {
				t.Clients = append(t.Clients, ClientCounts{c, n})
			}
			slices.SortFunc(t.Clients, func(x, y ClientCounts) int {
				return cmp.Or(cmp.Compare(y.Requests, x.Requests), cmp.Compare(x.Address, y.Address))
			})
			i.Tokens = append(i.Tokens, t.Token)
		}
		slices.SortFunc(i.Tokens, func(x, y Token) int { return cmp.Or(x.First.Compare(y.First), cmp.Compare(x.JTI, y.JTI)) })
		for _, g := range i.groups {
			i.Groups = append(i.Groups, *g)
		}
		slices.SortFunc(i.Groups, compareGroups)
		out = append(out, i.Identity)
	}
	slices.SortFunc(out, func(x, y Identity) int {
		return cmp.Or(compareBool(!x.Known(), !y.Known()), cmp.Compare(y.Counts.Requests+y.Counts.Unfinished, x.Counts.Requests+x.Counts.Unfinished),
			cmp.Compare(x.Issuer, y.Issuer), cmp.Compare(x.Subject, y.Subject))
	})
	return out
}

func compareGroups(x, y Group) int {
	return cmp.Or(cmp.Compare(y.Count, x.Count), x.First.Compare(y.First), cmp.Compare(x.Route, y.Route), cmp.Compare(x.Host, y.Host),
		cmp.Compare(x.Path, y.Path), cmp.Compare(x.Method, y.Method), cmp.Compare(x.Status, y.Status), cmp.Compare(x.Outcome, y.Outcome))
}
