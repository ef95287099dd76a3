package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// keyForm is a note verifier key: NAME+HASH+BASE64.
var keyForm = regexp.MustCompile(`^[^+\s]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]+={0,2}$`)

// verifierKeys are those of --key: keys, and files of keys.
func verifierKeys(args []string) ([]string, error) {
	var out []string
	for _, arg := range args {
		arg = strings.TrimSpace(arg)
		switch {
		case strings.HasPrefix(arg, "PRIVATE+KEY+"):
			return nil, usagef("--key: this is a signing key, which must stay where it is: give the verifier key (breakglass audit key)")
		case keyForm.MatchString(arg):
			out = append(out, arg)
			continue
		}
		keys, err := keyFile(arg)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, usagef("--key %q is neither a verifier key NAME+HASH+BASE64 nor a file of them", arg)
		}
		if err != nil {
			return nil, usageError{err}
		}
		out = append(out, keys...)
	}
	return out, nil
}

// keyFile reads verifier keys, a line each.
func keyFile(path string) ([]string, error) {
	const most = 1 << 20
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, err
	}
	var keys []string
	line := 0
	for text := range strings.Lines(string(b)) {
		line++
		text = strings.TrimSpace(text)
		switch {
		case text == "" || strings.HasPrefix(text, "#"):
		case strings.HasPrefix(text, "PRIVATE+KEY+"):
			return nil, fmt.Errorf("%s line %d is a signing key, which must stay where it is: give audit.pub, or the output of `breakglass audit key`", path, line)
		case !keyForm.MatchString(text):
			return nil, fmt.Errorf("%s line %d is not a verifier key NAME+HASH+BASE64: give audit.pub, or the output of `breakglass audit key`", path, line)
		default:
			keys = append(keys, text)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s holds no verifier key: give audit.pub, or the output of `breakglass audit key`", path)
	}
	return keys, nil
}

func newAuditKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Print the verifier keys of the audit log, to be kept elsewhere",
		Long: `Print the verifier keys of the audit log, a line each, the newest last. They are
public. Keep them where nobody who can write to this host can change them: what is
verified with keys that lay beside the log shows only that it fits together.`,
		Example: `  breakglass audit key > audit-keys.txt
  breakglass audit verify --data-dir /mnt/copy --key audit-keys.txt`,
		Args: noArgs,
		RunE: cleanly(func(cmd *cobra.Command, _ []string) error {
			dir, err := logDir(cmd)
			if err != nil {
				return err
			}
			keys, err := keyFile(filepath.Join(dir, "audit.pub"))
			if err != nil {
				return err
			}
			return printKeys(cmd.OutOrStdout(), keys)
		}),
	}
	addLogFlag(cmd)
	return cmd
}

func printKeys(out io.Writer, keys []string) error {
	for _, k := range keys {
		if _, err := fmt.Fprintln(out, clean(k)); err != nil {
			return err
		}
	}
	return nil
}

func newAuditRotateKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate-key",
		Short: "Give the audit log a new signing key, while serve is stopped",
		Long: `Give the audit log a new signing key, while serve is stopped. The log itself says
so, in an entry that the old key has signed. Checkpoints of before are verified by
the earlier keys, which stay in audit.pub.

The new verifier key is printed. Keep it beside the earlier ones: see breakglass
audit key.`,
		Example: `  breakglass audit rotate-key --data-dir /var/lib/breakglass >> audit-keys.txt`,
		Args:    noArgs,
		RunE:    cleanly(func(cmd *cobra.Command, _ []string) error { return rotateKey(cmd) }),
	}
	addLogFlag(cmd)
	return cmd
}

func rotateKey(cmd *cobra.Command) (err error) {
	dir, err := logDir(cmd)
	if err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to uid %d: run this as that user, or serve cannot read its key afterwards", dir, st.Uid)
	}
	if _, err := os.Stat(filepath.Join(dir, "audit.key")); err != nil {
		return fmt.Errorf("this is a copy, or its signing key is lost: %w", err)
	}
	log, err := merkle.Open(dir, merkle.Options{
		Log: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)),
		// How long entries are kept is for serve to know.
		Retention: -1,
	})
	if errors.Is(err, merkle.ErrLocked) {
		return fmt.Errorf("%w: stop serve first (its Envoys keep every deadline), and start it again afterwards", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	if err := log.RotateKey(); err != nil {
		return err
	}
	keys, err := keyFile(filepath.Join(dir, "audit.pub"))
	if err != nil {
		return err
	}
	return printKeys(cmd.OutOrStdout(), keys[len(keys)-1:])
}
