package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/breakglass-gateway/breakglass-gateway/internal/activation"
)

// The number of the last control entry is kept beside the journal, and in the
// audit log. A journal that is behind either was restored from a copy, or cut:
// what was closed since then would be open again in it.

func (l *Engine) seqFile() string { return filepath.Join(l.opts.DataDir, "journal.seq") }

// noteSeq remembers the number. A number that is too low, because this failed or
// was lost with the power, only misses a restored copy; it never closes anything.
func (l *Engine) noteSeq() {
	tmp := l.seqFile() + ".tmp"
	err := os.WriteFile(tmp, []byte(strconv.FormatUint(l.seq, 10)+"\n"), 0o600)
	if err == nil {
		err = os.Rename(tmp, l.seqFile())
	}
	if err != nil {
		l.log.Error("cannot note the journal's length", "error", err)
	}
}

// checkSeq compares the journal with the number beside it.
func (l *Engine) checkSeq() error {
	text, err := os.ReadFile(l.seqFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	noted, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return fmt.Errorf("%s: not a number: remove it if the journal is whole; everything that is open should then be revoked", l.seqFile())
	}
	if l.vouched = noted <= l.seq; !l.vouched {
		l.forget("recorded", noted, "journal", l.seq)
	}
	return nil
}

// forget ends everything that is open in a journal that is not to be trusted.
func (l *Engine) forget(why ...any) {
	l.log.Error("the journal is older than what was recorded: it was restored or cut; everything that is open in it ends", why...)
	l.forgetful = true
	for key, r := range l.records {
		if !r.Final() {
			l.revocations[key] = activation.Revocation{By: "serve", Reason: "the journal was restored from an older copy, or cut: make a new Activation"}
		}
	}
}

// journalThere makes sure that what is written can be found again.
func (l *Engine) journalThere() error {
	if _, err := os.Stat(filepath.Join(l.opts.DataDir, "journal")); err != nil {
		return fmt.Errorf("the journal is gone from the data directory: restart serve: %w", err)
	}
	return nil
}
