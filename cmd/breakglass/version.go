package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/internal/version"
)

func newVersionCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show what this binary is",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output, "text", "json", "yaml"); err != nil {
				return err
			}
			if output == "text" {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), version.String())
				return err
			}
			return writeObject(cmd.OutOrStdout(), output, map[string]string{
				"version": version.Version, "commit": version.Commit, "envoy": version.Envoy,
				"go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text, json or yaml")
	fixedCompletion(cmd, "output", "text", "json", "yaml")
	return cmd
}
