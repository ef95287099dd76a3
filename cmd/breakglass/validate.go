package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/internal/source"
)

// crossCheck finds what is wrong between objects that are each right. Nil: it is
// not checked.
var crossCheck func(*source.Set) []source.Problem

func newValidateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate PATH...",
		Short: "Check manifests offline, as serve would",
		Long: `Check manifests offline, as serve would: nothing is started and nothing is
asked for over the network.

PATH is a file or a directory. Each problem is one line on standard output, as
FILE:LINE: OBJECT: FIELD: what is wrong: what to do. The exit code is 1 if there
is any, so that a pipeline can stop a change.`,
		Example: "  breakglass validate examples/repo",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name at least one PATH, a file or a directory of manifests")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return validate(cmd.OutOrStdout(), cmd.ErrOrStderr(), args)
		},
	}
}

func validate(out, errOut io.Writer, paths []string) error {
	set := source.Load(paths...)
	problems := set.Problems
	if crossCheck != nil {
		problems = append(problems[:len(problems):len(problems)], crossCheck(set)...)
	}
	files := map[string]bool{}
	for _, p := range problems {
		files[p.File] = true
		if _, err := fmt.Fprintln(out, p.Error()); err != nil {
			return err
		}
	}
	switch {
	case len(problems) > 0:
		return fmt.Errorf("%s in %s", count(len(problems), "problem"), count(len(files), "file"))
	case len(set.Origins) == 0:
		return fmt.Errorf("no objects in %s: manifests end in .yaml, .yml or .json", strings.Join(paths, ", "))
	}
	_, err := fmt.Fprintf(errOut, "No problems in %s.\n", count(len(set.Origins), "object"))
	return err
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if stem, ok := strings.CutSuffix(what, "entry"); ok {
		return fmt.Sprintf("%d %sentries", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// span is a row of numbered things of something: "entry 9 of the log is",
// "entries 9 to 11 of the log are".
func span(what, of string, from, to uint64) string {
	if from == to {
		return fmt.Sprintf("%s %d of %s is", what, from, of)
	}
	_, many, _ := strings.Cut(count(2, what), " ")
	return fmt.Sprintf("%s %d to %d of %s are", many, from, to, of)
}
