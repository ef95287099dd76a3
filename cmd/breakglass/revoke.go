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

type revokeOptions struct {
	backend
	all               bool
	namespace, reason string
	timeout           time.Duration
}

const revokeLong = `Close activations before their deadline, for good, and cut their open streams.

NAME is NAME or NAMESPACE/NAME. Without a namespace it is looked up by name. If
one NAME is not known, none is revoked. --all closes everything, or everything
of one namespace with -n.

It waits until they have ended. One that had ended already is no error.` + backendLong

func newRevokeCommand() *cobra.Command {
	o := &revokeOptions{}
	cmd := &cobra.Command{
		Use:     "revoke NAME...|--all",
		Aliases: []string{"close"},
		Short:   "Close activations at once",
		Long:    revokeLong,
		Example: "  breakglass revoke payments/inc-4711-x7k2p\n  breakglass revoke --all --reason \"incident over\"",
		Args: func(_ *cobra.Command, args []string) error {
			if o.all == (len(args) > 0) {
				return usagef("name the activations to revoke, or say --all: `breakglass status` lists them")
			}
			return nil
		},
		RunE:              o.run,
		ValidArgsFunction: completeActivations,
	}
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "everything that is open or waits to open")
	f.StringVarP(&o.namespace, "namespace", "n", "", "namespace of the activations (default: that of the kubeconfig's context, else looked up by their name; with --all: every one)")
	f.StringVar(&o.reason, "reason", "", "why, for the record")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "how long to wait until they have ended")
	o.addFlags(cmd)
	return cmd
}

func (o *revokeOptions) run(cmd *cobra.Command, args []string) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	req := control.RevokeRequest{All: o.all, Reason: strings.TrimSpace(o.reason)}
	if o.all {
		req.Namespace = o.namespace
	}
	for _, arg := range args {
		key, err := parseName(arg, o.namespace)
		if err != nil {
			return err
		}
		req.Names = append(req.Names, key)
	}
	c, err := o.open(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := findNamespaces(ctx, c, req.Names); err != nil {
		return err
	}
	if req.Reason != "" && c.Info().Cluster {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "Warning: a cluster keeps no reason of a revocation: write it into the incident") // a warning is all it is
	}
	asked, err := c.Revoke(ctx, req)
	if err != nil {
		// What could be closed is told all the same.
		return errors.Join(o.report(ctx, out, c, asked), fmt.Errorf("revoke: %w", err))
	}
	if len(asked) == 0 {
		_, err := fmt.Fprintln(out, "Nothing is open.")
		return err
	}
	return o.report(ctx, out, c, asked)
}

// report waits for each to end and says how it did.
func (o *revokeOptions) report(ctx context.Context, out io.Writer, c client.Client, asked []v1alpha1.Activation) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	var late []string
	for i := range asked {
		a := &asked[i]
		key := types.NamespacedName{Namespace: a.Namespace, Name: a.Name}
		// The answer may have come before the end did.
		now, err := c.Wait(ctx, key, func(a *v1alpha1.Activation) bool { return a.Status.Phase.Final() })
		if control.CodeOf(err) == control.NotFound && c.Info().Cluster {
			if _, err := fmt.Fprintf(out, "Deleted: %s\n", key); err != nil { // which closes it, too
				return err
			}
			continue
		}
		if err != nil {
			late = append(late, fmt.Sprintf("%s: %v", key, err))
			continue
		}
		_, err = fmt.Fprintf(out, "%s: %s  route %s, role %s, %s\n", now.Status.Phase, key, targetNames(now), clean(now.Spec.Role), ending(now))
		if err != nil {
			return err
		}
	}
	if len(late) > 0 {
		return fmt.Errorf("revocation was recorded, but these are not known to have ended:\n  %s", strings.Join(late, "\n  "))
	}
	return nil
}

// findNamespaces looks up the names that came without one. One that is not
// final is meant before those that are.
func findNamespaces(ctx context.Context, c client.Client, names []types.NamespacedName) error {
	if !slices.ContainsFunc(names, func(n types.NamespacedName) bool { return n.Namespace == "" }) {
		return nil
	}
	if namespace := c.Info().Namespace; namespace != "" {
		for i := range names {
			names[i].Namespace = cmp.Or(names[i].Namespace, namespace)
		}
		return nil
	}
	st, err := c.Status(ctx, "")
	if err != nil {
		return err
	}
	for i := range names {
		if names[i].Namespace != "" {
			continue
		}
		var open, over []string
		for _, a := range st.Activations {
			switch {
			case a.Name != names[i].Name:
			case a.Status.Phase.Final():
				over = append(over, a.Namespace)
			default:
				open = append(open, a.Namespace)
			}
		}
		found := open
		if len(found) == 0 {
			found = over
		}
		switch len(found) {
		case 0:
			return control.Errorf(control.NotFound, "there is no activation %q: nothing was revoked; `breakglass status` lists them", names[i].Name)
		case 1:
			names[i].Namespace = found[0]
		default:
			slices.Sort(found)
			return usagef("namespaces %s each have an activation %q: write NAMESPACE/%s", strings.Join(found, ", "), names[i].Name, names[i].Name)
		}
	}
	return nil
}
