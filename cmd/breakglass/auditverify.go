package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/audit/sink"
)

type auditVerifyOptions struct {
	keys, checkpoints, against []string
	output                     string
	remote                     clusterLog
}

const auditVerifyLong = `Verify the audit log, or a copy of it: that every entry is where it was signed to
be and nothing in between was edited, removed, added or put in another order; and
that the requests in it are whole.

--key names the keys to trust. Without it those beside the log are taken, and
whoever can edit the log can replace them too: keep breakglass audit key and some
checkpoints elsewhere. With --checkpoint, the log must hold all that each of these
checkpoints covers: it cannot have been cut back or rewritten since.

Above the tree it checks, in bounded memory, that within each life of an Envoy the
requests are numbered from 1 without holes and doubles, as their cursors say; that
no line of a spool and no entry of the journal was taken twice; and that none of
the last 65536 requests is there twice by its key. A gap that the log itself tells
of is shown, and no damage: the log is honest about it.

Exit codes: 0 sound; 1 it is not, each finding says what to do; 2 it could not be
looked at, or the command line is wrong.` + clusterLogLong + `
It is copied for that, and the copy removed: to keep it, see breakglass audit copy.`

func newAuditVerifyCommand() *cobra.Command {
	o := &auditVerifyOptions{}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Verify that nothing in the audit log was edited and nothing is missing",
		Long:  auditVerifyLong,
		Example: `  breakglass audit verify
  breakglass audit verify --data-dir /mnt/copy --key audit-keys.txt --checkpoint checkpoints.txt
  breakglass audit verify --key audit-keys.txt --against /mnt/elsewhere/breakglass.jsonl
  breakglass audit verify --key breakglass.example.com/log+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW -o json`,
		Args: noArgs,
		RunE: cleanly(func(cmd *cobra.Command, _ []string) error { return o.run(cmd) }),
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.keys, "key", nil, "verifier key, or a file of them, to trust (repeatable; default: audit.pub beside the log)")
	f.StringArrayVar(&o.checkpoints, "checkpoint", nil, "file of checkpoints that were kept elsewhere (repeatable)")
	f.StringArrayVar(&o.against, "against", nil, "copy of the log that a sink has made elsewhere, or a part of it (repeatable)")
	f.StringVarP(&o.output, "output", "o", "table", "table or json")
	_ = cmd.MarkFlagFilename("against") // the flags are right above
	_ = cmd.MarkFlagFilename("key")
	_ = cmd.MarkFlagFilename("checkpoint")
	fixedCompletion(cmd, "output", "table", "json")
	addLogFlag(cmd)
	o.remote.addFlags(cmd)
	return cmd
}

func (o *auditVerifyOptions) run(cmd *cobra.Command) error {
	if err := checkOutput(o.output, "table", "json"); err != nil {
		return err
	}
	r, err := o.verify(cmd)
	if err != nil {
		// Exit code 1 says that the log is not sound, and that is not known.
		return usageError{err}
	}
	write := writeVerified
	if o.output == "json" {
		write = func(out io.Writer, r *verified) error { return writeJSON(out, r) }
	}
	if err := write(cmd.OutOrStdout(), r); err != nil {
		return usageError{err}
	}
	if n := len(r.Findings); n > 0 {
		return fmt.Errorf("the log in %s is not as it was written: %s", r.Dir, count(n, "finding"))
	}
	return nil
}

func (o *auditVerifyOptions) verify(cmd *cobra.Command) (*verified, error) {
	keys, err := verifierKeys(o.keys)
	if err != nil {
		return nil, err
	}
	checkpoints, files, err := checkpointFiles(o.checkpoints)
	if err != nil {
		return nil, err
	}
	dir, done, err := o.dir(cmd)
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := readCopy(dir, o.against)
	if err != nil {
		return nil, err
	}
	if c != nil {
		files = append(files, checkpointsOf(c, o.against, len(checkpoints))...)
		checkpoints = append(checkpoints, c.Checkpoints()...)
	}
	p := newProgress(cmd.ErrOrStderr())
	defer p.clear()
	report, err := merkle.Verify(cmd.Context(), dir, merkle.VerifyOptions{Keys: keys, Checkpoints: checkpoints, Progress: p.show})
	if err != nil {
		return nil, err
	}
	r := &verified{Report: report, Dir: dir, Trusted: len(keys) > 0, Checkpoints: files}
	if c != nil {
		r.takeCopy(c.Report(report.Keys))
	}
	return r, r.count(cmd.Context(), p)
}

// dir of the log, or of a copy that done removes.
func (o *auditVerifyOptions) dir(cmd *cobra.Command) (dir string, done func(), err error) {
	if o.remote.named() {
		return o.remote.copied(cmd.Context())
	}
	dir, err = logDir(cmd)
	return dir, func() {}, err
}

// verified is what verify found out, and its JSON form.
type verified struct {
	Sound bool   `json:"sound"`
	Dir   string `json:"dir"`
	*merkle.Report
	// Trusted: the keys did not come from beside the log.
	Trusted     bool             `json:"trustedKeys"`
	Checkpoints []checkpointFile `json:"checkpoints"`
	// Copy is what --against names.
	Copy  *sink.CopyReport  `json:"copy,omitempty"`
	Kinds map[string]uint64 `json:"kinds"`
	// Lost are requests that the gaps tell of, at least.
	Lost     uint64         `json:"lost"`
	Gaps     []merkle.Entry `json:"gaps"`
	Warnings []string       `json:"warnings"`
}

// count what lies above the tree.
func (r *verified) count(ctx context.Context, p *progress) error {
	c := newCounter()
	end := uint64(math.MaxUint64)
	if r.Entries > 0 {
		end = r.FirstSeq + r.Entries // what came since was not verified
	}
	err := readTo(ctx, r.Dir, merkle.Filter{}, end, func(e merkle.Entry) error {
		p.show(e.Seq-r.FirstSeq, r.Entries)
		return c.take(e)
	})
	var corrupt *merkle.CorruptError
	switch {
	case err == nil:
	case errors.As(err, &corrupt) && len(r.Findings) > 0:
		r.Warnings = append(r.Warnings, "what follows the first finding was not counted")
	case errors.As(err, &corrupt):
		c.findings = append(c.findings, merkle.Finding{File: corrupt.File, Line: corrupt.Line, Problem: corrupt.Reason, Remedy: "compare with a copy from elsewhere"})
	default:
		return err
	}
	r.take(c)
	return nil
}

func (r *verified) take(c *counter) {
	r.Kinds, r.Gaps, r.Lost = c.kinds, c.gaps, c.lost
	for _, f := range c.findings {
		if f.File == "" {
			file, line := place(r.Dir, f.Seq)
			f.File, f.Line = file, int(line)
		}
		r.Findings = append(r.Findings, f)
	}
	if c.more > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s more of the numbering are not shown", count(int(c.more), "finding")))
	}
	if n := c.kinds["gap"]; n > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s: %s lost at least", count(int(n), "gap"), count(int(c.lost), "request")))
	}
	if n := len(c.intents); n > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s without an end: they are open, or nobody lived to tell whether they were forwarded: breakglass audit list --unfinished", count(n, "intent")))
	}
	if c.problems > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s noted in the log: breakglass audit list --kind problem", count(int(c.problems), "problem")))
	}
	if r.Unsigned > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s at the end under no signed checkpoint: normal while serve runs, and after a crash until it is started again", count(int(r.Unsigned), "entry")))
	}
	if !r.Trusted {
		r.Warnings = append(r.Warnings, "the keys are those that lay beside the log: whoever could edit it could replace them; give --key from elsewhere")
	}
	if len(r.Checkpoints) == 0 {
		r.Warnings = append(r.Warnings, "no checkpoint from elsewhere was given: that entries were cut off the end cannot be seen; give --checkpoint")
	}
	r.Warnings = slices.Concat(r.Warnings, c.notes)
	r.Sound = len(r.Findings) == 0
	if r.Findings == nil {
		r.Findings = []merkle.Finding{} // in JSON a list
	}
	if r.Checkpoints == nil {
		r.Checkpoints = []checkpointFile{}
	}
	if r.Gaps == nil {
		r.Gaps = []merkle.Entry{}
	}
	if r.Warnings == nil {
		r.Warnings = []string{}
	}
}
