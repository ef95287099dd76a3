package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

type auditProveOptions struct {
	output, check, checkpoint string
	keys                      []string
	remote                    clusterLog
}

func newAuditProveCommand() *cobra.Command {
	o := &auditProveOptions{}
	cmd := &cobra.Command{
		Use:   "prove SEQ | --checkpoint FILE | --check PROOF --key KEY",
		Short: "Prove that an entry is in the audit log, or check such a proof",
		Long: `Write a proof, as JSON, that an entry is in the audit log: the entry as it is
stored, the signed checkpoint, and the hashes between them (RFC 6962 2.1.1).
Whoever has the verifier key can check it without the log.

With --checkpoint in place of SEQ it proves that the log still holds all that the
checkpoint in FILE covers (RFC 6962 2.1.2); of several in FILE the last is taken.

With --check the proof in PROOF (- is standard input) is checked: that of an entry
alone, the other one with --checkpoint, which must hold the earlier checkpoint.
--key is needed then: what anybody signed proves nothing.

Exit codes: 0 it is proven; 1 it is not; 2 the command line is wrong.` + clusterLogLong,
		Example: `  breakglass audit prove 4711 > proof.json
  breakglass audit prove --check proof.json --key audit-keys.txt
  breakglass audit prove --checkpoint checkpoint.old > grown.json
  breakglass audit prove --checkpoint checkpoint.old --check grown.json --key audit-keys.txt`,
		Args:              o.args,
		ValidArgsFunction: noFiles,
		RunE:              cleanly(o.run),
	}
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "json", "json")
	f.StringVar(&o.checkpoint, "checkpoint", "", "file with a checkpoint that was kept elsewhere")
	f.StringVar(&o.check, "check", "", "check the proof in this file")
	f.StringArrayVar(&o.keys, "key", nil, "verifier key, or a file of them, to trust (repeatable; default to make a proof: audit.pub beside the log)")
	for _, name := range []string{"check", "checkpoint", "key"} {
		_ = cmd.MarkFlagFilename(name) // the flags are right above
	}
	fixedCompletion(cmd, "output", "json")
	addLogFlag(cmd)
	o.remote.addFlags(cmd)
	return cmd
}

func (o *auditProveOptions) args(cmd *cobra.Command, args []string) error {
	if err := checkOutput(o.output, "json"); err != nil {
		return err
	}
	switch {
	case len(args) > 0 && o.check != "":
		return usagef("--check takes the entry from the proof, and %q is one argument too many", args[0])
	case len(args) > 0 && o.checkpoint != "":
		return usagef("--checkpoint proves that of all entries before it, and %q is one argument too many", args[0])
	case o.check != "" && len(o.keys) == 0:
		return usagef("--key is missing: name the verifier key that you trust, as `breakglass audit key` printed it; without one anybody could have made this proof")
	case o.check != "" || o.checkpoint != "":
		return nil
	}
	_, err := oneSeq(cmd, args)
	return err
}

func (o *auditProveOptions) run(cmd *cobra.Command, args []string) error {
	keys, err := verifierKeys(o.keys)
	if err != nil {
		return err
	}
	var earlier [][]byte
	if o.checkpoint != "" {
		if earlier, err = checkpointsIn(o.checkpoint); err != nil {
			return err
		}
	}
	switch {
	case o.check != "" && earlier != nil:
		return o.checkGrowth(cmd, earlier, keys)
	case o.check != "":
		return o.checkEntry(cmd, keys)
	case o.remote.named():
		return o.proveOfCluster(cmd, args, keys)
	}
	dir, err := logDir(cmd)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		if keys, err = keyFile(filepath.Join(dir, "audit.pub")); err != nil {
			return err
		}
	}
	if earlier != nil {
		return o.proveGrowth(cmd, dir, earlier[len(earlier)-1], keys)
	}
	seq, err := oneSeq(cmd, args)
	if err != nil {
		return err
	}
	p, err := merkle.Prove(dir, seq)
	if err == nil {
		err = p.Check(keys)
	}
	if err != nil {
		return fmt.Errorf("entry %d of %s has no proof: %w; `breakglass audit verify` says what is wrong", seq, dir, err)
	}
	return writeJSON(cmd.OutOrStdout(), p)
}

func (o *auditProveOptions) proveOfCluster(cmd *cobra.Command, args, keys []string) error {
	if o.checkpoint != "" {
		return usagef("--checkpoint needs the log or a copy of it: `breakglass audit copy DIR`, then --data-dir DIR")
	}
	seq, err := oneSeq(cmd, args)
	if err != nil {
		return err
	}
	return proveClusterEntry(cmd, &o.remote, seq, keys)
}

func (o *auditProveOptions) proveGrowth(cmd *cobra.Command, dir string, earlier []byte, keys []string) error {
	size, err := checkpointSize(earlier)
	if err != nil {
		return usagef("--checkpoint %s: %w", o.checkpoint, err)
	}
	p, err := merkle.ProveConsistency(dir, size)
	if err == nil {
		err = p.Check(earlier, keys)
	}
	if err != nil {
		return fmt.Errorf("there is no proof that %s still holds what the checkpoint in %s covers: %w; `breakglass audit verify --checkpoint %s` says what is wrong",
			dir, o.checkpoint, err, shellQuote(o.checkpoint))
	}
	return writeJSON(cmd.OutOrStdout(), p)
}

func (o *auditProveOptions) checkEntry(cmd *cobra.Command, keys []string) error {
	var p merkle.Proof
	if err := readProof(cmd.InOrStdin(), o.check, &p); err != nil {
		return err
	}
	if p.Entry == "" {
		return fmt.Errorf("%s is no proof of an entry; one that the log has grown is checked with --checkpoint FILE", o.check)
	}
	if err := p.Check(keys); err != nil {
		return fmt.Errorf("%s proves nothing: %w", o.check, err)
	}
	var e merkle.Entry
	if err := json.Unmarshal([]byte(p.Entry), &e); err != nil {
		return fmt.Errorf("%s proves a line that is no entry: %w", o.check, err)
	}
	if e.Seq != p.Seq {
		return fmt.Errorf("%s says that it is of entry %d, and proves entry %d", o.check, p.Seq, e.Seq)
	}
	pretty, err := prettyEntry([]byte(p.Entry))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "PROVEN  entry %d is in the log %s of size %d\n%s", e.Seq, clean(origin(p.Checkpoint)), p.Size, pretty)
	return err
}

func (o *auditProveOptions) checkGrowth(cmd *cobra.Command, earlier [][]byte, keys []string) error {
	var p merkle.ConsistencyProof
	if err := readProof(cmd.InOrStdin(), o.check, &p); err != nil {
		return err
	}
	err := fmt.Errorf("%s has no checkpoint of size %d", o.checkpoint, p.OldSize)
	for _, note := range earlier {
		size, serr := checkpointSize(note)
		if serr != nil || size != p.OldSize {
			continue
		}
		if err = p.Check(note, keys); err == nil {
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "PROVEN  the log %s of size %d holds all that it held at size %d\n", clean(origin(p.Checkpoint)), p.Size, p.OldSize)
			return err
		}
	}
	return fmt.Errorf("%s proves nothing: %w", o.check, err)
}

func readProof(in io.Reader, path string, p any) error {
	const most = 16 << 20
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	if err := json.NewDecoder(io.LimitReader(in, most)).Decode(p); err != nil {
		return fmt.Errorf("%s is not a proof of `breakglass audit prove`: %w", path, err)
	}
	return nil
}

// origin of a checkpoint: its first line.
func origin(checkpoint string) string {
	o, _, _ := strings.Cut(checkpoint, "\n")
	return o
}

// checkpointSize is what a checkpoint says; the proof made with it is checked.
func checkpointSize(note []byte) (size uint64, err error) {
	lines := strings.SplitN(string(note), "\n", 3)
	if len(lines) == 3 {
		size, err = strconv.ParseUint(lines[1], 10, 63)
	}
	if len(lines) < 3 || err != nil {
		return 0, errors.New("not a checkpoint: its second line must be the size of the log")
	}
	return size, nil
}
