package merkle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
)

// keyData is the data of an entry of kind key.
type keyData struct {
	From string `json:"from"` // vkey
	To   string `json:"to"`   // vkey
	// Handover is a checkpoint of the tree before this entry, with an extension
	// line that names the new key, signed with both keys: who trusts the old one
	// can trust the new one.
	Handover string `json:"handover"`
}

func handoverLine(vkey string) string { return "key " + vkey + "\n" }

// check says whether the handover is of the tree before the entry.
func (k *keyData) check(t treeHead) error {
	h, err := openHead([]byte(k.Handover), []string{k.From, k.To})
	if err != nil {
		return fmt.Errorf("the handover from one key to the next: %w", err)
	}
	if !slices.Contains(h.by, k.From) || !slices.Contains(h.by, k.To) {
		return errors.New("the handover from one key to the next is not signed with both")
	}
	if t.rest = handoverLine(k.To); h.text() != t.text() {
		return errors.New("the handover from one key to the next is not of this place in the log")
	}
	return nil
}

// RotateKey gives the log a new signing key. An entry says so, signed with the
// old and the new one; the first checkpoint that covers it is signed with both.
//
// It is done in steps each of which may be the last before a crash: the new key
// is in audit.key.new, then in audit.pub, then in the log (from here on it
// counts), then audit.key. After an error it can be called again, and goes on.
func (l *Log) RotateKey() error {
	l.rotateMu.Lock()
	defer l.rotateMu.Unlock()
	if err := l.rotateKey(); err != nil {
		return fmt.Errorf("change the signing key of the audit log: %w", err)
	}
	return nil
}

func (l *Log) rotateKey() error {
	l.signMu.Lock()
	keys := l.keys
	l.signMu.Unlock()
	if len(keys) == 1 {
		next, err := l.prepareKey()
		if err != nil {
			return err
		}
		keys = []signingKey{keys[0], next}
		l.signMu.Lock()
		l.keys = keys
		l.signMu.Unlock()
	}
	from, to := keys[0], keys[1]
	l.mu.Lock()
	done := l.tip.vkey == to.vkey
	l.mu.Unlock()
	if !done {
		err := l.append(context.Background(), &batch{
			drafts: []Draft{{Kind: KindKey}}, vkey: to.vkey,
			fill: func(t tip) (json.RawMessage, error) {
				head := treeHead{l.origin, t.tree.n, t.tree.root(), handoverLine(to.vkey), nil}
				signed, err := note.Sign(&note.Note{Text: head.text()}, from, to)
				if err != nil {
					return nil, err
				}
				return json.Marshal(keyData{from.vkey, to.vkey, string(signed)})
			},
		})
		if err != nil {
			return err
		}
	}
	return l.finishKey()
}

// prepareKey makes the files of a new key.
func (l *Log) prepareKey() (signingKey, error) {
	next, err := l.readKey(nextKeyName)
	if errors.Is(err, os.ErrNotExist) {
		var b []byte
		if next, b, err = newKey(l.origin); err != nil {
			return next, err
		}
		err = l.replaceFile(nextKeyName, b)
	}
	if err != nil || slices.Contains(l.pub, next.vkey) {
		return next, err
	}
	// In audit.pub before any signature of it can be seen.
	pub := append(slices.Clone(l.pub), next.vkey)
	if err := l.replaceFile(pubName, []byte(strings.Join(pub, "\n")+"\n")); err != nil {
		return next, err
	}
	l.pub = pub
	return next, nil
}

// finishKey gives up the old key, after the log names the new one.
func (l *Log) finishKey() error {
	if err := l.sign(); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(l.dir, nextKeyName), filepath.Join(l.dir, keyName)); err != nil {
		return err
	}
	l.signMu.Lock()
	l.keys = l.keys[1:]
	l.signMu.Unlock()
	return durable.SyncDir(l.dir)
}
