package merkle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"golang.org/x/mod/sumdb/tlog"
)

// claim is a checkpoint that the log is compared with.
type claim struct {
	name string // of it in findings
	file string // "": not of the log's own files
	raw  []byte
	head treeHead

	reached bool
	blind   bool      // the roots are not known
	root    tlog.Hash // of the entries
	alt     tlog.Hash // of the stored hashes
	vkey    string    // that signed there, as the log says
}

// readClaims reads the checkpoints. Whether their signatures can be trusted is
// known at the end only, when all handovers of keys were seen.
func (v *verification) readClaims() error {
	b, err := readSmall(filepath.Join(v.dir, checkpointName), maxNote)
	var corrupt *CorruptError
	switch {
	case err == nil:
		v.own = v.claim("the checkpoint", checkpointName, b)
	case errors.As(err, &corrupt):
		v.wrong(checkpointName, 0, 0, remedyCopy, "%s", corrupt.Reason)
	case errors.Is(err, os.ErrNotExist):
		if _, err := os.Stat(v.dir); err != nil {
			return err
		}
		v.wrong(checkpointName, 0, 0, remedyCopy, "the file is missing, so nobody vouches for the entries")
	default:
		return err
	}
	for i, b := range v.opts.Checkpoints {
		v.claim(fmt.Sprintf("checkpoint %d of those kept elsewhere", i+1), "", b)
	}
	sort.SliceStable(v.claims, func(i, j int) bool { return v.claims[i].head.size < v.claims[j].head.size })
	return nil
}

func (v *verification) claim(name, file string, b []byte) *claim {
	head, err := readHead(b)
	if err != nil {
		v.wrong(file, 0, 0, remedyCopy, "%s: %s", name, err)
		return nil
	}
	c := &claim{name: name, file: file, raw: b, head: head}
	v.claims = append(v.claims, c)
	return c
}

// pass notes the roots for the checkpoints of this size.
func (v *verification) pass() {
	for v.claimed < len(v.claims) && v.claims[v.claimed].head.size == v.next {
		c := v.claims[v.claimed]
		v.claimed++
		c.reached, c.blind, c.vkey = true, v.blind, v.vkey
		if v.blind {
			continue
		}
		c.root = v.tree.root()
		if c.alt = c.root; v.alt != nil {
			c.alt = v.alt.root()
		}
	}
}

// judge compares the checkpoints with what was read, and their signatures with
// the trusted keys.
func (v *verification) judge() {
	if v.own != nil {
		v.report.Origin = v.own.head.origin
		if size := v.own.head.size; v.next > size {
			v.report.Unsigned = v.next - size
		}
	} else {
		v.report.Unsigned = v.report.Entries
	}
	for _, c := range v.claims {
		v.judgeOne(c)
	}
	// Where the entries lead to what was signed, their stored hashes are wrong.
	if c := v.own; c != nil && c.reached && !c.blind && c.root == c.head.root {
		for _, i := range v.doubts {
			f := &v.report.Findings[i]
			if f.Seq < c.head.size {
				f.File, f.Line, f.Remedy = filepath.Join(v.dir, hashesName), 0, remedyHashes
				f.Problem = fmt.Sprintf("the stored hash of entry %d is not the hash of the entry, for which the checkpoint vouches", f.Seq)
			}
		}
	}
}

func (v *verification) judgeOne(c *claim) {
	var head treeHead
	var err error
	if c.file != "" {
		head, err = openHead(c.raw, v.allKeys())
	} else {
		head, err = openOthers(c.raw, v.trusted)
	}
	origin := v.report.Origin
	switch {
	case err != nil:
		v.wrong(c.file, 0, 0, remedyKeys, "%s, of size %d: %s", c.name, c.head.size, err)
		return
	case !slices.ContainsFunc(head.by, func(k string) bool { return slices.Contains(v.trusted, k) }):
		v.wrong(c.file, 0, 0, remedyKeys, "%s, of size %d: signed by %s, which is not a trusted key", c.name, c.head.size, head.by)
		return
	case origin != "" && c.head.origin != origin:
		v.wrong(c.file, 0, 0, remedyRewrite, "%s is of the log %s, and this is %s", c.name, c.head.origin, origin)
	case !c.reached:
		v.wrong(c.file, 0, v.next, remedyRewrite, "%s vouches for %d entries, and there are %d", c.name, c.head.size, v.next)
	case c.blind:
		v.wrong(c.file, 0, c.head.size, remedyCopy, "%s, of size %d, cannot be compared: entries and their hashes are missing", c.name, c.head.size)
	case c.root != c.head.root && (c.alt != c.head.root || len(v.doubts) == 0 && len(v.missing) == 0):
		v.wrong(c.file, 0, c.head.size, remedyRewrite, "the first %d entries are not those that %s vouches for", c.head.size, c.name)
	case c.vkey != "" && !slices.Contains(head.by, c.vkey):
		v.wrong(c.file, 0, c.head.size, remedyRewrite, "%s, of size %d, is signed by %s, and the log says that %s signed there", c.name, c.head.size, head.by, c.vkey)
	}
}

// allKeys are those of which a signature may be in the log's own files.
func (v *verification) allKeys() []string {
	out := slices.Concat(v.trusted, v.pub)
	slices.Sort(out)
	return slices.Compact(out)
}
