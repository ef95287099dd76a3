//go:build envoy

package oracle

import (
	"time"
)

// world is what a seed makes: the objects as their author means them. The
// manifests are made of it, and the oracle reads it; neither reads the other.
type world struct {
	Seed   uint64
	Domain string // all its hostnames are below

	Policy    policy
	Listeners []listener
	Routes    []*route
	Acts      []*act

	keys      map[string]*signer // by issuer/kid
	oldGrants []grant            // that roles had before
}

type policy struct {
	Issuers   []issuer
	Roles     []role
	Scope     scope
	Limit     time.Duration // limits.maxDuration
	Drill     time.Duration // limits.drillMaxDuration
	Suspended bool
}

// scope is what the policy relaxes.
type scope struct{ Wildcards, CatchAll, AnyMethod, Unlabelled bool }

type issuer struct {
	Name, URL   string
	Audiences   []string
	Algorithms  []string
	MaxLifetime time.Duration
	Keys        []string // kids
}

type role struct {
	Name       string
	Grants     []grant
	Max        time.Duration // 0: the policy's
	Hostnames  []string
	Namespaces []string
}

type grant struct {
	Issuer string
	Claims []claim
}

type claim struct {
	Path  []string
	AnyOf []string
}

type listener struct {
	Name     string
	Port     int // index of a port
	Hostname string
	All      bool // routes of all namespaces
}

type route struct {
	Name, Namespace string
	Label           string // breakglass.dev/role
	Section         string // of its parentRef
	Hosts           []string
	Rules           []rule
	Deleted         bool
}

type rule struct {
	Name    string
	Matches []match
	Service string
	Rewrite *rewrite
}

// rewrite of the path: the matched prefix, or all of it.
type rewrite struct {
	Prefix bool
	To     string
}

type match struct {
	Kind, Path string // "Exact", "PathPrefix", "RegularExpression"
	Method     string
	Headers    []pair
	Queries    []pair
}

type pair struct {
	Name, Value string
	Regex       bool
}

// act is an Activation and what became of it.
type act struct {
	Name, Namespace, Role string
	Targets               []target
	Duration              time.Duration
	NotAfter              time.Time // whole seconds; zero: none
	Drill                 bool
	How                   string // "file", "control", "cli"
	Removed, Revoked      bool   // from or in its file

	// seen: between these two it was seen first.
	Seen [2]time.Time
	// Deadline as the gateway told it, once the oracle has agreed.
	Deadline time.Time
	// Longest that it was ever allowed.
	Longest time.Duration
	// Open targets; an ended one is gone for good. Wait: nothing to open yet.
	Open, Wait []target
	Opened     bool // any of them, ever
}

// target is a route, or one rule of it by name.
type target struct{ Route, Rule string }

func (w *world) route(namespace, name string) *route {
	for _, r := range w.Routes {
		if r.Namespace == namespace && r.Name == name && !r.Deleted {
			return r
		}
	}
	return nil
}

func (p *policy) role(name string) *role {
	for i := range p.Roles {
		if p.Roles[i].Name == name {
			return &p.Roles[i]
		}
	}
	return nil
}

func (p *policy) issuerOf(url string) *issuer {
	for i := range p.Issuers {
		if p.Issuers[i].URL == url {
			return &p.Issuers[i]
		}
	}
	return nil
}

func (p *policy) issuer(name string) *issuer {
	for i := range p.Issuers {
		if p.Issuers[i].Name == name {
			return &p.Issuers[i]
		}
	}
	return nil
}
