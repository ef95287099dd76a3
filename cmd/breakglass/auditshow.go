package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

func newAuditShowCommand() *cobra.Command {
	var output string
	var remote clusterLog
	cmd := &cobra.Command{
		Use:   "show SEQ",
		Short: "Show one entry of the audit log whole, and what proves it",
		Long: `Show one entry of the audit log whole: the file and line where it is, the source
that it was taken from, and the signed checkpoint that proves it, if the key beside
the log can be trusted: see breakglass audit prove.

With -o json it is the entry alone, in one line, as it is stored.` + clusterLogLong,
		Example: `  breakglass audit show 4711
  breakglass audit show 4711 --cluster`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "table", "json"); err != nil {
				return err
			}
			_, err := oneSeq(cmd, args)
			return err
		},
		ValidArgsFunction: noFiles,
		RunE: cleanly(func(cmd *cobra.Command, args []string) error {
			if remote.named() {
				seq, err := oneSeq(cmd, args)
				if err != nil {
					return err
				}
				return showClusterEntry(cmd, &remote, seq, output)
			}
			return showEntry(cmd, args, output)
		}),
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	fixedCompletion(cmd, "output", "table", "json")
	addLogFlag(cmd)
	remote.addFlags(cmd)
	return cmd
}

func showEntry(cmd *cobra.Command, args []string, output string) error {
	seq, err := oneSeq(cmd, args)
	if err != nil {
		return err
	}
	dir, err := logDir(cmd)
	if err != nil {
		return err
	}
	e, err := oneEntry(cmd, dir, seq)
	if err != nil {
		return err
	}
	if output == "json" {
		return writeEntry(cmd.OutOrStdout(), *e)
	}
	var b strings.Builder
	file, line := place(dir, seq)
	t := tellEntry(*e)
	fmt.Fprintf(&b, "entry   %d, %s\nfile    %s line %d\n", seq, clean(t.event), clean(file), line)
	fmt.Fprintf(&b, "source  %s\nproof   %s\n", clean(sourceOf(e)), clean(proofText(dir, seq)))
	pretty, err := prettyEntry(e.Line())
	if err != nil {
		return err
	}
	b.Write(pretty)
	_, err = io.WriteString(cmd.OutOrStdout(), b.String())
	return err
}

// oneEntry reads an entry from its segment.
func oneEntry(cmd *cobra.Command, dir string, seq uint64) (*merkle.Entry, error) {
	var found *merkle.Entry
	err := readTo(cmd.Context(), dir, merkle.Filter{From: seq}, seq+1, func(e merkle.Entry) error {
		found = &e
		return nil
	})
	if err != nil {
		return nil, readErr(err)
	}
	if found == nil {
		return nil, fmt.Errorf("entry %d is not in %s: %s", seq, dir, rangeText(dir))
	}
	return found, nil
}

func rangeText(dir string) string {
	firsts, err := merkle.Segments(dir)
	if err != nil || len(firsts) == 0 {
		return "there is no segment of it"
	}
	return fmt.Sprintf("the oldest there is %d, and `breakglass audit tail -n 1` shows the newest", firsts[0])
}

// sourceOf an entry, from the cursors that it moves.
func sourceOf(e *merkle.Entry) string {
	if e.Kind == merkle.KindSegment {
		return "the log itself; its cursors are those of all sources at this place"
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(e.Cursors)) {
		kind, of, _ := strings.Cut(name, "/")
		gateway, epoch, _ := strings.Cut(of, " ")
		at := e.Cursors[name]
		switch {
		case name == "journal":
			out = append(out, "journal entry "+at)
		case kind == "spool":
			out = append(out, fmt.Sprintf("spool of Gateway %s up to %s", of, at))
		case kind == "count" && at != "":
			out = append(out, fmt.Sprintf("Gateway %s, Envoy %s, request %s", gateway, epoch, at))
		case kind == "gap" && at != "":
			out = append(out, fmt.Sprintf("Gateway %s, Envoy %s, %s missing by now", gateway, epoch, at))
		case kind == "count":
			out = append(out, fmt.Sprintf("Gateway %s, Envoy %s, nothing follows", gateway, epoch))
		case kind == "gap": // as count says
		default:
			out = append(out, name+" "+at)
		}
	}
	if len(out) == 0 {
		return "the log itself"
	}
	return strings.Join(out, "; ")
}

// proofText says what proves an entry, or why nothing does.
func proofText(dir string, seq uint64) string {
	p, err := merkle.Prove(dir, seq)
	if err != nil {
		return "none: " + err.Error()
	}
	keys, err := keyFile(filepath.Join(dir, "audit.pub"))
	if err != nil {
		return "none: " + err.Error()
	}
	if err := p.Check(keys); err != nil {
		return "NONE: " + err.Error() + "; see breakglass audit verify"
	}
	leaf := sha256.Sum256(append([]byte{0}, p.Entry...))
	return fmt.Sprintf("leaf %s is in the tree of size %d with root %s, which the key beside the log signed as %s",
		base64.StdEncoding.EncodeToString(leaf[:]), p.Size, p.Root, origin(p.Checkpoint))
}

func prettyEntry(line []byte) ([]byte, error) {
	var out bytes.Buffer
	if err := json.Indent(&out, line, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return escapeJSON(out.Bytes()), nil
}
