package merkle

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	f_log "github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// The trees of RFC 6962, word by word.

func naiveRoot(leaves [][]byte) [32]byte {
	switch n := len(leaves); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, leaves[0]...))
	default:
		k := 1
		for 2*k < n {
			k *= 2
		}
		l, r := naiveRoot(leaves[:k]), naiveRoot(leaves[k:])
		return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
	}
}

func naivePath(m int, leaves [][]byte) [][32]byte {
	n := len(leaves)
	if n == 1 {
		return nil
	}
	k := 1
	for 2*k < n {
		k *= 2
	}
	if m < k {
		return append(naivePath(m, leaves[:k]), naiveRoot(leaves[k:]))
	}
	return append(naivePath(m-k, leaves[k:]), naiveRoot(leaves[:k]))
}

func TestTheTreeIsThatOfRFC6962(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leaves := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 5), 0, 70).Draw(t, "leaves")
		var f frontier
		var stored []byte
		for i, l := range leaves {
			if got, want := [32]byte(f.root()), naiveRoot(leaves[:i]); got != want {
				t.Fatalf("root of %d differs", i)
			}
			stored = f.add(tlog.RecordHash(l), stored)
		}
		if int64(len(stored)) != storedSize(f.n) {
			t.Fatalf("%d bytes for %d leaves", len(stored), f.n)
		}
		r := storedHashes{strings.NewReader(string(stored))}
		for i := range len(leaves) + 1 {
			g, err := r.frontier(uint64(i))
			if err != nil || [32]byte(g.root()) != naiveRoot(leaves[:i]) {
				t.Fatalf("frontier of %d: %v", i, err)
			}
		}
		for m := range leaves {
			p, err := tlog.ProveRecord(int64(len(leaves)), int64(m), r)
			if err != nil || fmt.Sprint(p) != fmt.Sprint(naiveTexts(naivePath(m, leaves))) {
				t.Fatalf("path of %d: %v", m, err)
			}
		}
	})
}

func naiveTexts(hs [][32]byte) (out []tlog.Hash) {
	for _, h := range hs {
		out = append(out, h)
	}
	return out
}

// lines are the leaves of the log in dir.
func lines(t *testing.T, dir string) [][]byte {
	t.Helper()
	var out [][]byte
	for _, p := range segmentPaths(t, dir) {
		for l := range strings.Lines(string(read(t, p))) {
			out = append(out, []byte(strings.TrimSuffix(l, "\n")))
		}
	}
	return out
}

func raw(t *testing.T, hashes ...string) (out [][]byte) {
	t.Helper()
	for _, h := range hashes {
		b, err := base64.StdEncoding.DecodeString(h)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// TestForeignSoftwareTakesOurCheckpointsAndProofs: nothing of ours checks here.
func TestForeignSoftwareTakesOurCheckpointsAndProofs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l := open(t, dir, Options{SegmentBytes: 1500, Retention: -1, Origin: "example.com/audit"})
	var olds [][]byte
	for n := range 24 {
		add(t, l, n, n+1)
		if err := l.sign(); err != nil {
			t.Fatal(err)
		}
		olds = append(olds, l.Checkpoint())
	}
	closeLog(t, l)
	key, err := note.NewVerifier(pubKeys(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	foreign := func(b []byte) *f_log.Checkpoint {
		t.Helper()
		c, rest, _, err := f_log.ParseCheckpoint(b, "example.com/audit", key)
		if err != nil || len(rest) > 0 {
			t.Fatal(err, rest)
		}
		return c
	}
	leaves := lines(t, dir)
	c := foreign(l.Checkpoint())
	if root := naiveRoot(leaves); c.Size != uint64(len(leaves)) || string(c.Hash) != string(root[:]) {
		t.Fatalf("size %d, want %d", c.Size, len(leaves))
	}
	h := rfc6962.DefaultHasher
	for i, leaf := range leaves {
		p, err := Prove(dir, uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		if p.Entry != string(leaf) {
			t.Fatalf("entry %d is %s", i, p.Entry)
		}
		if err := proof.VerifyInclusion(h, p.Seq, p.Size, h.HashLeaf(leaf), raw(t, p.Hashes...), c.Hash); err != nil {
			t.Fatal(err)
		}
		if err := p.Check([]string{pubKeys(t, dir)[0]}); err != nil {
			t.Fatal(err)
		}
	}
	for _, old := range olds {
		o := foreign(old)
		p, err := ProveConsistency(dir, o.Size)
		if err != nil {
			t.Fatal(err)
		}
		if err := proof.VerifyConsistency(h, p.OldSize, p.Size, raw(t, p.Hashes...), o.Hash, c.Hash); err != nil {
			t.Fatal(err)
		}
		if err := p.Check(old, pubKeys(t, dir)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAProofOfAnythingElseIsRefused(t *testing.T) {
	dir, other := smallLog(t, 20), smallLog(t, 20)
	keys := pubKeys(t, dir)
	make := func() *Proof {
		p, err := Prove(dir, 7)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	q, err := Prove(other, 7)
	if err != nil {
		t.Fatal(err)
	}
	if err := make().Check(keys); err != nil {
		t.Fatal(err)
	}
	if err := make().Check(pubKeys(t, other)); err == nil {
		t.Error("with another key")
	}
	if err := make().Check(nil); err == nil {
		t.Error("with no key")
	}
	for name, change := range map[string]func(p *Proof){
		"entry":      func(p *Proof) { p.Entry += " " },
		"seq":        func(p *Proof) { p.Seq++ },
		"seq beyond": func(p *Proof) { p.Seq = p.Size },
		"size":       func(p *Proof) { p.Size++ },
		"root":       func(p *Proof) { p.Root = q.Root },
		"hash":       func(p *Proof) { p.Hashes[1] = p.Hashes[0] },
		"less":       func(p *Proof) { p.Hashes = p.Hashes[1:] },
		"more":       func(p *Proof) { p.Hashes = append(p.Hashes, p.Hashes[0]) },
		"no base64":  func(p *Proof) { p.Hashes[0] = "?" },
		"checkpoint": func(p *Proof) { p.Checkpoint = q.Checkpoint },
		"signature":  func(p *Proof) { p.Checkpoint = p.Checkpoint[:len(p.Checkpoint)-20] + "\n" },
	} {
		p := make()
		change(p)
		if err := p.Check(keys); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	b, err := json.Marshal(make())
	var back Proof
	if err == nil {
		err = json.Unmarshal(b, &back)
	}
	if err != nil || back.Check(keys) != nil {
		t.Fatal("a proof does not survive JSON", err)
	}
}

func TestConsistencyWithAnythingElseIsRefused(t *testing.T) {
	dir := smallLog(t, 20)
	old, keys := read(t, filepath.Join(dir, checkpointName)), pubKeys(t, dir)
	l := open(t, dir, Options{Retention: -1})
	add(t, l, 20, 33)
	closeLog(t, l)
	size := headSize(t, old)
	for _, n := range []uint64{0, 1, size, headSize(t, l.Checkpoint())} {
		if _, err := ProveConsistency(dir, n); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ProveConsistency(dir, 1000); err == nil {
		t.Error("with a size that is not there")
	}
	good, err := ProveConsistency(dir, size)
	if err != nil || good.Check(old, keys) != nil {
		t.Fatal(err)
	}
	forged := rewrite(t, dir, 40, 3)
	p, err := ProveConsistency(forged, size)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(old, keys); err == nil {
		t.Error("of a log that was rewritten")
	}
	for name, change := range map[string]func(p *ConsistencyProof){
		"old size": func(p *ConsistencyProof) { p.OldSize-- },
		"old root": func(p *ConsistencyProof) { p.OldRoot = p.Root },
		"hash":     func(p *ConsistencyProof) { p.Hashes = p.Hashes[1:] },
		"root":     func(p *ConsistencyProof) { p.Root = p.OldRoot },
	} {
		q := *good
		change(&q)
		if err := q.Check(old, keys); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := good.Check(l.Checkpoint(), keys); err == nil {
		t.Error("with another old checkpoint")
	}
}
