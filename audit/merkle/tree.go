package merkle

import (
	"fmt"
	"io"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// frontier is the right edge of a tree: the roots of its complete subtrees,
// largest first. It is all that appending needs.
type frontier struct {
	n     uint64
	nodes []tlog.Hash
}

func (f frontier) clone() frontier { return frontier{f.n, slices.Clone(f.nodes)} }

// add appends a leaf, and to stored the hashes that it completes, in the order
// of tlog.StoredHashes.
func (f *frontier) add(h tlog.Hash, stored []byte) []byte {
	stored = append(stored, h[:]...)
	for m := f.n; m&1 == 1; m >>= 1 {
		last := len(f.nodes) - 1
		h = tlog.NodeHash(f.nodes[last], h)
		f.nodes = f.nodes[:last]
		stored = append(stored, h[:]...)
	}
	f.nodes = append(f.nodes, h)
	f.n++
	return stored
}

func (f frontier) root() tlog.Hash {
	if f.n == 0 {
		h, _ := tlog.TreeHash(0, nil)
		return h
	}
	h := f.nodes[len(f.nodes)-1]
	for i := len(f.nodes) - 2; i >= 0; i-- {
		h = tlog.NodeHash(f.nodes[i], h)
	}
	return h
}

// storedSize is the size of hashes for a tree of n leaves.
func storedSize(n uint64) int64 { return tlog.StoredHashCount(int64(n)) * tlog.HashSize }

// storedHashes reads the file hashes.
type storedHashes struct{ r io.ReaderAt }

// ReadHashes is tlog.HashReader.
func (s storedHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if _, err := s.r.ReadAt(out[i][:], x*tlog.HashSize); err != nil {
			return nil, fmt.Errorf("stored hash %d: %w", x, err)
		}
	}
	return out, nil
}

// frontier returns the right edge of the tree of the first n leaves.
func (s storedHashes) frontier(n uint64) (frontier, error) {
	var indexes []int64
	for lo := uint64(0); lo < n; {
		level := bits.Len64(n-lo) - 1
		indexes = append(indexes, tlog.StoredHashIndex(level, int64(lo>>level)))
		lo += 1 << level
	}
	nodes, err := s.ReadHashes(indexes)
	return frontier{n, nodes}, err
}
