package merkle

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/breakglass-gateway/breakglass-gateway/audit/durable"
)

// maxKeyFile bounds a key file, and audit.pub: some thousand keys.
const maxKeyFile = 1 << 20

// signingKey is a signer and what verifies it.
type signingKey struct {
	note.Signer
	vkey string
}

// newKey makes a signing key and the content of its file.
func newKey(name string) (signingKey, []byte, error) {
	skey, _, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return signingKey{}, nil, err
	}
	b := []byte(skey + "\n")
	k, err := parseKey(b)
	if err != nil {
		return signingKey{}, nil, fmt.Errorf("origin %q: must be text without spaces and plus signs", name)
	}
	return k, b, nil
}

// parseKey reads a key file. It takes one form only, so that each change of it
// is seen. Its errors hold nothing of the key.
func parseKey(b []byte) (signingKey, error) {
	skey, ok := strings.CutSuffix(string(b), "\n")
	s, err := note.NewSigner(skey)
	if err != nil || !ok {
		return signingKey{}, errors.New("not a signing key of an audit log")
	}
	_, enc, _ := strings.Cut(skey, s.Name()+"+")
	_, enc, _ = strings.Cut(enc, "+")
	raw, err := base64.StdEncoding.DecodeString(enc)
	if err != nil || skey != fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", s.Name(), s.KeyHash(), base64.StdEncoding.EncodeToString(raw)) {
		return signingKey{}, errors.New("not a signing key in the form it is written in")
	}
	// NewSigner took it: one byte of algorithm, then the seed.
	pub, _ := ed25519.NewKeyFromSeed(raw[1:]).Public().(ed25519.PublicKey)
	vkey, err := note.NewEd25519VerifierKey(s.Name(), pub)
	return signingKey{s, vkey}, err
}

func (l *Log) readKey(name string) (signingKey, error) {
	path := filepath.Join(l.dir, name)
	b, err := readSmall(path, maxKeyFile)
	if err != nil {
		return signingKey{}, err
	}
	k, err := parseKey(b)
	if err != nil {
		return signingKey{}, &CorruptError{File: path, Reason: err.Error()}
	}
	return k, nil
}

// loadKeys reads the keys; when the log is new it makes what is missing of them.
func (l *Log) loadKeys(fresh bool) error {
	pubPath := filepath.Join(l.dir, pubName)
	pub, pubErr := readSmall(pubPath, maxKeyFile)
	if pubErr != nil && !errors.Is(pubErr, os.ErrNotExist) {
		return pubErr
	}
	k, err := l.readKey(keyName)
	switch {
	case errors.Is(err, os.ErrNotExist) && fresh && pubErr != nil:
		if k, err = l.firstKey(); err != nil {
			return err
		}
	case errors.Is(err, os.ErrNotExist):
		return &CorruptError{File: filepath.Join(l.dir, keyName), Reason: "the signing key is missing (a copy of a log has none, and cannot be written to)"}
	case err != nil:
		return err
	}
	switch {
	case pubErr != nil && !fresh:
		return &CorruptError{File: pubPath, Reason: "the list of verifier keys is missing"}
	case pubErr != nil:
		pub = []byte(k.vkey + "\n")
		if err := l.replaceFile(pubName, pub); err != nil {
			return fmt.Errorf("write the verifier key: %w", err)
		}
	}
	if l.pub, err = parsePub(pub); err != nil {
		return &CorruptError{File: pubPath, Reason: err.Error()}
	}
	if !slices.Contains(l.pub, k.vkey) {
		return &CorruptError{File: pubPath, Reason: "the verifier key of " + keyName + " is not in it"}
	}
	l.keys, l.origin = []signingKey{k}, k.Name()
	return nil
}

func (l *Log) firstKey() (signingKey, error) {
	origin := l.opts.Origin
	if origin == "" {
		var id [8]byte
		if _, err := rand.Read(id[:]); err != nil {
			return signingKey{}, err
		}
		origin = "breakglass.dev/log/" + hex.EncodeToString(id[:])
	}
	k, b, err := newKey(origin)
	if err != nil {
		return signingKey{}, err
	}
	if err := l.replaceFile(keyName, b); err != nil {
		return signingKey{}, fmt.Errorf("write the signing key: %w", err)
	}
	return k, nil
}

// settleKeys brings a change of the key to an end that a crash interrupted: it
// counts when its entry is in the log.
func (l *Log) settleKeys() error {
	if l.tip.vkey == "" {
		l.tip.vkey = l.keys[0].vkey // nothing is in the log
	}
	next, err := l.readKey(nextKeyName)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	case next.vkey == l.tip.vkey:
		l.keys = append(l.keys, next)
		l.recovered("the change of the signing key is brought to its end")
	case next.vkey == l.keys[0].vkey:
		return &CorruptError{File: filepath.Join(l.dir, nextKeyName), Reason: "it is the same key as " + keyName}
	default:
		if err := l.abandonKey(next.vkey); err != nil {
			return fmt.Errorf("take back a change of the signing key: %w", err)
		}
	}
	if k := l.keys[len(l.keys)-1]; k.vkey != l.tip.vkey {
		return &CorruptError{
			File:   filepath.Join(l.dir, keyName),
			Reason: fmt.Sprintf("it is the signing key of %s, and the log is signed with %s", k.vkey, l.tip.vkey),
		}
	}
	return nil
}

// abandonKey takes back what was prepared for a key whose entry is not there.
func (l *Log) abandonKey(vkey string) error {
	if n := len(l.pub) - 1; n > 0 && l.pub[n] == vkey {
		if err := l.replaceFile(pubName, []byte(strings.Join(l.pub[:n], "\n")+"\n")); err != nil {
			return err
		}
		l.pub = l.pub[:n]
	}
	if err := os.Remove(filepath.Join(l.dir, nextKeyName)); err != nil {
		return err
	}
	l.recovered("a change of the signing key that had not come into the log was taken back; do it again")
	return durable.SyncDir(l.dir)
}
