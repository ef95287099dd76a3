package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
	"github.com/breakglass-gateway/breakglass-gateway/internal/client"
)

// clusterLog is the audit log of a cluster, if it is that which is meant.
type clusterLog struct {
	cluster                        bool
	kubeconfig, context, namespace string
}

const clusterLogLong = `

With --cluster, --kubeconfig or --context it is the log of that cluster, over its audit
log service: whoever reads it needs the role breakglass-auditor, and is written into it.`

func (c *clusterLog) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&c.cluster, "cluster", false, "the audit log of the cluster that kubectl would ask")
	f.StringVar(&c.kubeconfig, "kubeconfig", "", "the audit log of the cluster of this kubeconfig")
	f.StringVar(&c.context, "context", "", "the audit log of the cluster of this context of the kubeconfig")
	f.StringVar(&c.namespace, "release-namespace", client.ReleaseNamespace, "namespace of the release in that cluster")
	_ = cmd.MarkFlagFilename("kubeconfig") // the flag is right above
	if f.Lookup("data-dir") == nil {
		return
	}
	for _, name := range []string{"cluster", "kubeconfig", "context"} {
		cmd.MarkFlagsMutuallyExclusive("data-dir", name)
	}
}

func (c *clusterLog) named() bool { return c.cluster || c.kubeconfig != "" || c.context != "" }

func (c *clusterLog) open(ctx context.Context) (*client.AuditLog, error) {
	cluster, err := client.Connect(c.kubeconfig, c.context)
	if errors.Is(err, client.ErrNoCluster) {
		return nil, usagef("%v: name one with --kubeconfig", err)
	}
	if err != nil {
		return nil, err
	}
	return cluster.AuditLog(ctx, c.namespace)
}

// copied is a copy of the log in a directory that remove removes.
func (c *clusterLog) copied(ctx context.Context) (dir string, remove func(), err error) {
	log, err := c.open(ctx)
	if err != nil {
		return "", nil, err
	}
	defer log.Close()
	if dir, err = os.MkdirTemp("", "breakglass-audit-"); err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) } // it is a copy
	if _, err := log.CopyLog(ctx, dir, nil); err != nil {
		remove()
		return "", nil, err
	}
	return dir, remove, nil
}

// asked is what of a filter the service is asked for; whole if that is all of it. The
// rest is looked at here.
func (a *auditFilter) asked(f merkle.Filter) (v url.Values, whole bool) {
	v = url.Values{}
	for name, value := range map[string]string{"activation": a.activation, "incident": a.incident} {
		if value != "" {
			v.Set(name, value)
		}
	}
	for name, t := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !t.IsZero() {
			v.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	v["kind"] = a.kinds
	return v, a.subject == "" && a.route == "" && a.role == "" && a.request == "" && !a.denied
}

// listCluster shows the entries of the log of a cluster: the newest limit of those that
// fit, or all, and with follow what comes.
func (o *auditListOptions) listCluster(cmd *cobra.Command, all bool) error {
	f, err := o.checked()
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	log, err := o.remote.open(ctx)
	if err != nil {
		return err
	}
	defer log.Close()
	write := entryWriter(cmd.OutOrStdout(), o.output)
	query, whole := o.asked(f)
	if all {
		return log.Entries(ctx, query, o.fitting(f, write))
	}
	if whole && o.limit > 0 {
		query.Set("last", strconv.Itoa(o.limit))
		if o.follow {
			query.Set("follow", "true")
		}
		return seenEnough(ctx, log.Entries(ctx, query, write))
	}
	next, err := o.newestOf(ctx, log, query, f, write)
	if err != nil || !o.follow {
		return err
	}
	query.Set("follow", "true")
	query.Set("from", strconv.FormatUint(next, 10))
	return seenEnough(ctx, log.Entries(ctx, query, o.fitting(f, write)))
}

// checked is the filter, if the flags are good.
func (o *auditListOptions) checked() (f merkle.Filter, err error) {
	if err = checkOutput(o.output, "table", "json"); err != nil {
		return f, err
	}
	if o.limit < 0 {
		return f, usagef("%d entries cannot be shown: write 0 or more", o.limit)
	}
	return o.filter(time.Now())
}

func (o *auditListOptions) fitting(f merkle.Filter, write func(merkle.Entry) error) func(merkle.Entry) error {
	return func(e merkle.Entry) error {
		if !f.Match(&e) {
			return nil
		}
		return write(e)
	}
}

// newestOf shows the newest entries that fit of all that the service hands out, and
// returns the seq after the last that was there.
func (o *auditListOptions) newestOf(ctx context.Context, log *client.AuditLog, query url.Values, f merkle.Filter, write func(merkle.Entry) error) (next uint64, err error) {
	// Where the log is now: what comes meanwhile is shown when it is followed.
	err = log.Entries(ctx, url.Values{"last": {"1"}}, func(e merkle.Entry) error { next = e.Seq + 1; return nil })
	if err != nil || o.limit == 0 {
		return next, err
	}
	query.Set("to", strconv.FormatUint(next, 10))
	defer query.Del("to")
	var kept []merkle.Entry
	err = log.Entries(ctx, query, o.fitting(f, func(e merkle.Entry) error {
		if kept = append(kept, e); len(kept) >= 2*o.limit {
			kept = slices.Delete(kept, 0, len(kept)-o.limit)
		}
		return nil
	}))
	if err != nil {
		return next, err
	}
	for _, e := range kept[max(0, len(kept)-o.limit):] {
		if err := write(e); err != nil {
			return next, err
		}
	}
	return next, nil
}

// seenEnough is no error.
func seenEnough(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// showClusterEntry shows one entry of the log of a cluster.
func showClusterEntry(cmd *cobra.Command, remote *clusterLog, seq uint64, output string) error {
	log, err := remote.open(cmd.Context())
	if err != nil {
		return err
	}
	defer log.Close()
	var found *merkle.Entry
	query := url.Values{"from": {strconv.FormatUint(seq, 10)}, "to": {strconv.FormatUint(seq+1, 10)}}
	if err := log.Entries(cmd.Context(), query, func(e merkle.Entry) error { found = &e; return nil }); err != nil {
		return err
	}
	if found == nil || found.Seq != seq {
		return fmt.Errorf("entry %d is not in the log of the cluster: `breakglass audit tail -n 1 --cluster` shows the newest", seq)
	}
	if output == "json" {
		return writeEntry(cmd.OutOrStdout(), *found)
	}
	pretty, err := prettyEntry(found.Line())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "entry   %d, %s\nsource  %s\nproof   breakglass audit prove %d, with the same flags\n%s", seq, clean(tellEntry(*found).event), clean(sourceOf(found)), seq, pretty)
	return err
}

// proveClusterEntry writes the proof of an entry of the log of a cluster. Keys come
// with a copy, and not with what they are to check.
func proveClusterEntry(cmd *cobra.Command, remote *clusterLog, seq uint64, keys []string) error {
	if len(keys) == 0 {
		return usagef("--key is missing: name the verifier keys that you trust, such as audit.pub of a copy (breakglass audit copy) or what `breakglass audit key` printed")
	}
	log, err := remote.open(cmd.Context())
	if err != nil {
		return err
	}
	defer log.Close()
	p, err := log.Proof(cmd.Context(), seq)
	if err != nil {
		return err
	}
	if err := p.Check(keys); err != nil {
		return err
	}
	return json.NewEncoder(cmd.OutOrStdout()).Encode(p)
}

func newAuditCopyCommand() *cobra.Command {
	var remote clusterLog
	var output string
	cmd := &cobra.Command{
		Use:   "copy DIR",
		Short: "Copy the audit log of a cluster, or what is new in it",
		Long: `Copy the audit log of a cluster into DIR, over its audit log service. What is in DIR
already does not come again; a copy that broke off is finished the next time. In the
end DIR is the log as its newest checkpoint has it, without the signing key: give it
to the other audit commands with --data-dir, and verify it.

Whoever copies needs the role breakglass-auditor, and is written into the log.`,
		Example: `  breakglass audit copy /mnt/case
  breakglass audit copy /mnt/case --kubeconfig prod.yaml && breakglass audit verify --data-dir /mnt/case --key audit-keys.txt`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name one directory to copy into")
			}
			return checkOutput(output, "table", "json")
		},
		RunE: cleanly(func(cmd *cobra.Command, args []string) error {
			log, err := remote.open(cmd.Context())
			if err != nil {
				return err
			}
			defer log.Close()
			done, err := log.CopyLog(cmd.Context(), args[0], nil)
			if err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(cmd.OutOrStdout(), done)
			}
			return tellCopied(cmd.OutOrStdout(), done)
		}),
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	fixedCompletion(cmd, "output", "table", "json")
	remote.addFlags(cmd)
	return cmd
}

func tellCopied(out io.Writer, c *client.Copied) error {
	_, err := fmt.Fprintf(out, "Copied: %s has %d entries of %s (%d bytes came)\nVerify it: breakglass audit verify --data-dir %s --key KEYS --checkpoint CHECKPOINTS\n",
		clean(c.Dir), c.Entries, clean(c.Origin), c.Bytes, shellQuote(c.Dir))
	return err
}
