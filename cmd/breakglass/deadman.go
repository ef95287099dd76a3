package main

import (
	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/internal/dataplane"
)

// newDeadmanCommand is started by serve next to each Envoy, to end it when
// nobody adopts it. It is not for people.
func newDeadmanCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:    "deadman --dir DIR",
		Short:  "End the Envoy of a directory once nobody needs it",
		Hidden: true,
		Args:   noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return usagef("--dir is missing")
			}
			return dataplane.RunDeadman(cmd.Context(), dir)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory of one Envoy")
	return cmd
}
