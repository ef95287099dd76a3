package main

import (
	"io"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/control"
)

type statusOptions struct {
	backend
	output, namespace string
	allNamespaces     bool
}

const statusLong = `Show what is served, what is open and for how long, and what is wrong.

Every namespace is shown unless -n names one. Times left are by serve's clock,
which never goes back; of a cluster, by the clock here. Activations that ended more than an hour ago are counted
only; -o wide lists them.

Of a cluster, what is shown is what the controller has written into the objects,
as far as you may see them.

Exit code 0 says that there was an answer, not that all is well: see READY.` + backendLong

func newStatusCommand() *cobra.Command {
	o := &statusOptions{}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show gateways, routes, activations and problems",
		Long:  statusLong,
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "table", "table, wide, json or yaml")
	f.StringVarP(&o.namespace, "namespace", "n", "", "show this namespace only")
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "show every namespace (the default)")
	cmd.MarkFlagsMutuallyExclusive("namespace", "all-namespaces")
	o.addFlags(cmd)
	fixedCompletion(cmd, "output", "table", "wide", "json", "yaml")
	return cmd
}

func (o *statusOptions) run(cmd *cobra.Command) error {
	if err := checkOutput(o.output, "table", "wide", "json", "yaml"); err != nil {
		return err
	}
	if o.namespace != "" {
		if len(validation.IsDNS1123Label(o.namespace)) > 0 {
			return usagef("--namespace %q: %s", o.namespace, labelForm)
		}
	}
	c, err := o.open(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer c.Close()
	st, err := c.Status(cmd.Context(), o.namespace)
	if err != nil {
		return err
	}
	within(st, o.namespace)
	return o.write(cmd.OutOrStdout(), st)
}

func (o *statusOptions) write(out io.Writer, st *control.Status) error {
	if o.output == "json" || o.output == "yaml" {
		return writeObject(out, o.output, st)
	}
	return writeStatus(out, st, o.output == "wide")
}

// within keeps one namespace of what has namespaces, and the Gateways that its
// routes are attached to: without them its routes could not be understood.
func within(st *control.Status, namespace string) {
	if namespace == "" {
		return
	}
	st.Routes = slices.DeleteFunc(st.Routes, func(r control.RouteStatus) bool { return r.Namespace != namespace })
	st.Activations = slices.DeleteFunc(st.Activations, func(a v1alpha1.Activation) bool { return a.Namespace != namespace })
	st.Gateways = slices.DeleteFunc(st.Gateways, func(g control.GatewayStatus) bool {
		return g.Namespace != namespace && !slices.ContainsFunc(st.Routes, func(r control.RouteStatus) bool {
			return slices.Contains(r.Gateways, g.Namespace+"/"+g.Name)
		})
	})
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no arguments, and %q is one", cmd.CommandPath(), args[0])
	}
	return nil
}
