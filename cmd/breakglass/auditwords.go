package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
)

// telling is an entry in words. They are not clean yet.
type telling struct {
	event, who, object, role, incident, message string
	// at is when it happened, if that may be long before it was recorded.
	at time.Time
}

// tellers by kind.
var tellers = map[string]func(json.RawMessage) (telling, error){
	audit.KindActivation: teller(tellActivation),
	audit.KindRequest:    teller(tellRequest),
	audit.KindConnection: teller(tellConnection),
	audit.KindPolicy:     teller(tellPolicy),
	audit.KindConfig:     teller(tellConfig),
	audit.KindStart:      teller(tellStart),
	audit.KindGap:        teller(tellGap),
	audit.KindLimited:    teller(tellLimited),
	audit.KindProblem:    teller(tellProblem),
	recorder.KindEpoch:   teller(tellEpoch),
	merkle.KindSegment:   teller(tellSegment),
	audit.KindStop:       teller(func(struct{}) telling { return telling{event: "in order"} }),
	merkle.KindKey:       teller(tellKey),
	merkle.KindRetention: teller(tellRetention),
	audit.KindClock:      teller(tellClock),
	audit.KindRead:       teller(tellRead),
	audit.KindSource:     teller(tellSource),
	audit.KindAlarm:      teller(tellAlarm),
	audit.KindSink:       teller(tellSink),
}

func teller[T any](tell func(T) telling) func(json.RawMessage) (telling, error) {
	return func(data json.RawMessage) (telling, error) {
		var v T
		if err := json.Unmarshal(data, &v); err != nil {
			return telling{}, err
		}
		return tell(v), nil
	}
}

// tellEntry tells what cannot be read as it is: an entry is never left out.
func tellEntry(e merkle.Entry) telling {
	tell := tellers[e.Kind]
	if tell == nil {
		tell = teller(tellAnything)
	}
	t, err := tell(e.Data)
	if err != nil {
		t = telling{message: "this entry is not understood: " + err.Error()}
	}
	t.event = strings.TrimSpace(e.Kind + " " + t.event)
	return t
}

func tellAnything(data json.RawMessage) telling { return telling{message: string(data)} }

func tellActivation(f activation.Fact) telling {
	r := f.Record
	return telling{
		event: string(f.Event), who: f.Who(), object: "Activation " + r.Key().String(), role: r.Spec.Role, incident: r.Spec.Incident, message: f.Words(),
	}
}

func tellRequest(r audit.RequestEntry) telling {
	t := telling{at: r.At(), who: cmp.Or(r.Subject, "no valid token"), role: r.Role, incident: r.Incident}
	switch {
	case r.Type == audit.TypeIntent:
		t.event = r.Type
	case r.Type == audit.TypeOpen:
		// Envoy may write it before it has looked at the token.
		t.event, t.who = r.Type, cmp.Or(r.Subject, "somebody")
	case r.Denied != "":
		t.event = "denied"
	default:
		t.event = "allowed"
	}
	if r.Issuer != "" {
		t.who += " (" + r.Issuer + ")"
	}
	if r.ClientAddress != "" {
		t.who += " from " + r.ClientAddress
	}
	if r.Route != "" {
		t.object = activation.RouteOfRef(r.Route)
	}
	t.message = requestMessage(r)
	return t
}

func requestMessage(r audit.RequestEntry) string {
	m := strings.TrimSpace(r.Method + " " + r.Host + r.Path)
	if r.Status != 0 {
		m += fmt.Sprintf(" %d", r.Status)
	}
	switch r.Denied {
	case "":
	case "rbac: none":
		m += " (the token lacks the role, lives too long, or the window is over)"
	default:
		m += " (" + r.Denied + ")"
	}
	switch r.Cut {
	case "":
	case "closed":
		m += ", cut: the route was closed"
	case "token":
		m += ", cut: the token ended"
	default:
		m += ", cut: " + r.Cut
	}
	return m
}

func tellConnection(c audit.ConnectionEntry) telling {
	t := telling{event: "without a logged request", who: "somebody"}
	if c.ClientAddress != "" {
		t.who += " from " + c.ClientAddress
	}
	if c.Gateway != "" {
		t.object = "Gateway " + c.Gateway
	}
	t.message = strings.Join(slices.DeleteFunc([]string{c.ServerName, c.Details, c.ResponseFlags}, func(s string) bool { return s == "" }), ", ")
	return t
}

func tellPolicy(p policyData) telling {
	t := telling{event: "changed", object: "EmergencyPolicy " + p.Name}
	if p.Spec == nil {
		t.event = "removed"
		return t
	}
	t.who = strings.Join(owner(p.File, p.OwnerUID), "")
	var words []string
	if len(p.Classes) > 0 {
		words = append(words, "governs "+strings.Join(p.Classes, ", "))
	}
	for _, issuer := range slices.Sorted(maps.Keys(p.Keys)) {
		words = append(words, fmt.Sprintf("keys of %s: %s", issuer, cmp.Or(p.Keys[issuer], "none")))
	}
	t.message = strings.Join(words, "; ")
	return t
}

func tellConfig(c configData) telling {
	if c.Loaded {
		return telling{event: "loaded", message: fmt.Sprintf("%s with digest %s", count(c.Objects, "object"), c.Digest)}
	}
	t := telling{event: "changed"}
	var who, words []string
	for _, o := range c.Changes {
		words = append(words, o.Change+" "+o.Object)
		if o.Change != "removed" { // by whom is not known
			who = append(who, owner(o.File, o.OwnerUID)...)
		}
	}
	if slices.Sort(who); len(slices.Compact(who)) == 1 {
		t.who = who[0]
	}
	if c.More > 0 {
		words = append(words, fmt.Sprintf("and %d more", c.More))
	}
	t.message = strings.Join(words, ", ")
	return t
}

func tellStart(s struct{ Version, Config string }) telling {
	return telling{message: fmt.Sprintf("breakglass %s serves %s", s.Version, s.Config)}
}

func tellGap(g audit.Gap) telling {
	t := telling{event: "unknown number lost"}
	if g.Lost > 0 || !g.AtLeast {
		t.event = fmt.Sprintf("%d lost", g.Lost)
	}
	if g.AtLeast && g.Lost > 0 {
		t.event = "at least " + t.event
	}
	if g.Gateway != "" {
		t.object = "Gateway " + g.Gateway
	}
	t.message = fmt.Sprintf("%s to %s: %s", g.Since.UTC().Format(time.RFC3339), g.Until.UTC().Format(time.RFC3339), g.Reason)
	return t
}

func tellLimited(l audit.Limited) telling {
	var what []string
	for _, x := range []struct {
		n    uint64
		text string
	}{{l.Refused, "over the rate limit"}, {l.Requests, "without a good token"}, {l.Connections, "connections without a logged request"}} {
		if x.n > 0 {
			what = append(what, fmt.Sprintf("%d %s", x.n, x.text))
		}
	}
	return telling{
		event: "refused: " + strings.Join(what, ", "), object: "Gateway " + l.Gateway,
		message: fmt.Sprintf("%s to %s", l.Since.UTC().Format(time.RFC3339), l.Until.UTC().Format(time.RFC3339)),
	}
}

func tellProblem(p audit.Problem) telling {
	return telling{message: strings.TrimPrefix(p.File+": "+p.Reason, ": ")}
}

func tellEpoch(e recorder.Epoch) telling {
	return telling{event: "ended", object: "Gateway " + e.Gateway, message: fmt.Sprintf("Envoy %s: %d in the log, %d missing", e.Epoch, e.Requests, e.Missing)}
}

func tellSegment(s struct {
	Size     uint64
	Previous string
}) telling {
	return telling{event: "began", message: strings.TrimSuffix(fmt.Sprintf("%s before it, the last in %s", count(int(s.Size), "entry"), s.Previous), ", the last in ")}
}

func tellKey(k struct{ From, To string }) telling {
	return telling{event: "changed", message: fmt.Sprintf("from %s to %s", k.From, k.To)}
}

func tellRetention(r struct {
	Before   uint64
	Segments []string
}) telling {
	return telling{event: "removed", message: fmt.Sprintf("the entries before %d, %s, because of their age", r.Before, count(len(r.Segments), "segment"))}
}

func tellClock(c struct{ Seconds float64 }) telling {
	return telling{event: "set", message: fmt.Sprintf("by %+.3f s", c.Seconds)}
}
