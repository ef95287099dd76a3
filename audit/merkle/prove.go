package merkle

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"
)

// Proof shows that an entry is in the log, to whoever trusts a key (RFC 6962
// 2.1.1, RFC 9162 2.1.3).
type Proof struct {
	// Entry is the line of the entry.
	Entry string `json:"entry"`
	Seq   uint64 `json:"seq"`
	// Size and Root are those of the checkpoint; Root and Hashes in base64.
	Size uint64 `json:"size"`
	Root string `json:"root"`
	// Hashes is the audit path, from the leaf up.
	Hashes     []string `json:"hashes"`
	Checkpoint string   `json:"checkpoint"`
}

// Prove makes a proof of an entry with the newest checkpoint in dir. The
// signature is not checked: see Check.
func Prove(dir string, seq uint64) (*Proof, error) {
	s, err := openSigned(dir)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if seq >= s.head.size {
		return nil, fmt.Errorf("entry %d is not covered by the checkpoint in %s, which is of size %d: serve signs within a second, also after a restart", seq, dir, s.head.size)
	}
	line, err := findLine(dir, seq)
	if err != nil {
		return nil, err
	}
	p, err := tlog.ProveRecord(int64(s.head.size), int64(seq), storedHashes{s.hashes})
	if err == nil {
		err = tlog.CheckRecord(p, int64(s.head.size), s.head.root, int64(seq), tlog.RecordHash(line))
	}
	if err != nil {
		return nil, fmt.Errorf("entry %d cannot be proven from %s, verify says what is wrong: %w", seq, dir, err)
	}
	return &Proof{string(line), seq, s.head.size, s.head.root.String(), texts(p), string(s.note)}, nil
}

// Check checks the proof and the signature of one of the keys. It proves that
// Entry is the leaf Seq of the tree that the key's owner signed.
func (p *Proof) Check(vkeys []string) error {
	head, err := p.head(vkeys)
	if err != nil {
		return err
	}
	hashes, err := parseHashes(p.Hashes)
	if err != nil {
		return err
	}
	if p.Seq >= head.size {
		return fmt.Errorf("the checkpoint covers %d entries, not entry %d", head.size, p.Seq)
	}
	if err := tlog.CheckRecord(hashes, int64(head.size), head.root, int64(p.Seq), tlog.RecordHash([]byte(p.Entry))); err != nil {
		return errors.New("the hashes do not lead from the entry to the root of the checkpoint")
	}
	return nil
}

func (p *Proof) head(vkeys []string) (treeHead, error) {
	return checkHead([]byte(p.Checkpoint), vkeys, p.Size, p.Root)
}

// checkHead opens a checkpoint beside which its size and root are said again.
func checkHead(b []byte, vkeys []string, size uint64, root string) (treeHead, error) {
	head, err := openOthers(b, vkeys)
	if err != nil {
		return head, fmt.Errorf("the checkpoint: %w", err)
	}
	if head.size != size || head.root.String() != root {
		return head, errors.New("size and root are not those of the checkpoint")
	}
	return head, nil
}

// ConsistencyProof shows that a log still holds all that it held at an earlier
// size (RFC 6962 2.1.2, RFC 9162 2.1.4).
type ConsistencyProof struct {
	OldSize    uint64   `json:"oldSize"`
	OldRoot    string   `json:"oldRoot"`
	Size       uint64   `json:"size"`
	Root       string   `json:"root"`
	Hashes     []string `json:"hashes"`
	Checkpoint string   `json:"checkpoint"`
}

// ProveConsistency makes a proof with the newest checkpoint in dir.
func ProveConsistency(dir string, oldSize uint64) (*ConsistencyProof, error) {
	s, err := openSigned(dir)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if oldSize > s.head.size {
		return nil, fmt.Errorf("the checkpoint in %s is of size %d, which is less than %d", dir, s.head.size, oldSize)
	}
	stored := storedHashes{s.hashes}
	old, err := stored.frontier(oldSize)
	var p tlog.TreeProof
	if err == nil && oldSize > 0 {
		p, err = tlog.ProveTree(int64(s.head.size), int64(oldSize), stored)
		if err == nil {
			err = tlog.CheckTree(p, int64(s.head.size), s.head.root, int64(oldSize), old.root())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("consistency with size %d cannot be proven from %s, verify says what is wrong: %w", oldSize, dir, err)
	}
	return &ConsistencyProof{oldSize, old.root().String(), s.head.size, s.head.root.String(), texts(p), string(s.note)}, nil
}

// Check checks the proof, and the signatures of both checkpoints: the log of the
// newer one holds all that the older one covers.
func (p *ConsistencyProof) Check(oldCheckpoint []byte, vkeys []string) error {
	head, err := checkHead([]byte(p.Checkpoint), vkeys, p.Size, p.Root)
	if err != nil {
		return err
	}
	old, err := checkHead(oldCheckpoint, vkeys, p.OldSize, p.OldRoot)
	if err != nil {
		return fmt.Errorf("the older one: %w", err)
	}
	if old.origin != head.origin {
		return fmt.Errorf("the checkpoints are of two logs, %s and %s", old.origin, head.origin)
	}
	hashes, err := parseHashes(p.Hashes)
	if err != nil {
		return err
	}
	if old.size == 0 {
		if old.root != (frontier{}).root() || len(hashes) > 0 {
			return errors.New("the root of size 0 is not that of an empty log")
		}
		return nil
	}
	if old.size > head.size {
		return fmt.Errorf("the older checkpoint covers %d entries, the newer one %d", old.size, head.size)
	}
	if err := tlog.CheckTree(hashes, int64(head.size), head.root, int64(old.size), old.root); err != nil {
		return errors.New("the hashes do not lead from the older root to the newer one: one of them is of a log that was rewritten")
	}
	return nil
}

// signedLog is what proofs are made of.
type signedLog struct {
	note   []byte
	head   treeHead
	hashes *os.File
}

func (s *signedLog) close() { s.hashes.Close() }

func openSigned(dir string) (*signedLog, error) {
	path := filepath.Join(dir, checkpointName)
	b, err := readSmall(path, maxNote)
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	head, err := readHead(b)
	if err != nil {
		return nil, &CorruptError{File: path, Reason: err.Error()}
	}
	f, err := openRead(filepath.Join(dir, hashesName))
	if err != nil {
		return nil, fmt.Errorf("read the hashes: %w", err)
	}
	return &signedLog{b, head, f}, nil
}

// findLine returns the line of an entry.
func findLine(dir string, seq uint64) ([]byte, error) {
	segs, err := segments(dir)
	if err != nil {
		return nil, err
	}
	if len(segs) == 0 || segs[0].first > seq {
		return nil, fmt.Errorf("entry %d is not in %s any more: it was removed because of its age", seq, dir)
	}
	i := len(segs) - 1
	for segs[i].first > seq {
		i--
	}
	path := filepath.Join(dir, segs[i].name)
	f, err := openRead(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lr := lineReader{r: f}
	for at := segs[i].first; at < math.MaxInt64; at++ {
		offset := lr.offset()
		line, err := lr.next()
		if err != nil {
			return nil, &CorruptError{File: path, Line: int(at-segs[i].first) + 1, Offset: offset, Reason: err.Error()}
		}
		if line == nil {
			break
		}
		if at == seq {
			return line, nil
		}
	}
	return nil, &CorruptError{File: path, Reason: fmt.Sprintf("entry %d is not in it", seq)}
}

func texts(hs []tlog.Hash) []string {
	out := []string{} // in JSON a list
	for _, h := range hs {
		out = append(out, h.String())
	}
	return out
}

func parseHashes(in []string) ([]tlog.Hash, error) {
	if len(in) > 128 {
		return nil, errors.New("there are more hashes than a tree is high")
	}
	var out []tlog.Hash
	for i, s := range in {
		h, err := tlog.ParseHash(s)
		if err != nil || h.String() != s {
			return nil, fmt.Errorf("hash %d of the proof is not the base64 of 32 bytes", i+1)
		}
		out = append(out, h)
	}
	return out, nil
}
