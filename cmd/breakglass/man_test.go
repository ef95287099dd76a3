package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestManPagesMentionEveryFlag(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1795489200")
	dir := filepath.Join(t.TempDir(), "man1")
	var out, errOut strings.Builder
	if code := execute(context.Background(), []string{"man", dir}, nil, &out, &errOut); code != exitOK {
		t.Fatalf("exit code %d: %s", code, errOut.String())
	}
	pages := 0
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		page, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1"))
		if err != nil {
			t.Error(err)
			return
		}
		pages++
		// roff writes a dash of a flag as it is or escaped.
		text := strings.ReplaceAll(string(page), `\-`, "-")
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(text, "--"+f.Name) {
				t.Errorf("%s: no word of --%s", cmd.CommandPath(), f.Name)
			}
		})
		if cmd.HasSubCommands() || cmd.Name() == "version" {
			// fine without an example
		} else if cmd.Example != "" && !strings.Contains(text, "EXAMPLE") {
			t.Errorf("%s: its example is missing", cmd.CommandPath())
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newRootCommand())
	if pages < 20 {
		t.Errorf("only %d pages", pages)
	}
}

func TestReviewersCommandsHaveExamples(t *testing.T) {
	for _, cmd := range newRootCommand().Commands() {
		switch cmd.Name() {
		case "render", "diff", "lint", "export", "man", "validate":
			if cmd.Example == "" || cmd.Long == "" {
				t.Errorf("%s has no example, or does not say what it does", cmd.Name())
			}
		}
	}
}
