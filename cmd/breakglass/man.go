package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/breakglass-gateway/breakglass-gateway/internal/version"
)

// newManCommand is for those who package this; `make man` runs it.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the man pages of every command",
		Hidden: true,
		Long: `Write the man pages of every command, breakglass-COMMAND.1, to DIR, which is made
if it is not there. $SOURCE_DATE_EPOCH, if set, is the date in them.`,
		Example: "  breakglass man /usr/local/share/man/man1",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name the one directory to write to")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("directory for man pages: %w", err)
			}
			header := &doc.GenManHeader{Section: "1", Source: "Breakglass Gateway " + version.Version, Manual: "Breakglass Gateway"}
			if err := doc.GenManTree(cmd.Root(), header, args[0]); err != nil {
				return fmt.Errorf("man pages: %w", err)
			}
			return nil
		},
	}
}
