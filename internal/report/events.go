package report

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

func entryAt(seq uint64) merkle.Entry { return merkle.Entry{Seq: seq} }

// tellers by kind of what happens beside the requests.
var tellers = map[string]func(*builder, json.RawMessage, *Event) error{
	audit.KindGap:        teller(tellGap),
	audit.KindLimited:    teller(tellLimited),
	audit.KindPolicy:     teller(tellPolicy),
	audit.KindConfig:     teller(tellConfig),
	audit.KindStart:      teller(tellStart),
	audit.KindClock:      teller(tellClock),
	audit.KindProblem:    teller(tellProblem),
	audit.KindSource:     teller(tellSource),
	audit.KindSink:       teller(tellSink),
	merkle.KindKey:       teller(tellKey),
	merkle.KindRetention: teller(tellRetention),
	audit.KindStop:       teller(func(b *builder, _ struct{}, e *Event) { e.Words = "stopped in order" }),
	"epoch":              teller(tellEpoch),
}

func teller[T any](tell func(*builder, T, *Event)) func(*builder, json.RawMessage, *Event) error {
	return func(b *builder, data json.RawMessage, e *Event) error {
		var v T
		if err := json.Unmarshal(data, &v); err != nil {
			return err
		}
		tell(b, v, e)
		return nil
	}
}

// event takes what happened in the time of the report. One of a kind that is not
// known is told of, and not explained.
func (b *builder) event(e *Entry) error {
	x := Event{Kind: withoutTokens(e.Kind), Time: e.Time, State: Nothing, Entry: e.ref()}
	if tell := tellers[e.Kind]; tell != nil {
		if err := tell(b, e.Data, &x); err != nil {
			return err
		}
	} else {
		x.Words = "of a kind that this version does not know"
	}
	until := x.Until
	if until.IsZero() {
		until = x.Time
	}
	if until.Before(b.from) || x.Time.After(b.until) || x.Words == "" {
		return nil
	}
	b.used(e)
	b.events = append(b.events, x)
	return nil
}

func tellGap(b *builder, g audit.Gap, e *Event) {
	e.State, e.Lost, e.Until = Bad, g.Lost, g.Until
	if !g.Since.IsZero() {
		e.Time = g.Since
	}
	least := ""
	if g.AtLeast {
		least = "at least "
	}
	e.Words = fmt.Sprintf("%s%s lost: %s", least, number(g.Lost, "request", "requests"), b.show(Text, g.Reason))
	if g.Gateway != "" {
		e.Words += " (Gateway " + b.plain(g.Gateway) + ")"
	}
}

func tellLimited(b *builder, l audit.Limited, e *Event) {
	e.Time, e.Until, e.Count = l.Since, l.Until, l.Refused+l.Requests+l.Connections
	e.Words = fmt.Sprintf("counted only, none let in: %d over the rate limit, %d without a good token, %d connections without a logged request (Gateway %s)",
		l.Refused, l.Requests, l.Connections, b.plain(l.Gateway))
}

func tellPolicy(b *builder, p struct {
	Name, Digest, File string
	OwnerUID           uint32
	Keys               map[string]string
	Spec               json.RawMessage
}, e *Event) {
	e.State, e.Words = Attention, "EmergencyPolicy "+b.plain(p.Name)
	if len(p.Spec) == 0 || string(p.Spec) == "null" {
		e.Words += " was removed"
		return
	}
	e.Words += " is in force with digest " + b.plain(p.Digest)
	var keys []string
	for _, issuer := range slices.Sorted(maps.Keys(p.Keys)) {
		keys = append(keys, fmt.Sprintf("keys of %s %s", issuer, p.Keys[issuer]))
	}
	if len(keys) > 0 {
		e.Words += ", " + b.plain(strings.Join(keys, ", "))
	}
	if p.File != "" {
		e.Who = b.show(Person, fmt.Sprintf("manifest:%s,uid=%d", p.File, p.OwnerUID))
	}
}

func tellConfig(b *builder, c struct {
	Loaded  bool
	Objects int
	Digest  string
	Changes []struct {
		Change, Object, File string
		OwnerUID             uint32
	}
	More int
}, e *Event) {
	if c.Loaded {
		e.Words = fmt.Sprintf("%s loaded, digest %s", number(c.Objects, "object", "objects"), b.plain(c.Digest))
		return
	}
	e.State = Attention
	var words []string
	const most = 20
	for i, o := range c.Changes {
		if i == most {
			c.More += len(c.Changes) - most
			break
		}
		words = append(words, o.Change+" "+o.Object)
		if o.File != "" && e.Who == "" {
			e.Who = b.show(Person, fmt.Sprintf("manifest:%s,uid=%d", o.File, o.OwnerUID))
		}
	}
	if c.More > 0 {
		words = append(words, fmt.Sprintf("and %d more", c.More))
	}
	e.Words = b.plain(strings.Join(words, ", "))
}

func tellStart(b *builder, s struct{ Version, Config string }, e *Event) {
	e.Words = strings.TrimSpace("breakglass " + b.plain(s.Version) + " began")
}

func tellClock(_ *builder, c struct{ Seconds float64 }, e *Event) {
	e.State, e.Words = Attention, fmt.Sprintf("the wall clock jumped by %+.3f s", c.Seconds)
}

func tellProblem(b *builder, p audit.Problem, e *Event) {
	e.State, e.Words = Attention, b.show(Text, strings.TrimPrefix(p.File+": "+p.Reason, ": "))
}

func tellSource(b *builder, s audit.Source, e *Event) {
	switch s.Event {
	case audit.SourceCheckpoint:
		return // of which there are many
	case audit.SourceLost:
		e.State = Bad
	}
	e.Words = fmt.Sprintf("log %s of %s: %s, %s taken", b.plain(s.Log), b.plain(s.Identity), b.plain(s.Event), number(s.Taken, "entry", "entries"))
}

func tellSink(b *builder, s audit.Sink, e *Event) {
	if s.Event == audit.SinkFailing {
		e.State = Attention
	}
	e.Words = fmt.Sprintf("sink %s: %s", b.plain(s.Sink), b.plain(s.Event))
	if s.Reason != "" {
		e.Words += ": " + b.show(Text, s.Reason)
	}
}

func tellKey(b *builder, k struct{ From, To string }, e *Event) {
	e.State, e.Words = Attention, fmt.Sprintf("the signing key changed from %s to %s", b.plain(k.From), b.plain(k.To))
}

func tellRetention(_ *builder, r struct{ Before uint64 }, e *Event) {
	e.State, e.Words = Attention, fmt.Sprintf("the entries before %d were removed because of their age", r.Before)
}

func tellEpoch(b *builder, x struct {
	Gateway           string
	Requests, Missing uint64
}, e *Event) {
	e.Words = fmt.Sprintf("an Envoy of Gateway %s ended: %d requests in the log, %d missing", b.plain(x.Gateway), x.Requests, x.Missing)
	if x.Missing > 0 {
		e.State = Bad
	}
}

// read takes who read the log in the time of the report or after it.
func (b *builder) read(e *Entry) error {
	var x audit.Read
	if err := json.Unmarshal(e.Data, &x); err != nil {
		return err
	}
	if e.Time.Before(b.from) || !b.asked.Until.IsZero() && e.Time.After(b.until) {
		return nil
	}
	b.used(e)
	b.reads = append(b.reads, Read{
		Time: e.Time, By: b.show(Person, x.By), Groups: b.shows(Text, x.Groups), What: b.show(Text, x.What),
		Address: b.client(x.Address), Refused: b.show(Text, x.Refused), Entry: e.ref(),
	})
	return nil
}

// silent are connections of which no request is logged: handshakes that failed, mostly.
type silent struct {
	n           uint64
	clients     map[string]bool
	first, last time.Time
	entry       Ref
}

// connection counts one that was made while a door was open.
func (b *builder) connection(e *Entry) error {
	var c audit.ConnectionEntry
	if err := json.Unmarshal(e.Data, &c); err != nil {
		return err
	}
	if !b.meanwhile(c.Start) {
		return nil
	}
	b.used(e)
	s := &b.silent
	if s.n == 0 {
		s.clients, s.first, s.last, s.entry = map[string]bool{}, c.Start, c.Start, e.ref()
	}
	s.n++
	s.clients[b.client(c.ClientAddress)] = true
	spread(&s.first, &s.last, c.Start, c.Start)
	return nil
}

func (s *silent) event(b *builder) {
	if s.n > 0 {
		b.events = append(b.events, Event{
			Kind: audit.KindConnection, Time: s.first, Until: s.last, State: Nothing, Count: s.n, Entry: s.entry,
			Words: fmt.Sprintf("%s of which no request is logged, of %s; the first entry is named", number(s.n, "connection", "connections"), number(len(s.clients), "client", "clients")),
		})
	}
}
