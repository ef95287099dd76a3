package main

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/audit"
	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/report"
)

// reportLog is a log that a report is made of.
type reportLog struct {
	name, dir string
	verified  *verified
	counter   *counter
}

// end is the seq of the first entry that was not verified.
func (l *reportLog) end() uint64 {
	if l.verified == nil || l.verified.Entries == 0 {
		return math.MaxUint64
	}
	return l.verified.FirstSeq + l.verified.Entries
}

// logs are those that are meant. That of a cluster is a copy, which remove removes.
func (o *reportOptions) logs(cmd *cobra.Command) (logs []*reportLog, remove func(), err error) {
	nothing := func() {}
	switch {
	case o.below != "" && (cmd.Flags().Changed("data-dir") || o.remote.named()):
		return nil, nothing, usagef("--below, --data-dir and a cluster exclude one another: give one of them")
	case o.below != "":
		logs, err = o.logsBelow()
		return logs, nothing, err
	case o.remote.named():
		dir, remove, err := o.remote.copied(cmd.Context())
		return []*reportLog{{dir: dir}}, remove, err
	}
	dir, err := logDir(cmd)
	return []*reportLog{{dir: dir}}, nothing, err
}

func (o *reportOptions) logsBelow() ([]*reportLog, error) {
	dirs, err := logsBelow(o.below)
	if err != nil {
		return nil, usageError{err}
	}
	if len(dirs) == 0 {
		return nil, usagef("there is no audit log below %s: name a directory that holds the logs of several writers", shown(o.below))
	}
	slices.Sort(dirs)
	var logs []*reportLog
	for _, d := range dirs {
		logs = append(logs, &reportLog{name: d, dir: filepath.Join(o.below, d)})
	}
	return logs, nil
}

// make verifies the logs, and then reads of them what was verified.
func (o *reportOptions) make(cmd *cobra.Command, logs []*reportLog, opts report.Options) (*report.Report, error) {
	keys, err := verifierKeys(o.keys)
	if err != nil {
		return nil, err
	}
	checkpoints, files, err := checkpointFiles(o.checkpoints)
	if err != nil {
		return nil, err
	}
	p := newProgress(cmd.ErrOrStderr())
	defer p.clear()
	for _, l := range logs {
		of := checkpoints
		if len(logs) > 1 {
			of = slices.DeleteFunc(slices.Clone(checkpoints), func(note []byte) bool { return !ofLog(note, l.dir) })
		}
		found, err := merkle.Verify(cmd.Context(), l.dir, merkle.VerifyOptions{Keys: keys, Checkpoints: of, Progress: p.show})
		if err != nil {
			return nil, err
		}
		l.verified = &verified{Report: found, Dir: l.dir, Trusted: len(keys) > 0, Checkpoints: files}
		if len(of) == 0 {
			l.verified.Checkpoints = nil
		}
		l.counter = newCounter()
	}
	r, err := report.Build(opts, o.source(cmd, logs))
	if err != nil {
		return nil, err
	}
	for _, l := range logs {
		l.verified.take(l.counter)
	}
	r.Prove(o.proof(logs, r, len(checkpoints)))
	return r, nil
}

// ofLog says whether a checkpoint is of the log in dir, by its origin.
func ofLog(note []byte, dir string) bool {
	own, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	return err == nil && origin(string(own)) == origin(string(note))
}

// source reads what was verified of all logs. What lies above the tree is counted in
// the first reading. What cannot be read is left out: the findings tell of it.
func (o *reportOptions) source(cmd *cobra.Command, logs []*reportLog) report.Source {
	byName := map[string]*reportLog{}
	var names []string
	for _, l := range logs {
		byName[l.name] = l
		names = append(names, l.name)
	}
	counted := false
	return func(since time.Time, fn func(report.Entry) error) error {
		take := func(log string, e merkle.Entry) error {
			l := byName[log]
			if e.Seq >= l.end() {
				return nil // it came since
			}
			if !counted {
				if err := l.counter.take(e); err != nil {
					return err
				}
			}
			return fn(report.Entry{Log: log, Entry: e})
		}
		f := merkle.Filter{Since: since}
		var err error
		if o.below == "" {
			err = merkle.Read(cmd.Context(), logs[0].dir, f, func(e merkle.Entry) error { return take("", e) })
		} else {
			err = mergeLogs(cmd.Context(), o.below, names, f, take)
		}
		first := !counted
		counted = true
		return damaged(logs, err, first)
	}
}

// damaged makes of an entry that cannot be read a finding, or a warning if there are
// findings already, so that there is a report of all the rest.
func damaged(logs []*reportLog, err error, first bool) error {
	var corrupt *merkle.CorruptError
	if !errors.As(err, &corrupt) {
		return err
	}
	for _, l := range logs {
		switch {
		case !first || filepath.Dir(corrupt.File) != filepath.Clean(l.dir):
		case len(l.verified.Findings) > 0:
			l.verified.Warnings = append(l.verified.Warnings, "what follows the first finding was not counted, and is not in the report")
		default:
			l.counter.findings = append(l.counter.findings, merkle.Finding{File: corrupt.File, Line: corrupt.Line, Problem: corrupt.Reason, Remedy: "compare with a copy from elsewhere"})
		}
	}
	return nil
}

func (o *reportOptions) proof(logs []*reportLog, r *report.Report, witnessed int) report.Proof {
	p := report.Proof{Verified: true, Again: o.again(logs, r)}
	spans := r.Spans()
	for _, l := range logs {
		v := l.verified
		x := report.LogProof{
			Log: l.name, Origin: v.Origin, Entries: v.Entries, FirstSeq: v.FirstSeq, Size: v.Size, Root: v.Root, Keys: v.Keys,
			Trusted: v.Trusted, Unsigned: v.Unsigned, Warnings: v.Warnings,
		}
		if len(v.Checkpoints) > 0 {
			x.Witnessed = witnessed
		}
		for _, f := range v.Findings {
			p.Verified = false
			x.Findings = append(x.Findings, findingText(f))
		}
		if b, err := os.ReadFile(filepath.Join(l.dir, "checkpoint")); err == nil && len(b) < 1<<16 {
			x.Checkpoint = string(b)
		}
		if s, ok := spans[l.name]; ok {
			x.Range = append(x.Range, inclusion(l.dir, s[0]))
			if s[1] != s[0] {
				x.Range = append(x.Range, inclusion(l.dir, s[1]))
			}
		}
		p.Logs = append(p.Logs, x)
	}
	return p
}

// findingText names the file without the directory, which is not the report's.
func findingText(f merkle.Finding) string {
	where := filepath.Base(f.File)
	if f.Line > 0 {
		where += fmt.Sprintf(" line %d, entry %d", f.Line, f.Seq)
	}
	return strings.TrimPrefix(where+": "+f.Problem, ".: ") + ". To do: " + f.Remedy
}

// inclusion of an entry in the tree of the newest checkpoint, if it is.
func inclusion(dir string, seq uint64) report.Inclusion {
	i := report.Inclusion{Seq: seq, Hashes: []string{}}
	p, err := merkle.Prove(dir, seq)
	if err != nil {
		return i
	}
	leaf := sha256.Sum256(append([]byte{0}, p.Entry...))
	i.Leaf, i.Size, i.Hashes = base64.StdEncoding.EncodeToString(leaf[:]), p.Size, p.Hashes
	return i
}

// again are the commands that check the report.
func (o *reportOptions) again(logs []*reportLog, r *report.Report) []string {
	from, verify := "--data-dir COPY", []string{}
	if o.below != "" {
		from = "--below COPY"
	}
	for _, l := range logs {
		key := ""
		if n := len(l.verified.Keys); n > 0 {
			key = " --key " + shellQuote(clean(l.verified.Keys[n-1]))
		}
		dir := "COPY"
		if l.name != "" {
			dir = shellQuote("COPY/" + clean(l.name))
		}
		verify = append(verify, "breakglass audit verify --data-dir "+dir+key+" --checkpoint checkpoint.txt")
	}
	what := ""
	for _, a := range r.Asked.Activations {
		what += " --activation " + shellQuote(a)
	}
	if r.Asked.Incident != "" {
		what += " --incident " + shellQuote(clean(r.Asked.Incident))
	}
	if !r.Asked.Since.IsZero() {
		what += " --since " + r.Asked.Since.Format(time.RFC3339Nano)
	}
	if !r.Asked.Until.IsZero() {
		what += " --until " + r.Asked.Until.Format(time.RFC3339Nano)
	}
	return append(verify, "breakglass report "+from+what+" -o json")
}

// completeLogged offers the activations that the log has.
func completeLogged(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	dir, err := logDir(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	find := finder(func(f activation.Fact) about { return aboutActivation(f.Record) })
	_ = merkle.Read(cmd.Context(), dir, merkle.Filter{Match: func(e *merkle.Entry) bool { return e.Kind == audit.KindActivation }}, func(e merkle.Entry) error {
		names = append(names, find(e.Data).activations...)
		return nil
	}) // what was found is offered
	slices.Sort(names)
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}
