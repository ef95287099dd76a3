package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

type auditListOptions struct {
	auditFilter
	output string
	limit  int
	follow bool
	below  string
	// unfinished: only intents without an end.
	unfinished bool
	remote clusterLog
}

func newAuditListCommand() *cobra.Command {
	o := &auditListOptions{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show the entries of the audit log, the oldest first",
		Long: `Show the entries of the audit log, the oldest first, as they come from the disk.
Every entry is one line: a stream that was noted at its start has a second one for
its end. This does not verify anything: see breakglass audit verify.

With -o json each line is the entry as it is stored.

--unfinished shows the intents (audit.mode Strict) of requests without an end: they are
open still, or nobody lived to tell whether they were forwarded.

Each controller and each pod of a cluster has a log of its own: --below shows all that
are below a directory as one, each line with the log that it is in.
` + auditFilterLong + clusterLogLong,
		Example: `  breakglass audit list --incident INC-4711
  breakglass audit list --denied --since 2h
  breakglass audit list --kind activation --kind policy --until 2026-11-24T06:00:00Z
  breakglass audit list --subject alice -o json | jq .data.path
  breakglass audit list --cluster --incident INC-4711
  breakglass audit list --below /srv/copy-of-all-logs --incident INC-4711`,
		Args: noArgs,
		RunE: cleanly(func(cmd *cobra.Command, _ []string) error {
			if o.below != "" {
				return o.listBelow(cmd, o.below)
			}
			if o.remote.named() {
				return o.listCluster(cmd, o.limit == 0)
			}
			return o.list(cmd)
		}),
	}
	cmd.Flags().StringVar(&o.below, "below", "", "show all logs below this directory together, such as those of a cluster's controllers and pods, in the order of their times")
	_ = cmd.MarkFlagDirname("below") // the flag is right above
	cmd.Flags().IntVar(&o.limit, "limit", 0, "the newest N that fit (0: all)")
	cmd.Flags().BoolVar(&o.unfinished, "unfinished", false, "only intents of requests that have no end in this log")
	o.addFlags(cmd)
	for _, name := range []string{"cluster", "kubeconfig", "context"} {
		cmd.MarkFlagsMutuallyExclusive("below", name)
		cmd.MarkFlagsMutuallyExclusive("unfinished", name)
	}
	cmd.MarkFlagsMutuallyExclusive("unfinished", "below")
	return cmd
}

func newAuditTailCommand() *cobra.Command {
	o := &auditListOptions{}
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Show the newest entries of the audit log, and follow it",
		Long: `Show the newest entries of the audit log that fit, and with -f each further one
as soon as a signed checkpoint covers it, until interrupted.

With -o json each line is the entry as it is stored.
` + auditFilterLong + clusterLogLong,
		Example: `  breakglass audit tail
  breakglass audit tail -f --cluster
  breakglass audit tail -f -n 0 --denied
  breakglass audit tail -f --route payments/db-failover -o json`,
		Args: noArgs,
		RunE: cleanly(func(cmd *cobra.Command, _ []string) error {
			if o.remote.named() {
				return o.listCluster(cmd, false)
			}
			return o.tail(cmd)
		}),
	}
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on with what comes")
	cmd.Flags().IntVarP(&o.limit, "lines", "n", 20, "begin with the newest N that fit")
	o.addFlags(cmd)
	return cmd
}

func (o *auditListOptions) addFlags(cmd *cobra.Command) {
	o.auditFilter.addFlags(cmd)
	cmd.Flags().StringVarP(&o.output, "output", "o", "table", "table or json")
	fixedCompletion(cmd, "output", "table", "json")
	addLogFlag(cmd)
	o.remote.addFlags(cmd)
}

func (o *auditListOptions) prepare(cmd *cobra.Command) (dir string, f merkle.Filter, err error) {
	if f, err = o.checked(); err != nil {
		return "", f, err
	}
	dir, err = logDir(cmd)
	return dir, f, err
}

func (o *auditListOptions) list(cmd *cobra.Command) error {
	dir, f, err := o.prepare(cmd)
	if err != nil {
		return err
	}
	p := newProgress(cmd.ErrOrStderr())
	defer p.clear()
	if o.unfinished {
		if f.Match, err = unfinished(cmd.Context(), dir, f.Match); err != nil {
			return readErr(err)
		}
	}
	f.Match = p.reading(f.Match)
	write := p.writing(entryWriter(cmd.OutOrStdout(), o.output))
	if o.limit == 0 {
		return readErr(merkle.Read(cmd.Context(), dir, f, write))
	}
	_, err = writeLast(cmd.Context(), dir, f, o.limit, write)
	return err
}

func (o *auditListOptions) tail(cmd *cobra.Command) error {
	dir, f, err := o.prepare(cmd)
	if err != nil {
		return err
	}
	p := newProgress(cmd.ErrOrStderr())
	ctx, write := cmd.Context(), p.writing(entryWriter(cmd.OutOrStdout(), o.output))
	first := f
	first.Match = p.reading(f.Match)
	next, err := writeLast(ctx, dir, first, o.limit, write)
	p.clear()
	if err != nil || !o.follow {
		return err
	}
	f.From = next
	if err = merkle.Follow(ctx, dir, f, write); ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil // somebody has seen enough
	}
	return readErr(err)
}

func writeLast(ctx context.Context, dir string, f merkle.Filter, n int, write func(merkle.Entry) error) (next uint64, err error) {
	entries, next, err := readLast(ctx, dir, f, n)
	for _, e := range entries {
		if err := write(e); err != nil {
			return next, err
		}
	}
	return next, readErr(err)
}

// readErr adds what to do about a log that cannot be read.
func readErr(err error) error {
	var corrupt *merkle.CorruptError
	if errors.As(err, &corrupt) {
		return fmt.Errorf("%w; `breakglass audit verify` says all that is wrong", err)
	}
	return err
}
