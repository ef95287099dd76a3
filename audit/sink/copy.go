package sink

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/breakglass-gateway/breakglass-gateway/audit/merkle"
)

// Copy is what a sink has brought elsewhere, compared with the log that it was of. It
// takes 32 bytes of memory an entry.
type Copy struct {
	dir  string
	size uint64 // of the log

	leaves  [][32]byte // by seq; zero: not there
	heads   []head
	notes   [][]byte // of heads, some of them and the newest
	newest  []byte
	result  CopyReport
	more    int
	unknown error // why it cannot be compared
}

// head is a checkpoint in the copy.
type head struct {
	size uint64
	root [32]byte
	file string
	line int
}

// CopyReport is what a copy is like.
type CopyReport struct {
	// Entries are in it, each counted once, from First to Last. Missing of those in
	// between, and before, are not.
	Entries uint64 `json:"entries"`
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	Missing uint64 `json:"missing"`
	// Checkpoints are in it.
	Checkpoints uint64 `json:"checkpoints"`
	// Vouched is the size of the newest checkpoint in it, signed with a trusted key,
	// that the entries of the copy alone lead to: so far it is whole and unedited, as
	// whoever had the key has signed it. 0: none, as of a copy that has not all kinds.
	Vouched uint64 `json:"vouched"`

	Findings []merkle.Finding `json:"-"`
}

const (
	maxCopyFindings = 100
	maxCopyNotes    = 256
	maxCopyLine     = 64 << 20

	remedyConvict = "the log, or the copy, was edited: a checkpoint in the copy that the log does not lead to convicts the log; keep both"
	remedyCopied  = "this line of the copy was edited, or not kept byte for byte: compare with another copy"
)

// NewCopy is for a comparison with the log in dir.
func NewCopy(dir string) (*Copy, error) {
	c := &Copy{dir: dir}
	note, err := merkle.Checkpoint(dir)
	if err != nil {
		return nil, err
	}
	if note != nil {
		if _, c.size, _, err = merkle.CheckpointHead(note); err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
	}
	return c, nil
}

func (c *Copy) wrong(file string, line int, seq uint64, remedy, format string, args ...any) {
	if len(c.result.Findings) >= maxCopyFindings {
		c.more++
		return
	}
	c.result.Findings = append(c.result.Findings, merkle.Finding{File: file, Line: line, Seq: seq, Problem: fmt.Sprintf(format, args...), Remedy: remedy})
}

// Read takes a file, in any order of lines and with lines twice. What is no line of a
// log is an error: it is not what a sink has brought.
func (c *Copy) Read(file string, r io.Reader) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxCopyLine)
	for n := 1; s.Scan(); n++ {
		if len(bytes.TrimSpace(s.Bytes())) == 0 {
			continue
		}
		found := false
		linesIn(s.Bytes(), func(line []byte) {
			found = true
			c.take(file, n, line)
		})
		if !found {
			c.wrong(file, n, 0, remedyCopied, "the line has no entry of a log")
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return nil
}

func (c *Copy) take(file string, n int, line []byte) {
	var p Checkpoint
	if json.Unmarshal(line, &p) == nil && p.Kind == KindCheckpoint && p.Checkpoint != "" {
		c.checkpoint(file, n, []byte(p.Checkpoint))
		return
	}
	e, err := merkle.ParseEntry(line)
	if err != nil {
		c.wrong(file, n, 0, remedyCopied, "%s", err)
		return
	}
	leaf := merkle.LeafOf(line)
	switch {
	case e.Seq < uint64(len(c.leaves)) && c.leaves[e.Seq] == leaf:
		return // again
	case e.Seq < uint64(len(c.leaves)) && c.leaves[e.Seq] != [32]byte{}:
		c.wrong(file, n, e.Seq, remedyConvict, "entry %d is twice in the copy, and differs", e.Seq)
		return
	case e.Seq >= c.size:
		c.wrong(file, n, e.Seq, remedyConvict, "the copy has entry %d, and the log ends before it, with %d entries", e.Seq, c.size)
		if e.Seq > 2*c.size+1<<20 {
			return // it would only take memory
		}
	}
	if missing := int(e.Seq) + 1 - len(c.leaves); missing > 0 {
		c.leaves = append(c.leaves, make([][32]byte, missing)...)
	}
	c.leaves[e.Seq] = leaf
	c.compare(file, n, &e, leaf)
}

// compare looks what the log has in that place.
func (c *Copy) compare(file string, n int, e *merkle.Entry, leaf [32]byte) {
	if e.Seq >= c.size || c.unknown != nil {
		return
	}
	var has [32]byte
	if has, c.unknown = merkle.Leaf(c.dir, e.Seq); c.unknown == nil && has != leaf {
		c.wrong(file, n, e.Seq, remedyConvict, "the log has another entry %d than the copy, where it is of kind %s and %s", e.Seq, e.Kind, e.Time.Format("2006-01-02T15:04:05.000000Z"))
	}
}

func (c *Copy) checkpoint(file string, n int, note []byte) {
	_, size, root, err := merkle.CheckpointHead(note)
	if err != nil {
		c.wrong(file, n, 0, remedyCopied, "%s", err)
		return
	}
	if len(c.heads) == 0 || size > c.heads[0].size {
		c.newest = note
	}
	c.heads = append(c.heads, head{size, root, file, n})
	if i := len(c.heads) - 1; size > c.heads[0].size {
		c.heads[0], c.heads[i] = c.heads[i], c.heads[0] // the newest is the first
	}
	if c.notes = append(c.notes, note); len(c.notes) > maxCopyNotes {
		kept := c.notes[:0]
		for i, n := range c.notes {
			if i%2 == 0 {
				kept = append(kept, n)
			}
		}
		c.notes = kept
	}
}

// Checkpoints are some of those in the copy, with the newest: what the log must lead
// to. That it leads to the newest says the same of all before, unless the log was
// another already while it was copied.
func (c *Copy) Checkpoints() [][]byte {
	if c.newest == nil {
		return nil
	}
	out := slices.Clone(c.notes)
	if !slices.ContainsFunc(out, func(n []byte) bool { return bytes.Equal(n, c.newest) }) {
		out = append(out, c.newest)
	}
	return out
}

// Report judges the copy, with the keys that are trusted.
func (c *Copy) Report(keys []string) *CopyReport {
	r := &c.result
	r.Checkpoints = uint64(len(c.heads))
	for seq, l := range c.leaves {
		switch {
		case l == [32]byte{}:
			r.Missing++
		case r.Entries == 0:
			r.First = uint64(seq)
			fallthrough
		default:
			r.Entries++
			r.Last = uint64(seq)
		}
	}
	c.vouch(keys)
	if c.unknown != nil {
		c.wrong("", 0, 0, "verify a log that is whole", "the entries of the copy cannot be compared with the log: %v", c.unknown)
	}
	if c.more > 0 {
		c.result.Findings[maxCopyFindings-1] = merkle.Finding{Problem: fmt.Sprintf("%d more findings of the copy are not shown", c.more+1), Remedy: remedyConvict}
	}
	return r
}

// vouch builds the tree of the copy alone, as far as it goes without a hole, and
// compares it with the checkpoints.
func (c *Copy) vouch(keys []string) {
	slices.SortFunc(c.heads, func(a, b head) int { return int(min(max(int64(a.size)-int64(b.size), -1), 1)) })
	signed := map[uint64]bool{}
	for _, n := range c.Checkpoints() {
		if _, size, _, err := merkle.OpenCheckpoint(n, keys); err == nil {
			signed[size] = true
		}
	}
	var t merkle.Tree
	for _, h := range c.heads {
		for t.Size() < h.size && t.Size() < uint64(len(c.leaves)) && c.leaves[t.Size()] != [32]byte{} {
			t.Add(c.leaves[t.Size()])
		}
		switch {
		case t.Size() != h.size:
			return
		case t.Root() != h.root:
			c.wrong(h.file, h.line, h.size, remedyCopied, "the first %d entries of the copy are not those that this checkpoint vouches for", h.size)
			return
		case signed[h.size]:
			c.result.Vouched = h.size
		}
	}
}
