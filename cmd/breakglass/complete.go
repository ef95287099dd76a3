package main

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

// statusForCompletion asks quickly or not at all: a Tab must not hang.
func statusForCompletion(cmd *cobra.Command) *control.Status {
	c := &backend{}
	c.dataDir, _ = cmd.Flags().GetString("data-dir") // completing without is fine
	c.socket, _ = cmd.Flags().GetString("socket")    // likewise
	c.kubeconfig, _ = cmd.Flags().GetString("kubeconfig")
	c.context, _ = cmd.Flags().GetString("context")
	client, err := c.open(io.Discard)
	if err != nil {
		return nil
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	st, err := client.Status(ctx, "")
	if err != nil {
		return nil
	}
	return st
}

func complete(cmd *cobra.Command, list func(*control.Status) []string) ([]string, cobra.ShellCompDirective) {
	st := statusForCompletion(cmd)
	if st == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	out := list(st)
	slices.Sort(out)
	return slices.Compact(out), cobra.ShellCompDirectiveNoFileComp
}

func completeRoutes(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return complete(cmd, func(st *control.Status) (out []string) {
		for _, r := range st.Routes {
			out = append(out, routeArg(r.Kind, r.Namespace+"/"+r.Name))
		}
		return out
	})
}

// completeRoles offers the roles of the routes that were named already, else all.
func completeRoles(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return complete(cmd, func(st *control.Status) (out []string) {
		for _, r := range st.Routes {
			named := len(args) == 0 || slices.ContainsFunc(args, func(arg string) bool {
				t, err := parseTarget(arg)
				return err == nil && t.is(&r)
			})
			if named && r.Role != "" {
				out = append(out, r.Role)
			}
		}
		return out
	})
}

// completeReviews offers what waits for a review.
func completeReviews(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return complete(cmd, func(st *control.Status) (out []string) {
		for _, a := range unreviewed(st) {
			out = append(out, a.Namespace+"/"+a.Name)
		}
		return out
	})
}

func completeActivations(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return complete(cmd, func(st *control.Status) (out []string) {
		for _, a := range st.Activations {
			if !a.Status.Phase.Final() {
				out = append(out, a.Namespace+"/"+a.Name)
			}
		}
		return out
	})
}
