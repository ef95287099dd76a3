package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
	"github.com/breakglass-gateway/breakglass-gateway/internal/report"
)

type reportOptions struct {
	activations            []string
	incident, since, until string
	below                  string
	keys, checkpoints      []string
	redact                 string
	output, file, requests string
	remote                 clusterLog
}

// listedRequests is how many requests HTML and Markdown list one by one, if not told.
const listedRequests = 1000

const reportLong = `Make a report of the audit log: who opened what and why, all that came through and
was refused, whether the deadline was kept, who was told, who reviewed it, and what
proves it. As one HTML page that needs nothing else (it works offline and in print),
as Markdown, or as JSON (docs/report.md has the schema).

It is about the activations that are named, those of an incident, or all that were
open in a time. The log is verified first, as breakglass audit verify does, with
--key and --checkpoint from elsewhere if they are given. The same log gives the same
bytes: what is still open is so as of the newest entry.

--redact standard, the default, shows the network of a client in place of its
address, and pseudonyms of tokens, certificates and backends; strict hides people,
hosts, paths and all words of people too; none shows what the log has. Anything else
is a file with a policy of your own. No form ever holds a token.

--below takes all logs below a directory as one, such as those of a cluster's
controllers and pods, each verified by itself.

Exit codes: 0 the report is written, and the log is sound; 1 it is written, and says
that the log is not sound; 2 there is no report: the command line is wrong, the log
cannot be read, or has no such activation.` + clusterLogLong + `
A copy of all of it is made for the report, and removed afterwards.`

func newReportCommand() *cobra.Command {
	o := &reportOptions{}
	cmd := &cobra.Command{
		Use:   "report (--activation NAMESPACE/NAME... | --incident ID | --since TIME)",
		Short: "Make a report of an incident: HTML, Markdown or JSON",
		Long:  reportLong,
		Example: `  breakglass report --incident INC-4711 --file INC-4711.html
  breakglass report --activation payments/inc-4711 -o markdown
  breakglass report --since 24h -o json | jq .summary
  breakglass report --incident INC-4711 --cluster --key audit-keys.txt --file INC-4711.html
  breakglass report --incident INC-4711 --data-dir /mnt/copy --key audit-keys.txt --checkpoint checkpoints.txt --redact strict --file for-the-auditor.html`,
		Args: noArgs,
		RunE: cleanly(func(cmd *cobra.Command, _ []string) error { return o.run(cmd) }),
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.activations, "activation", nil, "about this activation, NAMESPACE/NAME (repeatable)")
	f.StringVar(&o.incident, "incident", "", "about the activations of this incident")
	f.StringVar(&o.since, "since", "", "about all since then: a duration ago such as 24h, or an RFC 3339 time")
	f.StringVar(&o.until, "until", "", "with --since: before then (default: up to the newest entry)")
	f.StringVar(&o.below, "below", "", "take all logs below this directory together")
	f.StringArrayVar(&o.keys, "key", nil, "verifier key, or a file of them, to trust (repeatable; default: audit.pub beside the log)")
	f.StringArrayVar(&o.checkpoints, "checkpoint", nil, "file of checkpoints that were kept elsewhere (repeatable)")
	f.StringVar(&o.redact, "redact", "standard", "none, standard, strict, or a file with a redaction policy")
	f.StringVarP(&o.output, "output", "o", report.HTML, strings.Join(report.Forms, ", "))
	f.StringVar(&o.file, "file", "", "write it to this file, mode 0600, as a whole (default: standard output)")
	f.StringVar(&o.requests, "requests", strconv.Itoa(listedRequests), "how many requests HTML and Markdown list one by one, or all; JSON has all")
	fixedCompletion(cmd, "output", report.Forms...)
	fixedCompletion(cmd, "redact", "none", "standard", "strict")
	for _, name := range []string{"incident", "since", "until", "requests"} {
		_ = cmd.RegisterFlagCompletionFunc(name, noFiles) // the flags are right above
	}
	_ = cmd.RegisterFlagCompletionFunc("activation", completeLogged)
	_ = cmd.MarkFlagDirname("below")
	for _, name := range []string{"key", "checkpoint", "file"} {
		_ = cmd.MarkFlagFilename(name)
	}
	addLogFlag(cmd)
	o.remote.addFlags(cmd)
	return cmd
}

func (o *reportOptions) run(cmd *cobra.Command) error {
	asked, rows, err := o.asked(cmd)
	if err != nil {
		return err
	}
	policy, err := redactionPolicy(o.redact)
	if err != nil {
		return err
	}
	logs, remove, err := o.logs(cmd)
	if err != nil {
		return usageError{err}
	}
	defer remove()
	r, err := o.make(cmd, logs, report.Options{Asked: asked, Policy: policy})
	var none *report.NoneError
	if errors.As(err, &none) {
		return usageError{errors.New(nearest(none))}
	}
	if err != nil {
		return usageError{err} // exit code 1 says that there is a report
	}
	if err := o.write(cmd, r, rows); err != nil {
		return usageError{err}
	}
	if !r.Proof.Verified {
		return errors.New("the report is written and says so: the log is not as it was written; `breakglass audit verify` says all that is wrong")
	}
	return nil
}

// asked is what the flags say.
func (o *reportOptions) asked(cmd *cobra.Command) (a report.Asked, rows int, err error) {
	if err := o.check(cmd); err != nil {
		return a, 0, err
	}
	if rows, err = strconv.Atoi(o.requests); o.requests == "all" {
		rows = -1
	} else if err != nil || rows < 0 {
		return a, 0, usagef("--requests %q: write a number, or all", o.requests)
	}
	for _, name := range o.activations {
		if ns, _, ok := strings.Cut(name, "/"); !ok || ns == "" || !objectForm.MatchString(name) {
			return a, 0, usagef("--activation %q: write NAMESPACE/NAME", name)
		}
		if !slices.Contains(a.Activations, name) {
			a.Activations = append(a.Activations, name)
		}
	}
	a.Incident = o.incident
	a.Since, a.Until, err = o.times(time.Now())
	return a, rows, err
}

// check that the flags go together.
func (o *reportOptions) check(cmd *cobra.Command) error {
	given := 0
	for _, is := range []bool{len(o.activations) > 0, o.incident != "", o.since != ""} {
		if is {
			given++
		}
	}
	switch {
	case given == 0:
		return usagef("what shall it be about? Give --activation NAMESPACE/NAME, --incident ID or --since TIME")
	case given > 1:
		return usagef("--activation, --incident and --since exclude one another: give one of them")
	case o.until != "" && o.since == "":
		return usagef("--until goes with --since")
	}
	if err := checkOutput(o.output, report.Forms...); err != nil {
		return err
	}
	if o.output == report.HTML && o.file == "" && isTerminal(cmd.OutOrStdout()) {
		return usagef("a page is nothing for a terminal: add --file report.html, or -o markdown")
	}
	return nil
}

func (o *reportOptions) times(now time.Time) (since, until time.Time, err error) {
	if since, err = auditTime("since", o.since, now); err != nil {
		return since, until, err
	}
	if until, err = auditTime("until", o.until, now); err != nil {
		return since, until, err
	}
	if !until.IsZero() && !since.Before(until) {
		return since, until, usagef("--since %s is not before --until %s: nothing is between", o.since, o.until)
	}
	return since.UTC(), until.UTC(), nil
}

// write to where it is wanted: a file is there whole or not at all.
func (o *reportOptions) write(cmd *cobra.Command, r *report.Report, rows int) error {
	out := cmd.OutOrStdout()
	if o.file == "" {
		return r.Write(out, o.output, rows)
	}
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	if err := errors.Join(r.Write(w, o.output, rows), w.Flush()); err != nil {
		return err
	}
	if err := durable.Replace(o.file, b.Bytes()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return tellReport(out, o.file, r)
}

// tellReport says in a few lines what the report does.
func tellReport(out io.Writer, file string, r *report.Report) error {
	s := &r.Summary
	_, err := fmt.Fprintf(out, "%s\n  deadline   %s\n  alarms     %s\n  review     %s\n  complete   %s\n  log        %s\n", shown(file),
		clean(s.Deadline.Words), clean(s.Alarm.Words), clean(s.Review.Words), clean(s.Complete.Words), clean(s.Log.Words))
	return err
}

// redactionPolicy is one that has a name, or of a file.
func redactionPolicy(name string) (report.Policy, error) {
	if p, ok := report.Policies[name]; ok {
		return p, nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return report.Policy{}, usagef("--redact %q is neither none, standard nor strict, nor a file that can be read: %w", name, err)
	}
	p, keyFile, err := report.ParsePolicy(b)
	if err != nil {
		return p, usagef("--redact %s: %w", name, err)
	}
	if keyFile == "" {
		return p, nil
	}
	b, err = os.ReadFile(keyFile)
	if err == nil {
		p.Key, err = report.ParseKey(b)
	}
	if err != nil {
		return p, usagef("--redact %s: keyFile: %w", name, err)
	}
	return p, nil
}

// nearest says which activations there are that may have been meant.
func nearest(e *report.NoneError) string {
	const most = 5
	text := clean(e.Error())
	known := e.Known
	if len(e.Missing) > 0 && strings.HasPrefix(e.Missing[0], "of incident ") {
		known = e.Incidents
	}
	if len(known) == 0 {
		return text + ", and none at all"
	}
	want := strings.TrimPrefix(e.Missing[0], "of incident ")
	slices.Reverse(known) // the newest first, of those that are equally far
	slices.SortStableFunc(known, func(a, b string) int { return distance(a, want) - distance(b, want) })
	known = slices.Compact(known)
	return text + "; the nearest that it has: " + clean(strings.Join(known[:min(len(known), most)], ", "))
}

// distance is how many letters one has to change (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			last, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, last+cost)
		}
	}
	return row[len(b)]
}
