package merkle

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const maxNote = 64 << 10

// treeHead is what a checkpoint says (C2SP tlog-checkpoint).
type treeHead struct {
	origin string
	size   uint64
	root   tlog.Hash
	rest   string // extension lines
	by     []string
}

func (t treeHead) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n%s", t.origin, t.size, t.root, t.rest)
}

// parseHead reads the text of a note. It takes one form only: numbers without
// leading zeros, base64 with its padding bits zero.
func parseHead(text string) (treeHead, error) {
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 || lines[0] == "" {
		return treeHead{}, errors.New("not a checkpoint: origin, size and root must be a line each")
	}
	t := treeHead{origin: lines[0], rest: lines[3]}
	var err error
	if t.size, err = strconv.ParseUint(lines[1], 10, 63); err != nil {
		return treeHead{}, fmt.Errorf("not a checkpoint: size %q", lines[1])
	}
	if t.root, err = tlog.ParseHash(lines[2]); err != nil {
		return treeHead{}, fmt.Errorf("not a checkpoint: root %q", lines[2])
	}
	if t.text() != text {
		return treeHead{}, errors.New("not a checkpoint: not in the form it is written in")
	}
	return t, nil
}

// openHead verifies a signed tree head of our own files. All signatures must be
// of the given keys, and there is at least one: a signature that nobody can check
// is damage, or someone else's note.
func openHead(b []byte, vkeys []string) (treeHead, error) {
	t, n, err := openNote(b, vkeys)
	if err != nil {
		return treeHead{}, err
	}
	if len(n.UnverifiedSigs) > 0 {
		return treeHead{}, fmt.Errorf("also signed by %s, which is not a trusted key", signers(n.UnverifiedSigs))
	}
	if !bytes.Equal(canonicalNote(n), b) {
		return treeHead{}, errors.New("not in the form it is written in")
	}
	return t, nil
}

// openOthers verifies a signed tree head that was elsewhere. Witnesses may have
// added signatures of theirs, which say nothing here (C2SP tlog-checkpoint).
func openOthers(b []byte, vkeys []string) (treeHead, error) {
	t, _, err := openNote(b, vkeys)
	return t, err
}

// readHead reads a tree head and checks no signature.
func readHead(b []byte) (treeHead, error) {
	if len(b) > maxNote {
		return treeHead{}, fmt.Errorf("longer than %d bytes", maxNote)
	}
	_, err := note.Open(b, note.VerifierList())
	var unverified *note.UnverifiedNoteError
	if !errors.As(err, &unverified) {
		return treeHead{}, errors.New("not a signed note")
	}
	return parseHead(unverified.Note.Text)
}

func openNote(b []byte, vkeys []string) (treeHead, *note.Note, error) {
	var vs []note.Verifier
	for _, k := range vkeys {
		v, err := parseVkey(k)
		if err != nil {
			return treeHead{}, nil, err
		}
		vs = append(vs, v)
	}
	if len(b) > maxNote {
		return treeHead{}, nil, fmt.Errorf("longer than %d bytes", maxNote)
	}
	n, err := note.Open(b, note.VerifierList(vs...))
	var unknown *note.UnverifiedNoteError
	if errors.As(err, &unknown) {
		return treeHead{}, nil, fmt.Errorf("signed by %s, which is not a trusted key", signers(unknown.Note.UnverifiedSigs))
	}
	if err != nil {
		return treeHead{}, nil, err
	}
	t, err := parseHead(n.Text)
	if err != nil {
		return treeHead{}, nil, err
	}
	for _, s := range n.Sigs {
		for i, v := range vs {
			if v.Name() == s.Name && v.KeyHash() == s.Hash {
				t.by = append(t.by, vkeys[i])
			}
		}
	}
	return t, n, nil
}

func signers(sigs []note.Signature) string {
	var out []string
	for _, s := range sigs {
		out = append(out, fmt.Sprintf("%s+%08x", s.Name, s.Hash))
	}
	return strings.Join(out, " and ")
}

// canonicalNote writes the note anew: base64 has bits that count for nothing,
// and what is not covered by a signature could be changed unseen.
func canonicalNote(n *note.Note) []byte {
	b := []byte(n.Text + "\n")
	for _, s := range n.Sigs {
		raw, _ := base64.StdEncoding.DecodeString(s.Base64)
		b = fmt.Appendf(b, "— %s %s\n", s.Name, base64.StdEncoding.EncodeToString(raw))
	}
	return b
}

// parseVkey is note.NewVerifier for keys in the form in which they are made.
func parseVkey(vkey string) (note.Verifier, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("%q is not a verifier key (name+hash+base64)", vkey)
	}
	parts := strings.SplitN(vkey, "+", 3)
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || vkey != fmt.Sprintf("%s+%08x+%s", v.Name(), v.KeyHash(), base64.StdEncoding.EncodeToString(raw)) {
		return nil, fmt.Errorf("%q is not a verifier key in the form it is written in", vkey)
	}
	return v, nil
}

// parsePub reads audit.pub.
func parsePub(b []byte) ([]string, error) {
	text, ok := strings.CutSuffix(string(b), "\n")
	if !ok {
		return nil, errors.New("the last line does not end")
	}
	keys := strings.Split(text, "\n")
	name := ""
	for i, k := range keys {
		v, err := parseVkey(k)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		if name == "" {
			name = v.Name()
		}
		if v.Name() != name {
			return nil, fmt.Errorf("line %d: the key is of %s, the first is of %s", i+1, v.Name(), name)
		}
	}
	return keys, nil
}

// SplitCheckpoints takes apart a file to which FileSink wrote.
func SplitCheckpoints(b []byte) [][]byte {
	var out [][]byte
	from, signed := 0, false
	for i := 0; i < len(b); {
		end := len(b)
		if n := bytes.IndexByte(b[i:], '\n'); n >= 0 {
			end = i + n + 1
		}
		sig := bytes.HasPrefix(b[i:end], []byte("— "))
		if signed && !sig {
			out, from = append(out, b[from:i]), i
		}
		signed, i = sig, end
	}
	if len(bytes.TrimSpace(b[from:])) > 0 {
		out = append(out, b[from:])
	}
	return out
}
