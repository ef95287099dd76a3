package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
	"github.com/breakglass-gateway/breakglass-gateway/internal/lint"
	"github.com/breakglass-gateway/breakglass-gateway/internal/version"
)

type lintOptions struct {
	manifests
	at, failOn, output, color string
	verbose, rules            bool
}

const lintLong = `Audit manifests for least privilege: what is valid and would be served, and yet
opens more, to more people or for longer than an incident needs.

Each finding has the id of its rule, a severity, the object, file and line, and a
remedy. --rules lists the rules. A finding that was reviewed and is right is
suppressed by an annotation of the object, with a reason, one per line:

  metadata:
    annotations:
      breakglass.dev/lint-ignore: BG062 the console of the array listens there

Suppressed findings are counted; -v and the JSON and SARIF forms show them.

--live audits what a running serve has in use, and what only it knows: stale keys,
routes that Envoy refused, use of the offline issuer.

Exit codes: 0 nothing of --fail-on or worse; 1 there is; 2 it could not be audited.`

func newLintCommand() *cobra.Command {
	o := &lintOptions{}
	cmd := &cobra.Command{
		Use:   "lint (-c DIR | --live)",
		Short: "Audit manifests for least privilege",
		Long:  lintLong,
		Example: `  breakglass lint -c examples/repo
  breakglass lint -c my-repo --fail-on warning
  breakglass lint -c my-repo -o sarif > lint.sarif
  breakglass lint --live -v`,
		Args: noArgs,
		RunE: cleanly(func(cmd *cobra.Command, _ []string) error { return o.run(cmd) }),
	}
	f := cmd.Flags()
	f.StringVar(&o.at, "at", "", "the time to judge certificates by, RFC 3339 (default: now)")
	f.StringVar(&o.failOn, "fail-on", "error", "lowest severity that ends in exit code 1: error, warning, info or never")
	f.StringVarP(&o.output, "output", "o", "text", "text, json or sarif")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "show suppressed findings too, with their reasons")
	f.BoolVar(&o.rules, "rules", false, "list the rules and audit nothing")
	addColorFlag(cmd, &o.color)
	fixedCompletion(cmd, "fail-on", "error", "warning", "info", "never")
	fixedCompletion(cmd, "output", "text", "json", "sarif")
	o.addFlags(cmd)
	return cmd
}

// failRanks by --fail-on; never is above all.
var failRanks = map[string]int{"error": lint.Error.Rank(), "warning": lint.Warning.Rank(), "info": lint.Info.Rank(), "never": lint.Error.Rank() + 1}

func (o *lintOptions) run(cmd *cobra.Command) error {
	if err := checkOutput(o.output, "text", "json", "sarif"); err != nil {
		return err
	}
	rank, known := failRanks[o.failOn]
	if !known {
		return usagef("--fail-on %q: choose one of error, warning, info, never", o.failOn)
	}
	color, err := paintFor(o.color, cmd.OutOrStdout())
	if err != nil {
		return err
	}
	if o.rules {
		return o.listRules(cmd.OutOrStdout())
	}
	if err := o.check(); err != nil {
		return err
	}
	report, err := o.audit(cmd)
	if err != nil {
		return usageError{err} // exit code 1 says that there are findings, and that is not known
	}
	if err := o.write(cmd.OutOrStdout(), color, report); err != nil {
		return usageError{err}
	}
	for _, f := range report.Findings {
		if f.Suppressed == "" && f.Severity.Rank() >= rank {
			return fmt.Errorf("%s: %s", o.name(), summary(report))
		}
	}
	if o.output == "text" {
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s in %s.\n", clean(o.name()), summary(report), count(report.Objects, "object"))
	}
	return err
}

func (o *lintOptions) audit(cmd *cobra.Command) (*lint.Report, error) {
	at, err := atFlag(o.at, time.Now())
	if err != nil {
		return nil, err
	}
	l, err := o.load(cmd)
	if err != nil {
		return nil, err
	}
	defer l.close()
	in := lint.Input{Set: l.set, Dir: l.dir, At: at}
	if l.client != nil {
		if in.Live, err = live(cmd.Context(), l.client, at); err != nil {
			return nil, err
		}
	}
	busy := working(cmd.ErrOrStderr(), "auditing "+o.name())
	defer busy.done()
	// A serve that runs tells by itself what it cannot serve.
	if l.client == nil {
		in.Served = crossCheck(l.set)
	}
	return lint.Run(in), nil
}

// live asks a serve what only it knows.
func live(ctx context.Context, c *control.Client, now time.Time) (*lint.Live, error) {
	st, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	l := &lint.Live{Status: st, Requests: map[string]int{}}
	err = c.Timeline(ctx, now.Add(-24*time.Hour), func(e control.TimelineEntry) error {
		var r struct {
			Type   string `json:"type"`
			Issuer string `json:"issuer"`
			Denied string `json:"denied"`
		}
		if e.Kind == "request" && json.Unmarshal(e.Data, &r) == nil && r.Issuer != "" && r.Denied == "" && r.Type != "open" {
			l.Requests[r.Issuer]++
		}
		return nil
	})
	return l, err
}

func summary(r *lint.Report) string {
	parts := []string{count(r.Count(lint.Error), "error"), count(r.Count(lint.Warning), "warning"), fmt.Sprintf("%d info", r.Count(lint.Info))}
	if n := r.Suppressed(); n > 0 {
		parts = append(parts, fmt.Sprintf("%d suppressed", n))
	}
	return strings.Join(parts, ", ")
}

func (o *lintOptions) write(out io.Writer, color paint, r *lint.Report) error {
	switch o.output {
	case "json":
		return writeObject(out, "json", struct {
			*lint.Report
			Errors     int `json:"errors"`
			Warnings   int `json:"warnings"`
			Infos      int `json:"infos"`
			Suppressed int `json:"suppressed"`
		}{r, r.Count(lint.Error), r.Count(lint.Warning), r.Count(lint.Info), r.Suppressed()})
	case "sarif":
		return writeObject(out, "json", lint.SARIF(r, version.Version))
	}
	for _, f := range r.Findings {
		if f.Suppressed == "" || o.verbose {
			if _, err := fmt.Fprintln(out, findingLine(color, f)); err != nil {
				return err
			}
		}
	}
	return nil
}

// findingLine is a finding as a compiler would tell it: file:line: severity: ...
func findingLine(color paint, f lint.Finding) string {
	where := clean(f.File)
	if f.Line > 0 {
		where += fmt.Sprintf(":%d", f.Line)
	}
	if where != "" {
		where += ": "
	}
	severity := string(f.Severity)
	switch {
	case f.Suppressed != "":
		severity = color.dim(severity + " suppressed")
	case f.Severity == lint.Error:
		severity = color.red(severity)
	case f.Severity == lint.Warning:
		severity = color.yellow(severity)
	}
	line := fmt.Sprintf("%s%s %s: %s", where, severity, color.bold(f.ID), clean(f.Text()))
	if f.Suppressed != "" {
		line += " (" + clean(f.Suppressed) + ")"
	}
	return line
}

func (o *lintOptions) listRules(out io.Writer) error {
	if o.output != "text" {
		return writeObject(out, "json", lint.Rules())
	}
	t := newTable(out, "ID", "SEVERITY", "NAME", "FINDS")
	for _, r := range lint.Rules() {
		t.row(r.ID, string(r.Severity), r.Name, r.Summary)
	}
	return t.flush()
}
