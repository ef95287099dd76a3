package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/client"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

type reviewOptions struct {
	backend
	list                             bool
	namespace, verdict, note, output string
	followUps                        []string
	timeout                          time.Duration
}

const reviewLong = `Give the verdict on an activation that has ended, for the record.

Every activation that was open needs one, drills included, by somebody other than
who activated: drill, justified or misuse, and a note on how you came to it. The
first verdict that is accepted stays. Nothing opens or closes by it; but if the
policy says review.onOverdue: Refuse, an overdue one keeps its role shut until
then.

NAME is NAME or NAMESPACE/NAME. --list shows what waits for a review, what is
overdue first. Read first what was done: ` + "`breakglass audit list --activation NAME`." + `

Of a cluster it makes an ActivationReview, which takes the ClusterRole
breakglass-reviewer, and --list shows Activations that are still there: of one that
was deleted the audit log tells, and it is reviewed by its name all the same.` + backendLong

func newReviewCommand() *cobra.Command {
	o := &reviewOptions{}
	cmd := &cobra.Command{
		Use:   "review NAME --verdict drill|justified|misuse --note TEXT",
		Short: "Give the verdict on an activation that has ended",
		Long:  reviewLong,
		Example: "  breakglass review --list\n" +
			"  breakglass review payments/inc-4711-x7k2p --verdict justified --note \"as in the runbook; log read\" --follow-up OPS-12",
		Args: func(_ *cobra.Command, args []string) error {
			if o.list == (len(args) == 1) || len(args) > 1 {
				return usagef("name one activation, or say --list for what waits for a review")
			}
			return nil
		},
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
		ValidArgsFunction: completeReviews,
	}
	f := cmd.Flags()
	f.BoolVarP(&o.list, "list", "l", false, "list what waits for a review")
	f.StringVar(&o.verdict, "verdict", "", "drill (a rehearsal and nothing but), justified or misuse")
	f.StringVar(&o.note, "note", "", "how you came to it, for whoever reads it in a year")
	f.StringArrayVar(&o.followUps, "follow-up", nil, "what is to be done because of it (repeatable)")
	f.StringVarP(&o.namespace, "namespace", "n", "", "namespace of the activation (default: that of the kubeconfig's context, else looked up by its name; with --list: every one)")
	f.StringVarP(&o.output, "output", "o", "table", "table or json")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "how long to wait until it is on record")
	for _, flag := range []string{"verdict", "note", "follow-up"} {
		cmd.MarkFlagsMutuallyExclusive("list", flag)
	}
	o.addFlags(cmd)
	fixedCompletion(cmd, "output", "table", "json")
	fixedCompletion(cmd, "verdict", "drill", "justified", "misuse")
	return cmd
}

func (o *reviewOptions) run(cmd *cobra.Command, args []string) error {
	if err := checkOutput(o.output, "table", "json"); err != nil {
		return err
	}
	var req control.ReviewRequest
	if !o.list {
		var err error
		if req, err = o.request(args[0]); err != nil {
			return err
		}
	}
	c, err := o.open(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	if o.list {
		return o.show(ctx, cmd.OutOrStdout(), c)
	}
	if req.Name.Namespace == "" {
		if req.Name.Namespace, err = o.whereIs(ctx, c, req.Name.Name); err != nil {
			return err
		}
	}
	st, err := c.Review(ctx, req)
	if err != nil {
		return fmt.Errorf("review: %w", err)
	}
	if o.output == "json" {
		return writeObject(cmd.OutOrStdout(), "json", st)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "Reviewed: %s  %s, by %s\n", req.Name, strings.ToLower(string(st.State)), clean(st.By))
	return err
}

// request is what the flags say. Everything that is wrong is told at once.
func (o *reviewOptions) request(arg string) (control.ReviewRequest, error) {
	name, err := parseName(arg, o.namespace)
	if err != nil {
		return control.ReviewRequest{}, err
	}
	req := control.ReviewRequest{Name: name, Note: strings.TrimSpace(o.note)}
	for _, v := range []v1alpha1.Verdict{v1alpha1.VerdictDrill, v1alpha1.VerdictJustified, v1alpha1.VerdictMisuse} {
		if strings.EqualFold(o.verdict, string(v)) {
			req.Verdict = v
		}
	}
	for _, f := range o.followUps {
		req.FollowUps = append(req.FollowUps, strings.TrimSpace(f))
	}
	var wrong []string
	if req.Verdict == "" {
		req.Verdict = v1alpha1.VerdictDrill // told here, in the words of the flag
		wrong = append(wrong, fmt.Sprintf("--verdict %q: say drill, justified or misuse", o.verdict))
	}
	for _, p := range req.Problems() {
		wrong = append(wrong, "--"+strings.NewReplacer("followUps[", "follow-up [", "followUps", "follow-up").Replace(p))
	}
	if len(wrong) > 0 {
		return req, usageError{errors.New(strings.Join(wrong, "\n  "))}
	}
	return req, nil
}

// whereIs looks up the namespace of an activation: one that waits for a review is
// meant before others.
func (o *reviewOptions) whereIs(ctx context.Context, c client.Client, name string) (string, error) {
	if namespace := c.Info().Namespace; namespace != "" {
		return namespace, nil
	}
	st, err := c.Status(ctx, "")
	if err != nil {
		return "", err
	}
	for _, all := range [][]v1alpha1.Activation{unreviewed(st), st.Activations} {
		var found []string
		for _, a := range all {
			if a.Name == name {
				found = append(found, a.Namespace)
			}
		}
		switch len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			slices.Sort(found)
			return "", usagef("namespaces %s each have an activation %q: write NAMESPACE/%s", strings.Join(found, ", "), name, name)
		}
	}
	return "", control.Errorf(control.NotFound, "there is no activation %q: `breakglass review --list` lists what waits for a review; of one that was deleted from a cluster write NAMESPACE/%s", name, name)
}

// waiting is an activation that waits for its review, as -o json has it.
type waiting struct {
	Namespace   string               `json:"namespace"`
	Name        string               `json:"name"`
	Role        string               `json:"role"`
	Incident    string               `json:"incident,omitempty"`
	Drill       bool                 `json:"drill,omitempty"`
	RequestedBy string               `json:"requestedBy,omitempty"`
	Phase       v1alpha1.Phase       `json:"phase"`
	EndedAt     *time.Time           `json:"endedAt,omitempty"`
	State       v1alpha1.ReviewState `json:"state"`
	Due         *time.Time           `json:"due,omitempty"`
}

// unreviewed are those that wait for a review, what is due first first.
func unreviewed(st *control.Status) (out []v1alpha1.Activation) {
	for _, a := range st.Activations {
		if r := a.Status.Review; r != nil && !r.State.Reviewed() {
			out = append(out, a)
		}
	}
	slices.SortStableFunc(out, func(a, b v1alpha1.Activation) int { return dueOf(&a).Compare(dueOf(&b)) })
	return out
}

func dueOf(a *v1alpha1.Activation) time.Time {
	if d := a.Status.Review.Due; d != nil {
		return d.Time
	}
	return time.Time{}
}

func (o *reviewOptions) show(ctx context.Context, out io.Writer, c client.Client) error {
	st, err := c.Status(ctx, o.namespace)
	if err != nil {
		return err
	}
	within(st, o.namespace)
	all := unreviewed(st)
	if o.output == "json" {
		list := []waiting{}
		for i := range all {
			list = append(list, waitingOf(&all[i]))
		}
		return writeObject(out, "json", list)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(out, "Nothing waits for a review.")
		return err
	}
	t := newTable(out, "ACTIVATION", "ROLE", "INCIDENT", "PHASE", "BY", "ENDED", "REVIEW", "DUE")
	for i := range all {
		a := &all[i]
		ended := ""
		if a.Status.EndedAt != nil {
			ended = a.Status.EndedAt.UTC().Format(time.RFC3339)
		}
		t.row(a.Namespace+"/"+a.Name, a.Spec.Role, incidentOf(a), string(a.Status.Phase), a.Status.RequestedBy, ended, string(a.Status.Review.State), dueText(a, st.Now))
	}
	return t.flush()
}

// dueText says by when, or since when, the review of a is asked for.
func dueText(a *v1alpha1.Activation, now time.Time) string {
	due := dueOf(a)
	if d := due.Sub(now); d > 0 {
		return fmt.Sprintf("%s (in %s)", due.UTC().Format(time.RFC3339), left(d))
	}
	return fmt.Sprintf("%s (%s ago)", due.UTC().Format(time.RFC3339), left(now.Sub(due)))
}

func waitingOf(a *v1alpha1.Activation) waiting {
	w := waiting{
		Namespace: a.Namespace, Name: a.Name, Role: a.Spec.Role, Incident: a.Spec.Incident, Drill: a.Spec.Drill,
		RequestedBy: cmp.Or(a.Status.RequestedBy, a.Spec.RequestedBy), Phase: a.Status.Phase, State: a.Status.Review.State,
	}
	if e := a.Status.EndedAt; e != nil {
		w.EndedAt = new(e.UTC())
	}
	if d := a.Status.Review.Due; d != nil {
		w.Due = new(d.UTC())
	}
	return w
}

// reviewsText says in one line what waits for a review, "" for nothing.
func reviewsText(st *control.Status) string {
	all := unreviewed(st)
	if len(all) == 0 {
		return ""
	}
	var overdue []string
	for i := range all {
		if a := &all[i]; a.Status.Review.State == v1alpha1.ReviewOverdue {
			overdue = append(overdue, (types.NamespacedName{Namespace: a.Namespace, Name: a.Name}).String())
		}
	}
	const most = 5
	text := fmt.Sprintf("REVIEWS  %d wait", len(all))
	if n := len(overdue); n > 0 {
		text += fmt.Sprintf(", %d OVERDUE: %s", n, strings.Join(overdue[:min(n, most)], ", "))
		if n > most {
			text += fmt.Sprintf(" and %d more", n-most)
		}
	}
	return text + "; `breakglass review --list` lists them\n"
}
