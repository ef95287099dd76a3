// Package lint audits a whole repository of manifests for least privilege: what is
// valid, and would be served, and yet opens more, to more people or for longer than
// an incident needs.
//
// What must never be served the translator refuses by itself; that is told too, so
// that one run is a whole review. A rule's id is for ever: a suppression that was
// reviewed names it.
package lint

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/posture"
	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// Severity of a finding.
type Severity string

// The severities, the worst first.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Info    Severity = "info"
)

// Rank orders severities: a higher one is worse.
func (s Severity) Rank() int {
	return 1 + slices.Index([]Severity{Info, Warning, Error}, s)
}

// Rule is one thing that is looked for.
type Rule struct {
	// ID never changes and is never used again for another rule.
	ID string `json:"id"`
	// Name, in words with dashes.
	Name     string   `json:"name"`
	Severity Severity `json:"severity"`
	// Summary says what is found, Remedy what to do about it.
	Summary string `json:"summary"`
	Remedy  string `json:"remedy"`
	// Live rules need a running serve.
	Live bool `json:"live,omitempty"`

	check func(*run)
}

// Finding is one finding of one rule.
type Finding struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Severity Severity `json:"severity"`
	Object   string   `json:"object,omitempty"`
	Field    string   `json:"field,omitempty"`
	File     string   `json:"file,omitempty"`
	Line     int      `json:"line,omitempty"`
	Message  string   `json:"message"`
	Remedy   string   `json:"remedy"`
	// Suppressed is the reason that a reviewer gave for accepting it.
	Suppressed string `json:"suppressed,omitempty"`
}

// Input is what is audited.
type Input struct {
	Set *source.Set
	// Dir that the files' names of Set are relative to; "": the working directory.
	Dir string
	At  time.Time
	// Served are the problems that serve would tell of objects that are each right.
	Served []source.Problem
	// Live is what a running serve says of itself. Nil: there is none.
	Live *Live
}

// Live is a running serve.
type Live struct {
	Status *control.Status
	// Requests that were let in within the last day, by the issuer of their tokens.
	Requests map[string]int
}

// Report is what was found, sorted by file and line.
type Report struct {
	Findings []Finding `json:"findings"`
	// Objects that were looked at.
	Objects int `json:"objects"`
}

// Count the findings of a severity that are not suppressed.
func (r *Report) Count(s Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == s && f.Suppressed == "" {
			n++
		}
	}
	return n
}

// Suppressed counts those that a reviewer has accepted.
func (r *Report) Suppressed() int {
	n := 0
	for _, f := range r.Findings {
		if f.Suppressed != "" {
			n++
		}
	}
	return n
}

// run is one audit in progress.
type run struct {
	Input
	*posture.Posture
	lines    *source.Lines
	rule     *Rule
	findings []Finding
	ignores  map[string]map[string]*ignore // by object and id
}

// Run applies every rule.
func Run(in Input) *Report {
	r := &run{Input: in, Posture: posture.Of(in.Set.Objects, in.At), lines: &source.Lines{Dir: in.Dir}}
	r.readIgnores()
	for _, rule := range Rules() {
		if rule.Live && in.Live == nil {
			continue
		}
		r.rule = &rule
		rule.check(r)
	}
	r.rule = ruleByID(idIgnore)
	r.judgeIgnores()
	slices.SortStableFunc(r.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.ID, b.ID),
			cmp.Compare(a.Object, b.Object), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	return &Report{Findings: append([]Finding{}, slices.Compact(r.findings)...), Objects: len(in.Set.Origins)}
}

// objectKey of an object by kind; the namespace is empty for those without.
func objectKey(kind string, key types.NamespacedName) source.ObjectKey {
	return source.ObjectKey{Kind: kind, Namespace: key.Namespace, Name: key.Name}
}

// add a finding of the present rule.
func (r *run) add(key source.ObjectKey, field, format string, args ...any) {
	r.addAs(r.rule.Severity, key, field, format, args...)
}

func (r *run) addAs(severity Severity, key source.ObjectKey, field, format string, args ...any) {
	o := r.Set.Origins[key]
	f := Finding{
		ID: r.rule.ID, Name: r.rule.Name, Severity: severity, Object: key.String(), Field: field,
		File: o.File, Line: r.lines.Of(o, field), Message: fmt.Sprintf(format, args...), Remedy: r.rule.Remedy,
	}
	if i := r.ignores[f.Object][f.ID]; i != nil {
		i.used = true
		f.Suppressed = i.reason
	}
	r.findings = append(r.findings, f)
}

// addProblem is for what was found elsewhere and has its place and remedy.
func (r *run) addProblem(p source.Problem) {
	f := Finding{
		ID: r.rule.ID, Name: r.rule.Name, Severity: r.rule.Severity, Object: p.Object, Field: p.Field,
		File: p.File, Line: p.Line, Message: p.Message, Remedy: cmp.Or(p.Remedy, r.rule.Remedy),
	}
	if i := r.ignores[f.Object][f.ID]; i != nil {
		i.used = true
		f.Suppressed = i.reason
	}
	r.findings = append(r.findings, f)
}

// addLive is for what has no manifest.
func (r *run) addLive(object, format string, args ...any) {
	r.findings = append(r.findings, Finding{
		ID: r.rule.ID, Name: r.rule.Name, Severity: r.rule.Severity, Object: object,
		Message: fmt.Sprintf(format, args...), Remedy: r.rule.Remedy,
	})
}

// Text is the finding in one sentence.
func (f Finding) Text() string {
	text := f.Message
	for _, s := range []string{f.Field, f.Object} {
		if s != "" {
			text = s + ": " + text
		}
	}
	if f.Remedy != "" {
		text += ": " + f.Remedy
	}
	return text
}
