package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"github.com/breakglass-gateway/breakglass-gateway/api/v1alpha1"
)

// checkOutput tells which forms there are.
func checkOutput(form string, forms ...string) error {
	if slices.Contains(forms, form) {
		return nil
	}
	return usagef("--output %q: choose one of %s", form, strings.Join(forms, ", "))
}

func writeActivation(out io.Writer, form string, a *v1alpha1.Activation) error {
	if form == "name" {
		_, err := fmt.Fprintf(out, "%s/%s\n", a.Namespace, a.Name)
		return err
	}
	return writeObject(out, form, a)
}

// writeObject writes v as json or yaml.
func writeObject(out io.Writer, form string, v any) error {
	if form == "yaml" {
		b, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = out.Write(b)
		return err
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// table lines its cells up.
type table struct{ w *tabwriter.Writer }

func newTable(out io.Writer, headings ...string) *table {
	t := &table{tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)}
	t.row(headings...)
	return t
}

// row writes one line. An empty cell is a dash, so that columns can be counted.
func (t *table) row(cells ...string) {
	for i, c := range cells {
		if c = clean(c); c == "" {
			c = "-"
		}
		cells[i] = c
	}
	_, _ = fmt.Fprintln(t.w, strings.Join(cells, "\t")) // flush tells
}

func (t *table) flush() error { return t.w.Flush() }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// fixedCompletion completes a flag from a list.
func fixedCompletion(cmd *cobra.Command, flag string, values ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // callers name their own flags
}
