package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	yamlv3 "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
	"github.com/breakglass-gateway/breakglass-gateway/internal/render"
)

type renderOptions struct {
	manifests
	at, gateway, output string
	opens               []string
	full                bool
}

const renderLong = `Show what Envoy would get, from manifests and a time: every xDS resource, by
Gateway and type.

Nothing is started and nothing is opened. Routes are dormant, as they are in
serve; --open shows one as if its window had just been opened, and Activations
among the manifests are taken as first seen at that time. What a window comes to
is under windows: a role that may not open a route is refused here as it is there.

The same manifests and time give the same output, so that it can be kept and
compared. Private keys and key sets are digests. What a repository rightly does
not hold, keys and certificates, is replaced by stand-ins, and each is named
under standIns.`

func newRenderCommand() *cobra.Command {
	o := &renderOptions{}
	cmd := &cobra.Command{
		Use:   "render (-c DIR | --live)",
		Short: "Show what Envoy would get, from manifests and a time",
		Long:  renderLong,
		Example: `  breakglass render -c examples/repo
  breakglass render -c examples/repo --open payments/db-failover#promote:db-failover:10m --at 2026-11-24T03:00:00Z
  breakglass render -c examples/repo --gateway breakglass/emergency -o json
  diff <(breakglass render -c old --at 2026-11-24T03:00:00Z) <(breakglass render -c new --at 2026-11-24T03:00:00Z)`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.at, "at", "", "the time, RFC 3339 (default: now)")
	f.StringArrayVar(&o.opens, "open", nil, "show a route open: NAMESPACE/NAME[#RULE][:ROLE[:DURATION]] (repeatable; default role: the route's label; default duration: the policy's)")
	f.StringVar(&o.gateway, "gateway", "", "this Gateway only, NAMESPACE/NAME")
	f.BoolVar(&o.full, "full", false, "show the filters that hold the locks and the access logs too, which are the same in every Gateway")
	f.StringVarP(&o.output, "output", "o", "yaml", "yaml or json")
	fixedCompletion(cmd, "output", "yaml", "json")
	o.addFlags(cmd)
	return cmd
}

func (o *renderOptions) run(cmd *cobra.Command) error {
	if err := checkOutput(o.output, "yaml", "json"); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	opts, err := o.options(time.Now())
	if err != nil {
		return err
	}
	l, err := o.load(cmd)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.sound(cmd.ErrOrStderr(), o.name()); err != nil {
		return err
	}
	busy := working(cmd.ErrOrStderr(), "translating")
	doc, err := render.Render(l.set.Objects, opts)
	busy.done()
	if err != nil {
		return err
	}
	return o.write(cmd.OutOrStdout(), doc)
}

func (o *renderOptions) options(now time.Time) (opts render.Options, err error) {
	if opts.At, err = atFlag(o.at, now); err != nil {
		return opts, err
	}
	opts.Full = o.full
	if o.gateway != "" {
		if opts.Gateway, err = parseKey("--gateway", o.gateway); err != nil {
			return opts, err
		}
	}
	for _, text := range o.opens {
		open, err := parseOpen(text)
		if err != nil {
			return opts, err
		}
		opts.Opens = append(opts.Opens, open)
	}
	return opts, nil
}

// parseOpen reads [grpcroute/]NAMESPACE/NAME[#RULE][:ROLE[:DURATION]].
func parseOpen(text string) (open render.Open, err error) {
	parts := strings.Split(text, ":")
	if len(parts) > 3 {
		return open, usagef("--open %q: write NAMESPACE/NAME[#RULE][:ROLE[:DURATION]]", text)
	}
	route, rule, named := strings.Cut(parts[0], "#")
	open.Route.Kind = v1alpha1.KindHTTPRoute
	if name, grpc := strings.CutPrefix(route, "grpcroute/"); grpc {
		open.Route.Kind, route = v1alpha1.KindGRPCRoute, name
	}
	if open.Route.NamespacedName, err = parseKey("--open", route); err != nil {
		return open, err
	}
	if named && len(validation.IsDNS1123Subdomain(rule)) > 0 {
		return open, usagef("--open %q: %q is not the name of a rule: write NAMESPACE/NAME#RULE", text, rule)
	}
	open.Rule = rule
	if len(parts) > 1 {
		open.Role = parts[1]
	}
	if len(parts) > 2 {
		if open.Duration, err = time.ParseDuration(parts[2]); err != nil || open.Duration < time.Second {
			return open, usagef("--open %q: %q is not a duration of at least 1s, such as 15m", text, parts[2])
		}
	}
	return open, nil
}

func (o *renderOptions) write(out io.Writer, doc *render.Document) error {
	if o.output == "json" {
		return writeObject(out, o.output, doc)
	}
	if _, err := fmt.Fprintf(out, "# What Envoy would get at %s from %s.\n", doc.At.Format(time.RFC3339), clean(o.name())); err != nil {
		return err
	}
	// In the order of the document's fields: a name before what it names.
	e := yamlv3.NewEncoder(out)
	e.SetIndent(2)
	if err := e.Encode(doc); err != nil {
		return err
	}
	return e.Close()
}
