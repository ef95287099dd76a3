package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/recorder"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
)

// auditKinds are all kinds of entries, for completion and against typing errors.
var auditKinds = []string{
	audit.KindRequest, audit.KindConnection, audit.KindActivation, audit.KindPolicy, audit.KindConfig,
	audit.KindStart, audit.KindStop, audit.KindClock, audit.KindGap, audit.KindLimited, audit.KindProblem, recorder.KindEpoch,
	audit.KindAlarm, audit.KindRead, audit.KindSource, audit.KindSink, merkle.KindSegment, merkle.KindKey, merkle.KindRetention,
}

// auditFilter says which entries are wanted. All that is given must fit.
type auditFilter struct {
	activation, incident, subject, route, role, request string
	kinds                                               []string
	denied                                              bool
	since, until                                        string
}

const auditFilterLong = `
Every filter that is given must fit. NAME without a namespace fits in every
namespace. --subject is the subject of a token, or who opened or closed an
activation or wrote a manifest, as the log writes them. --route takes changes of
the route's manifest too, --role policies that have the role. --denied takes
requests that were refused at one of the locks.`

func (a *auditFilter) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.activation, "activation", "", "entries of this activation, [NAMESPACE/]NAME")
	f.StringVar(&a.incident, "incident", "", "entries of this incident")
	f.StringVar(&a.subject, "subject", "", "what this subject did")
	f.StringVar(&a.route, "route", "", "entries of this route, [httproute/|grpcroute/][NAMESPACE/]NAME")
	f.StringVar(&a.role, "role", "", "entries of this emergency role")
	f.StringVar(&a.request, "request", "", "the request with this id, which the gateway's answer and X-Request-Id tell")
	f.StringArrayVar(&a.kinds, "kind", nil, "entries of this kind (repeatable): "+strings.Join(auditKinds, ", "))
	f.BoolVar(&a.denied, "denied", false, "only requests that were refused at a lock")
	f.StringVar(&a.since, "since", "", "not before: a duration ago such as 2h, or an RFC 3339 time")
	f.StringVar(&a.until, "until", "", "before: a duration ago such as 30m, or an RFC 3339 time")
	fixedCompletion(cmd, "kind", auditKinds...)
	for _, name := range []string{"activation", "incident", "subject", "route", "role", "request", "since", "until"} {
		_ = cmd.RegisterFlagCompletionFunc(name, noFiles) // the flags are right above
	}
}

var objectForm = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-.a-z0-9]*[a-z0-9])?$`)

// filter for merkle's readers.
func (a *auditFilter) filter(now time.Time) (f merkle.Filter, err error) {
	for _, k := range a.kinds {
		if !slices.Contains(auditKinds, k) {
			return f, usagef("--kind %q: choose of %s", k, strings.Join(auditKinds, ", "))
		}
	}
	_, route := cutKind(a.route)
	for flag, v := range map[string]string{"activation": a.activation, "route": route} {
		if v != "" && !objectForm.MatchString(v) {
			return f, usagef("--%s %q: write NAME or NAMESPACE/NAME", flag, v)
		}
	}
	if f.Since, err = auditTime("since", a.since, now); err != nil {
		return f, err
	}
	if f.Until, err = auditTime("until", a.until, now); err != nil {
		return f, err
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		return f, usagef("--since %s is not before --until %s: nothing is between", a.since, a.until)
	}
	f.Match = a.match
	return f, nil
}

func auditTime(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, usagef("--%s %q: write a duration such as 30m or an RFC 3339 time such as 2026-11-24T03:15:00Z", flag, s)
	}
	return t, nil
}

func (a *auditFilter) match(e *merkle.Entry) bool {
	if len(a.kinds) > 0 && !slices.Contains(a.kinds, e.Kind) {
		return false
	}
	if a.activation == "" && a.incident == "" && a.subject == "" && a.route == "" && a.role == "" && a.request == "" && !a.denied {
		return true
	}
	return a.fits(aboutOf(e))
}

func (a *auditFilter) fits(x about) bool {
	return (!a.denied || x.denied) &&
		(a.incident == "" || x.incident == a.incident) &&
		(a.request == "" || x.request == a.request) &&
		(a.role == "" || slices.Contains(x.roles, a.role)) &&
		(a.subject == "" || slices.Contains(x.who, a.subject)) &&
		(a.activation == "" || named(x.activations, a.activation)) &&
		(a.route == "" || named(x.routesOf(a.route)))
}

// cutKind of a route: "" is any.
func cutKind(route string) (kind, name string) {
	if name, is := strings.CutPrefix(route, "httproute/"); is {
		return v1alpha1.KindHTTPRoute, name
	}
	if name, is := strings.CutPrefix(route, "grpcroute/"); is {
		return v1alpha1.KindGRPCRoute, name
	}
	return "", route
}

// routesOf are the routes of the kind that is wanted, without it.
func (x about) routesOf(want string) (routes []string, name string) {
	kind, name := cutKind(want)
	for _, ref := range x.routes {
		of, route, _ := strings.Cut(activation.RouteOfRef(ref), " ")
		if kind == "" || kind == of {
			routes = append(routes, route)
		}
	}
	return routes, name
}

// named reports whether one of the namespace/names is the one that is wanted.
func named(names []string, want string) bool {
	if strings.Contains(want, "/") {
		return slices.Contains(names, want)
	}
	return slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, "/"+want) })
}

// about is what an entry can be found by.
type about struct {
	activations, routes, roles, who []string
	incident, request               string
	denied                          bool
}

// abouts by kind. The other kinds are about none of it.
var abouts = map[string]func(json.RawMessage) about{
	audit.KindRequest:    finder(aboutRequest),
	audit.KindActivation: finder(func(f activation.Fact) about { return aboutActivation(f.Record) }),
	audit.KindPolicy:     finder(aboutPolicy),
	audit.KindConfig:     finder(aboutConfig),
}

// finder finds nothing in what cannot be read.
func finder[T any](find func(T) about) func(json.RawMessage) about {
	return func(data json.RawMessage) about {
		var v T
		if json.Unmarshal(data, &v) != nil {
			return about{}
		}
		return find(v)
	}
}

func aboutOf(e *merkle.Entry) about {
	find := abouts[e.Kind]
	if find == nil {
		return about{}
	}
	return find(e.Data)
}

func aboutRequest(r audit.RequestEntry) about {
	return about{
		activations: r.Activations, routes: []string{r.Route}, roles: nonEmpty(r.Role), who: nonEmpty(r.Subject),
		incident: r.Incident, request: r.Key, denied: r.Denied != "",
	}
}

func aboutActivation(r activation.Record) about {
	x := about{
		activations: []string{r.Key().String()}, who: append(nonEmpty(r.RequestedBy), nonEmpty(r.EndedBy)...),
		incident: r.Spec.Incident, roles: nonEmpty(r.Spec.Role),
	}
	for _, t := range r.Spec.TargetRefs {
		x.routes = append(x.routes, activation.RouteOf(r.Namespace, t).Ref())
	}
	for _, t := range r.Targets {
		x.routes = append(x.routes, t.Route)
	}
	return x
}

// policyData is what is told of a "policy" entry.
type policyData struct {
	Name     string            `json:"name"`
	File     string            `json:"file"`
	OwnerUID uint32            `json:"ownerUID"`
	Classes  []string          `json:"classes"`
	Keys     map[string]string `json:"keys"`
	Spec     *struct {
		Roles []struct {
			Name string `json:"name"`
		} `json:"roles"`
	} `json:"spec"`
}

func aboutPolicy(p policyData) about {
	x := about{who: owner(p.File, p.OwnerUID)}
	if p.Spec != nil {
		for _, r := range p.Spec.Roles {
			x.roles = append(x.roles, r.Name)
		}
	}
	return x
}

// configData is what is told of a "config" entry.
type configData struct {
	Loaded  bool   `json:"loaded"`
	Objects int    `json:"objects"`
	Digest  string `json:"digest"`
	Changes []struct {
		Change   string `json:"change"`
		Object   string `json:"object"`
		File     string `json:"file"`
		OwnerUID uint32 `json:"ownerUID"`
	} `json:"changes"`
	More int `json:"more"`
}

func aboutConfig(c configData) (x about) {
	for _, o := range c.Changes {
		if o.Change != "removed" { // by whom is not known
			x.who = append(x.who, owner(o.File, o.OwnerUID)...)
		}
		if kind, _, _ := strings.Cut(o.Object, " "); kind == v1alpha1.KindHTTPRoute || kind == v1alpha1.KindGRPCRoute {
			x.routes = append(x.routes, o.Object)
		}
	}
	return x
}

// owner of a manifest, as activations name it.
func owner(file string, uid uint32) []string {
	if file == "" {
		return nil
	}
	return []string{fmt.Sprintf("manifest:%s,uid=%d", file, uid)}
}
