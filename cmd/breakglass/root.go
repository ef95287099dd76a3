package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/internal/version"
)

// Exit codes. They are API: scripts depend on them.
const (
	exitOK     = 0
	exitFailed = 1 // failed, refused, or what was checked is wrong
	exitUsage  = 2 // the command line is wrong and nothing was tried
)

// usageError is a command line that cannot be meant.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usagef makes an error that ends with exit code 2.
func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

const rootLong = `Breakglass Gateway opens dormant emergency routes on Envoy: for a while, for
one role, on the record.

A route is served only while an activation of it is open, and only to a
short-lived token that carries the right emergency role. At the deadline it is
gone, and its open streams are cut.

Exit codes: 0 it is done; 1 it failed, was refused, or what was checked is
wrong; 2 the command line is wrong and nothing was tried.`

// newRootCommand lists every command.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "breakglass",
		Short: "Open dormant emergency routes on Envoy, for a while, on the record",
		Long:  rootLong,
		Example: `  breakglass status
  breakglass activate payments/db-failover --role db-failover --incident INC-4711 --reason "primary is gone"
  breakglass revoke --all`,
		Version: version.Version,
		// Errors are written once, by execute; usage is for those who ask.
		SilenceErrors: true,
		SilenceUsage:  true,
		// With no command at all this is a question, not a mistake.
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknownCommand(cmd, args[0])
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.SetVersionTemplate(version.String() + "\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(commands()...)
	return root
}

func unknownCommand(cmd *cobra.Command, name string) error {
	hint := ""
	if s := cmd.SuggestionsFor(name); len(s) > 0 {
		hint = fmt.Sprintf(": did you mean %q?", s[0])
	}
	return usagef("unknown command %q%s", name, hint)
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	started := false
	noteStart(root, &started)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errDiffers) {
		return exitFailed // what differs was told
	}
	_, _ = fmt.Fprintf(errOut, "Error: %v\n", err) // nowhere else to say it
	var usage usageError
	if errors.As(err, &usage) || !started {
		_, _ = fmt.Fprintf(errOut, "Run '%s --help' for usage.\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailed
}

// noteStart makes every command tell that it has begun: an error before that
// (flags, arguments, an unknown command) is one of the command line.
func noteStart(cmd *cobra.Command, started *bool) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return run(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		noteStart(c, started)
	}
}
