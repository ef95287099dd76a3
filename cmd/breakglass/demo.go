package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/internal/demo"
)

func newDemoCommand() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Take the tour: the examples on a real Envoy, in under a minute",
		Long: `Take the tour: serve the examples on a real Envoy with an echo backend, break
the glass, and watch everything that must work and everything that must not.
Nothing outside a temporary directory is touched, but the file of --report. The exit code is 1 if any step
did not go as it must.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			o.Self, o.Out = self, cmd.OutOrStdout()
			return demo.Run(ctx, o)
		},
	}
	cmd.Flags().StringVar(&o.EnvoyPath, "envoy", "", "Envoy 1.40 binary (default: $BREAKGLASS_ENVOY, then envoy in PATH)")
	cmd.Flags().StringVar(&o.Report, "report", "", "leave the report of the tour's incident in this file")
	_ = cmd.MarkFlagFilename("report", "html") // the flag is right above
	cmd.Flags().BoolVar(&o.Keep, "keep", false, "leave everything serving after the tour, until Ctrl-C")
	return cmd
}
