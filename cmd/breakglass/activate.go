package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/client"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// activateOptions are the flags of activate.
type activateOptions struct {
	backend
	role, reason, incident string
	drill                  bool
	duration               time.Duration
	notAfter               string
	namespace, name        string
	noWait, follow         bool
	timeout                time.Duration
	output                 string
	durationSet, followSet bool
}

const activateLong = `Open routes for one emergency role, for a while, on the record.

ROUTE is NAME or NAMESPACE/NAME of an HTTPRoute, or grpcroute/NAME. Add :RULE to open one named rule
of it only. Without a namespace it is looked up by name. Every ROUTE of one
activation is in one namespace.

It waits until Envoy has acknowledged the routes, then prints their URLs, a curl
line to paste, and the deadline; on a terminal it counts down, and Ctrl-C leaves
the door open. What policy and role allow may shorten the window; nothing
lengthens it. Who asked is recorded as the system, or the API server, sees it.` + backendLong

func newActivateCommand() *cobra.Command {
	o := &activateOptions{}
	cmd := &cobra.Command{
		Use:     "activate ROUTE... --role ROLE --reason TEXT --incident ID",
		Short:   "Break the glass: open routes for a while",
		Aliases: []string{"open"},
		Long:    activateLong,
		Example: `  breakglass activate payments/db-failover --role db-failover --incident INC-4711 --reason "primary is gone"
  breakglass activate diagnostics:logs --role diagnostics-readonly --drill --reason "monthly rehearsal" --duration 5m`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name at least one ROUTE: `breakglass status` lists them")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.durationSet, o.followSet = cmd.Flags().Changed("duration"), cmd.Flags().Changed("follow")
			return o.run(cmd, args)
		},
		ValidArgsFunction: completeRoutes,
	}
	f := cmd.Flags()
	f.StringVar(&o.role, "role", "", "emergency role to open for (required)")
	f.StringVar(&o.reason, "reason", "", "why, in words for whoever reviews this (required)")
	f.StringVar(&o.incident, "incident", "", "incident this is for (required unless --drill)")
	f.BoolVar(&o.drill, "drill", false, "a rehearsal: no incident needed, and the policy's drillMaxDuration applies")
	f.DurationVar(&o.duration, "duration", 10*time.Minute, "how long, from 1s to 24h")
	f.StringVar(&o.notAfter, "not-after", "", "close by this time at the latest: RFC 3339, or HH:MM local time; without --duration it alone decides")
	f.StringVarP(&o.namespace, "namespace", "n", "", "namespace of the routes (default: that of the kubeconfig's context, else looked up by their name)")
	f.StringVar(&o.name, "name", "", "name of the activation; never used before (default: made from the incident)")
	f.BoolVar(&o.noWait, "no-wait", false, "do not wait until it is live")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "how long to wait until it is live")
	f.BoolVar(&o.follow, "follow", false, "count down until it ends (default: on a terminal)")
	f.StringVarP(&o.output, "output", "o", "table", "table, json, yaml or name")
	o.addFlags(cmd)
	cmd.MarkFlagsMutuallyExclusive("no-wait", "follow")
	fixedCompletion(cmd, "output", "table", "json", "yaml", "name")
	_ = cmd.RegisterFlagCompletionFunc("role", completeRoles) // the flag is right above
	return cmd
}

func (o *activateOptions) run(cmd *cobra.Command, args []string) error {
	if err := checkOutput(o.output, "table", "json", "yaml", "name"); err != nil {
		return err
	}
	a, targets, err := o.activation(args, time.Now())
	if err != nil {
		return err
	}
	c, err := o.open(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer c.Close()
	ctx := cmd.Context()
	if a.Namespace == "" {
		if a.Namespace, err = namespaceOf(ctx, c, targets); err != nil {
			return err
		}
	}
	seen, err := c.Activate(ctx, control.ActivateRequest{Activation: *a})
	switch key := a.Namespace + "/" + a.Name; {
	case errors.Is(err, client.ErrUnknown):
		return fmt.Errorf("%s was asked for: %w: to take it back once that works again run: breakglass revoke %s%s", key, err, key, o.flags())
	case err != nil:
		return fmt.Errorf("%s was not activated: %w", key, err)
	}
	if !o.noWait {
		seen, err = o.wait(ctx, c, seen, cmd.ErrOrStderr())
	} else if seen.Status.Phase.Final() {
		err = endedError(seen)
	}
	return errors.Join(o.print(cmd, c, seen, err == nil), err)
}

// wait until the activation is live, or cannot be any more. It returns what was
// seen last.
func (o *activateOptions) wait(ctx context.Context, c client.Client, a *v1alpha1.Activation, progress io.Writer) (*v1alpha1.Activation, error) {
	waitCtx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	told := ""
	key := types.NamespacedName{Namespace: a.Namespace, Name: a.Name}
	seen, err := c.Wait(waitCtx, key, func(a *v1alpha1.Activation) bool {
		if a.Status.Phase == v1alpha1.PhaseLive || a.Status.Phase.Final() {
			return true
		}
		// That it is on its way is no news; what stands in its way is.
		if reason, message := why(a); message != "" && reason != reasonOpening && message != told {
			told = message
			_, _ = fmt.Fprintf(progress, "Waiting: %s: %s\n", reason, message) // progress only
		}
		return false
	})
	if seen == nil {
		seen = a
	}
	revoke := "breakglass revoke " + key.String() + o.flags()
	switch {
	case err == nil && seen.Status.Phase == v1alpha1.PhaseLive:
		return seen, nil
	case err == nil:
		return seen, endedError(seen)
	case ctx.Err() != nil:
		return seen, fmt.Errorf("interrupted: %s was asked for and may still open; to take it back run: %s", key, revoke)
	case errors.Is(err, context.DeadlineExceeded):
		reason, message := why(seen)
		return seen, fmt.Errorf("%s is not live after %s: %s\n  it opens once that is put right, until %s; to take it back run: %s",
			key, o.timeout, joinReason(reason, message), deadlineText(seen, time.Now()), revoke)
	}
	return seen, fmt.Errorf("%s was asked for, but how it went is not known: %w", key, err)
}

// print what was asked for in the form that was asked for.
func (o *activateOptions) print(cmd *cobra.Command, c client.Client, a *v1alpha1.Activation, ok bool) error {
	out := cmd.OutOrStdout()
	if !ok && o.output == "table" {
		return nil // the error says it all
	}
	// Without it the URLs are still there.
	st, _ := c.Status(cmd.Context(), a.Namespace)
	if _, err := io.WriteString(cmd.ErrOrStderr(), silence(st)); err != nil {
		return err
	}
	switch {
	case o.output != "table":
		return writeActivation(out, o.output, a)
	case o.noWait:
		_, err := fmt.Fprintf(out, "Requested: %s/%s\nSee how it goes: breakglass status -n %s%s\n", a.Namespace, a.Name, a.Namespace, o.flags())
		return err
	}
	if err := writeOpened(cmd.Context(), out, opened{activation: a, status: st, flags: o.flags(), now: time.Now(), lookup: lookupHost}); err != nil {
		return err
	}
	terminal := isTerminal(out)
	if follow := o.follow || !o.followSet && terminal; !follow {
		return nil
	}
	f := follower{client: c, out: out, errOut: cmd.ErrOrStderr(), redraw: terminal, flags: o.flags()}
	return f.run(cmd.Context(), a)
}

const reasonOpening = "Opening"

// endedError says why an activation that was to be live never will be.
func endedError(a *v1alpha1.Activation) error {
	reason, message := why(a)
	text := fmt.Sprintf("%s/%s was %s", a.Namespace, a.Name, pastTense(a.Status.Phase))
	if s := joinReason(reason, message); s != "" {
		text += ": " + s
	}
	for _, t := range a.Status.Targets {
		if t.Message != "" && t.Message != message {
			text += fmt.Sprintf("\n  %s: %s", targetName(t.TargetReference), joinReason(t.Reason, t.Message))
		}
	}
	return errors.New(text)
}
