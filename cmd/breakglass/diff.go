package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
	"github.com/breakglass-gateway/breakglass-gateway/internal/diff"
	"github.com/breakglass-gateway/breakglass-gateway/internal/posture"
)

// errDiffers ends with exit code 1 and says nothing, as diff does.
var errDiffers = errors.New("there are differences")

type diffOptions struct {
	manifests
	at, output, color string
}

const diffLong = `Say what a change of manifests would open or close, in a reviewer's words: routes
and where they are reached, what they reach, which roles could open them and for
how long, who holds the roles, issuers and keys, limits and scope rules; and the
windows that are open now and would be cut or shortened.

What lets in more (more people, more paths, for longer) is marked WIDENS; what lets
in less, narrows; what only a reviewer can judge, changes.

Two directories are compared, or with -c NEW --live a directory with what the
running serve has in use. In a directory, its Activations are the windows that are
open, from --at on.

Exit codes: 0 no difference; 1 there are some; 2 it could not be compared.`

func newDiffCommand() *cobra.Command {
	o := &diffOptions{}
	cmd := &cobra.Command{
		Use:   "diff (OLD NEW | -c NEW --live)",
		Short: "Say what a change of manifests would open or close",
		Long:  diffLong,
		Example: `  breakglass diff main-checkout my-branch
  breakglass diff -c my-branch --live
  breakglass diff OLD NEW -o json | jq '.changes[] | select(any(.facts[]; .effect == "widens"))'`,
		Args: func(_ *cobra.Command, args []string) error { return o.checkArgs(args) },
		RunE: cleanly(func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) }),
	}
	f := cmd.Flags()
	f.StringVar(&o.at, "at", "", "the time at which windows are open, RFC 3339 (default: now)")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	addColorFlag(cmd, &o.color)
	fixedCompletion(cmd, "output", "text", "json")
	o.addFlags(cmd)
	return cmd
}

func (o *diffOptions) checkArgs(args []string) error {
	switch {
	case len(args) == 2 && o.config == "" && !o.live:
		return nil
	case len(args) == 0 && o.config != "" && o.live:
		return nil
	}
	return usagef("name two directories of manifests, OLD and NEW, or compare one with the running serve: -c NEW --live")
}

func (o *diffOptions) run(cmd *cobra.Command, args []string) error {
	if err := checkOutput(o.output, "text", "json"); err != nil {
		return err
	}
	color, err := paintFor(o.color, cmd.OutOrStdout())
	if err != nil {
		return err
	}
	report, err := o.compare(cmd, args)
	if err == nil {
		err = o.write(cmd.OutOrStdout(), cmd.ErrOrStderr(), color, report)
	}
	if err != nil {
		return usageError{err} // exit code 1 says that there are differences, and that is not known
	}
	if len(report.Changes) > 0 {
		return errDiffers
	}
	return nil
}

func (o *diffOptions) compare(cmd *cobra.Command, args []string) (*diff.Report, error) {
	at, err := atFlag(o.at, time.Now())
	if err != nil {
		return nil, err
	}
	old, next := &manifests{connection: o.connection, live: true}, &manifests{config: o.config}
	if len(args) == 2 {
		old, next = &manifests{config: args[0]}, &manifests{config: args[1]}
	}
	before, err := old.load(cmd)
	if err != nil {
		return nil, err
	}
	defer before.close()
	after, err := next.load(cmd)
	if err != nil {
		return nil, err
	}
	if err := after.sound(cmd.ErrOrStderr(), next.name()); err != nil {
		return nil, err
	}
	if n := len(before.set.Problems); n > 0 {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "Warning: %s in %s: what is wrong there is taken as not there.\n", count(n, "problem"), old.name()) // the report goes on
	}
	var open diff.Open
	if before.client != nil {
		if open, at, err = openWindows(cmd.Context(), before); err != nil {
			return nil, err
		}
	}
	busy := working(cmd.ErrOrStderr(), "comparing")
	defer busy.done()
	was, is := before.set.Objects, after.set.Objects
	report := diff.Compare(posture.Of(was, at), posture.Of(is, at))
	return report, report.Windows(was, is, at, open)
}

// openWindows are the windows of a running serve, and its time.
func openWindows(ctx context.Context, l *loaded) (diff.Open, time.Time, error) {
	open := diff.Open{Requests: map[types.NamespacedName]activation.Record{}, Seen: map[types.NamespacedName]time.Time{}}
	st, err := l.client.Status(ctx)
	if err != nil {
		return open, time.Time{}, err
	}
	for i := range st.Activations {
		a := &st.Activations[i]
		key, start := types.NamespacedName{Namespace: a.Namespace, Name: a.Name}, a.CreationTimestamp.Time
		switch {
		case a.Status.Phase.Final():
			delete(l.set.Activations, key) // its name is spent: it opens nothing again
		case l.set.Activations[key] != nil:
			open.Seen[key] = start
		default:
			open.Requests[key] = activation.New(a, activation.Control, "", start)
		}
	}
	return open, st.Now, nil
}

func (o *diffOptions) write(out, errOut io.Writer, color paint, r *diff.Report) error {
	if o.output == "json" {
		return writeObject(out, "json", struct {
			*diff.Report
			Widens  int `json:"widens"`
			Narrows int `json:"narrows"`
			Changes int `json:"toJudge"`
		}{r, r.Count(diff.Widens), r.Count(diff.Narrows), r.Count(diff.Changes)})
	}
	if len(r.Changes) == 0 {
		_, err := fmt.Fprintln(errOut, "Nothing would open or close.")
		return err
	}
	var b strings.Builder
	for i, c := range r.Changes {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s %s\n", color.bold(clean(c.Object)), kindText(c.Kind))
		for _, f := range c.Facts {
			fmt.Fprintf(&b, "  %s %s\n", effectText(color, f.Effect), clean(factText(c.Kind, f)))
		}
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(errOut, "%s: %d widen, %d narrow, %d to judge.\n", count(len(r.Changes), "object"), r.Count(diff.Widens), r.Count(diff.Narrows), r.Count(diff.Changes))
	return err
}

func kindText(k diff.Kind) string {
	if k == diff.Window {
		return "open now"
	}
	return string(k)
}

func effectText(color paint, e diff.Effect) string {
	switch e {
	case diff.Widens:
		return color.red("WIDENS ")
	case diff.Narrows:
		return color.green("narrows")
	}
	return color.yellow("changes")
}

func factText(k diff.Kind, f diff.Fact) string {
	topic := strings.TrimSuffix(f.Topic, ":") + ": "
	switch {
	case k == diff.Window:
		return topic + f.Is
	case f.Was == "":
		return topic + "+ " + f.Is
	case f.Is == "":
		return topic + "- " + f.Was
	}
	return topic + f.Was + " -> " + f.Is
}
