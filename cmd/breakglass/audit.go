package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

const auditLong = `Look into the audit log: every request, every opening and closing, every change
of a policy, in one signed Merkle tree.

All of this but rotate-key and serve reads files only. It needs no running serve and disturbs
none, and it works as well on a copy: --data-dir takes the data directory of serve,
or a directory that itself is a log (it holds segment-*.jsonl). The log of a cluster
is read over its audit log service: --cluster.

Exit codes: 0 it is done, and sound; 1 it is not; 2 the command line is wrong, or
verify could not look.`

func newAuditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Read, verify and prove the audit log, also a copy of it",
		Long:  auditLong,
		Example: `  breakglass audit tail -f
  breakglass audit list --incident INC-4711 --since 24h
  breakglass audit verify --data-dir /mnt/copy --key audit-keys.txt --checkpoint checkpoints.txt`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknownCommand(cmd, args[0])
		},
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(
		newAuditListCommand(),
		newAuditTailCommand(),
		newAuditShowCommand(),
		newAuditVerifyCommand(),
		newAuditCopyCommand(),
		newAuditProveCommand(),
		newAuditKeyCommand(),
		newAuditRotateKeyCommand(),
		newAuditServeCommand(),
	)
	return cmd
}

// addLogFlag is for commands that read a log; see logDir.
func addLogFlag(cmd *cobra.Command) {
	cmd.Flags().String("data-dir", "", "data directory of serve, or a copy of its log (default: as for serve)")
	_ = cmd.MarkFlagDirname("data-dir") // the flag is right above
}

// logDir is the directory of the log that --data-dir means: the log directory in
// it, or, if there is none, itself.
func logDir(cmd *cobra.Command) (string, error) {
	dir, err := dataDir(cmd)
	if err != nil {
		return "", err
	}
	for _, d := range []string{filepath.Join(dir, "log"), dir} {
		is, err := isLog(d)
		if err != nil {
			return "", fmt.Errorf("%w: run this as the user of serve, or on a copy that you may read", err)
		}
		if is {
			return d, nil
		}
	}
	return "", usagef("there is no audit log in %s: neither it nor its directory log holds segment-*.jsonl; name the data directory of serve, or a copy of its log, with --data-dir", shown(dir))
}

// isLog also takes what is left of a log without its segments: to say what is
// wrong with that is for verify.
func isLog(dir string) (bool, error) {
	firsts, err := merkle.Segments(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || len(firsts) > 0 {
		return len(firsts) > 0, err
	}
	for _, name := range []string{"audit.pub", "checkpoint"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return true, nil
		}
	}
	return false, nil
}

// shown is a name from outside, fit for a terminal.
func shown(name string) string { return clean(name) }

// oneSeq takes the only argument of a command, an entry's seq.
func oneSeq(cmd *cobra.Command, args []string) (uint64, error) {
	if len(args) != 1 {
		return 0, usagef("%s takes one SEQ: the number of an entry, as `breakglass audit list` shows it", cmd.CommandPath())
	}
	seq, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil {
		return 0, usagef("SEQ %q: write the number of an entry, as `breakglass audit list` shows it", args[0])
	}
	return seq, nil
}

func noFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// cleanError keeps what an error quotes of a hostile file off the terminal.
type cleanError struct{ err error }

func (e cleanError) Error() string { return clean(e.err.Error()) }
func (e cleanError) Unwrap() error { return e.err }

// cleanly makes a command whose errors are fit for a terminal.
func cleanly(run func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := run(cmd, args); err != nil {
			return cleanError{err}
		}
		return nil
	}
}
